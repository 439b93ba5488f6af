"""`compact`, the embedded model: its network, its blocks and how it is run on clips."""

from vidmatte.model.compact.matter import CompactModel
from vidmatte.model.compact.net import CompactNet

__all__ = ["CompactModel", "CompactNet"]
