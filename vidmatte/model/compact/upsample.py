"""Enlarge a coarse matte to full size along the edges of the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.imaging.arrays import Pixels

_RADIUS = 2
"""Radius of the filter's window, in pixels of the coarse matte."""
_EPSILON = 2e-4
"""Colour variance, of rgb in 0..1, below which a window is flat and its matte is left smooth."""
CERTAIN = 0.02
"""Alpha this close to 0 or 1 is taken as 0 or 1.

A network never reaches either, and the haze would show on a key.
"""


def guided_upsample(rgb: Pixels, alpha: Pixels) -> Pixels:
    """Enlarge a coarse matte to the size of its image with the fast guided filter.

    In each window of the coarse matte alpha is a linear function of colour; that function is
    enlarged and applied to the full-size image (He and Sun, Fast Guided Filter, arXiv 1505.00996,
    with the colour model of He et al., Guided Image Filtering, PAMI 2013, eq. 19-21). Only the
    surroundings of the soft band are computed at full size.

    Args:
        rgb: (3, H, W) image, 0-1.
        alpha: (h, w) its coarse matte, 0-1.

    Returns:
        (H, W) alpha, 0-1.
    """
    alpha = certain(alpha)
    size = (rgb.shape[2], rgb.shape[1])
    enlarged = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.float32)
    box = cv2.boundingRect(soft_band(alpha))
    if not box[2]:
        return enlarged
    coarse_size = alpha.shape[::-1]
    planes = [cv2.resize(plane, coarse_size, interpolation=cv2.INTER_AREA) for plane in rgb]
    coefficients = _linear_model(np.stack(planes, axis=-1), alpha)
    inside = _scale_box(box, alpha.shape, rgb.shape[1:])
    fitted = _enlarge(coefficients[..., 3], size, inside)
    for channel in range(3):
        fitted += _enlarge(coefficients[..., channel], size, inside) * rgb[channel][inside]
    share = _enlarge(band_share(alpha), size, inside)
    enlarged[inside] += share * (np.clip(fitted, 0, 1) - enlarged[inside])
    return enlarged


def certain(alpha: Pixels) -> Pixels:
    """Return a matte of any shape stretched so that all within `CERTAIN` of 0 or 1 reaches it."""
    return np.asarray(np.clip((alpha - CERTAIN) / (1 - 2 * CERTAIN), 0, 1), np.float32)


def soft_band(alpha: Pixels) -> npt.NDArray[np.uint8]:
    """Return (h, w) 1 on the unsure pixels of a matte (h, w) and around them, else 0."""
    # Two radii: windows of the filter and the averaging of windows reach so far.
    window = np.ones((4 * _RADIUS + 1, 4 * _RADIUS + 1), np.uint8)
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


def _enlarge(plane: Pixels, size: tuple[int, int], inside: tuple[slice, slice]) -> Pixels:
    enlarged = cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)[inside]


def _linear_model(image: Pixels, alpha: Pixels) -> Pixels:
    """Return (h, w, 4) colour weights and constant of each window, averaged over windows."""
    mean_image = _blur(image)
    mean_alpha = _blur(alpha)
    joint = _blur(image * alpha[..., None]) - mean_image * mean_alpha[..., None]
    weights = _solve_symmetric(_covariance(image, mean_image), joint)
    constant = mean_alpha - (weights * mean_image).sum(-1)
    return _blur(np.concatenate([weights, constant[..., None]], axis=-1).astype(np.float32))


def _covariance(image: Pixels, mean: Pixels) -> Pixels:
    """Return (6, h, w) rr, gg, bb, rg, rb, gb of each window, the variances raised by epsilon."""
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    products = _blur(np.stack([image[..., i] * image[..., j] for i, j in pairs], axis=-1))
    for k, (i, j) in enumerate(pairs):
        products[..., k] += np.float32(_EPSILON * (i == j)) - mean[..., i] * mean[..., j]
    return products.transpose(2, 0, 1)


def _solve_symmetric(matrix: Pixels, right: Pixels) -> Pixels:
    """Solve a symmetric 3 x 3 system in each pixel: `matrix` (6, h, w), `right` (h, w, 3).

    Cofactors are several times as fast here as a general solver.
    """
    rr, gg, bb, rg, rb, gb = matrix
    c_rr = gg * bb - gb * gb
    c_gg = rr * bb - rb * rb
    c_bb = rr * gg - rg * rg
    c_rg = rb * gb - rg * bb
    c_rb = rg * gb - rb * gg
    c_gb = rb * rg - rr * gb
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    r = right[..., 0]
    g = right[..., 1]
    b = right[..., 2]
    solution = (
        c_rr * r + c_rg * g + c_rb * b,
        c_rg * r + c_gg * g + c_gb * b,
        c_rb * r + c_gb * g + c_bb * b,
    )
    return np.asarray(np.stack(solution, axis=-1) / determinant[..., None], np.float32)


def _blur(image: Pixels) -> Pixels:
    side = 2 * _RADIUS + 1
    blurred = cv2.blur(np.ascontiguousarray(image), (side, side), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32)
