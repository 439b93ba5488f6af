"""Simulate the marks that people make on a reference, from the true matte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Alpha
from vidmatte.synth.corpus import Rng

PromptKind = Literal["mask", "clicks", "strokes", "box"]
_Plane = NDArray[np.uint8]
Click = tuple[float, float, int]
"""x and y in pixels, and label: 1 for the object, 0 for the background."""
INSIDE = 180
OUTSIDE = 13
"""Alpha above and below which people are sure of a pixel and mark it, of 255."""
_FIRST_CLICK = 0.4
"""Chance that a prompt of clicks is one click in the middle of the object."""
_WRONG_CLICK = 0.02
"""Chance that a correcting click says the opposite of the truth."""


def make_prompt(alpha: _Plane, prompt: PromptKind, rng: Rng) -> tuple[_Plane, _Plane]:
    """Simulate the marks on a reference.

    Args:
        alpha: (h, w) the true matte, 0-255.
        prompt: kind of the marks; an object of very few pixels always gets its whole matte.
        rng: of all draws.

    Returns:
        Labels (h, w), 255 object and 0 background (of a mask: the matte), and (h, w) 1 if the label
        is known, else 0.
    """
    # Soft pixels are on neither side.
    inside = (alpha > INSIDE).astype(np.uint8)
    outside = (alpha < OUTSIDE).astype(np.uint8)
    if prompt == "mask" or inside.sum() < 12:
        return alpha.copy(), np.ones_like(alpha)
    if prompt == "box":
        return np.full_like(alpha, 0), 1 - _box(inside, rng)
    known = np.zeros_like(alpha)
    radius = prompt_radius(alpha.shape) * float(np.exp(rng.uniform(-0.4, 0.9)))
    radius = max(1, round(radius))
    # All is drawn before the first mark, in this order, as a seed stands for one prompt.
    if prompt == "clicks":
        object_count = int(rng.integers(1, 6))
        near = _outside_near(inside, outside, rng)
        background_count = int(rng.integers(4))
        if rng.random() < _FIRST_CLICK:
            depth = depth_of(inside > 0)
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            cv2.circle(known, (int(column), int(row)), radius, 1, -1)
        else:
            _draw_clicks(known, inside, object_count, radius, rng)
            _draw_clicks(known, near, background_count, radius, rng)
    else:
        object_count = int(rng.integers(1, 4))
        near = _outside_near(inside, outside, rng)
        background_count = int(rng.integers(3))
        _draw_strokes(known, inside, object_count, radius, rng)
        _draw_strokes(known, near, background_count, radius, rng)
    known &= inside | outside
    return inside * np.uint8(255), known


def prompt_radius(size: tuple[int, ...]) -> int:
    """Return the radius in pixels of a click's disc at a working size: 2 at 128, 4 at 256."""
    return max(2, round(min(size) / 64))


def next_click(
    answer: Alpha,
    truth: NDArray[np.bool_],
    counted: NDArray[np.bool_] | None,
    clicks: Sequence[Click],
) -> Click | None:
    """Return the click in the middle of the largest error, None if there is none.

    The largest error is the one with the largest distance from its inside to its border; of equal
    ones a missing part of the object, and the first in reading order.

    Args:
        answer: (H, W) the last matte.
        truth: (H, W) the object.
        counted: (H, W) pixels that count; None for all.
        clicks: those before; no pixel is clicked twice.
    """
    found = answer > 0.5
    free = np.ones(truth.shape, np.bool_) if counted is None else counted.copy()
    missing = depth_of(truth & ~found & free)
    surplus = depth_of(found & ~truth & free)
    for x, y, _ in clicks:
        missing[int(y), int(x)] = 0
        surplus[int(y), int(x)] = 0
    if not (missing.any() or surplus.any()):
        return None
    label = 1 if missing.max() >= surplus.max() else 0
    depth = missing if label else surplus
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(column), float(row), label


def depth_of(region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance to the border of a region; the frame's edge is a border, too."""
    padded = np.pad(region.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.ascontiguousarray(depth, np.float32)


def add_correction(
    found: Alpha, truth: Alpha, labels: Alpha, known: Alpha, rng: Rng
) -> tuple[Alpha, Alpha]:
    """Add the click of a person who corrects the last answer to the marks.

    It lies near the middle of the largest error; now and then it says the opposite of the truth.

    Args:
        found: (h, w) the last answer, 0-1.
        truth: (h, w) 0-1.
        labels: (h, w) the marks, 1 for the object, read where known.
        known: (h, w) 1 where a mark is, else 0.
        rng: of all draws.

    Returns:
        labels and known with one mark more; as they were if there is no error.
    """
    object_ = truth > 0.5
    # A person does not click on a mark again.
    click = next_click(found, object_, known < 0.5, [])
    if click is None:
        return labels, known
    x, y, label = click
    error = object_ if label else ~object_
    depth = float(depth_of(error & ((found > 0.5) != object_))[int(y), int(x)])
    column = int(np.clip(x + rng.normal() * 0.25 * depth, 0, truth.shape[1] - 1))
    row = int(np.clip(y + rng.normal() * 0.25 * depth, 0, truth.shape[0] - 1))
    if not error[row, column]:
        column, row = int(x), int(y)
    if rng.random() < _WRONG_CLICK:
        label = 1 - label
    radius = max(1, round(prompt_radius(truth.shape) * float(np.exp(rng.uniform(-0.4, 0.4)))))
    disc = cv2.circle(np.zeros(truth.shape, np.uint8), (column, row), radius, 1, -1) > 0
    # A disc at an edge is cut to the side that was meant.
    disc &= error
    disc[row, column] = True
    return (
        np.where(disc, np.float32(label), labels),
        np.where(disc, np.float32(1), known),
    )


def _draw_clicks(known: _Plane, region: _Plane, count: int, radius: int, rng: Rng) -> None:
    """Draw discs with their centres in a region (h, w) on `known` (h, w), in place."""
    for x, y in _draw_points(region, count, rng):
        cv2.circle(known, (x, y), radius, 1, -1)


def _draw_strokes(known: _Plane, region: _Plane, count: int, radius: int, rng: Rng) -> None:
    """Draw winding strokes, cut to a region (h, w), on `known` (h, w), in place."""
    for start in _draw_points(region, count, rng):
        turns = np.cumsum(rng.normal(0, 0.5, 12)) + rng.uniform(0, 6.3)
        step = rng.uniform(0.01, 0.05) * min(known.shape)
        steps = step * np.stack([np.cos(turns), np.sin(turns)], 1)
        path = np.cumsum(steps, 0) + np.array(start)
        stroke = np.zeros_like(known)
        cv2.polylines(stroke, [path.astype(np.int32)], False, 1, 2 * radius - 1)
        known |= stroke & region


def _box(inside: _Plane, rng: Rng) -> _Plane:
    """Return 1 in a loose box around the object, else 0."""
    x, y, width, height = cv2.boundingRect(inside)
    loose = rng.uniform(0, 0.08, 4) * max(width, height)
    # A negative start of a slice would count from the end.
    top = max(0, int(y - loose[0]))
    left = max(0, int(x - loose[1]))
    bottom = int(np.ceil(y + height + loose[2]))
    right = int(np.ceil(x + width + loose[3]))
    box = np.zeros_like(inside)
    box[top:bottom, left:right] = 1
    return box


def _outside_near(inside: _Plane, outside: _Plane, rng: Rng) -> _Plane:
    """Return the region for marks on the background; half of the time it is near the object."""
    if rng.random() < 0.5:
        return outside
    grown = cv2.dilate(inside, np.ones((25, 25), np.uint8))
    near = outside & np.asarray(grown, np.uint8)
    return near if near.any() else outside


def _draw_points(region: _Plane, count: int, rng: Rng) -> list[tuple[int, int]]:
    """Draw pixels (x, y) of a region, away from its edge if it is thick enough."""
    # The border of zeros makes the frame's edge count as an edge of the region.
    depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.where(depth > min(3.0, 0.5 * float(depth.max())))
    if not len(rows):
        return []
    chosen = rng.integers(len(rows), size=count)
    return [(int(columns[i]), int(rows[i])) for i in chosen]
