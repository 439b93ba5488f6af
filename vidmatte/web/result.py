"""The files that a run wrote, frame by frame, as the page shows them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.frames import ColorSpace, ColorTags, Windows
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.display import to_display
from vidmatte.imaging.transfer import linear_to_video
from vidmatte.media.patterns import parse_pattern
from vidmatte.options import Deinterlace
from vidmatte.read import open_video
from vidmatte.read.exr import read_exr_planes
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import is_animated, is_image, read_image
from vidmatte.read.plane import read_alpha
from vidmatte.read.still import LINEAR_STILL
from vidmatte.read.video import smaller
from vidmatte.report.summary import Summary
from vidmatte.web.edge import Edge
from vidmatte.web.project import ClipInfo
from vidmatte.write import WrittenFile
from vidmatte.write.exr import BT709_CURVES, layer_names, space_of_output

_NEAR = 12
"""Frames ahead of the last one shown up to which decoding is faster than seeking."""
_LEAST_ALPHA = 1e-4
"""Below this, premultiplied colour has no digits left to divide."""

_Planes: TypeAlias = tuple[NDArray[np.float32] | None, Alpha]
"""(3, H, W) straight display colour, None for alpha alone, and (H, W) alpha."""


@dataclass(frozen=True)
class Part:
    """The part of an output that shows one object."""

    output: WrittenFile
    object_name: str
    """As in file names; empty for one object without a name."""
    layer: str | None = None
    """Layer of an EXR that several objects share."""


def parts_of(summary: Summary) -> list[Part]:
    """Return one part for each object of each output, outputs in order."""
    names = summary.objects
    layers = layer_names(names)
    parts: list[Part] = []
    for output in summary.outputs:
        is_shared = len(names) > 1 and not output.object_name
        if is_shared:
            parts += [Part(output, name, layer) for name, layer in zip(names, layers, strict=True)]
        else:
            parts.append(Part(output, output.object_name or (names[0] if names else "")))
    return parts


class Result:
    """One part of an output. Thread-safe."""

    def __init__(
        self,
        part: Part,
        clip_info: ClipInfo,
        *,
        number: int = 0,
        is_premultiplied: bool = False,
        source_color: ColorTags | None = None,
        output_space: ColorSpace | None = None,
        windows: Windows | None = None,
    ) -> None:
        """Take a part of an output.

        Args:
            part: The output and its object.
            clip_info: Size of the displayed frame.
            number: Of the first file of a sequence of images.
            is_premultiplied: Whether colour was written multiplied with alpha.
            source_color: Of the clip, whose curve an EXR was made linear from.
            output_space: Colour space that was asked for EXR.
            windows: Of an EXR clip: its frames are shown with their overscan.
        """
        self._source_color = source_color or ColorTags()
        self._space = space_of_output(self._source_color, output_space)
        self._windows = windows
        self.part = part
        self._size = clip_info.width, clip_info.height
        self._number = number
        self._is_premultiplied = is_premultiplied
        self._lock = threading.Lock()
        self._reading: Generator[_Planes] | None = None
        self._next = -1

    def picture(self, index: int, longest: int, edge: Edge | None = None) -> bytes:
        """Return the n-th written frame as PNG of the displayed frame's size.

        It is straight RGBA for colour, as an SDR screen shows it, else gray alpha; no side is
        longer than `longest`. An `edge` is put on top. Raises ReadError if the file cannot be read.
        """
        color, alpha = self.planes(index)
        if edge is not None:
            alpha = edge.finished(np.ascontiguousarray(alpha), alpha.shape[0])
        size = smaller(*self._size, longest)
        shown = [_resized(plane, size) for plane in (*(() if color is None else color), alpha)]
        codes = [(plane * 255 + 0.5).astype(np.uint8) for plane in shown]
        # OpenCV writes blue first.
        picture = codes[0] if color is None else cv2.merge([*codes[2::-1], codes[3]])
        _, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return data.tobytes()

    def planes(self, index: int) -> _Planes:
        """Return colour and alpha of the n-th written frame. Raises ReadError."""
        path = self.part.output.path
        with self._lock:
            if not path.exists() and parse_pattern(path) is None:
                raise ReadError(f"{path}: was moved or deleted since the run; run it again")
            if self._reading is None or not self._next <= index < self._next + _NEAR:
                self.close()
                self._reading = self._read(index)
                self._next = index
            for planes in self._reading:
                self._next += 1
                if self._next > index:
                    return self._with_overscan(*planes)
            self.close()
        raise ReadError(
            f"{path}: frame {index} does not exist: there are {self.part.output.frames} frames"
        )

    def _with_overscan(self, color: NDArray[np.float32] | None, alpha: Alpha) -> _Planes:
        """Return planes of the clip's size: files that are not EXR have the display window."""
        windows = self._windows
        if windows is None or self.part.output.path.suffix.lower() == ".exr":
            return color, alpha
        return (None if color is None else windows.filled(color)), windows.filled(alpha)

    def close(self) -> None:
        """Close the file."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None

    def _read(self, start: int) -> Generator[_Planes]:
        path = self.part.output.path
        pattern = parse_pattern(path)
        if pattern is None and (not is_image(path) or is_animated(path)):
            yield from self._read_movie(path, start)
            return
        # Not as a sequence: files of an earlier run may lie beside those of this one.
        for index in range(start, self.part.output.frames):
            name = path.name if pattern is None else pattern.name_of(self._number + index)
            yield self._straight(*self._read_image(path.with_name(name)))

    def _read_movie(self, path: Path, start: int) -> Generator[_Planes]:
        # Fields of an interlaced source are written as they are; animated images have none.
        kept: Deinterlace = "refuse" if is_image(path) else "keep"
        with open_video(path, deinterlace=kept) as video:
            if self.part.output.kind == "alpha":
                with closing(video.opacity(start)) as planes:
                    yield from ((None, plane) for plane in planes)
                return
            with closing(video.alpha(start)) as planes:
                for frame, alpha in zip(video.decode(start), planes, strict=False):
                    yield self._straight(_displayed(frame.rgb, video.info.color), alpha)

    def _read_image(self, path: Path) -> tuple[NDArray[np.float32] | None, Alpha]:
        is_alpha = self.part.output.kind == "alpha"
        if path.suffix.lower() == ".exr":
            raster = None if self._windows is None else self._windows.raster
            color, alpha = read_exr_planes(path, ExrChoice(self.part.layer), raster=raster)
            if alpha is None:
                alpha = color.max(axis=0).clip(0, 1)
            return (None if is_alpha else self._displayed_light(color)), alpha
        image = read_image(path)
        if is_alpha:
            return None, image.rgb.max(axis=0)
        alpha = read_alpha(path)
        if alpha is None:
            alpha = np.ones(image.rgb.shape[1:], np.float32)
        return _displayed(image.rgb, image.color), alpha

    def _displayed_light(self, light: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the colour of an EXR as the source looked: by the curve that it came from."""
        if self._space is not None:
            return _displayed(light, replace(LINEAR_STILL, space=self._space))
        if self._source_color.transfer in BT709_CURVES and self._source_color.icc is None:
            code = linear_to_video(torch.from_numpy(light).clamp(0, 1))
            return cast("NDArray[np.float32]", code.numpy())
        source = self._source_color
        primaries = replace(
            LINEAR_STILL, primaries=source.primaries, chromaticities=source.chromaticities
        )
        return _displayed(light, primaries)

    def _straight(self, color: NDArray[np.float32] | None, alpha: Alpha) -> _Planes:
        if color is None or not self._is_premultiplied:
            return color, alpha
        return (color / np.maximum(alpha, _LEAST_ALPHA)).clip(0, 1), alpha


def file_groups(parts: Sequence[Part]) -> list[list[int]]:
    """Return the indices of parts that were asked for by one path, in order.

    `{object}` in a path makes a file for each object, one after the other; an EXR may hold all.
    """
    several = len({part.object_name for part in parts}) or 1
    return [list(range(n, min(n + several, len(parts)))) for n in range(0, len(parts), several)]


def _displayed(rgb: NDArray[np.float32], color: ColorTags) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", to_display(torch.from_numpy(rgb), color).numpy())


def _resized(plane: Alpha, size: tuple[int, int]) -> Alpha:
    if plane.shape == size[::-1]:
        return plane
    shrinks = size[0] < plane.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.float32).clip(0, 1)
