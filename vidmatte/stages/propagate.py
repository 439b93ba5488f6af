"""FOLLOW: matte a clip from its reference frames, forward and backward, with the output in order.

A tracker carries the matte from one frame to the next, so frames before a reference have to be met in reverse. They
are read in chunks from the back, and their coarse mattes wait in a temporary file: memory does not grow with the clip.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vidmatte.errors import ReadError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import CoarseMatte, Predictor, Tracker
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video

_CHUNK_BYTES = 128 << 20
"""Memory for the small frames of one chunk that is followed backward."""
_FADE_FRAMES = 4
"""Half-width of the cross-fade half-way between two references, so that the change of source does not pop."""
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Pass:
    """A run of frames that is followed from one reference frame, away from it. `first` and `last` are inclusive."""

    reference: int
    first: int
    last: int

    @property
    def is_backward(self) -> bool:
        """Whether the frames lie before their reference."""
        return self.last < self.reference


def plan_passes(references: Sequence[int], start: int, end: int) -> list[Pass]:
    """How frames `start` to `end` (exclusive) are shared between reference frames: each goes to the nearest.

    Half-way between two references both passes overlap by a few frames, which are cross-faded. A forward pass begins at
    its reference even where that lies before `start`. Passes without a wanted frame are left out.
    """
    ordered = sorted(set(references))
    passes = []
    for i, reference in enumerate(ordered):
        low, high = start, end - 1
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


def _middle(a: int, b: int) -> int:
    return (a + b) // 2


def _fade(a: int, b: int) -> int:
    return min(_FADE_FRAMES, (b - a) // 4)


def forward_share(frame: int, forward: Pass, backward: Pass) -> float:
    """Weight of the forward matte where two passes overlap: falls from 1 to 0 across the overlap."""
    overlap = forward.last - backward.first + 1
    return 1 - (frame - backward.first + 1) / (overlap + 1)


def encode_alpha(alpha: Tensor) -> bytes:
    """Alpha (h, w) with 16 bits a pixel, compressed."""
    codes = (alpha * 65535 + 0.5).cpu().numpy().astype(np.uint16)
    return zlib.compress(codes.tobytes(), 1)


def decode_alpha(encoded: bytes, size: Sequence[int]) -> Tensor:
    """Alpha (h, w) of this size."""
    codes = np.frombuffer(zlib.decompress(encoded), np.uint16).reshape(size)
    return torch.from_numpy(codes.astype(np.float32) / np.float32(65535))


class _DiskCache:
    """Coarse mattes on disk, by frame, with 16 bits a pixel."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._entries: dict[int, tuple[int, int, CoarseMatte]] = {}

    def put(self, frame: int, matte: CoarseMatte) -> None:
        encoded = encode_alpha(matte.alpha)
        shape_only = replace(matte, alpha=torch.empty(matte.alpha.shape, device="meta"))
        try:
            self._entries[frame] = (self._file.seek(0, 2), len(encoded), shape_only)
            self._file.write(encoded)
            self._file.flush()
        except OSError as error:
            raise WriteError(
                f"{tempfile.gettempdir()}: mattes that wait for their turn cannot be kept there ({error.strerror}); "
                f"free some space, or name another folder in the variable TMPDIR"
            ) from error

    def pop(self, frame: int) -> CoarseMatte:
        offset, size, matte = self._entries.pop(frame)
        self._file.seek(offset)
        return replace(matte, alpha=decode_alpha(self._file.read(size), matte.alpha.shape))

    def __contains__(self, frame: int) -> bool:
        return frame in self._entries

    def close(self) -> None:
        self._file.close()


def matte_clip(
    predictor: Predictor,
    video: Video,
    references: Sequence[Reference],
    *,
    start: int = 0,
    end: int | None = None,
    batch_size: int = 1,
    on_backward: Callable[[int], None] | None = None,
) -> Generator[MatteBatch]:
    """Mattes of frames `start` to `end` (exclusive; None = all) in order.

    `references` are those that `predictor` was made with; the ones that mark a frame of this clip are where following
    starts. The model sees the frames as `imaging.display.to_display` shows them. `on_backward` is told the number of
    frames of each chunk that was followed backward, for progress.
    """
    mattes = matte_objects(
        [predictor],
        video,
        [references],
        start=start,
        end=end,
        batch_size=batch_size,
        on_backward=on_backward,
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
    on_backward: Callable[[int], None] | None = None,
) -> Generator[tuple[MatteBatch, ...]]:
    """Mattes of several objects, as `matte_clip` makes those of one: for each batch, one of each predictor.

    The frames are decoded once for all objects, but for those before an object's references, which are followed back.
    """
    predictors = [with_display_transform(predictor, video.info.color) for predictor in predictors]
    if predictors[0].tracker() is None:
        for batch in video.batches(batch_size, start=start, end=end):
            yield tuple(predictor(batch) for predictor in predictors)
        return
    with ExitStack() as stack:
        runs = []
        for predictor, of_object in zip(predictors, references, strict=True):
            marked = {
                reference.frame: reference for reference in of_object if reference.frame is not None
            }
            run = _Propagation(
                predictor,
                video,
                marked,
                start,
                _ENDLESS if end is None else end,
                on_backward or (lambda frames: None),
            )
            runs.append(run)
            stack.callback(run.close)
        for batch in video.batches(batch_size, start=min(run.first_frame for run in runs), end=end):
            wanted = sum(index >= start for index in batch.frames)
            coarse = [run.coarse_of(batch) for run in runs]
            if wanted:
                last = batch if wanted == len(batch) else batch[-wanted:]
                yield tuple(
                    bring_to_full_size(predictor, last, of[-wanted:])
                    for predictor, of in zip(predictors, coarse, strict=True)
                )


Weighted = Sequence[tuple[float, CoarseMatte]]
"""Coarse mattes of one frame with their shares: one, or two where passes overlap."""


def bring_to_full_size(
    predictor: Predictor, batch: FrameBatch, coarse: Sequence[Weighted]
) -> MatteBatch:
    """Mattes of a batch from the small ones of each of its frames."""
    alphas = []
    for i, weighted in enumerate(coarse):
        rgb = batch.rgb[i : i + 1]
        alphas.append(
            sum(
                (share * predictor.finish(rgb, matte) for share, matte in weighted), torch.zeros(())
            )
        )
    confidence = tuple(
        sum(share * matte.confidence for share, matte in weighted) for weighted in coarse
    )
    return MatteBatch(batch, torch.cat(alphas), confidence)


def _read_backward(
    predictor: Predictor, video: Video, pass_: Pass, first: int, end: int
) -> Iterator[list[tuple[int, Tensor]]]:
    """Frames of a pass, as a tracker takes them, from `end` (exclusive) down to `first`, a part of them at a time."""
    blank = torch.zeros((1, 3, video.info.height, video.info.width))
    size = max(1, _CHUNK_BYTES // predictor.shrink(blank).nbytes)
    for high in range(end, first, -size):
        low = max(first, high - size)
        part = [predictor.shrink(batch.rgb) for batch in video.batches(1, start=low, end=high)]
        if len(part) < high - low:
            raise ReadError(
                f"{video.info.source}: frame {low + len(part)} cannot be read, so that the reference at "
                f"frame {pass_.reference} cannot be followed back over it; mark a frame before it"
            )
        yield list(zip(range(high - 1, low - 1, -1), reversed(part), strict=True))


def propagate_chunk(
    predictor: Predictor,
    tracker: Tracker,
    video: Video,
    pass_: Pass,
    *,
    first: int,
    end: int,
    reference: Reference | None,
) -> Generator[tuple[int, CoarseMatte]]:
    """Follow a part of a pass, `first` to `end` (exclusive), in its direction; yields (frame, matte).

    The tracker begins at `reference` where one is given, for the part that begins the pass, and otherwise goes on from
    what it remembers. `predictor` is what `with_display_transform` makes of it.
    """
    if pass_.is_backward:
        if reference is not None:
            tracker.start(reference)
        for part in _read_backward(predictor, video, pass_, first, end):
            for frame, small in part:
                yield frame, tracker.step(small)
        return
    if reference is not None:
        yield first, tracker.start(reference)
        first += 1
    for batch in video.batches(1, start=first, end=end):
        yield batch.frames[0], tracker.step(predictor.shrink(batch.rgb))


def blend_passes(frame: int, mattes: Sequence[tuple[Pass, CoarseMatte]]) -> Weighted:
    """The mattes of a frame from the passes that reach it, forward first, with their shares; see `forward_share`."""
    if len(mattes) == 1:
        return [(1.0, mattes[0][1])]
    (forward, ahead), (backward, behind) = sorted(mattes, key=lambda found: found[0].is_backward)
    share = forward_share(frame, forward, backward)
    return [(share, ahead), (1 - share, behind)]


class _Propagation:
    """The coarse mattes of a clip, asked for in order: follows forward as it goes, backward when a pass is reached."""

    def __init__(
        self,
        predictor: Predictor,
        video: Video,
        marked: dict[int, Reference],
        start: int,
        end: int,
        on_backward: Callable[[int], None],
    ) -> None:
        self._predictor, self._video, self._marked, self._end = predictor, video, marked, end
        self._on_backward = on_backward
        self._disk_cache = _DiskCache()
        passes = plan_passes(list(marked), start, end) if marked else [Pass(start, start, end - 1)]
        self._backward = {pass_.first: pass_ for pass_ in passes if pass_.is_backward}
        self._forward = {pass_.reference: pass_ for pass_ in passes if not pass_.is_backward}
        self._active_backward: Pass | None = None
        self._active_forward: Pass | None = None
        self._tracker: Tracker | None = None
        self.first_frame = min([start, *self._forward])

    def coarse_of(self, batch: FrameBatch) -> list[Weighted]:
        """Of each frame of a batch; nothing for those before the first frame that this run needs."""
        return [
            self._coarse(index, batch.rgb[i : i + 1]) if index >= self.first_frame else ()
            for i, index in enumerate(batch.frames)
        ]

    def _coarse(self, frame: int, rgb: Tensor) -> Weighted:
        if frame in self._backward:
            self._active_backward = self._backward[frame]
            self._propagate_backward(self._active_backward)
        ahead = self._step_forward(frame, rgb)
        if frame not in self._disk_cache:
            assert ahead is not None  # the passes cover every frame from the first one on
            return [(1.0, ahead)]
        behind = self._disk_cache.pop(frame)
        if ahead is None or self._active_forward is None or self._active_backward is None:
            return [(1.0, behind)]
        share = forward_share(frame, self._active_forward, self._active_backward)
        return [(share, ahead), (1 - share, behind)]

    def _step_forward(self, frame: int, rgb: Tensor) -> CoarseMatte | None:
        if frame in self._forward:
            self._active_forward, self._tracker = self._forward[frame], self._predictor.tracker()
            if frame in self._marked and self._tracker is not None:
                return self._tracker.start(self._marked[frame])
        if (
            self._active_forward is None
            or self._tracker is None
            or frame > self._active_forward.last
        ):
            self._active_forward = None
            return None
        return self._tracker.step(self._predictor.shrink(rgb))

    def _propagate_backward(self, pass_: Pass) -> None:
        tracker = self._predictor.tracker()
        assert tracker is not None  # only models that follow get here
        reference = self._marked[pass_.reference]
        tracker.start(reference)
        for chunk in _read_backward(
            self._predictor, self._video, pass_, pass_.first, pass_.last + 1
        ):
            for frame, small in chunk:
                matte = tracker.step(small)
                if frame < self._end:
                    self._disk_cache.put(frame, matte)
            self._on_backward(len(chunk))

    def close(self) -> None:
        self._disk_cache.close()
