"""Simulate the marks that people make on a reference, from the true matte."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.synth.corpus import Rng

PromptKind = Literal["mask", "clicks", "strokes", "box"]
_Plane = NDArray[np.uint8]


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
    # Soft pixels are on neither side: people mark what they are sure of.
    inside = (alpha > 180).astype(np.uint8)
    outside = (alpha < 13).astype(np.uint8)
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
