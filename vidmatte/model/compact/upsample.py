"""From a coarse matte to full size with the edges of the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.imaging.arrays import Pixels

_RADIUS = 2
"""Of the filter's window, in pixels of the coarse matte."""
_EPSILON = 2e-4
"""Colour variance, of rgb in 0..1, below which a window counts as flat and its matte is left smooth."""
CERTAIN = 0.02
"""Alpha this close to 0 or 1 is taken as 0 or 1: a network never says either outright, and haze shows on a key."""


def guided_upsample(rgb: Pixels, alpha: Pixels) -> Pixels:
    """(H, W) alpha of an image (3, H, W) in 0..1 from its coarse matte (h, w).

    In each window of the coarse matte alpha is a linear function of colour; that function is enlarged and applied to
    the full-size image (He and Sun, Fast Guided Filter, arXiv 1505.00996, with the colour model of He et al., Guided
    Image Filtering, PAMI 2013, eq. 19-21). Only the surroundings of the soft band are computed at full size.
    """
    alpha = certain(alpha)
    size = (rgb.shape[2], rgb.shape[1])
    enlarged = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.float32)
    band = soft_band(alpha)
    x, y, width, height = cv2.boundingRect(band)
    if not width:
        return enlarged
    small = np.stack(
        [cv2.resize(plane, alpha.shape[::-1], interpolation=cv2.INTER_AREA) for plane in rgb],
        axis=-1,
    )
    coefficients = _linear_model(small, alpha)
    top, bottom = (
        y * rgb.shape[1] // alpha.shape[0],
        -(-(y + height) * rgb.shape[1] // alpha.shape[0]),
    )
    left, right = (
        x * rgb.shape[2] // alpha.shape[1],
        -(-(x + width) * rgb.shape[2] // alpha.shape[1]),
    )
    inside = (slice(top, bottom), slice(left, right))
    fitted = _enlarge(coefficients[..., 3], size, inside)
    for channel in range(3):
        fitted += _enlarge(coefficients[..., channel], size, inside) * rgb[channel][inside]
    share = _enlarge(band_share(alpha), size, inside)
    enlarged[inside] += share * (np.clip(fitted, 0, 1) - enlarged[inside])
    return enlarged


def certain(alpha: Pixels) -> Pixels:
    """A coarse matte (h, w) with what is all but sure made sure."""
    return np.asarray(np.clip((alpha - CERTAIN) / (1 - 2 * CERTAIN), 0, 1), np.float32)


def soft_band(alpha: Pixels) -> npt.NDArray[np.uint8]:
    """(h, w) 0/1: where a matte is not sure, and its surroundings."""
    window = np.ones((4 * _RADIUS + 1, 4 * _RADIUS + 1), np.uint8)
    return np.asarray((cv2.dilate(alpha, window) > 0) & (cv2.erode(alpha, window) < 1), np.uint8)


def band_share(alpha: Pixels) -> Pixels:
    """(h, w) 0-1: how much of what is found in the soft band counts; falls to 0 around it so that it has no edge."""
    return np.asarray(cv2.blur(soft_band(alpha).astype(np.float32), (3, 3)), np.float32)


def _enlarge(plane: Pixels, size: tuple[int, int], inside: tuple[slice, slice]) -> Pixels:
    enlarged = cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)[inside]


def _linear_model(image: Pixels, alpha: Pixels) -> Pixels:
    """(h, w, 4): the three colour weights and the constant of each pixel's window, averaged over windows."""
    mean_image, mean_alpha = _blur(image), _blur(alpha)
    joint = _blur(image * alpha[..., None]) - mean_image * mean_alpha[..., None]
    weights = _solve_symmetric(_covariance(image, mean_image), joint)
    constant = mean_alpha - (weights * mean_image).sum(-1)
    return _blur(np.concatenate([weights, constant[..., None]], axis=-1).astype(np.float32))


def _covariance(image: Pixels, mean: Pixels) -> Pixels:
    """(6, h, w): rr, gg, bb, rg, rb, gb of each window, the variances raised by epsilon."""
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    products = _blur(np.stack([image[..., i] * image[..., j] for i, j in pairs], axis=-1))
    for k, (i, j) in enumerate(pairs):
        products[..., k] += np.float32(_EPSILON * (i == j)) - mean[..., i] * mean[..., j]
    return products.transpose(2, 0, 1)


def _solve_symmetric(matrix: Pixels, right: Pixels) -> Pixels:
    """Solve a symmetric 3 x 3 system in each pixel by cofactors: several times as fast as a general solver."""
    rr, gg, bb, rg, rb, gb = matrix
    c_rr, c_gg, c_bb = gg * bb - gb * gb, rr * bb - rb * rb, rr * gg - rg * rg
    c_rg, c_rb, c_gb = rb * gb - rg * bb, rg * gb - rb * gg, rb * rg - rr * gb
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    r, g, b = right[..., 0], right[..., 1], right[..., 2]
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
