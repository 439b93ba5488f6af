"""`compact`, the embedded model: its network, its blocks and how it is run on clips."""

from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.predictor import CompactModel

__all__ = ["CompactModel", "CompactNet"]
