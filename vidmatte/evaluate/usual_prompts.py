"""The prompts that people usually give, made from the truth: boxes, a few points, one stroke.

They are the second half of `vidmatte evaluate clicks`: with --prompts each image is marked in each
of these ways, instead of being clicked on until it is good.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.method import PredictedMatte, SeenImage
from vidmatte.evaluate.prompts import BRUSH, draw_reference
from vidmatte.frames import FrameBatch
from vidmatte.metrics import region_overlap
from vidmatte.model.interface import Model
from vidmatte.prompts.prompt import OBJECT, Prompt, Reference, Stroke
from vidmatte.synth.prompts import depth_of

DRAWS = 5
"""How often three points on and one off the object are drawn."""
_Place: TypeAlias = tuple[int, int]
_MAP_SIDE = 96
"""Longer side of the map on which the stroke is laid, in cells."""

PROMPTS = (
    Measure("box", "box", 3, higher_is_better=True),
    Measure("box + point", "box + point", 3, higher_is_better=True),
    Measure("3 on, 1 off", "3 on, 1 off", 3, higher_is_better=True),
    Measure("stroke", "stroke", 3, higher_is_better=True),
)
"""J of a tight box; of the box and a point in the middle of the object; of three points on and one
off it, the mean of several draws; of one stroke along it."""


@dataclass(frozen=True)
class Prompted:
    """J of each of the prompts on one image, and the answer to the last one."""

    values: dict[str, float]
    last: PredictedMatte


def mark_each_way(model: Model, seen: SeenImage, *, index: int, seed: int) -> Prompted:
    """Mark an image in each of the ways of `PROMPTS`.

    Args:
        model: answers to the marks.
        seen: the image, its truth and the pixels that count.
        index: of the image in its group or clip.
        seed: of the points that are drawn.

    Raises:
        ReadError: the truth shows no object, or nothing else.
    """
    if not (seen.truth > 0.5).any():
        raise ReadError("the truth shows no object, so that there is nothing to mark")
    overlaps: dict[str, list[float]] = {}
    last = None
    for name, reference in _references(seen, index, seed):
        last = _answer(model, seen, reference, index)
        overlap = region_overlap(last.alpha, seen.truth, region=seen.counted)
        overlaps.setdefault(name, []).append(overlap)
    assert last is not None  # there are several prompts
    return Prompted({name: float(np.mean(each)) for name, each in overlaps.items()}, last)


def _references(seen: SeenImage, index: int, seed: int) -> Iterator[tuple[str, Reference]]:
    truth = seen.truth > 0.5
    rows = np.flatnonzero(truth.any(axis=1))
    columns = np.flatnonzero(truth.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    depth = depth_of(truth)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    middle = (float(x), float(y), OBJECT)
    yield "box", Prompt(box=box).reference(seen.rgb, frame=index)
    yield "box + point", Prompt(box=box, points=(middle,)).reference(seen.rgb, frame=index)
    for draw in range(DRAWS):
        rng = np.random.default_rng((seed, draw))
        yield "3 on, 1 off", draw_reference("points", seen.rgb, seen.truth, rng, frame=index)
    width = max(1.0, BRUSH * max(truth.shape))
    stroke = Stroke(stroke_along(truth, width), width, OBJECT)
    yield "stroke", Prompt(strokes=(stroke,)).reference(seen.rgb, frame=index)


def _answer(model: Model, seen: SeenImage, reference: Reference, index: int) -> PredictedMatte:
    batch = FrameBatch(seen.rgb, frames=(index,), pts=(index,), durations=(1,))
    with torch.inference_mode():
        matte = model.with_reference([reference])(batch)
    alpha = np.asarray(matte.alpha[0, 0].numpy())
    return PredictedMatte(
        index, seen.rgb[0], alpha, seen.truth, seen.counted, reference, matte.confidence[0]
    )


def stroke_along(truth: NDArray[np.bool_], width: float) -> tuple[tuple[float, float], ...]:
    """Return the corners (x, y) of a line through the middle of the object, from end to end.

    Its ends are the two places of the largest piece that are farthest apart, of those where the
    brush fits: nobody paints along hair.

    Args:
        truth: (H, W) the object.
        width: of the brush, in pixels.
    """
    scale = min(1.0, _MAP_SIDE / max(truth.shape))
    size = (max(1, round(truth.shape[1] * scale)), max(1, round(truth.shape[0] * scale)))
    smaller = cv2.resize(depth_of(_largest_piece(truth)), size, interpolation=cv2.INTER_LINEAR)
    depth = np.asarray(smaller, np.float32)
    fits = (depth > 0) & (depth >= min(width / 2, float(depth.max())))
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    as_long = fits.astype(np.float32)
    *_, first = _reached(as_long, (int(deepest[0]), int(deepest[1])))
    *_, second = _reached(as_long, first)
    # The way between the ends keeps to the middle of the object.
    before = _reached(np.where(fits, depth, np.float32(0)), first)
    path = [second]
    while path[-1] != first:
        path.append(before[path[-1]])
    across = truth.shape[1] / size[0]
    down = truth.shape[0] / size[1]
    return tuple((float((x + 0.5) * across), float((y + 0.5) * down)) for y, x in path)


def _reached(speed: NDArray[np.float32], start: _Place) -> dict[_Place, _Place]:
    """Return the places of a map that are reached from one of them, the farthest last.

    Each has the place before it on the fastest way there (Dijkstra, 1959).

    Args:
        speed: (h, w) of a step to each place; 0 where there is no way.
        start: row and column.
    """
    cost = {start: 0.0}
    waiting = [(0.0, start, start)]
    reached: dict[_Place, _Place] = {}
    while waiting:
        so_far, place, last = heapq.heappop(waiting)
        if place in reached:
            continue
        reached[place] = last
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = place[0] + down, place[1] + right
            if not (0 <= y < speed.shape[0] and 0 <= x < speed.shape[1]) or speed[y, x] <= 0:
                continue
            further = so_far + 1 / float(speed[y, x])
            if further < cost.get((y, x), np.inf):
                cost[y, x] = further
                heapq.heappush(waiting, (further, (y, x), place))
    return reached


def _largest_piece(truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8))
    return np.asarray(pieces == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax()))
