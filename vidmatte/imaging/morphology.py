"""The edge of a matte: moved outward or inward by fractions of a pixel, and softened."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha
from vidmatte.options import WIDEST

_UNCHANGED = 1 / 4096
"""A pixel is unchanged if nothing within reach is brighter by more than this."""
_FEWEST_DIRECTIONS = 12
_LARGEST_DISC = 8
"""Radius of the largest disc of whole pixels applied at once; the cost grows with its square."""
_COLUMNS = 1024
"""OpenCV's remap takes pictures of fewer than 2^15 rows and columns: lists of points are folded."""
# A Gaussian is below 1e-3 beyond four sigmas.
_SIGMAS = 4.0
_SPOT = 0.02
"""Alpha above which a pixel belongs to a spot; what lies below nobody sees."""


def grow(alpha: Alpha, radius: float) -> Alpha:
    """Move the edge outward by `radius` pixels, inward if it is negative.

    Soft edges keep their softness. Gray dilation with a disc: each pixel takes the highest alpha
    within `radius`, between pixels by bilinear interpolation. Shrinking is the growth of the
    surroundings. The border of the frame is repeated, so an object cut by it is not eroded
    from that side.

    Args:
        alpha: (H, W) in 0..1.
        radius: Pixels, of any fraction, from -100 to 100.

    Returns:
        (H, W) in 0..1.

    Raises:
        OptionError: If the radius is out of its range.
    """
    if not -WIDEST <= radius <= WIDEST:
        raise OptionError(
            f"growth by {radius:g} pixels is not valid: it is {-WIDEST:g} to {WIDEST:g}, negative "
            f"to shrink"
        )
    if radius < 0:
        return np.asarray(1 - _dilate(1 - alpha, -radius), np.float32)
    return _dilate(alpha, radius)


def remove_dots(alpha: Alpha, area: float) -> Alpha:
    """Set separate spots of at most `area` pixels to 0, with their soft edges.

    A spot is a region of alpha above 2 %, connected over sides and corners. Spots that the border
    of the frame cuts stay: they may be the tip of something larger. The same of 1 - alpha fills
    holes.

    Args:
        alpha: (H, W) in 0..1.
        area: Largest area of a spot that goes, in pixels.

    Returns:
        (H, W) in 0..1.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (alpha > _SPOT).astype(np.uint8), connectivity=8
    )
    height, width = alpha.shape
    left, top, wide, tall, size = stats.T
    touches = (left == 0) | (top == 0) | (left + wide == width) | (top + tall == height)
    goes = (size <= area) & ~touches
    goes[0] = False  # label 0 is what is no spot
    if count < 2 or not goes.any():
        return alpha
    return np.where(goes[labels], np.float32(0), alpha)


def feather(alpha: Alpha, sigma: float) -> Alpha:
    """Soften the edge with a Gaussian of `sigma` pixels.

    A hard edge becomes 2.56 sigma wide from 10 to 90 %. The border of the frame is repeated.

    Args:
        alpha: (H, W) in 0..1.
        sigma: Pixels, of any fraction, from 0 (nothing) to 100.

    Returns:
        (H, W) in 0..1.

    Raises:
        OptionError: If sigma is out of its range.
    """
    if not 0 <= sigma <= WIDEST:
        raise OptionError(f"feather of {sigma:g} pixels is not valid: it is 0 to {WIDEST:g}")
    result = alpha.copy()
    window = _busy(alpha, math.ceil(_SIGMAS * sigma) + 1)
    if sigma and window is not None:
        size = 2 * math.ceil(_SIGMAS * sigma) + 1
        blurred = cv2.GaussianBlur(
            alpha[window], (size, size), sigma, borderType=cv2.BORDER_REPLICATE
        )
        result[window] = np.clip(blurred, 0, 1)
    return result


def _busy(alpha: Alpha, margin: int) -> tuple[slice, slice] | None:
    """Return the rectangle of all pixels unlike the first one, plus a margin; None without any."""
    different = alpha != alpha[0, 0]
    rows = np.flatnonzero(different.any(1))
    columns = np.flatnonzero(different.any(0))
    if not len(rows):
        return None
    return (
        slice(max(0, rows[0] - margin), min(alpha.shape[0], rows[-1] + 1 + margin)),
        slice(max(0, columns[0] - margin), min(alpha.shape[1], columns[-1] + 1 + margin)),
    )


def _dilate(alpha: Alpha, radius: float) -> Alpha:
    result = alpha.copy()
    window = _busy(alpha, math.ceil(radius) + 1)
    if radius and window is not None:
        result[window] = _dilate_window(np.ascontiguousarray(alpha[window]), radius)
    return result


def _dilate_window(alpha: Alpha, radius: float) -> Alpha:
    reach = math.ceil(radius)
    # Two lines are a square around the disc: a cheap bound on what can change.
    highest = _morph(alpha, np.ones((2 * reach + 1, 1), np.uint8))
    highest = _morph(highest, np.ones((1, 2 * reach + 1), np.uint8))
    rows, columns = np.nonzero(highest - alpha > _UNCHANGED)
    if not len(rows):
        return alpha
    result = _dilate_whole(alpha, math.floor(radius))
    around = _highest_around(alpha, rows, columns, radius)
    result[rows, columns] = np.maximum(result[rows, columns], around)
    return result


def _dilate_whole(alpha: Alpha, radius: int) -> Alpha:
    """Dilate with discs of whole pixels one after the other.

    The result lies inside the disc of the whole radius.
    """
    while radius > 0:
        step = min(radius, _LARGEST_DISC)
        y, x = np.mgrid[-step : step + 1, -step : step + 1]
        alpha = _morph(alpha, (x * x + y * y <= step * step).astype(np.uint8))
        radius -= step
    return alpha.copy()


def _morph(alpha: Alpha, shape: NDArray[np.uint8]) -> Alpha:
    return np.asarray(cv2.dilate(alpha, shape, borderType=cv2.BORDER_REPLICATE), np.float32)


def _highest_around(
    alpha: Alpha, rows: NDArray[np.intp], columns: NDArray[np.intp], radius: float
) -> Alpha:
    """Return the highest value on a circle around each pixel, at steps below a pixel."""
    directions = max(_FEWEST_DIRECTIONS, math.ceil(math.tau * radius))
    # The polygon of these places is on average as far outside of the circle as inside.
    radius *= 2 / (1 + math.cos(math.pi / directions))
    folded = np.full((2, -(-len(rows) // _COLUMNS) * _COLUMNS), 0, np.float32)
    folded[0, : len(rows)], folded[1, : len(rows)] = columns, rows
    x, y = folded.reshape(2, -1, _COLUMNS)
    highest = np.zeros_like(x)
    found: Any = np.empty_like(x)
    for angle in np.arange(directions) * (math.tau / directions):
        dx = np.float32(radius * math.cos(angle))
        dy = np.float32(radius * math.sin(angle))
        cv2.remap(
            alpha, x + dx, y + dy, cv2.INTER_LINEAR, dst=found, borderMode=cv2.BORDER_REPLICATE
        )
        np.maximum(highest, found, out=highest)
    return np.asarray(highest.reshape(-1)[: len(rows)], np.float32)
