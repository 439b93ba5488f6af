"""Fill the unknown area of a trimap from its known ones."""

from __future__ import annotations

import numpy as np

from vidmatte.imaging.arrays import Alpha, Rgb8
from vidmatte.imaging.color_lines import ColorLines, Plane

_RADIUS = 4
"""Radius of the windows: larger ones carry what is known farther with each step."""
_EPSILON = 1e-6
"""Small: a strand is a window with little variance, too."""
_CONSTRAINT = 100.0
"""Weight of a known pixel against the smoothness of its windows."""
_STEPS = 80


def fill_unknown(rgb: Rgb8, alpha: Alpha, known: Alpha) -> Alpha:
    """Return alpha that is given where known, and spread over the rest along colours.

    In each window alpha is nearly a linear function of colour (Levin et al., A Closed-Form Solution
    to Natural Image Matting, PAMI 2008). The windows are large and the system is solved without its
    matrix, by conjugate gradients: the guided filter's residual is its product with an alpha (He et
    al., Fast Matting Using Large Kernel Matting Laplacian Matrices, CVPR 2010).

    Args:
        rgb: (h, w, 3) image.
        alpha: (h, w) 0-1, read where known.
        known: (h, w) 1 where alpha is given, else 0.

    Returns:
        (h, w) 0-1.
    """
    planes = [np.ascontiguousarray(rgb[..., i], np.float64) / 255 for i in range(3)]
    lines = ColorLines(planes, _RADIUS, _EPSILON)
    weight = _CONSTRAINT * known.astype(np.float64)

    def product(plane: Plane) -> Plane:
        return plane - lines.smooth(plane) + weight * plane

    found = np.where(known > 0, alpha, 0.5).astype(np.float64)
    residual = weight * alpha - product(found)
    # Preconditioned by the diagonal, which is dominated by what is known.
    scale = 1 / (1 + weight)
    step = scale * residual
    slope = np.vdot(residual, step)
    for _ in range(_STEPS):
        if slope <= 0:
            # Solved to rounding; an image without an unknown area is at once.
            break
        moved = product(step)
        length = slope / np.vdot(step, moved)
        found += length * step
        residual -= length * moved
        scaled = scale * residual
        before, slope = slope, np.vdot(residual, scaled)
        step = scaled + slope / before * step
    filled = np.where(known > 0, alpha, np.clip(found, 0, 1))
    return np.asarray(filled, np.float32)
