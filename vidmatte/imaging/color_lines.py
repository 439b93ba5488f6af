"""Model alpha as a linear function of colour in small windows, as the guided filter does.

The filter is that of He et al. (Guided Image Filtering, PAMI 2013, eq. 19-21).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32] | NDArray[np.float64]
"""(h, w); a result has the format of the image."""


class ColorLines:
    """The windows of an image, whose statistics are computed once.

    Planes are separate, (h, w) each: NumPy is several times as fast on them as on pixels of three
    channels.

    Args:
        image: red, green and blue, 0-1. Of float64 for an epsilon under 1e-4: variances are small
            differences of large numbers.
        radius: of the square windows, in pixels.
        epsilon: colour variance below which a window is flat, and alpha in it left smooth.
    """

    def __init__(self, image: Sequence[Plane], radius: int, epsilon: float) -> None:
        self._image = image
        self._side = 2 * radius + 1
        self._means = [self._blur(plane) for plane in image]
        self._inverse = _inverse(self._covariance(epsilon))

    def fit(self, alpha: Plane) -> list[Plane]:
        """Return three colour weights and the constant of each window, averaged over windows."""
        mean_alpha = self._blur(alpha)
        joint = [
            self._blur(plane * alpha) - mean * mean_alpha
            for plane, mean in zip(self._image, self._means, strict=True)
        ]
        weights = [_dot(row, joint) for row in self._inverse]
        constant = mean_alpha - _dot(weights, self._means)
        return [self._blur(plane) for plane in (*weights, constant)]

    def smooth(self, alpha: Plane) -> Plane:
        """Return an alpha (h, w) filtered with the image as the guide."""
        *weights, constant = self.fit(alpha)
        return _dot(weights, self._image) + constant

    def _covariance(self, epsilon: float) -> list[Plane]:
        """Return rr, gg, bb, rg, rb, gb of each window, the variances raised by epsilon."""
        covariance = []
        for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
            product = self._blur(self._image[i] * self._image[j])
            product -= self._means[i] * self._means[j]
            if i == j:
                product += epsilon
            covariance.append(product)
        return covariance

    def _blur(self, plane: Plane) -> Plane:
        side = (self._side, self._side)
        blurred: Plane = cv2.blur(plane, side, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        return blurred


def _dot(first: Sequence[Plane], second: Sequence[Plane]) -> Plane:
    """Return the sum (h, w) of the products of three planes each."""
    total = first[0] * second[0]
    total += first[1] * second[1]
    total += first[2] * second[2]
    return total


def _inverse(matrix: Sequence[Plane]) -> list[tuple[Plane, Plane, Plane]]:
    """Return the rows of the inverse of a symmetric 3 x 3 matrix in each pixel, by cofactors.

    They are several times as fast here as a general solver.
    """
    rr, gg, bb, rg, rb, gb = matrix
    c_rr = gg * bb - gb * gb
    c_gg = rr * bb - rb * rb
    c_bb = rr * gg - rg * rg
    c_rg = rb * gb - rg * bb
    c_rb = rg * gb - rb * gg
    c_gb = rb * rg - rr * gb
    share = 1 / _dot((rr, rg, rb), (c_rr, c_rg, c_rb))
    cofactors = [plane * share for plane in (c_rr, c_gg, c_bb, c_rg, c_rb, c_gb)]
    i_rr, i_gg, i_bb, i_rg, i_rb, i_gb = cofactors
    return [(i_rr, i_rg, i_rb), (i_rg, i_gg, i_gb), (i_rb, i_gb, i_bb)]
