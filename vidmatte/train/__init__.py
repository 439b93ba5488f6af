"""Training of the embedded model and of its refiner on procedural clips and scenes."""

from collections.abc import Mapping
from typing import Any

from vidmatte.train.loop import NETWORK, Part, TrainConfig, read_config, train
from vidmatte.train.refine import REFINER

PARTS: Mapping[str, Part[Any]] = {"network": NETWORK, "refiner": REFINER}
"""What can be trained, by name."""

__all__ = ["NETWORK", "PARTS", "REFINER", "Part", "TrainConfig", "read_config", "train"]
