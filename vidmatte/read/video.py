"""READ: open a movie, an image sequence or an image set, and iterate over it in small batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from weakref import WeakSet

import cv2
import numpy as np
import numpy.typing as npt
import torch

from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, VideoInfo
from vidmatte.media.closing import Closing
from vidmatte.media.prefetch import prefetch

DEFAULT_SEQUENCE_RATE = Fraction(24)
_PREFETCHED_BATCHES, _PREFETCHED_BYTES = 2, 32 << 20
"""Number of batches decoded ahead, one if they are large."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame of a reader."""

    rgb: npt.NDArray[np.float32]
    """(3, H, W), code values as 0..1, or scene-linear; see `FrameBatch.rgb`."""
    index: int
    pts: int
    duration: int
    name: str = ""


class Video(Closing, ABC):
    """A source of frames, indexed from 0 in the order of presentation; use it with `with`.

    Each iteration opens the source anew, so that several can run side by side.
    """

    info: VideoInfo
    first_number: int = 0
    """Number of the first frame: that of its file in a sequence, else 0."""

    def __init__(self) -> None:
        self._running: WeakSet[Generator[FrameBatch]] = WeakSet()

    @abstractmethod
    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from index `start` to the end. Raises ReadError if the source is damaged."""

    def opacity(self, start: int = 0) -> Generator[npt.NDArray[np.float32]]:
        """Yield the matte (H, W) in 0..1 of each frame from `start` on.

        It is the alpha of the frame if there is one, else its brightest channel. Raises ReadError
        if the source is damaged.
        """
        for frame in self.decode(start):
            yield frame.rgb.max(axis=0).clip(0, 1)

    def alpha(self, start: int = 0) -> Generator[npt.NDArray[np.float32]]:
        """Yield the alpha (H, W) in 0..1 of each frame from `start` on; 1 for frames without alpha.

        Raises ReadError if the source is damaged.
        """
        for frame in self.decode(start):
            yield np.ones(frame.rgb.shape[1:], np.float32)

    def batches(
        self,
        batch_size: int = 1,
        *,
        start: int = 0,
        end: int | None = None,
        prefetched: int | None = None,
    ) -> Generator[FrameBatch]:
        """Yield frames in batches, decoded ahead by a thread.

        Args:
            batch_size: Frames in a batch; the last one may have fewer.
            start: First frame.
            end: End frame, exclusive; None for all.
            prefetched: Batches to decode ahead; None for two, or one if frames are large.

        Raises:
            OptionError: If the batch size is below 1.
            ReadError: If the source is damaged.
        """
        if prefetched is None:
            # Three channels of four bytes.
            size = 12 * self.info.width * self.info.height * max(1, batch_size)
            prefetched = min(_PREFETCHED_BATCHES, max(1, _PREFETCHED_BYTES // size))
        if batch_size < 1:
            raise OptionError(f"batch size {batch_size} is not valid: it must be at least 1")
        batches = prefetch(self._batches(batch_size, start, end), prefetched)
        # A set of weak references, so that a finished iteration is forgotten.
        self._running.add(batches)
        return batches

    def _batches(self, batch_size: int, start: int, end: int | None) -> Iterator[FrameBatch]:
        frames = self.decode(start)
        try:
            # islice reads nothing past the end.
            wanted = frames if end is None else islice(frames, max(0, end - start))
            while batch := list(islice(wanted, batch_size)):
                yield _stack(batch)
        finally:
            # Readers are generators, but plain iterators are allowed too.
            if hasattr(frames, "close"):
                frames.close()

    def proxy_frames(self, longest: int, *, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on with no side longer than `longest` pixels, for showing.

        Quicker than `decode`. Indices and times are the same; pixels are averages, close to those
        of shrunken decoded frames.
        """
        for frame in self.decode(start):
            size = smaller(frame.rgb.shape[2], frame.rgb.shape[1], longest)
            planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in frame.rgb]
            yield replace(frame, rgb=np.stack(planes).astype(np.float32, copy=False))

    def number_of(self, index: int) -> int:
        """Return the number that users call a frame by: that of its file, else its index."""
        return index + self.first_number

    def keyframe_before(self, index: int) -> int:
        """Return the last frame up to `index` that can be decoded without earlier ones."""
        return index

    def frame(self, index: int) -> FrameBatch:
        """Return one frame. Raises OptionError past the end, with the frames that there are."""
        # One frame is wanted, so nothing is decoded ahead.
        for batch in self.batches(1, start=index, end=index + 1, prefetched=1):
            return batch
        raise self.no_frame(self.number_of(index))

    def no_frame(self, number: int) -> OptionError:
        """Return the error that says that the source has no frame of this number."""
        count = self.count_frames()
        source = self.info.source
        if not self.first_number:
            return OptionError(
                f"{source}: frame {number} does not exist: there are {count} frames, counted from 0"
            )
        last = self.number_of(count - 1)
        return OptionError(
            f"{source}: frame {number} does not exist: its frames are numbered "
            f"{self.first_number} to {last}; give one of these, or index:0 to index:{count - 1}, "
            f"which count from the first frame"
        )

    def adjacent(self, index: int) -> FrameBatch | None:
        """Return the frame after this one, at the end the one before it; None without either."""
        for low in (index + 1, index - 1):
            for batch in self.batches(1, start=low, end=low + 1, prefetched=1) if low >= 0 else ():
                return batch
        return None

    @abstractmethod
    def count_frames(self) -> int:
        """Return the number of frames, counted without decoding; headers are not trusted."""

    @abstractmethod
    def seconds_of(self, index: int) -> Fraction:
        """Return the presentation time of a frame, counted from the first frame of the source."""

    def check_unchanged(self) -> None:
        """Raise ReadError if a file was replaced or rewritten since it was first read.

        The readers check this whenever they open a file; call it after the last frame.
        """

    @property
    def truncated_at(self) -> tuple[int, str] | None:
        """Return the first missing or unreadable frame, and the reason.

        Known after reading, and only for a source read with `allow_truncated`.
        """
        return None

    def close(self) -> None:
        """Stop the unfinished iterations and their threads."""
        # A copy, since closing removes entries.
        for batches in list(self._running):
            batches.close()


def smaller(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return width and height scaled down to at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    # At least one pixel: a frame may be very narrow.
    return max(1, round(width * scale)), max(1, round(height * scale))


def _stack(frames: list[Frame]) -> FrameBatch:
    first = torch.from_numpy(frames[0].rgb)
    rgb = (
        # A view in place of a copy.
        first[None]
        if len(frames) == 1
        else torch.stack([torch.from_numpy(frame.rgb) for frame in frames])
    )
    return FrameBatch(
        rgb,
        frames=tuple(frame.index for frame in frames),
        pts=tuple(frame.pts for frame in frames),
        durations=tuple(frame.duration for frame in frames),
        names=tuple(frame.name for frame in frames) if frames[0].name else (),
    )
