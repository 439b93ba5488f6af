"""PROMPT: points, strokes, a box or a mask mark the object on a reference image; JSON in and out."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.errors import PromptError
from vidmatte.frames import ColorTags
from vidmatte.read.images import read_pixels
from vidmatte.view import for_model

JSON_VERSION = 1
_OBJECT, _BACKGROUND, _UNKNOWN = 1, 0, -1
_POINT_RADIUS = 1 / 100
"""Radius of the disc that a click marks, as a share of the longer side: one click has to make a usable region."""

Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Reference:
    """An image with its object marked: what a model matches every other image to."""

    rgb: Tensor
    """(1, 3, H, W) float32 in 0..1, display-referred."""
    alpha: Tensor
    """(1, 1, H, W) float32 in 0..1: the object where it is known, 0 elsewhere."""
    known: Tensor
    """(1, 1, H, W) float32, 1 where `alpha` was given, 0 where the model has to find out. All ones for a mask."""
    frame: int | None = None
    """0-based index in the clip that is matted; None when the reference is another image."""
    neighbour: Tensor | None = None
    """(1, 3, H, W) the frame beside it in its clip: what moves helps to tell the object. None for a still."""

    @property
    def roi(self) -> Tensor:
        """(1, 1, H, W) float32 0/1: the region of interest, the paper's guidance map of the reference."""
        return ((self.alpha * self.known) > 0.5).float()

    @property
    def is_complete(self) -> bool:
        """Whether every pixel was given, as by a mask."""
        return bool(self.known.min() > 0)


@dataclass(frozen=True)
class Stroke:
    """A line painted with a round brush."""

    points: tuple[tuple[float, float], ...]
    """(x, y) corners in pixels of the displayed frame."""
    width: float
    """Diameter of the brush in the same pixels."""
    label: int = _OBJECT
    """1 object, 0 background."""

    def __post_init__(self) -> None:
        if not self.points or not 0 < self.width < math.inf:
            raise PromptError(f"a stroke of {len(self.points)} points and width {self.width} found: it needs both")


@dataclass(frozen=True)
class Prompt:
    """The marks on one reference frame. Coordinates are pixels of the displayed frame (rotated, square pixels)."""

    frame: int = 0
    """0-based frame of the clip that the marks belong to."""
    points: tuple[tuple[float, float, int], ...] = ()
    """(x, y, label) with label 1 for the object and 0 for background."""
    strokes: tuple[Stroke, ...] = ()
    box: tuple[float, float, float, float] | None = None
    """(x0, y0, x1, y1): all of the object lies inside."""
    mask: Path | None = None
    """Image of the frame's size: white object, black background, gray in between."""
    scribbles: Path | None = None
    """Image of the frame's size: white or green object, black or red background, transparent unknown."""

    def __post_init__(self) -> None:
        if not (self.points or self.strokes or self.box or self.mask or self.scribbles):
            raise PromptError(f"frame {self.frame}: nothing is marked; give points, strokes, a box or a mask")
        if self.frame < 0:
            raise PromptError(f"reference frame {self.frame} asked for: frames count from 0")
        labels = {label for *_, label in self.points} | {stroke.label for stroke in self.strokes}
        if not labels <= {_OBJECT, _BACKGROUND}:
            raise PromptError(f"labels {sorted(labels)} found: a label is 1 (object) or 0 (background)")

    def reference(
        self,
        rgb: Tensor,
        *,
        display_width: int | None = None,
        frame: int | None = None,
        color: ColorTags | None = None,
    ) -> Reference:
        """The reference that these marks make of the image (1, 3, H, W) they belong to.

        `display_width` is the width of the displayed frame where pixels are not square. `frame` is the index of the
        image in the clip that is matted, None when it is another image. `color` are the tags of the clip: HDR and
        scene-linear images are shown to the model through `view.for_model`. Values beyond 0..1 are clipped.

        Raises PromptError for marks outside the frame, images of another size, and prompts without any object.
        """
        size = tuple(rgb.shape[-2:])
        display = (size[0], display_width or size[1])
        if self.mask is not None:
            alpha, known = _read_mask(self.mask, size, display), np.ones(size, np.float32)
        else:
            alpha, known = np.zeros(size, np.float32), np.zeros(size, np.float32)
        labels = self._labels(size, display)
        alpha[labels == _OBJECT], alpha[labels == _BACKGROUND] = 1, 0
        known[labels != _UNKNOWN] = 1
        if self.box is None and not (alpha > 0.5).any():
            raise PromptError(f"frame {self.frame}: only background is marked; mark the object with at least one point")
        rgb = for_model(rgb, color or ColorTags())
        return Reference(rgb, torch.from_numpy(alpha)[None, None], torch.from_numpy(known)[None, None], frame)

    def _labels(self, size: tuple[int, ...], display: tuple[int, int]) -> Labels:
        """(H, W) labels of all marks but the mask; what is painted later covers what was there, points last."""
        labels = np.full(size, _UNKNOWN, np.int8)
        scale = size[1] / display[1]
        if self.box is not None:
            _outside_box(labels, self.box, display, scale)
        if self.scribbles is not None:
            painted = _read_scribbles(self.scribbles, size, display)
            labels[painted != _UNKNOWN] = painted[painted != _UNKNOWN]
        for stroke in self.strokes:
            _draw_stroke(labels, stroke, display, scale)
        for x, y, label in self.points:
            _inside(x, y, display)
            radius = max(1.0, max(display) * _POINT_RADIUS)
            _draw_stroke(labels, Stroke(((x, y),), 2 * radius, label), display, scale)
        return labels


def _inside(x: float, y: float, display: tuple[int, int]) -> None:
    height, width = display
    if not (0 <= x < width and 0 <= y < height):  # also refuses NaN
        raise PromptError(
            f"point {x:g},{y:g} is outside the frame of {width}x{height}: x is 0 to {width - 1}, y is 0 to {height - 1}"
        )


def _outside_box(
    labels: Labels, box: tuple[float, float, float, float], display: tuple[int, int], scale: float
) -> None:
    x0, y0, x1, y1 = box
    height, width = display
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise PromptError(
            f"box {x0:g},{y0:g},{x1:g},{y1:g} does not fit the frame of {width}x{height}: "
            f"give x0,y0,x1,y1 with x0 < x1 and y0 < y1 inside it"
        )
    inside = np.zeros(labels.shape, bool)
    inside[math.floor(y0) : math.ceil(y1), math.floor(x0 * scale) : math.ceil(x1 * scale)] = True
    labels[~inside] = _BACKGROUND


def _draw_stroke(labels: Labels, stroke: Stroke, display: tuple[int, int], scale: float) -> None:
    for x, y in stroke.points:
        _inside(x, y, display)
    # A point lies in the pixel that holds it: 159.7 is in the last one of 160.
    corners = np.floor(np.array([*stroke.points, stroke.points[-1]])).astype(np.int32)
    radius = max(0.5, stroke.width / 2)
    reach = math.ceil(min(radius, max(display))) + 1
    left, top = np.maximum(corners.min(0) - reach, 0)
    right, bottom = np.minimum(corners.max(0) + reach + 1, display[::-1])
    line = np.ones((bottom - top, right - left), np.uint8)
    cv2.polylines(line, [corners - (left, top)], False, 0)
    # cv2's own thick lines are up to two pixels too wide.
    distance = cv2.distanceTransform(line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    painted = distance <= radius
    if scale == 1:
        labels[top:bottom, left:right][painted] = stroke.label
        return
    whole = np.zeros(display, np.float32)
    whole[top:bottom, left:right] = painted
    labels[cv2.resize(whole, labels.shape[::-1], interpolation=cv2.INTER_AREA) > 0] = stroke.label


def _read_marks(path: Path, size: tuple[int, ...], display: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(H, W, C) in 0..1 of a mask or scribble image, brought from display to frame size where the two differ."""
    image = read_pixels(path)
    if image.shape[:2] not in (size, display):
        raise PromptError(
            f"{path}: is {image.shape[1]}x{image.shape[0]}, but the frame is {size[1]}x{size[0]}; "
            f"make it from that frame, without scaling or cropping"
        )
    if image.shape[:2] == size:
        return image
    scaled = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(scaled, np.float32).reshape(*size, -1)


def _read_mask(path: Path, size: tuple[int, ...], display: tuple[int, int]) -> npt.NDArray[np.float32]:
    image = _read_marks(path, size, display)
    has_alpha = image.shape[2] in (2, 4)
    color = image[..., : image.shape[2] - has_alpha].max(axis=2)
    # A cut-out: opaque object on a transparent background. An opaque image is a matte by its brightness.
    alpha = image[..., -1] if has_alpha and image[..., -1].min() < 1 else color
    if not (alpha > 0.5).any():
        raise PromptError(
            f"{path}: the mask is empty (brightest value {alpha.max():.2f} of 1); the object has to be white"
        )
    return np.ascontiguousarray(alpha)


def _read_scribbles(path: Path, size: tuple[int, ...], display: tuple[int, int]) -> Labels:
    image = _read_marks(path, size, display)
    if image.shape[2] != 4 or not (image[..., 3] < 0.5).any():
        raise PromptError(f"{path}: strokes need a transparent background, so that unpainted pixels stay unknown")
    _, green, red, opacity = np.moveaxis(image, 2, 0)
    labels = np.full(size, _UNKNOWN, np.int8)
    painted = opacity >= 0.5
    labels[painted & (green > 0.5)] = _OBJECT
    labels[painted & (green <= 0.5) & ((red > 0.5) | (image[..., :3].max(axis=2) < 0.5))] = _BACKGROUND
    if not painted.any():
        raise PromptError(f"{path}: nothing is painted; draw on the object in white or green")
    return labels


def parse_points(text: str) -> tuple[tuple[float, float, int], ...]:
    """Points of the form `"x,y[,label] ..."`; label 1 (object) where it is left out. Raises PromptError."""
    points = []
    for item in text.split():
        parts = item.split(",")
        try:
            x, y, label = float(parts[0]), float(parts[1]), int(parts[2]) if len(parts) == 3 else _OBJECT
        except (ValueError, IndexError):
            parts = []
        if len(parts) not in (2, 3):
            raise PromptError(f'point {item!r} asked for: write "x,y" or "x,y,label", separated by spaces')
        points.append((x, y, label))
    if not points:
        raise PromptError('no points given: write "x,y" or "x,y,label", separated by spaces')
    return tuple(points)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """A box of the form `x0,y0,x1,y1`. Raises PromptError."""
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError as error:
        raise PromptError(f"box {text!r} asked for: write x0,y0,x1,y1") from error
    return x0, y0, x1, y1


def load_prompts(path: str | Path) -> dict[str, tuple[Prompt, ...]]:
    """Prompts by object name, from a file that `save_prompts` or the picker wrote.

    Paths of masks and scribbles are relative to the file. Raises PromptError, naming what is wrong and where.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise PromptError(f"{path}: is not JSON ({error})") from error
    try:
        if document["version"] != JSON_VERSION:
            raise PromptError(
                f"{path}: is version {document['version']} of the format; this vidmatte reads {JSON_VERSION}"
            )
        objects = {
            str(item["name"]): tuple(_prompt_from_json(prompt, path.parent) for prompt in item["prompts"])
            for item in document["objects"]
        }
    except PromptError as error:
        raise PromptError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise PromptError(
            f"{path}: does not have the layout of a prompt file ({type(error).__name__}: {error})"
        ) from error
    if len(objects) < len(document["objects"]):
        raise PromptError(f"{path}: two objects have the same name; give each its own")
    if not objects or not all(objects.values()):
        raise PromptError(f"{path}: holds no marks; add an object with at least one prompt")
    return objects


_KEYS = {"frame", "points", "strokes", "box", "mask", "scribbles"}


def _prompt_from_json(item: Mapping[str, Any], folder: Path) -> Prompt:
    unknown = sorted(set(item) - _KEYS)
    if unknown:
        raise PromptError(f"prompt key {unknown[0]!r} is not known; the keys are {', '.join(sorted(_KEYS))}")
    box = item.get("box")
    return Prompt(
        frame=int(item.get("frame", 0)),
        points=tuple((float(p[0]), float(p[1]), int(p[2]) if len(p) > 2 else _OBJECT) for p in item.get("points", ())),
        strokes=tuple(
            Stroke(tuple((float(x), float(y)) for x, y in s["points"]), float(s["width"]), int(s.get("label", _OBJECT)))
            for s in item.get("strokes", ())
        ),
        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])) if box else None,
        mask=folder / item["mask"] if item.get("mask") else None,
        scribbles=folder / item["scribbles"] if item.get("scribbles") else None,
    )


def save_prompts(
    path: str | Path,
    objects: Mapping[str, Sequence[Prompt]],
    *,
    source: str = "",
    picker: Mapping[str, Any] | None = None,
) -> None:
    """Write prompts by object name as JSON, whole or not at all; images are referred to by paths relative to the file.

    `picker` is what the picker remembers beside the marks; `load_prompts` passes over it. Raises OSError.
    """
    path = Path(path)
    document: dict[str, Any] = {
        "version": JSON_VERSION,
        "source": source,
        "objects": [
            {"name": name, "prompts": [_prompt_to_json(prompt, path.parent) for prompt in prompts]}
            for name, prompts in objects.items()
        ],
    }
    if picker is not None:
        document["picker"] = dict(picker)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _prompt_to_json(prompt: Prompt, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {"frame": prompt.frame}
    if prompt.points:
        item["points"] = [list(point) for point in prompt.points]
    if prompt.strokes:
        item["strokes"] = [
            {"points": [list(point) for point in s.points], "width": s.width, "label": s.label} for s in prompt.strokes
        ]
    if prompt.box:
        item["box"] = list(prompt.box)
    for key in ("mask", "scribbles"):
        image = getattr(prompt, key)
        if image is not None:
            item[key] = Path(os.path.relpath(image, folder)).as_posix()
    return item
