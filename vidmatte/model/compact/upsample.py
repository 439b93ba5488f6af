"""Enlarge a coarse matte to full size along the edges of the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.imaging.area import shrink_planes, split
from vidmatte.imaging.arrays import Pixels
from vidmatte.imaging.color_lines import ColorLines, Plane

_RADIUS = 2
"""Radius of the filter's window, in pixels of the coarse matte."""
_EPSILON = 2e-4
"""Colour variance, of rgb in 0..1, below which a window is flat and its matte is left smooth."""
_STRIP = 64
"""Rows that are computed together at full size."""
CERTAIN = 0.02
"""Alpha this close to 0 or 1 is taken as 0 or 1.

A network never reaches either, and the haze would show on a key.
"""

_FAINT = 0.1
"""Alpha up to which the surroundings of a place are no edge, but haze on the background."""
_MARGIN = 4
"""Distance from an edge, in pixels of the coarse matte, up to which all values stay."""


def guided_upsample(rgb: Pixels, alpha: Pixels, small: Pixels | None = None) -> Pixels:
    """Enlarge a coarse matte to the size of its image with the fast guided filter.

    In each window of the coarse matte alpha is a linear function of colour; that function is
    enlarged and applied to the full-size image (He and Sun, Fast Guided Filter, arXiv 1505.00996,
    with the colour model of He et al., Guided Image Filtering, PAMI 2013, eq. 19-21). Only the
    surroundings of the soft band are computed at full size.

    Args:
        rgb: (3, H, W) image, 0-1.
        alpha: (h, w) its coarse matte, 0-1.
        small: (h, w, 3) the image at the size of the matte, of `shrink_planes`, if it is known.

    Returns:
        (H, W) alpha, 0-1.
    """
    alpha = certain(alpha)
    size = (rgb.shape[2], rgb.shape[1])
    enlarged = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.float32)
    box = cv2.boundingRect(soft_band(alpha))
    if not box[2]:
        return enlarged
    if small is None:
        small = shrink_planes(rgb, (alpha.shape[0], alpha.shape[1]))
    *weights, constant = ColorLines(split(small), _RADIUS, _EPSILON).fit(alpha)
    share = band_share(alpha)
    inside = _scale_box(box, alpha.shape, rgb.shape[1:])
    planes = [_enlarge(plane, size)[inside] for plane in (constant, share, *weights)]
    # In strips that stay in the processor's cache between the operations.
    whole = enlarged[inside]
    colours = rgb[(slice(None), *inside)]
    for top in range(0, len(whole), _STRIP):
        rows = slice(top, top + _STRIP)
        fitted, shares, *factors = (plane[rows] for plane in planes)
        for factor, colour in zip(factors, colours[:, rows], strict=True):
            factor *= colour
            fitted += factor
        np.clip(fitted, 0, 1, out=fitted)
        fitted -= whole[rows]
        fitted *= shares
        whole[rows] += fitted
    return enlarged


def certain(alpha: Pixels) -> Pixels:
    """Return a matte of any shape stretched so that all within `CERTAIN` of 0 or 1 reaches it."""
    return np.asarray(np.clip((alpha - CERTAIN) / (1 - 2 * CERTAIN), 0, 1), np.float32)


def settled(alpha: Pixels) -> Pixels:
    """Return a matte (h, w) that is wholly 1 or 0 where nothing soft is near.

    A network leaves a faint haze on the background, and solid parts not quite solid. Near an edge
    nothing is changed.
    """
    window = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    is_solid = _surely(np.float32(1) - np.asarray(cv2.erode(alpha, window), np.float32))
    is_clear = _surely(np.asarray(cv2.dilate(alpha, window), np.float32))
    return np.asarray((alpha + is_solid * (1 - alpha)) * (1 - is_clear), np.float32)


def _surely(farthest: Pixels) -> Pixels:
    """Return 1 for a distance of alpha from its side up to half of `_FAINT`, falling to 0 at it."""
    return np.asarray(np.clip(2 - farthest / (_FAINT / 2), 0, 1), np.float32)


def soft_band(alpha: Pixels, reach: int = 2 * _RADIUS) -> npt.NDArray[np.uint8]:
    """Return (h, w) 1 within `reach` pixels of the unsure ones of a matte (h, w), else 0.

    The reach of the filter is two radii: that of its windows, and that of their averaging.
    """
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    some = cv2.dilate(alpha, window) > 0
    not_all = cv2.erode(alpha, window) < 1
    return np.asarray(some & not_all, np.uint8)


def band_share(alpha: Pixels) -> Pixels:
    """Return the weight (h, w) 0-1 of the filter's result; falls to 0 around the soft band.

    The slope hides the edge of the band.
    """
    return np.asarray(cv2.blur(soft_band(alpha).astype(np.float32), (3, 3)), np.float32)


def _scale_box(
    box: Sequence[int], small: Sequence[int], large: Sequence[int]
) -> tuple[slice, slice]:
    """Scale a box (x, y, width, height) between two sizes (h, w), rounded outward."""
    x, y, width, height = box
    top = y * large[0] // small[0]
    bottom = -(-(y + height) * large[0] // small[0])
    left = x * large[1] // small[1]
    right = -(-(x + width) * large[1] // small[1])
    return (slice(top, bottom), slice(left, right))


def _enlarge(plane: Plane, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), np.float32)
