"""Trimaps of rough mattes: 1 object, 0 background, 0.5 unknown, for a matting network."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import OptionError

_LEAST_CORE = 0.5
"""Largest erosion of a piece as a share of its own half-width.

Wires and small things keep a known core.
"""


def make_trimap(
    alpha: Tensor,
    *,
    low: float = 0.1,
    high: float = 0.9,
    inside: float = 0.01,
    outside: float = 0.01,
) -> Tensor:
    """Return the trimap of a rough matte or of similarity guidance.

    A pixel is known object if `alpha` is at least `high` everywhere within the distance `inside`,
    and known background if it is at most `low` everywhere within `outside`. The area beyond the
    edge of the image does not count: an object cut by the frame is known up to the edge. Pieces
    too thin for the erosion are eroded by half of their own half-width instead. All other
    pixels, NaN included, are unknown.

    Args:
        alpha: (N, 1, H, W) 0..1.
        low, high: thresholds, 0..1.
        inside, outside: Euclidean distances as shares of the longer side, so that a guidance map
            and a frame get the same band; with 0 only the thresholds count.

    Returns:
        (N, 1, H, W) float32 of 0, 0.5 and 1, on the device of `alpha`.

    Raises:
        OptionError: thresholds are out of order or outside 0..1, or a distance is negative or above
            half of the image.
    """
    if not 0 <= low < high <= 1:
        raise OptionError(
            f"trimap thresholds {low} and {high} are not valid: they must rise within 0 to 1"
        )
    if not (0 <= inside <= 0.5 and 0 <= outside <= 0.5):
        raise OptionError(
            f"trimap bands of {inside} and {outside} are not valid: they are shares of the image, "
            f"0 to 0.5"
        )
    if alpha.ndim != 4 or alpha.shape[1] != 1:
        raise ValueError(f"alpha must be (N, 1, H, W), got {tuple(alpha.shape)}")
    side = max(alpha.shape[-2:])
    planes = [
        _trimap(plane[0], low, high, inside * side, outside * side)
        for plane in alpha.detach().float().cpu().numpy()
    ]
    return torch.from_numpy(np.stack(planes))[:, None].to(alpha.device)


def _trimap(
    alpha: NDArray[np.float32], low: float, high: float, inside: float, outside: float
) -> NDArray[np.float32]:
    """Return the trimap of one plane; the distances are in pixels."""
    trimap = np.full(alpha.shape, 0.5, np.float32)
    trimap[_core(alpha <= np.float32(low), outside, keep_pieces=False)] = 0
    trimap[_core(alpha >= np.float32(high), inside, keep_pieces=True)] = 1
    return trimap


def _core(region: NDArray[np.bool_], radius: float, *, keep_pieces: bool) -> NDArray[np.bool_]:
    """Return the pixels of a region farther than `radius` from all pixels outside."""
    if radius == 0 or not region.any():
        return region
    pixels = region.astype(np.uint8)
    distance = cv2.distanceTransform(pixels, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    if not keep_pieces:
        return np.asarray(distance > radius)
    count, labels = cv2.connectedComponents(pixels)
    depth = np.zeros(count, np.float32)
    # The largest distance in each piece is its half-width.
    np.maximum.at(
        depth, np.asarray(labels, np.int64).ravel(), np.asarray(distance, np.float32).ravel()
    )
    # Thin pieces keep a core of their own instead of vanishing.
    reach = np.minimum(np.float32(radius), depth * np.float32(_LEAST_CORE))
    return np.asarray(region & (distance > reach[labels]))
