"""Marks like those of a person, drawn from the truth with a seed.

The paper does not say how many points and strokes its tables have, and the research code has no
such prompts. Here they are three points, or two strokes, on the object and one off it. They keep
clear of the outline, so the disc and the brush stay on their side.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import ReadError
from vidmatte.evaluate.protocol import PromptKind, Rng
from vidmatte.imaging.arrays import Alpha
from vidmatte.model.trimap import make_trimap
from vidmatte.prompts.prompt import Prompt, Reference, Stroke

POINTS_ON, POINTS_OFF = 3, 1
STROKES_ON, STROKES_OFF = 2, 1
"""Marks on the object, and off it."""
_CLEAR = 0.01
"""Distance of marks from the outline, as a share of the longer side; half the thickness of
thinner objects."""
_STROKE_STEP = 0.02
"""Length of a straight piece of a stroke, as a share of the longer side."""
_STROKE_STEPS = 12
BRUSH = 0.01
"""Width of the brush, as a share of the longer side."""
_TURN = math.radians(35)
"""Standard deviation of the change of direction from one piece to the next."""
_BACKGROUND_BELOW = 0.05
"""Largest alpha of pixels to mark as background."""


def draw_reference(
    kind: PromptKind,
    rgb: Tensor,
    truth: Alpha,
    rng: Rng,
    *,
    frame: int,
    unknown: NDArray[np.bool_] | None = None,
    is_any_alpha: bool = False,
) -> Reference:
    """Return the reference of an image with marks of one kind.

    A mask is the truth above half of its largest value. A trimap knows all but `unknown`, or if the
    data set has none, all but a band around soft pixels (see `make_trimap`).

    Args:
        kind: kind of the marks.
        rgb: (1, 3, H, W) as the model is to see it.
        truth: (H, W) in 0..1.
        rng: draws points and strokes.
        frame: index of the image in its group or clip.
        unknown: (H, W) the unknown area of the image's trimap.
        is_any_alpha: a mask is wherever the truth is above 0, as in the research code.

    Raises:
        ReadError: If the truth shows no object, or nothing else, and cannot be marked.
    """
    if not truth.max() > 0:
        raise ReadError("the truth shows no object, so that there is nothing to mark")
    solid = truth > (0 if is_any_alpha and kind == "mask" else truth.max() / 2)
    if kind == "mask":
        return Reference(rgb, _plane(solid), torch.ones(1, 1, *truth.shape), frame)
    if kind == "trimap":
        given = None if unknown is None else _plane(np.where(unknown, 0.5, solid))
        trimap = make_trimap(_plane(truth)) if given is None else given
        return Reference(rgb, (trimap == 1).float(), (trimap != 0.5).float(), frame)
    off = truth < _BACKGROUND_BELOW
    if not off.any():
        raise ReadError(
            "the object fills the image, so that nothing can be marked as background; use prompt "
            "mask"
        )
    if kind == "points":
        on_points = _points(solid, POINTS_ON, 1, rng)
        off_points = _points(off, POINTS_OFF, 0, rng)
        prompt = Prompt(points=(*on_points, *off_points))
    else:
        on_strokes = _strokes(solid, STROKES_ON, 1, rng)
        off_strokes = _strokes(off, STROKES_OFF, 0, rng)
        prompt = Prompt(strokes=(*on_strokes, *off_strokes))
    return prompt.reference(rgb, frame=frame)


def _plane(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]


def _places(side: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the places for marks of a side: clear of the outline, but within every thin object."""
    # The frame's edge is no outline: a padding of the same value keeps depth there.
    padded = np.pad(side.astype(np.uint8), 1, constant_values=1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    inside = np.where(side, depth, 0)
    return np.asarray(inside >= min(_CLEAR * max(side.shape), inside.max() / 2)) & side


def _points(
    side: NDArray[np.bool_], count: int, label: int, rng: Rng
) -> list[tuple[float, float, int]]:
    rows, columns = np.nonzero(_places(side))
    chosen = rng.integers(0, len(rows), count)
    return [(float(columns[n]), float(rows[n]), label) for n in chosen]


def _strokes(side: NDArray[np.bool_], count: int, label: int, rng: Rng) -> list[Stroke]:
    places = _places(side)
    width = max(1.0, BRUSH * max(side.shape))
    return [
        Stroke(_stroll(places, start, rng), width, label)
        for start in _points(side, count, label, rng)
    ]


def _stroll(
    places: NDArray[np.bool_], start: tuple[float, float, int], rng: Rng
) -> tuple[tuple[float, float], ...]:
    """Return the corners of a line, with small turns, and larger ones to stay in `places`."""
    x, y, _ = start
    corners, direction = [(x, y)], float(rng.uniform(0, 2 * math.pi))
    length = _STROKE_STEP * max(places.shape)
    for _ in range(_STROKE_STEPS):
        direction += float(rng.normal(0, _TURN))
        for turn in (0, 1, -1, 2, -2, 3):
            angle = direction + turn * math.pi / 3
            reach = np.linspace(0, length, 8)
            columns, rows = (
                np.rint(x + reach * math.cos(angle)),
                np.rint(y + reach * math.sin(angle)),
            )
            if _all_in(places, rows.astype(int), columns.astype(int)):
                x, y, direction = float(columns[-1]), float(rows[-1]), angle
                corners.append((x, y))
                break
        else:
            break
    return tuple(corners)


def _all_in(places: NDArray[np.bool_], rows: NDArray[np.int_], columns: NDArray[np.int_]) -> bool:
    height, width = places.shape
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= height or columns.max() >= width:
        return False
    return bool(places[rows, columns].all())
