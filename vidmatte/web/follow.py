"""Marks of one frame, moved along with the picture to another frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import PromptError
from vidmatte.imaging.arrays import Flow, Gray8
from vidmatte.imaging.optical_flow import optical_flow
from vidmatte.prompts.prompt import Prompt, Stroke

FARTHEST = 250
"""Frames over which marks are followed: errors of the motion add up."""
Places = NDArray[np.float64]
"""(n, 2) x and y."""


def follow_prompt(
    prompt: Prompt, frame: int, grays: Iterable[Gray8], size: tuple[int, int]
) -> Prompt:
    """Return the points, strokes and box of a prompt as marks of another frame.

    Each mark goes along the optical flow from picture to picture. A box keeps its shape: it moves
    and grows by the medians of a grid of places inside it.

    Args:
        prompt: The marks; a mask or painted strokes of a file cannot be followed.
        frame: The frame that `grays` lead to.
        grays: Small pictures of consecutive frames, from that of the prompt on.
        size: Width and height of the displayed frame, in whose pixels marks are.

    Raises:
        PromptError: Nothing is left to follow, or all marks have left the picture.
    """
    grid = _grid(prompt.box) if prompt.box is not None else np.zeros((0, 2))
    parts = [
        np.asarray([point[:2] for point in prompt.points], float).reshape(-1, 2),
        *(np.asarray(stroke.points, float) for stroke in prompt.strokes),
        grid,
    ]
    if not any(map(len, parts)):
        raise PromptError(
            f"frame {prompt.frame} is marked by a mask alone, which cannot be moved; mark points "
            "or a box there, or load a mask here"
        )
    places = _followed(np.concatenate(parts), grays, size)
    moved = np.split(places, np.cumsum([len(part) for part in parts])[:-1])
    points = tuple(
        (float(x), float(y), label)
        for (x, y), (*_, label) in zip(moved[0], prompt.points, strict=True)
        if _is_inside(x, y, size)
    )
    strokes = []
    for corners, stroke in zip(moved[1:-1], prompt.strokes, strict=True):
        inside = tuple((float(x), float(y)) for x, y in corners if _is_inside(x, y, size))
        if inside:
            strokes.append(Stroke(inside, stroke.width, stroke.label))
    box = None if prompt.box is None else _moved_box(prompt.box, grid, moved[-1], size)
    if not points and not strokes and box is None:
        raise PromptError(f"all marks have left the picture on the way to frame {frame}")
    return replace(
        prompt,
        frame=frame,
        points=points,
        strokes=tuple(strokes),
        box=box,
        mask=None,
        scribbles=None,
    )


def _followed(places: Places, grays: Iterable[Gray8], size: tuple[int, int]) -> Places:
    before: Gray8 | None = None
    for gray in grays:
        if before is not None:
            scale = gray.shape[1] / size[0], gray.shape[0] / size[1]
            flow = optical_flow(before, gray)
            small = places * scale
            # Between the middles of pixels, and at the border as its last pixel.
            places = (small + _at(flow, small - 0.5)) / scale
        before = gray
    return places


def _at(flow: Flow, places: Places) -> Places:
    x, y = places.astype(np.float32).T
    moved = cv2.remap(flow, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved[0], np.float64)


def _grid(box: Sequence[float]) -> Places:
    x0, y0, x1, y1 = box
    # The middle of a box is mostly object, its corners are not.
    shares = np.linspace(0.25, 0.75, 7)
    x, y = np.meshgrid(x0 + shares * (x1 - x0), y0 + shares * (y1 - y0))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _moved_box(
    box: Sequence[float], grid: Places, moved: Places, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    middle, to = np.median(grid, axis=0), np.median(moved, axis=0)
    spread = np.abs(grid - middle).sum(axis=0)
    growth = np.abs(moved - to).sum(axis=0) / np.maximum(spread, 1e-6)
    scale = float(np.clip(growth.mean(), 0.5, 2))
    half = scale * np.asarray([box[2] - box[0], box[3] - box[1]]) / 2
    low = np.clip(to - half, 0, size)
    high = np.clip(to + half, 0, size)
    if (high - low < 2).any():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _is_inside(x: float, y: float, size: tuple[int, int]) -> bool:
    return bool(0 <= x < size[0] and 0 <= y < size[1])
