"""Training of the embedded model on procedural clips."""

from vidmatte.train.loop import TrainConfig, read_config, train

__all__ = ["TrainConfig", "read_config", "train"]
