"""Training: one loop for the embedded model, its corrector and refiner, and IconMatting's heads."""

from collections.abc import Mapping
from typing import Any

from vidmatte.train.config import LoopConfig
from vidmatte.train.correct import CORRECTOR, CorrectorConfig
from vidmatte.train.iconmatting import IconMattingConfig
from vidmatte.train.loop import TrainingTask, train
from vidmatte.train.network import (
    CONFIDENCE,
    NETWORK,
    ConfidenceConfig,
    TrainConfig,
    read_config,
)
from vidmatte.train.refine import REFINER, RefinerConfig

TRAINING_TASKS: Mapping[str, TrainingTask[Any]] = {
    "network": NETWORK,
    "confidence": CONFIDENCE,
    "corrector": CORRECTOR,
    "refiner": REFINER,
}
"""Parts of the embedded model that can be trained, by name."""

__all__ = [
    "CONFIDENCE",
    "CORRECTOR",
    "NETWORK",
    "REFINER",
    "TRAINING_TASKS",
    "ConfidenceConfig",
    "CorrectorConfig",
    "IconMattingConfig",
    "LoopConfig",
    "RefinerConfig",
    "TrainConfig",
    "TrainingTask",
    "read_config",
    "train",
]
