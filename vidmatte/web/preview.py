"""A quick preview of the clip: small mattes, propagated from every marked frame, and cached.

Frames are shared between references as in a run (see `stages.propagate.plan_passes`): each is
propagated from the nearest reference before or after it. A pass is kept with its tracker, so that
marks on one more frame cost only the frames nearest to it, up to half-way to the references on both
sides. In the finished run every frame is also matched with all references, and the network is first
adapted to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count

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
from vidmatte.stages.propagate import Pass, Propagator, ReadFrames, blend_passes, plan_passes
from vidmatte.web.frame_cache import SMALL, DiskCache, FrameCache
from vidmatte.web.project import Project, PromptedObject
from vidmatte.web.still import Stills, gray_png

_SEEN = 1008
"""Longer side of the frames to propagate through: what the embedded model takes of larger ones."""
_CHUNK = 24
"""Frames that are read together for a backward pass."""


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


class Preview:
    """Small mattes of the clip by object and frame. Planned by any thread, computed by one."""

    def __init__(self, stills: Stills, frame_cache: FrameCache) -> None:
        self._stills, self._frame_cache = stills, frame_cache
        self._disk_cache = DiskCache()
        self._shown: Mapping[int, _Shown] = {}
        self._size = smaller(frame_cache.clip_info.width, frame_cache.clip_info.height, SMALL)
        self.error = ""
        """Why it stopped; empty if it did not."""
        self.computed = 0
        """Frames that were computed so far, of all objects."""

    def plan(self, project: Project, focus: int) -> Iterator[None]:
        """Show what is cached for these marks, and return the steps that compute the rest.

        Passes begin with those from the reference nearest to the frame `focus`.
        """
        start = project.start or 0
        end = self._frame_cache.clip_info.frames if project.end is None else project.end + 1
        self._shown = {
            obj.id: self._plan_object(obj, start, end) for obj in project.objects if obj.prompts
        }
        self.error = ""
        return self._steps(tuple(self._shown.values()), focus)

    def clear(self) -> None:
        """Drop all passes."""
        self._shown = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Number of frames that are computed, and of all that will be, for all objects."""
        passes = [pair for shown in self._shown.values() for pair in shown.passes]
        done = sum(
            sum(pass_.first <= n <= pass_.last for n in list(followed.confidence))
            for pass_, followed in passes
        )
        return done, sum(pass_.last - pass_.first + 1 for pass_, _ in passes)

    def confidence(self) -> list[int]:
        """Return the lowest confidence of each frame in hundredths; -1 if it is unknown."""
        values = [-1] * self._frame_cache.clip_info.frames
        for shown in list(self._shown.values()):
            for pass_, followed in shown.passes:
                for frame, confidence in list(followed.confidence.items()):
                    if pass_.first <= frame <= pass_.last:
                        known = round(100 * confidence)
                        values[frame] = known if values[frame] < 0 else min(values[frame], known)
        return values

    def alpha(self, number: int, frame: int) -> bytes | None:
        """Return the matte of an object in a frame as a small gray PNG; None if there is none."""
        shown = self._shown.get(number)
        found: list[tuple[Pass, bytes]] = []
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
            prompts = (obj.prompts[pass_.reference],)
            run = known.get((prompts, pass_.is_backward)) or _Propagated(
                prompts, pass_.is_backward, reached=pass_.reference
            )
            passes.append((pass_, run))
        return _Shown(obj, tuple(passes))

    def _steps(self, shown: Sequence[_Shown], focus: int) -> Iterator[None]:
        try:
            for of_object in shown:
                prompts = tuple(of_object.obj.prompts.values())
                for prompt in prompts:
                    self._stills.prepare(prompt)
                    yield
                predictor = self._stills.predictor(prompts)
                for pass_, run in sorted(
                    of_object.passes, key=lambda pair: abs(pair[0].reference - focus)
                ):
                    yield from self._propagate(predictor, pass_, run)
        except VidmatteError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"the preview cannot be kept ({error.strerror}); free some space"

    def _propagate(self, predictor: Predictor, pass_: Pass, run: _Propagated) -> Iterator[None]:
        reference = None
        propagator = run.propagator
        if propagator is None:
            tracker = predictor.tracker()
            if tracker is None:
                yield from self._match(predictor, pass_, run)
                return
            source = self._frame_cache.video.info.source
            propagator = Propagator(predictor, tracker, pass_, source=source)
            reference = self._frame_cache.reference(run.prompts[0])
        # What was propagated before is kept: it goes on behind the last frame that was reached.
        first, end = pass_.first, run.reached
        if not pass_.is_backward:
            first, end = run.reached + (reference is None), pass_.last + 1
        found = propagator.run(self._read, first=first, end=end, reference=reference, chunk=_CHUNK)
        with closing(found):
            for frame, coarse in found:
                run.propagator = propagator  # it has started, and may be continued from here
                self._keep(run, frame, coarse)
                yield

    @property
    def _read(self) -> ReadFrames:
        return lambda first, end: self._frame_cache.proxy_frames(_SEEN, first, end)

    def _match(self, predictor: Predictor, pass_: Pass, run: _Propagated) -> Iterator[None]:
        """Compute mattes of a model that mattes each frame alone."""
        for frame, rgb in self._frame_cache.proxy_frames(SMALL, pass_.first, pass_.last + 1):
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
