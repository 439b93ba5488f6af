"""Propagate a matte through a clip from its reference frames, forward and backward.

A tracker carries the matte from one frame to the next, so frames before a reference are met in
reverse. They are read in chunks from the back, and their coarse mattes wait in a temporary file:
the output is in order, and memory does not grow with the clip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vidmatte.errors import ReadError, WriteError
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.display import to_display
from vidmatte.imaging.packing import pack_alpha, unpack_alpha
from vidmatte.media.prefetch import prefetch
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import (
    CoarseMatte,
    LaterMatte,
    Predictor,
    SupportsDeferral,
    SupportsMaskedFrames,
    Tracker,
)
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video

T = TypeVar("T")
ReadFrames = Callable[[int, int], Iterable[tuple[int, Tensor]]]
"""Reads frames of a clip, from a first one to an end (exclusive): index and rgb (1, 3, H, W)."""
PropagatedCallback = Callable[[int, bool], None]
"""Called with the number of frames that an object was propagated over, and whether they come out
later, or not at all."""
Weighted = Sequence[tuple[float, CoarseMatte]]
"""Coarse mattes of one frame with their shares: one matte, or two if passes overlap there."""
LaterWeighted = Sequence[tuple[float, LaterMatte]]
"""The same before they are completed."""

_CHUNK_BYTES = 128 << 20
"""Memory for the small frames of one chunk of a backward pass."""
_FADE_FRAMES = 4
"""Half-width of the cross-fade half-way between two references, to avoid a visible step."""
_ENDLESS = 1 << 60
"""End frame of a clip of unknown length."""


@dataclass(frozen=True)
class Pass:
    """A run of frames propagated from one reference frame, away from it.

    `first` and `last` are inclusive.
    """

    reference: int
    first: int
    last: int

    @property
    def is_backward(self) -> bool:
        """Whether the frames are before their reference."""
        return self.last < self.reference


def plan_passes(references: Sequence[int], start: int, end: int) -> list[Pass]:
    """Share frames `start` to `end` (exclusive) between reference frames: each goes to the nearest.

    Half-way between two references both passes overlap by a few frames, which are cross-faded. A
    forward pass begins at its reference even if that is before `start`. Passes without a wanted
    frame are left out.
    """
    ordered = sorted(set(references))
    passes = []
    for i, reference in enumerate(ordered):
        low = start
        # The passes overlap around the middle by the fade on both sides.
        high = end - 1
        if i > 0:
            low = max(
                start, _middle(ordered[i - 1], reference) - _fade(ordered[i - 1], reference) + 1
            )
        if i + 1 < len(ordered):
            high = min(
                end - 1, _middle(reference, ordered[i + 1]) + _fade(reference, ordered[i + 1])
            )
        if low < reference and low < end:
            passes.append(Pass(reference, low, reference - 1))
        if high >= max(reference, start):
            passes.append(Pass(reference, reference, high))
    return passes


def passes_of_object(frames: Iterable[int | None], start: int, end: int) -> list[Pass]:
    """Return the passes of an object from the frames of its references; see `plan_passes`.

    Without a marked frame in the clip (None: marked on another image), one pass covers it from its
    start.
    """
    marked = [frame for frame in frames if frame is not None]
    return plan_passes(marked, start, end) if marked else [Pass(start, start, end - 1)]


def _middle(a: int, b: int) -> int:
    return (a + b) // 2


def _fade(a: int, b: int) -> int:
    # References close together leave less room for the fade.
    return min(_FADE_FRAMES, (b - a) // 4)


def forward_share(frame: int, forward: Pass, backward: Pass) -> float:
    """Return the weight of the forward matte in an overlap; it falls from 1 to 0 across it."""
    overlap = forward.last - backward.first + 1
    # Never quite 0 or 1: both mattes count in every frame of the overlap.
    return 1 - (frame - backward.first + 1) / (overlap + 1)


class Propagator:
    """Carries the matte along one pass, with a tracker of its own.

    All propagation goes through here: a stream calls `step` with the frames it decodes anyway;
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
        return _ready(self.tracker.step(small))

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


def _ready(matte: CoarseMatte) -> LaterMatte:
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


def blend_passes(frame: int, found: Sequence[tuple[Pass, T]]) -> list[tuple[float, T]]:
    """Return the results of the passes for a frame with their shares, forward first.

    `found` is from one pass, or from a forward and a backward one that overlap; see
    `forward_share`.
    """
    # Most frames belong to one pass.
    if len(found) == 1:
        return [(1.0, found[0][1])]
    (forward, ahead), (backward, behind) = sorted(found, key=lambda item: item[0].is_backward)
    share = forward_share(frame, forward, backward)
    return [(share, ahead), (1 - share, behind)]


@dataclass(frozen=True)
class ShownBatch:
    """A batch, and its frames as a model sees them, converted once for all who look at them.

    Attributes:
        batch: the frames as they were read.
        frames: each frame (1, 3, H, W) after the display transform: for all objects the same
            tensors, by which models know them again.
    """

    batch: FrameBatch
    frames: tuple[Tensor, ...]

    @classmethod
    def of(cls, batch: FrameBatch, color: ColorTags) -> ShownBatch:
        """Convert the frames of a batch of this colour."""
        rgb = to_display(batch.rgb, color)
        return cls(batch, tuple(rgb[i : i + 1] for i in range(len(rgb))))

    def last(self, frames: int) -> ShownBatch:
        """Return the last frames of the batch."""
        return ShownBatch(self.batch[len(self.batch) - frames :], self.frames[-frames:])


def bring_to_full_size(
    predictor: Predictor, shown: ShownBatch, coarse: Sequence[Weighted]
) -> MatteBatch:
    """Return the mattes of a batch from the coarse ones of each of its frames."""
    alphas = []
    confidence = []
    for rgb, frame, weighted in zip(shown.frames, shown.batch.frames, coarse, strict=True):
        masked = None
        if isinstance(predictor, SupportsMaskedFrames):
            masked = predictor.finish_masked(rgb, frame)
        if masked is not None:
            alphas.append(masked)
        elif len(weighted) == 1:
            alphas.append(predictor.finish(rgb, weighted[0][1]))
        else:
            found = [share * predictor.finish(rgb, matte) for share, matte in weighted]
            alphas.append(torch.stack(found).sum(0))
        confidence.append(sum(share * matte.confidence for share, matte in weighted))
    # A single frame is not copied.
    alpha = alphas[0] if len(alphas) == 1 else torch.cat(alphas)
    return MatteBatch(shown.batch, alpha, tuple(confidence))


def keep_given_areas(mattes: MatteBatch, references: Sequence[Reference]) -> MatteBatch:
    """Return mattes that are, on their own frames, what prompts give exactly.

    These are masks with a hard edge, and the known areas of trimaps.
    """
    given = {each.frame: each for each in references if _is_exact(each)}
    frames = mattes.source.frames
    if given.keys().isdisjoint(frames):
        return mattes
    alphas = []
    for frame, alpha in zip(frames, mattes.alpha, strict=True):
        found = alpha[None]
        if frame in given:
            known = given[frame].known.to(alpha) > 0
            found = torch.where(known, given[frame].alpha.to(alpha), found)
        alphas.append(found)
    return replace(mattes, alpha=torch.cat(alphas))


def _is_exact(reference: Reference) -> bool:
    """Tell whether the matte of a reference's own frame holds what was given for it."""
    is_hard_mask = reference.mask_edge == "hard" and reference.is_complete
    return is_hard_mask or reference.is_trimap


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
            found.append((self._active_backward, _ready(self._disk_cache.pop(frame))))
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
                return _ready(self._propagator.tracker.start(self._marked[frame]))
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
