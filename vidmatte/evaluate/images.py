"""Input, prompt, alpha, truth and error of a sample, small and side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidmatte.evaluate.method import PredictedMatte
from vidmatte.imaging.arrays import Bgr8
from vidmatte.prompts.prompt import Reference
from vidmatte.report.sheets import heat, side_by_side, to_jpeg
from vidmatte.report.thumbnails import shrink, shrunk_size, to_codes

COLUMNS = ("input", "prompt", "alpha", "truth", "error")
_OBJECT, _BACKGROUND = (0.2, 0.9, 0.3), (0.95, 0.25, 0.2)
"""Red, green and blue of shown marks."""
_DIMMED = 0.3
"""Brightness of pixels outside a mask."""
_TRACE = 0.05
"""Least share of a mark in a small pixel for painting it."""


def strip(found: PredictedMatte) -> bytes:
    """Return the pictures as a JPEG file; the error goes from dark blue (none) to yellow (1)."""
    height, width = found.truth.shape
    size = shrunk_size(height, width)
    error = np.abs(found.alpha - found.truth).astype(np.float32)
    pictures = [
        to_codes(shrink(found.rgb, size)),
        _prompt(found.reference, size),
        _gray(torch.from_numpy(found.alpha), size),
        _gray(torch.from_numpy(found.truth), size),
        heat(torch.from_numpy(shrink(torch.from_numpy(error)[None], size)[..., 0]), size),
    ]
    return to_jpeg(side_by_side(pictures))


def _gray(plane: Tensor, size: tuple[int, int]) -> Bgr8:
    return to_codes(np.repeat(shrink(plane[None].float(), size), 3, axis=2))


def _prompt(reference: Reference | None, size: tuple[int, int]) -> Bgr8:
    """Return the reference with its marks.

    A mask dims the background, points and strokes are painted green and red. If most of the image
    is known, as by a trimap, that is shown: background black, unknown gray.
    """
    if reference is None:
        return np.zeros((size[1], size[0], 3), np.uint8)
    rgb, alpha, known = reference.rgb[0], reference.alpha[0], reference.known[0]
    own = shrunk_size(rgb.shape[-2], rgb.shape[-1])
    if reference.is_complete:
        return to_codes(shrink(rgb * (_DIMMED + (1 - _DIMMED) * alpha), own))
    if reference.is_trimap:
        return _gray(torch.where(known > 0, alpha, torch.full((), 0.5))[0], own)
    picture = shrink(rgb, own)
    for color, marks in ((_BACKGROUND, known * (alpha <= 0.5)), (_OBJECT, known * (alpha > 0.5))):
        # Whatever is left of a mark is painted whole, or a click could not be seen.
        picture[shrink(marks, own)[..., 0] > _TRACE] = color[::-1]
    return to_codes(picture)
