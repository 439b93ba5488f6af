"""Squares from the middle of images, like in the research code of "In-Context Matting".

Guo et al., CVPR 2024; the published code crops to the shorter side and resizes 8-bit images. It
draws the interpolation from four; here it is always bilinear.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of the largest square in the middle of an image."""
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def to_square(image: NDArray[Any], side: int, *, nearest: bool = False) -> NDArray[Any]:
    """Cut a plane (H, W) or an image (H, W, C) to its middle and resize it to (side, side).

    Args:
        image: any type supported by cv2.resize; it stays the same.
        side: pixels of the result.
        nearest: take the nearest pixel instead of interpolating, as for trimaps.
    """
    interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    square = np.ascontiguousarray(image[middle(*image.shape[:2])])
    return np.asarray(cv2.resize(square, (side, side), interpolation=interpolation))


def rgb_to_square(rgb: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Cut an image (3, H, W) in 0..1 to its middle and resize it, through 8-bit codes."""
    codes = (rgb * 255 + 0.5).clip(0, 255).astype(np.uint8)
    square = to_square(codes.transpose(1, 2, 0), side)
    return np.ascontiguousarray(square.transpose(2, 0, 1), np.float32) / np.float32(255)
