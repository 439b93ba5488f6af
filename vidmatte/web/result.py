"""Alpha of the files that a run wrote, frame by frame for the page: what is watched is what was written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.container import open_container, packets_of, video_stream
from vidmatte.errors import ReadError
from vidmatte.read import open_video
from vidmatte.read.source import smaller
from vidmatte.web.footage import SMALL
from vidmatte.web.still import gray_png
from vidmatte.write import WrittenFile

_NEAR = 12
_PNG = ".png"


class Result:
    """The alpha of one output. Safe to be used by several threads."""

    def __init__(self, output: WrittenFile, width: int, height: int) -> None:
        self.output = output
        self._size = smaller(width, height, SMALL)
        self._lock = threading.Lock()
        self._reading: Iterator[NDArray[np.float32]] | None = None
        self._next = -1

    def alpha(self, index: int) -> bytes:
        """The alpha of the n-th frame that was written, a small gray PNG. Raises ReadError where there is none."""
        with self._lock:
            if self._reading is None or not self._next <= index < self._next + _NEAR:
                self.close()
                self._reading, self._next = self._planes(index), index
            for plane in self._reading:
                self._next += 1
                if self._next > index:
                    return gray_png(torch.from_numpy(plane)[None, None], *self._size)
            self.close()
        raise ReadError(f"{self.output.path}: frame {index} asked for, but there are {self.output.frames}")

    def close(self) -> None:
        """Let go of the file."""
        if self._reading is not None and hasattr(self._reading, "close"):
            self._reading.close()
        self._reading = None

    def _planes(self, start: int) -> Iterator[NDArray[np.float32]]:
        path = Path(self.output.path)
        if self.output.kind == "alpha":
            with open_video(path) as video, closing(cast("Any", video.small_frames(SMALL, start=start))) as frames:
                for frame in frames:
                    yield np.ascontiguousarray(frame.rgb[0].clip(0, 1))
        elif path.suffix.lower() == _PNG:
            yield from _planes_of_images(path, start)
        else:
            yield from _planes_of_movie(path, start)


def can_show(output: WrittenFile) -> bool:
    """Whether the alpha of an output can be shown: not of layers and pixels of light."""
    return Path(output.path).suffix.lower() != ".exr"


def _planes_of_images(pattern: Path, start: int) -> Iterator[NDArray[np.float32]]:
    before, after = pattern.name.split("%")[0], pattern.suffix
    paths = sorted(path for path in pattern.parent.iterdir() if path.name.startswith(before) and path.suffix == after)
    for path in paths[start:]:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[2] != 4:
            raise ReadError(f"{path}: cannot be shown; was it replaced?")
        yield image[..., 3].astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 65535)


def _planes_of_movie(path: Path, start: int) -> Iterator[NDArray[np.float32]]:
    """Alpha of a movie with colour, read from its beginning on: such files are short here, and just written."""
    with open_container(path) as container:
        stream = video_stream(str(path), container)
        # FFmpeg's own decoder of VP9 passes over the alpha that is beside the picture.
        is_vp9 = stream.codec_context.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if is_vp9 else stream.codec_context
        index = 0
        for packet in packets_of(container, stream):
            for frame in cast("Any", decoder).decode(packet if packet.size else None):
                index += 1
                if index > start:
                    yield frame.to_ndarray(format="rgba")[..., 3].astype(np.float32) / np.float32(255)
