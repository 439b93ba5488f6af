"""Correspondence: find points of one image in another by features of DINOv2.

As in the in-context pipeline compared with IconMatting (Guo et al., CVPR 2024, supplement
10). DINOv2 (Oquab et al., TMLR 2024) was trained without labels. A match counts if its way back
ends near its origin.
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
"""Return one vector for each cell of a grid over an image (1, 3, H, W) 0-1: (C, h, w)."""

_RETURNS = 0.1
"""How far from its origin the way back of a match may end, as a share of the grid's longer side."""


@dataclass(frozen=True)
class Carried:
    """Points of a reference in a target image."""

    points: NDArray[np.float32]
    """(K, 2) x, y as shares of the target's width and height."""
    kept: NDArray[np.int64]
    """(K,) indices of their points in the reference."""
    similarity: NDArray[np.float32]
    """(K,) cosine, -1..1."""


@dataclass(frozen=True)
class DinoFeatures:
    """Patch tokens of DINOv2 (`Dinov2Model` of transformers)."""

    net: nn.Module
    device: torch.device
    precision: torch.dtype
    side: int
    """Longer side of its input in pixels."""

    def __call__(self, rgb: Tensor) -> Tensor:
        """Return features (C, h, w) float32 of an image (1, 3, H, W) 0-1, on the CPU."""
        stride: int = self.net.config.patch_size  # type: ignore[union-attr,assignment]
        height, width = fitted(rgb.shape[-2], rgb.shape[-1], self.side, stride)
        with inference(self.device, self.precision, f"DINOv2 on {width}x{height} pixels"):
            image = normalised(resized(rgb.to(self.device), (height, width)))
            # The first token stands for the whole image.
            tokens: Tensor = self.net(image).last_hidden_state[0, 1:].float().cpu()
        return torch.unflatten(tokens.mT, 1, (height // stride, width // stride))


def carry(points: NDArray[np.float32], reference: Tensor, target: Tensor) -> Carried:
    """Find points of a reference in a target.

    Each point goes to the middle of the cell with the most similar feature, by cosine. Points whose
    way back ends elsewhere are left out; if no way back ends well, all stay.

    Args:
        points: (K, 2) shares of the reference's width and height.
        reference, target: features (C, h, w) of either image; the grids may have any sizes.
    """
    # Unit vectors, so that their product is the cosine.
    known, seen = (F.normalize(grid.flatten(1).float(), dim=0) for grid in (reference, target))
    height, width = reference.shape[1:]
    columns, rows = (
        np.clip(points * (width, height), 0, (width - 1, height - 1)).astype(np.int64)
    ).T
    asked = known[:, torch.from_numpy(rows * width + columns)]
    similarity, found = (asked.T @ seen).max(1)
    # The way back: where each found cell would go in the reference.
    back = (seen[:, found].T @ known).argmax(1).numpy()
    away = np.hypot(back % width - columns, back // width - rows)
    kept = np.nonzero(away <= max(1.0, _RETURNS * max(height, width)))[0]
    # No point returns, as after a change of scene: the best guess is better than none.
    if not len(kept):
        kept = np.arange(len(points))
    cells = found.numpy()[kept]
    _, tall, wide = target.shape
    # Middles of the cells, as shares of the image.
    places = np.stack([(cells % wide + 0.5) / wide, (cells // wide + 0.5) / tall], 1)
    return Carried(places.astype(np.float32), kept, similarity.numpy()[kept])
