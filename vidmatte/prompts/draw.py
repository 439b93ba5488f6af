"""Draw the alpha and the known pixels of a reference from its prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.errors import PromptError
from vidmatte.frames import ColorTags, Windows
from vidmatte.imaging.display import to_display
from vidmatte.imaging.fit import Size, fit_to_frame, is_exact, wrong_size
from vidmatte.media.limits import displayed_size
from vidmatte.options import MaskFit
from vidmatte.prompts.arrays import MaskArray
from vidmatte.prompts.prompt import BACKGROUND, OBJECT, UNKNOWN, Mark
from vidmatte.read.images import read_pixels
from vidmatte.read.labels import split_label
from vidmatte.read.plane import read_plane, warn_if_full

if TYPE_CHECKING:
    from vidmatte.prompts.prompt import Prompt

_POINT_RADIUS = 1 / 100
"""Radius of the disc of a click, as a share of the longer side: one click makes a usable region."""
Labels = npt.NDArray[np.int8]


def _inside(x: float, y: float, display: tuple[int, int]) -> None:
    height, width = display
    if not (0 <= x < width and 0 <= y < height):  # also refuses NaN
        raise PromptError(
            f"point {x:g},{y:g} is outside the frame of {width}x{height}: x is 0 to {width - 1}, "
            f"y is 0 to {height - 1}"
        )


def _outside_box(
    size: tuple[int, ...],
    box: tuple[float, float, float, float],
    display: tuple[int, int],
    scale: float,
) -> Labels:
    """Return the labels (H, W) of a box: everything outside of it is background."""
    x0, y0, x1, y1 = box
    height, width = display
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise PromptError(
            f"box {x0:g},{y0:g},{x1:g},{y1:g} does not fit the frame of {width}x{height}: "
            f"give x0,y0,x1,y1 with x0 < x1 and y0 < y1 inside it"
        )
    labels = np.full(size, BACKGROUND, np.int8)
    labels[math.floor(y0) : math.ceil(y1), math.floor(x0 * scale) : math.ceil(x1 * scale)] = UNKNOWN
    return labels


def _draw_line(
    size: tuple[int, ...],
    points: Sequence[tuple[float, float]],
    width: float,
    label: int,
    display: tuple[int, int],
    scale: float,
) -> Mark:
    """Return the mark of a line through points of the displayed frame, on a frame of a size."""
    for x, y in points:
        _inside(x, y, display)
    # A point lies in the pixel that holds it: 159.7 is in the last one of 160.
    corners = np.floor(np.array([*points, points[-1]])).astype(np.int32)
    radius = max(0.5, width / 2)
    reach = math.ceil(min(radius, max(display))) + 1
    left, top = np.maximum(corners.min(0) - reach, 0)
    right, bottom = np.minimum(corners.max(0) + reach + 1, display[::-1])
    line = np.ones((bottom - top, right - left), np.uint8)
    cv2.polylines(line, [corners - (left, top)], False, 0)
    # cv2's own thick lines are up to two pixels too wide.
    distance = cv2.distanceTransform(line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    painted = distance <= radius
    if scale == 1:
        return _mark(np.where(painted, label, UNKNOWN), int(left), int(top))
    whole = np.zeros(display, np.float32)
    whole[top:bottom, left:right] = painted
    shrunk = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
    return _mark(np.where(shrunk > 0, label, UNKNOWN), 0, 0)


def _mark(labels: npt.NDArray[np.generic], left: int, top: int) -> Mark:
    return Mark(torch.from_numpy(np.ascontiguousarray(labels, np.int8)), left, top)


@dataclass(frozen=True)
class _Frame:
    """The sizes of a marked frame, and what is done with images of another size."""

    size: Size
    display: Size
    mask_fit: MaskFit
    windows: Windows | None = None
    """Those of an EXR clip; a mask may have the size of the display window."""

    def is_shown(self, found: Size | None) -> bool:
        """Return whether an image has the size of the display window of an EXR clip."""
        return self.windows is not None and found == self.windows.size

    def check(self, path: Path | str, found: Size | None) -> None:
        """Raise PromptError for an image of another size that is to be exact; None is unknown."""
        if found is None or self.mask_fit != "exact":
            return
        if not is_exact(found, self.size, self.display):
            raise PromptError(wrong_size(path, found, self.size))


def _read_mask(
    mask: Path | MaskArray, frame: _Frame
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the alpha (H, W) of a mask, and 1 where it is known.

    Raises PromptError if it is empty.
    """
    path: Path | str
    if isinstance(mask, MaskArray):
        path, plane = "mask", mask.alpha.copy()
    else:
        path, label = split_label(mask)
        # Before its pixels take memory.
        if not frame.is_shown(_size_in_header(path)):
            frame.check(path, _size_in_header(path))
        plane = read_plane(path, label=label, grays_are_labels=True)
    known = np.ones_like(plane)
    if frame.windows is not None and frame.is_shown((plane.shape[0], plane.shape[1])):
        # Nothing is known of the overscan around it.
        plane, known = frame.windows.filled(plane), frame.windows.filled(known)
    frame.check(path, (plane.shape[0], plane.shape[1]))
    alpha = fit_to_frame(plane, frame.size, frame.display, frame.mask_fit)
    if known.shape != frame.size:
        known = np.ones(frame.size, np.float32)
    if not (alpha > 0.5).any():
        raise PromptError(
            f"{path}: the mask is empty (brightest value {alpha.max():.2f} of 1); the object has "
            f"to be white"
        )
    warn_if_full(Path(path), alpha, "the mask")
    return np.ascontiguousarray(alpha), np.ascontiguousarray(known)


def _size_in_header(path: Path) -> Size | None:
    """Return height and width of an image as it is displayed; None if its header has none."""
    size = displayed_size(path)
    return None if size is None else (size[1], size[0])


def _read_scribbles(path: Path, frame: _Frame) -> Labels:
    frame.check(path, _size_in_header(path))
    pixels = read_pixels(path)
    frame.check(path, (pixels.shape[0], pixels.shape[1]))
    image = fit_to_frame(pixels, frame.size, frame.display, frame.mask_fit, beyond="empty")
    if image.shape[2] != 4 or not (image[..., 3] < 0.5).any():
        raise PromptError(
            f"{path}: strokes need a transparent background, so that unpainted pixels stay unknown"
        )
    _, green, red, opacity = np.moveaxis(image, 2, 0)
    labels = np.full(frame.size, UNKNOWN, np.int8)
    painted = opacity >= 0.5
    labels[painted & (green > 0.5)] = OBJECT
    # Red, or dark, is background; anything else painted is ignored.
    labels[painted & (green <= 0.5) & ((red > 0.5) | (image[..., :3].max(axis=2) < 0.5))] = (
        BACKGROUND
    )
    if not painted.any():
        raise PromptError(f"{path}: nothing is painted; draw on the object in white or green")
    return labels


def draw_prompt(
    prompt: Prompt,
    rgb: Tensor,
    *,
    display_width: int | None,
    color: ColorTags | None,
    mask_fit: MaskFit = "exact",
    windows: Windows | None = None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Mark, ...]]:
    """Return rgb (1, 3, H, W), alpha and known (1, 1, H, W), and the marks of a reference.

    See `Prompt.reference`. Marks are in the order in which they are drawn: box, scribbles, strokes,
    points.
    """
    size = (rgb.shape[-2], rgb.shape[-1])
    frame = _Frame(size, (size[0], display_width or size[1]), mask_fit, windows)
    if prompt.mask is not None:
        alpha, known = _read_mask(prompt.mask, frame)
    else:
        alpha = np.zeros(size, np.float32)
        known = np.zeros(size, np.float32)
    marks = tuple(_draw_marks(prompt, frame))
    # Later marks cover earlier ones.
    for mark in marks:
        mark.draw(torch.from_numpy(alpha), torch.from_numpy(known))
    if prompt.box is None and not (alpha > 0.5).any():
        raise PromptError(
            f"{prompt.where}: only background is marked; mark the object with at least one point"
        )
    rgb = to_display(rgb, color or ColorTags())
    return rgb, torch.from_numpy(alpha)[None, None], torch.from_numpy(known)[None, None], marks


def _draw_marks(prompt: Prompt, frame: _Frame) -> Iterator[Mark]:
    size, display = frame.size, frame.display
    scale = size[1] / display[1]
    if prompt.box is not None:
        yield _mark(_outside_box(size, prompt.box, display, scale), 0, 0)
    if prompt.scribbles is not None:
        yield _mark(_read_scribbles(prompt.scribbles, frame), 0, 0)
    for stroke in prompt.strokes:
        yield _draw_line(size, stroke.points, stroke.width, stroke.label, display, scale)
    for x, y, label in prompt.points:
        _inside(x, y, display)
        # A click stands for a small disc: one pixel would vanish in the network's resolution.
        radius = max(1.0, max(display) * _POINT_RADIUS)
        yield _draw_line(size, [(x, y)], 2 * radius, label, display, scale)
