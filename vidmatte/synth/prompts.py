"""Marks that people make on a reference, simulated from the true matte."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.synth.corpus import Rng

PromptKind = Literal["mask", "clicks", "strokes", "box"]


def make_prompt(
    alpha: NDArray[np.uint8], prompt: PromptKind, rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Simulate what a person marks on a reference: labels 0 or 255 (h, w), and where they are known (h, w) 0 or 1."""
    inside, outside = (alpha > 180).astype(np.uint8), (alpha < 13).astype(np.uint8)
    known = np.zeros_like(alpha)
    if prompt == "mask" or inside.sum() < 12:
        return alpha.copy(), np.ones_like(alpha)
    if prompt == "box":
        return np.full_like(alpha, 0), 1 - _box(inside, rng)
    radius = max(1, round(prompt_radius(alpha.shape) * float(np.exp(rng.uniform(-0.4, 0.9)))))
    if prompt == "clicks":
        for region, count in (
            (inside, rng.integers(1, 6)),
            (_outside_near(inside, outside, rng), rng.integers(4)),
        ):
            for x, y in _draw_points(region, int(count), rng):
                cv2.circle(known, (x, y), radius, 1, -1)
    else:
        for region, count in (
            (inside, rng.integers(1, 4)),
            (_outside_near(inside, outside, rng), rng.integers(3)),
        ):
            for start in _draw_points(region, int(count), rng):
                turns = np.cumsum(rng.normal(0, 0.5, 12)) + rng.uniform(0, 6.3)
                step = rng.uniform(0.01, 0.05) * min(alpha.shape)
                path = np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], 1), 0) + np.array(
                    start
                )
                stroke = np.zeros_like(known)
                cv2.polylines(stroke, [path.astype(np.int32)], False, 1, 2 * radius - 1)
                known |= stroke & region
    known &= inside | outside
    return inside * np.uint8(255), known


def prompt_radius(size: tuple[int, ...]) -> int:
    """Radius in pixels of the disc that stands for a click on a frame of a working size: 2 at 128, 4 at 256."""
    return max(2, round(min(size) / 64))


def _box(inside: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """1 within a loose box around the object."""
    x, y, width, height = cv2.boundingRect(inside)
    loose = rng.uniform(0, 0.08, 4) * max(width, height)
    box = np.zeros_like(inside)
    top, left = max(0, int(y - loose[0])), max(0, int(x - loose[1]))
    box[top : int(np.ceil(y + height + loose[2])), left : int(np.ceil(x + width + loose[3]))] = 1
    return box


def _outside_near(
    inside: NDArray[np.uint8], outside: NDArray[np.uint8], rng: Rng
) -> NDArray[np.uint8]:
    """Where a person would mark background: half the time close to the object."""
    if rng.random() < 0.5:
        return outside
    near = outside & np.asarray(cv2.dilate(inside, np.ones((25, 25), np.uint8)), np.uint8)
    return near if near.any() else outside


def _draw_points(region: NDArray[np.uint8], count: int, rng: Rng) -> list[tuple[int, int]]:
    """Pixels (x, y) of a region, away from its edge where it is thick enough."""
    depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.where(depth > min(3.0, 0.5 * float(depth.max())))
    if not len(rows):
        return []
    chosen = rng.integers(len(rows), size=count)
    return [(int(columns[i]), int(rows[i])) for i in chosen]
