"""A quick preview of the clip: small mattes, propagated from every marked frame, and cached.

Frames are shared between references as in a run (see `stages.passes.plan_passes`): each is
propagated from the nearest reference before or after it. A pass is kept with its tracker, so that
marks on one more frame cost only the frames nearest to it, up to half-way to the references on both
sides. In the finished run every frame is also matched with all references, and the network is first
adapted to them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import VidmatteError
from vidmatte.frames import FrameBatch
from vidmatte.model.interface import CoarseMatte, Predictor
from vidmatte.prompts.prompt import Prompt
from vidmatte.read.video import smaller
from vidmatte.stages.passes import Pass, blend_passes, plan_passes
from vidmatte.stages.propagator import Propagator, ReadFrames, blank_for_tracker, chunk_frames
from vidmatte.web.frame_cache import SMALL, DiskCache, FrameCache
from vidmatte.web.project import Project, PromptedObject
from vidmatte.web.still import Stills, gray_png

_log = logging.getLogger(__name__)

_MOST_BYTES = 2 << 30
"""Disk space for mattes: hours of most footage."""
_FEWEST_FRAMES = 3
"""After so many the time that is left can be told."""
Way = Literal["both", "forward", "backward", "one"]
"""From the frame looked at: both ways, one way only, or that frame alone."""


@dataclass
class _Propagated:
    """What was propagated from one reference in one direction."""

    prompts: tuple[Prompt, ...]
    """The marks that it depends on: of its reference, or of all if frames are matted alone."""
    is_backward: bool
    propagator: Propagator | None = None
    """None before the start, and for models without a tracker."""
    reached: int = -1
    """The last frame that was reached; at first that of the reference."""
    number: int = field(default_factory=count().__next__)
    """A number of its own, for the cache."""
    confidence: dict[int, float] = field(default_factory=dict)
    """By frame that was computed."""


@dataclass(frozen=True)
class _Shown:
    """The passes that the frames of an object are taken from."""

    obj: PromptedObject
    passes: tuple[tuple[Pass, _Propagated], ...]


@dataclass(frozen=True)
class _Wanted:
    """A pass of an object that is to be computed, as far as a frame."""

    shown: _Shown
    pass_: Pass
    followed: _Propagated
    until: int
    """Last frame in the direction of the pass."""

    @property
    def span(self) -> tuple[int, int]:
        """First and last frame, both included."""
        if self.pass_.is_backward:
            return self.until, self.pass_.last
        return self.pass_.first, self.until


class Preview:
    """Small mattes of the clip by object and frame. Planned by any thread, computed by one."""

    def __init__(self, stills: Stills, frame_cache: FrameCache) -> None:
        self._stills, self._frame_cache = stills, frame_cache
        self._disk_cache = DiskCache(_MOST_BYTES)
        self._wanted: tuple[_Wanted, ...] = ()
        self._began = (0.0, 0)
        self._shown: Mapping[int, _Shown] = {}
        self._size = smaller(frame_cache.clip_info.width, frame_cache.clip_info.height, SMALL)
        self.error = ""
        """Why it stopped; empty if it did not."""
        self.computed = 0
        """Frames that were computed so far, of all objects."""

    def plan(self, project: Project, focus: int, way: Way = "both") -> Iterator[None]:
        """Show what is cached for these marks, and return the steps that compute the rest.

        The frame `focus` comes first, then the frames around it, as far as `way` says.
        """
        start = project.start or 0
        end = self._frame_cache.clip_info.frames if project.end is None else project.end + 1
        self._shown = {
            obj.id: self._plan_object(obj, start, end) for obj in project.objects if obj.prompts
        }
        self._drop_unreachable()
        self.error = ""
        self._wanted = tuple(
            wanted
            for shown in self._shown.values()
            for wanted in _wanted_of(shown, min(max(focus, start), end - 1), way)
        )
        # The time left is told from the speed of this plan: a cached part took no time at all.
        self._began = time.monotonic(), self.computed
        return self._steps(self._wanted)

    def _drop_unreachable(self) -> None:
        """Forget mattes of marks that were changed since: nothing leads back to them."""
        numbers = {
            followed.number for shown in self._shown.values() for _, followed in shown.passes
        }
        self._disk_cache.drop(lambda key: key[0] not in numbers)

    def clear(self) -> None:
        """Drop all passes."""
        self._shown = {}
        self._wanted = ()

    @property
    def progress(self) -> tuple[int, int]:
        """Number of frames that are computed, and of all that will be, for all objects."""
        done = total = 0
        for wanted in self._wanted:
            first, last = wanted.span
            total += last - first + 1
            done += sum(first <= n <= last for n in list(wanted.followed.confidence))
        return done, total

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is computed, at the speed since the plan was made; None if unknown."""
        began, before = self._began
        computed = self.computed - before
        if computed < _FEWEST_FRAMES:
            return None
        done, total = self.progress
        return round((total - done) * (time.monotonic() - began) / computed, 1)

    def confidence_by_object(self) -> dict[int, list[int]]:
        """Return the confidence of each frame in hundredths by object; -1 if it is unknown."""
        return {number: self._lane(shown) for number, shown in list(self._shown.items())}

    def _lane(self, shown: _Shown) -> list[int]:
        values = [-1] * self._frame_cache.clip_info.frames
        for pass_, followed in shown.passes:
            for frame, confidence in list(followed.confidence.items()):
                if pass_.first <= frame <= pass_.last:
                    known = round(100 * confidence)
                    values[frame] = known if values[frame] < 0 else min(values[frame], known)
        return values

    def confidence(self) -> list[int]:
        """Return the lowest confidence of each frame in hundredths; -1 if it is unknown."""
        lanes = list(self.confidence_by_object().values())
        if not lanes:
            return [-1] * self._frame_cache.clip_info.frames
        return [
            min((value for value in at if value >= 0), default=-1)
            for at in zip(*lanes, strict=True)
        ]

    def alpha(self, number: int, frame: int) -> bytes | None:
        """Return the matte of an object in a frame as a small gray PNG; None if there is none."""
        shown = self._shown.get(number)
        found: list[tuple[Pass, bytes]] = []
        # Between two references both passes have a matte near half-way, and are mixed there.
        for pass_, followed in () if shown is None else shown.passes:
            png = self._disk_cache.get((followed.number, frame))
            if pass_.first <= frame <= pass_.last and png is not None:
                found.append((pass_, png))
        if len(found) < 2:
            return found[0][1] if found else None
        mixed = sum(share * _decode(png) for share, png in blend_passes(frame, found))
        return gray_png(torch.from_numpy(np.asarray(mixed))[None, None], *self._size)

    def close(self) -> None:
        """Remove the cache."""
        self.clear()
        self._disk_cache.close()

    def _plan_object(self, obj: PromptedObject, start: int, end: int) -> _Shown:
        before = self._shown.get(obj.id)
        known = (
            {(run.prompts, run.is_backward): run for _, run in before.passes}
            if before is not None
            else {}
        )
        passes = []
        for pass_ in plan_passes(list(obj.prompts), start, end):
            # The same marks at its beginning, in the same direction: the pass goes on as it was.
            prompts = (obj.prompts[pass_.reference],)
            run = known.get((prompts, pass_.is_backward)) or _Propagated(
                prompts, pass_.is_backward, reached=pass_.reference
            )
            passes.append((pass_, run))
        return _Shown(obj, tuple(passes))

    def _steps(self, all_wanted: Sequence[_Wanted]) -> Iterator[None]:
        try:
            for _, group in groupby(all_wanted, key=lambda wanted: wanted.shown.obj.id):
                of_object = list(group)
                prompts = tuple(of_object[0].shown.obj.prompts.values())
                for prompt in prompts:
                    self._stills.prepare(prompt)
                    yield
                predictor = self._stills.predictor(prompts)
                # The two passes at the frame looked at take turns: both sides of it fill up.
                passes = [self._propagate(predictor, wanted) for wanted in of_object]
                yield from _in_turn(passes[:2])
                for steps in passes[2:]:
                    yield from steps
        # The worker goes on with clicks, whatever became of the preview.
        except VidmatteError as error:
            self._fail(all_wanted, str(error))
        except OSError as error:
            found = f"the preview cannot be kept ({error.strerror}); free some space"
            self._fail(all_wanted, found)
        except Exception:  # noqa: BLE001 - a bug: the page must not wait for ever
            _log.exception("a preview failed")
            self._fail(all_wanted, "the preview failed; the terminal says why")

    def _fail(self, all_wanted: Sequence[_Wanted], error: str) -> None:
        """Tell why a plan stopped, unless there is a newer one."""
        if self._wanted is all_wanted:
            self.error = error

    def _propagate(self, predictor: Predictor, wanted: _Wanted) -> Iterator[None]:
        pass_, run = wanted.pass_, wanted.followed
        reference = None
        propagator = run.propagator
        if propagator is None:
            tracker = predictor.tracker()
            if tracker is None:
                yield from self._match(predictor, wanted)
                return
            source = self._frame_cache.video.info.source
            propagator = Propagator(predictor, tracker, pass_, source=source)
            reference = self._frame_cache.reference(run.prompts[0])
        # What was propagated before is kept: it goes on behind the last frame that was reached.
        first, end = wanted.until, run.reached
        if not pass_.is_backward:
            first, end = run.reached + (reference is None), wanted.until + 1
        if first >= end:
            return
        chunk = chunk_frames(predictor, self._frame_cache.video) if pass_.is_backward else 1
        read = self._reader(predictor)
        found = propagator.run(read, first=first, end=end, reference=reference, chunk=chunk)
        try:
            with closing(found):
                for frame, coarse in found:
                    run.propagator = propagator  # it has started, and may be continued from here
                    self._keep(run, frame, coarse)
                    yield
        except VidmatteError:
            # A frame that cannot be read: the tracker is where it was.
            raise
        except Exception:
            # The tracker may be ahead of what was kept: the next plan begins anew.
            run.propagator, run.reached = None, pass_.reference
            run.confidence.clear()
            raise

    def _reader(self, predictor: Predictor) -> ReadFrames:
        """Return a function that reads frames of the size that a tracker makes of whole ones.

        The references were made of whole ones, and a tracker takes one size only.
        """
        longest = max(blank_for_tracker(predictor, self._frame_cache.video).shape)
        return lambda first, end: self._frame_cache.proxy_frames(longest, first, end)

    def _match(self, predictor: Predictor, wanted: _Wanted) -> Iterator[None]:
        """Compute mattes of a model that mattes each frame alone."""
        run = wanted.followed
        first, last = wanted.span
        for frame, rgb in self._frame_cache.proxy_frames(SMALL, first, last + 1):
            if frame not in run.confidence:
                matte = predictor(FrameBatch(rgb, (frame,), (frame,), (0,)))
                self._keep(run, frame, CoarseMatte(matte.alpha[0, 0], matte.confidence[0]))
            yield

    def _keep(self, run: _Propagated, frame: int, coarse: CoarseMatte) -> None:
        self._disk_cache.put(
            (run.number, frame), gray_png(_pasted(coarse, self._size), *self._size)
        )
        run.confidence[frame], run.reached = coarse.confidence, frame
        self.computed += 1


def _wanted_of(shown: _Shown, focus: int, way: Way) -> list[_Wanted]:
    """Return the passes of an object that a way takes from a frame, the nearest first."""

    def away(pass_: Pass) -> tuple[int, int]:
        outside = max(pass_.first - focus, focus - pass_.last, 0)
        return outside, abs(pass_.reference - focus)

    chosen = []
    for pass_, followed in sorted(shown.passes, key=lambda pair: away(pair[0])):
        until = pass_.first if pass_.is_backward else pass_.last
        if way == "one":
            if away(pass_)[0]:
                continue
            until = focus
        elif way != "both":
            # Frames on the other side of the one looked at are left out.
            is_left_out = pass_.last < focus if way == "forward" else pass_.first > focus
            if is_left_out or pass_.is_backward != (way == "backward"):
                continue
        chosen.append(_Wanted(shown, pass_, followed, until))
    return chosen


def _in_turn(several: Sequence[Iterator[None]]) -> Iterator[None]:
    """Yield from iterators by turns until all have ended; close them at the end."""
    left = list(several)
    try:
        while left:
            for steps in list(left):
                try:
                    next(steps)
                except StopIteration:
                    left.remove(steps)
                else:
                    yield
    finally:
        for steps in left:
            cast("Generator[None]", steps).close()


def _pasted(coarse: CoarseMatte, size: tuple[int, int]) -> Tensor:
    """Return alpha (1, 1, h, w) of the whole frame at a size (width, height)."""
    width, height = size
    left, top, right, bottom = coarse.window
    x, y = round(left * width), round(top * height)
    inside = (
        slice(y, max(y + 1, round(bottom * height))),
        slice(x, max(x + 1, round(right * width))),
    )
    alpha = np.zeros((height, width), np.float32)
    part = alpha[inside]
    part[:] = cv2.resize(
        coarse.alpha.float().cpu().numpy(),
        (part.shape[1], part.shape[0]),
        interpolation=cv2.INTER_AREA,
    )
    return torch.from_numpy(alpha)[None, None]


def _decode(png: bytes) -> NDArray[np.float32]:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(image, np.float32) / np.float32(255)
