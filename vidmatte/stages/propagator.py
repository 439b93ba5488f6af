"""Carry the matte along one pass, with a tracker of its own, forward or backward."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

import torch
from torch import Tensor

from vidmatte.errors import ReadError
from vidmatte.model.interface import (
    CoarseMatte,
    LaterMatte,
    Predictor,
    SupportsDeferral,
    Tracker,
)
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.stages.passes import Pass

ReadFrames = Callable[[int, int], Iterable[tuple[int, Tensor]]]
"""Reads frames of a clip, from a first one to an end (exclusive): index and rgb (1, 3, H, W)."""

_CHUNK_BYTES = 128 << 20
"""Memory for the small frames of one chunk of a backward pass."""


class Propagator:
    """Carries the matte along one pass, with a tracker of its own.

    All propagation goes through here: a stream calls `follow` with the frames it decodes anyway;
    segments and the preview call `run`, to read the frames as well.
    """

    def __init__(
        self, predictor: Predictor, tracker: Tracker, pass_: Pass, *, source: str = ""
    ) -> None:
        """Take a predictor behind its display transform, and a new tracker of it.

        `source` names the clip in messages.
        """
        self.tracker = tracker
        self._predictor = predictor
        self._pass = pass_
        self._source = source

    def step(self, rgb: Tensor) -> CoarseMatte:
        """Return the matte of the next frame (1, 3, H, W) in the direction of the pass."""
        return self.follow(rgb)()

    def follow(self, rgb: Tensor) -> LaterMatte:
        """Go to the next frame, as `step` does; return a function that returns its matte.

        The function does the work that later frames do not need.
        """
        small = self._predictor.shrink(rgb)
        if isinstance(self.tracker, SupportsDeferral):
            return self.tracker.follow(small)
        return ready(self.tracker.step(small))

    def run(
        self, read: ReadFrames, *, first: int, end: int, reference: Reference | None, chunk: int
    ) -> Generator[tuple[int, CoarseMatte]]:
        """Propagate over frames `first` to `end` (exclusive) in the direction of the pass.

        Args:
            read: Reads the frames.
            first: First frame.
            end: End frame, exclusive.
            reference: Start of the tracker; None to continue from its state. On the
                way forward its own matte is the first one, so `first` must be its frame.
            chunk: Number of frames read together on the way back, see `chunk_frames`.

        Yields:
            The index of a frame and its matte.

        Raises:
            ReadError: If a frame on the way back cannot be read.
        """
        if reference is not None:
            matte = self.tracker.start(reference)
            if not self._pass.is_backward:
                yield first, matte
                # The frame of the reference is done.
                first += 1
        if not self._pass.is_backward:
            for frame, rgb in read(first, end):
                yield frame, self.step(rgb)
            return
        # Chunks from the back; each is read forward, as decoders do, and met in reverse.
        for high in range(end, first, -chunk):
            for frame, small in reversed(self._read_small(read, max(first, high - chunk), high)):
                yield frame, self.tracker.step(small)

    def _read_small(self, read: ReadFrames, low: int, high: int) -> list[tuple[int, Tensor]]:
        """Return the frames from `low` to `high` (exclusive) for a tracker."""
        frames = [(frame, self._predictor.shrink(rgb)) for frame, rgb in read(low, high)]
        if len(frames) < high - low:
            raise ReadError(
                f"{self._source}: frame {low + len(frames)} cannot be read, so that the reference "
                f"at frame {self._pass.reference} cannot be propagated back over it; mark a frame "
                f"before it"
            )
        return frames


def ready(matte: CoarseMatte) -> LaterMatte:
    """Return a function that returns a matte that is known already."""
    return lambda: matte


def frames_of(video: Video) -> ReadFrames:
    """Return a function to read the frames of a clip one by one."""

    def read(first: int, end: int) -> Iterator[tuple[int, Tensor]]:
        with closing(video.batches(1, start=first, end=end)) as batches:
            for batch in batches:
                yield batch.frames[0], batch.rgb

    return read


def blank_for_tracker(predictor: Predictor, video: Video) -> Tensor:
    """Return a black frame of a clip as its tracker takes it, to know its size."""
    return predictor.shrink(torch.zeros((1, 3, video.info.height, video.info.width)))


def chunk_frames(predictor: Predictor, video: Video) -> int:
    """Return the number of frames to read together on the way back, for bounded memory."""
    return max(1, _CHUNK_BYTES // blank_for_tracker(predictor, video).nbytes)
