"""Alpha with 16 bits a pixel: rounded to it, and as compressed bytes for mattes that wait."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def rounded_alpha(alpha: Tensor) -> Tensor:
    """Return alpha of any shape in 0..1 as `unpack_alpha` returns it once it was packed."""
    return (alpha.float() * 65535 + 0.5).floor() / 65535


def pack_alpha(alpha: Tensor) -> bytes:
    """Return alpha (h, w) in 0..1 with 16 bits a pixel, compressed."""
    codes = (alpha * 65535 + 0.5).cpu().numpy().astype(np.uint16)
    # Level 1: mattes are mostly flat, and higher levels cost time only.
    return zlib.compress(codes.tobytes(), 1)


def unpack_alpha(packed: bytes, size: Sequence[int]) -> Tensor:
    """Return the packed alpha; `size` is its height and width."""
    codes = np.frombuffer(zlib.decompress(packed), np.uint16).reshape(size)
    return torch.from_numpy(codes.astype(np.float32) / np.float32(65535))
