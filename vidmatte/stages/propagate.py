"""Propagate the mattes of objects through a clip from their references, forward and backward.

A tracker carries the matte from one frame to the next, so frames before a reference are met in
reverse. They are read in chunks from the back, and their coarse mattes wait in a temporary file:
the output is in order, and memory does not grow with the clip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidmatte.errors import WriteError
from vidmatte.frames import MatteBatch
from vidmatte.imaging.packing import pack_alpha, unpack_alpha
from vidmatte.media.prefetch import prefetch
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import CoarseMatte, LaterMatte, Predictor
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.stages.full_size import ShownBatch, bring_to_full_size, keep_given_areas
from vidmatte.stages.passes import Pass, blend_passes, passes_of_object
from vidmatte.stages.propagator import Propagator, chunk_frames, frames_of, ready

PropagatedCallback = Callable[[int, bool], None]
"""Called with the number of frames that an object was propagated over, and whether they come out
later, or not at all."""
LaterWeighted = Sequence[tuple[float, LaterMatte]]
"""Coarse mattes of one frame with their shares, see `Weighted`, before they are completed."""
_ENDLESS = 1 << 60
"""End frame of a clip of unknown length."""


def matte_clip(
    predictor: Predictor,
    video: Video,
    references: Sequence[Reference],
    *,
    start: int = 0,
    end: int | None = None,
    batch_size: int = 1,
    on_propagated: PropagatedCallback | None = None,
) -> Generator[MatteBatch]:
    """Yield the mattes of a clip in order.

    The model gets the frames from `imaging.display.to_display`.

    Args:
        predictor: the model with its references encoded.
        video: the clip.
        references: those of `predictor`; propagation starts at the ones that mark
            a frame of this clip.
        start: first frame.
        end: end frame, exclusive; None for the end of the clip.
        batch_size: number of frames decoded together.
        on_propagated: told of propagated frames, for progress.
    """
    mattes = matte_objects(
        [predictor],
        video,
        [references],
        start=start,
        end=end,
        batch_size=batch_size,
        on_propagated=on_propagated,
    )
    with closing(mattes):
        for (batch,) in mattes:
            yield batch


def matte_objects(
    predictors: Sequence[Predictor],
    video: Video,
    references: Sequence[Sequence[Reference]],
    *,
    start: int = 0,
    end: int | None = None,
    batch_size: int = 1,
    on_propagated: PropagatedCallback | None = None,
) -> Generator[tuple[MatteBatch, ...]]:
    """Yield the mattes of several objects, see `matte_clip`: for each batch one of each predictor.

    Frames are decoded, and shown to the model, once for all objects, except those before the
    references of an object. A thread follows the objects ahead; the caller's completes the coarse
    mattes and brings them to full size.
    """
    # Models without propagation matte each frame alone.
    if predictors[0].tracker() is None:
        color = video.info.color
        predictors = [with_display_transform(predictor, color) for predictor in predictors]
        for batch in video.batches(batch_size, start=start, end=end):
            yield tuple(
                keep_given_areas(predictor(batch), of_object)
                for predictor, of_object in zip(predictors, references, strict=True)
            )
        return
    with ExitStack() as stack:
        runs = []
        for predictor, of_object in zip(predictors, references, strict=True):
            marked = {
                reference.frame: reference for reference in of_object if reference.frame is not None
            }
            last = _ENDLESS if end is None else end
            run = _ObjectPropagation(predictor, video, marked, start, last)
            runs.append(run)
            stack.callback(run.close)
        # One batch at a time may be on its way between the two threads.
        ahead = prefetch(_followed(runs, video, start, end, batch_size), 1)
        # Closed before the runs are, whose files it writes.
        stack.enter_context(closing(ahead))
        for found in ahead:
            if isinstance(found, _Propagated):
                if on_propagated is not None:
                    on_propagated(found.frames, found.comes_later)
                continue
            finished = [_finished(predictors, found, references)]
            # Neither is held while the consumer works on it: frames are large.
            del found
            yield finished.pop()


def _finished(
    predictors: Sequence[Predictor], found: _Followed, references: Sequence[Sequence[Reference]]
) -> tuple[MatteBatch, ...]:
    """Return the mattes of all objects at full size."""
    # Of all objects first, so that none waits too long and is completed by the thread that follows.
    coarse = [
        [[(share, matte()) for share, matte in weighted] for weighted in later]
        for later in found.coarse
    ]
    return tuple(
        keep_given_areas(bring_to_full_size(predictor, found.shown, mattes), marks)
        for predictor, mattes, marks in zip(predictors, coarse, references, strict=True)
    )


@dataclass(frozen=True)
class _Propagated:
    """A number of frames that an object was propagated over; see `PropagatedCallback`."""

    frames: int
    comes_later: bool


@dataclass(frozen=True)
class _Followed:
    """A batch with the coarse mattes of its frames.

    Attributes:
        shown: the batch, and its frames as the model sees them.
        coarse: for each object those of each frame with their shares, to be completed.
    """

    shown: ShownBatch
    coarse: tuple[list[LaterWeighted], ...]


def _followed(
    runs: Sequence[_ObjectPropagation],
    video: Video,
    start: int,
    end: int | None,
    batch_size: int,
) -> Generator[_Followed | _Propagated]:
    """Yield the batches from `start` on with their coarse mattes, and what was propagated so far.

    The consumer reports the latter, so that callbacks run on its own thread.
    """
    # Forward passes may begin at a reference before the first wanted frame.
    first = min(run.first_frame for run in runs)
    with closing(video.batches(batch_size, start=first, end=end)) as batches:
        for batch in batches:
            shown = ShownBatch.of(batch, video.info.color)
            for run in runs:
                yield from run.reach(batch.frames)
            coarse = []
            for run in runs:
                coarse.append(run.coarse_of(shown))
                yield from run.propagated(batch.frames)
            # Frames before the first wanted one are only on the way to it.
            wanted = sum(index >= start for index in batch.frames)
            if wanted:
                yield _Followed(shown.last(wanted), tuple(found[-wanted:] for found in coarse))


class _ObjectPropagation:
    """The coarse mattes of one object in a stream of frames.

    Propagates forward with the stream, and backward when the stream reaches a backward pass.
    """

    def __init__(
        self,
        predictor: Predictor,
        video: Video,
        marked: Mapping[int, Reference],
        start: int,
        end: int,
    ) -> None:
        self._predictor = predictor
        self._displaying = with_display_transform(predictor, video.info.color)
        self._video = video
        self._marked = marked
        self._start, self._end = start, end
        self._disk_cache = _DiskCache()
        passes = passes_of_object(list(marked), start, end)
        self._backward = {pass_.first: pass_ for pass_ in passes if pass_.is_backward}
        self._forward = {pass_.reference: pass_ for pass_ in passes if not pass_.is_backward}
        self._active_backward: Pass | None = None
        self._active_forward: Pass | None = None
        self._propagator: Propagator | None = None
        self.first_frame = min([start, *self._forward])

    def propagated(self, frames: Iterable[int]) -> Iterator[_Propagated]:
        """Yield the frames of the last batch that the object was propagated over, forward.

        Backward passes have told of theirs.
        """
        passes = self._forward.values()
        there = [
            frame for frame in frames if any(pass_.first <= frame <= pass_.last for pass_ in passes)
        ]
        before = sum(frame < self._start for frame in there)
        for count, comes_later in ((before, True), (len(there) - before, False)):
            if count:
                yield _Propagated(count, comes_later)

    def reach(self, frames: Iterable[int]) -> Generator[_Propagated]:
        """Do the backward passes that begin at frames of the next batch, each as a whole.

        Yields after each frame.
        """
        for frame in frames:
            if frame in self._backward:
                yield from self._propagate_backward(self._backward[frame])

    def coarse_of(self, shown: ShownBatch) -> list[LaterWeighted]:
        """Return functions that return the mattes of each frame of the next batch, see `reach`.

        They are empty for frames before the first one needed by this object.
        """
        return [
            self._coarse(index, rgb) if index >= self.first_frame else ()
            for index, rgb in zip(shown.batch.frames, shown.frames, strict=True)
        ]

    def _coarse(self, frame: int, rgb: Tensor) -> LaterWeighted:
        self._active_backward = self._backward.get(frame, self._active_backward)
        found: list[tuple[Pass, LaterMatte]] = []
        ahead = self._step_forward(frame, rgb)
        if ahead is not None and self._active_forward is not None:
            found.append((self._active_forward, ahead))
        if frame in self._disk_cache and self._active_backward is not None:
            found.append((self._active_backward, ready(self._disk_cache.pop(frame))))
        assert found  # the passes cover every frame from the first one on
        return blend_passes(frame, found)

    def _step_forward(self, frame: int, rgb: Tensor) -> LaterMatte | None:
        """Return a function that returns the matte of a frame's forward pass; None for none."""
        if frame in self._forward:
            self._active_forward = self._forward[frame]
            # Frames of the stream are shown as the model sees them already.
            self._propagator = self._propagator_of(self._active_forward, self._predictor)
            # A reference on another image starts no tracker.
            if frame in self._marked:
                return ready(self._propagator.tracker.start(self._marked[frame]))
        if self._active_forward is None or self._propagator is None:
            return None
        if frame > self._active_forward.last:
            self._active_forward = None
            return None
        return self._propagator.follow(rgb)

    def _propagate_backward(self, pass_: Pass) -> Generator[_Propagated]:
        chunk = chunk_frames(self._predictor, self._video)
        found = self._propagator_of(pass_, self._displaying).run(
            frames_of(self._video),
            first=pass_.first,
            end=pass_.last + 1,
            reference=self._marked[pass_.reference],
            chunk=chunk,
        )
        with closing(found):
            for frame, matte in found:
                # A reference may lie behind the out point.
                if frame < self._end:
                    self._disk_cache.put(frame, matte)
                yield _Propagated(1, comes_later=True)

    def _propagator_of(self, pass_: Pass, predictor: Predictor) -> Propagator:
        tracker = predictor.tracker()
        assert tracker is not None  # models without a tracker do not get here
        return Propagator(predictor, tracker, pass_, source=self._video.info.source)

    def close(self) -> None:
        self._disk_cache.close()


class _DiskCache:
    """Coarse mattes by frame in a temporary file, with 16 bits a pixel."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._entries: dict[int, tuple[int, int, CoarseMatte]] = {}

    def put(self, frame: int, matte: CoarseMatte) -> None:
        packed = pack_alpha(matte.alpha)
        # Size, window and confidence stay in memory; a tensor on "meta" has a shape and no data.
        shape_only = replace(matte, alpha=torch.empty(matte.alpha.shape, device="meta"))
        try:
            # At the end: earlier mattes may be read in between.
            self._entries[frame] = (self._file.seek(0, 2), len(packed), shape_only)
            self._file.write(packed)
            self._file.flush()
        except OSError as error:
            raise WriteError(
                f"{tempfile.gettempdir()}: mattes that wait for their turn cannot be kept there "
                f"({error.strerror}); free some space, or name another folder in the variable "
                "TMPDIR"
            ) from error

    def pop(self, frame: int) -> CoarseMatte:
        offset, size, matte = self._entries.pop(frame)
        self._file.seek(offset)
        return replace(matte, alpha=unpack_alpha(self._file.read(size), matte.alpha.shape))

    def __contains__(self, frame: int) -> bool:
        return frame in self._entries

    def close(self) -> None:
        self._file.close()
