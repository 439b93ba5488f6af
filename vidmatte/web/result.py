"""Alpha of the files that a run wrote, frame by frame, for the page."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.read import open_video
from vidmatte.read.video import smaller
from vidmatte.web.frame_cache import SMALL
from vidmatte.web.still import gray_png
from vidmatte.write import WrittenFile

_NEAR = 12
"""Frames ahead of the last one shown up to which decoding is faster than seeking."""


class Result:
    """The alpha of one output. Thread-safe."""

    def __init__(self, output: WrittenFile, width: int, height: int) -> None:
        self.output = output
        self._size = smaller(width, height, SMALL)
        self._lock = threading.Lock()
        self._reading: Generator[NDArray[np.float32]] | None = None
        self._next = -1

    def alpha(self, index: int) -> bytes:
        """Return the alpha of the n-th written frame as a small gray PNG. Raises ReadError."""
        with self._lock:
            if self._reading is None or not self._next <= index < self._next + _NEAR:
                self.close()
                self._reading = open_video(self.output.path).opacity(index)
                self._next = index
            for plane in self._reading:
                self._next += 1
                if self._next > index:
                    return gray_png(torch.from_numpy(plane)[None, None], *self._size)
            self.close()
        raise ReadError(
            f"{self.output.path}: frame {index} does not exist: there are {self.output.frames} "
            "frames"
        )

    def close(self) -> None:
        """Close the file."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None


def can_show(output: WrittenFile) -> bool:
    """Tell whether the alpha of an output can be shown: EXR has layers and scene-linear pixels."""
    return Path(output.path).suffix.lower() != ".exr"
