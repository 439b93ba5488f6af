"""Correspondence: where points of one image are in another, by features of a network that was trained without labels.

As in the in-context pipeline that IconMatting (Guo et al., CVPR 2024, supplement 10) is compared with: DINOv2 (Oquab et
al., TMLR 2024) says what is alike. A match counts when it leads back to where it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vidmatte.model.baselines.images import fitted, inference, normalised, resized

Features: TypeAlias = Callable[[Tensor], Tensor]
"""From an image (1, 3, H, W) 0-1 to one vector for each cell of a grid over it, (C, h, w)."""

_RETURNS = 0.1
"""How far from its origin the way back of a match may end, as a share of the longer side of the grid."""


@dataclass(frozen=True)
class Carried:
    """Points of a reference in a target image."""

    points: NDArray[np.float32]
    """(K, 2) x, y as shares of the target's width and height."""
    kept: NDArray[np.int64]
    """(K,) which of the reference's points they are."""
    similarity: NDArray[np.float32]
    """(K,) cosine, -1..1."""


@dataclass(frozen=True)
class DinoFeatures:
    """Patch tokens of DINOv2 (`Dinov2Model` of transformers)."""

    net: nn.Module
    device: torch.device
    precision: torch.dtype
    side: int
    """Longer side, in pixels, of what it sees."""

    def __call__(self, rgb: Tensor) -> Tensor:
        """(C, h, w) float32 of an image (1, 3, H, W) 0-1, on the processor."""
        stride: int = self.net.config.patch_size  # type: ignore[union-attr,assignment] # of transformers' own classes
        height, width = fitted(rgb.shape[-2], rgb.shape[-1], self.side, stride)
        with inference(self.device, self.precision, f"DINOv2 on {width}x{height} pixels"):
            image = normalised(resized(rgb.to(self.device), (height, width)))
            tokens: Tensor = self.net(image).last_hidden_state[0, 1:].float().cpu()
        return torch.unflatten(tokens.mT, 1, (height // stride, width // stride))


def carry(points: NDArray[np.float32], reference: Tensor, target: Tensor) -> Carried:
    """Find points (K, 2), shares of the reference's width and height, in a target.

    Each goes to the middle of the cell whose feature is most like that at the point, by cosine. Points whose way back
    ends elsewhere are left out; if no way back ends well, all stay.

    Args:
        reference, target: features (C, h, w) of either image; grids of any sizes.
    """
    known, seen = (F.normalize(grid.flatten(1).float(), dim=0) for grid in (reference, target))
    height, width = reference.shape[1:]
    columns, rows = (
        np.clip(points * (width, height), 0, (width - 1, height - 1)).astype(np.int64)
    ).T
    asked = known[:, torch.from_numpy(rows * width + columns)]
    similarity, found = (asked.T @ seen).max(1)
    back = (seen[:, found].T @ known).argmax(1).numpy()
    away = np.hypot(back % width - columns, back // width - rows)
    kept = np.nonzero(away <= max(1.0, _RETURNS * max(height, width)))[0]
    if not len(kept):
        kept = np.arange(len(points))
    cells = found.numpy()[kept]
    _, tall, wide = target.shape
    places = np.stack([(cells % wide + 0.5) / wide, (cells // wide + 0.5) / tall], 1)
    return Carried(places.astype(np.float32), kept, similarity.numpy()[kept])
