"""A quick preview through the clip: small frames, followed from every marked one, and kept.

Frames are shared between references as in a run, see `follow.plan_legs`: each is followed from the nearest reference
before or behind it. A leg that was followed is kept with its follower. So marks on one more frame only cost the frames
that are nearest to it, up to half-way to the references on both sides; the others keep what they have. (In the finished
run every frame is also matched with all references, and the network practises on them first.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import VidmatteError
from vidmatte.frames import FrameBatch
from vidmatte.model.interface import CoarseMatte, Follower, Matter
from vidmatte.prompts.prompt import Prompt
from vidmatte.read.video import smaller
from vidmatte.stages.propagate import Leg, forward_share, plan_legs
from vidmatte.web.frame_cache import SMALL, Footage, Spool
from vidmatte.web.project import MarkedObject, Project
from vidmatte.web.still import Stills, gray_png

_SEEN = 1008
"""Longer side of the frames that are followed: what the embedded model takes of larger ones."""
_CHUNK = 24
"""Frames that are read together to be followed backward."""


@dataclass
class _Followed:
    """What was followed from one reference in one direction."""

    marks: tuple[Prompt, ...]
    """The marks that it depends on: of its reference, or of all where the model looks at each frame alone."""
    is_backward: bool
    follower: Follower | None = None
    reached: int = -1
    """The last frame that was followed; that of the reference before there is any."""
    number: int = field(default_factory=count().__next__)
    """Its own among all that ever were."""
    confidence: dict[int, float] = field(default_factory=dict)
    """Of the frames that are there."""


@dataclass(frozen=True)
class _Shown:
    """What the frames of an object are taken from now."""

    one: MarkedObject
    legs: tuple[tuple[Leg, _Followed], ...]


class Preview:
    """Small mattes of the clip by object and frame. Planned by any thread, computed by one."""

    def __init__(self, stills: Stills, footage: Footage) -> None:
        self._stills, self._footage = stills, footage
        self._spool = Spool()
        self._shown: Mapping[int, _Shown] = {}
        self._size = smaller(footage.bounds.width, footage.bounds.height, SMALL)
        self.error = ""
        """Why it stopped; empty where it did not."""
        self.computed = 0
        """Frames that were followed so far, of all objects."""

    def plan(self, project: Project, focus: int) -> Iterator[None]:
        """Show what is known for these marks, and return the steps that compute the rest.

        Legs begin with those from the reference nearest to the frame `focus`.
        """
        start = project.start or 0
        end = self._footage.bounds.frames if project.end is None else project.end + 1
        self._shown = {one.id: self._plan_object(one, start, end) for one in project.objects if one.prompts}
        self.error = ""
        return self._steps(tuple(self._shown.values()), focus)

    def clear(self) -> None:
        """Forget everything."""
        self._shown = {}

    @property
    def progress(self) -> tuple[int, int]:
        """Frames that are there, and all that will be, of all objects."""
        legs = [pair for shown in self._shown.values() for pair in shown.legs]
        done = sum(sum(leg.first <= n <= leg.last for n in list(followed.confidence)) for leg, followed in legs)
        return done, sum(leg.last - leg.first + 1 for leg, _ in legs)

    def confidence(self) -> list[int]:
        """Of each frame of the clip in hundredths, that of the least sure object; -1 where it is not known."""
        values = [-1] * self._footage.bounds.frames
        for shown in list(self._shown.values()):
            for leg, followed in shown.legs:
                for frame, confidence in list(followed.confidence.items()):
                    if leg.first <= frame <= leg.last:
                        known = round(100 * confidence)
                        values[frame] = known if values[frame] < 0 else min(values[frame], known)
        return values

    def alpha(self, number: int, frame: int) -> bytes | None:
        """The matte of an object in a frame as a gray PNG, small; None where it is not there."""
        shown = self._shown.get(number)
        found = [
            (leg, followed, png)
            for leg, followed in (() if shown is None else shown.legs)
            if leg.first <= frame <= leg.last and (png := self._spool.get((followed.number, frame))) is not None
        ]
        if len(found) < 2:
            return found[0][2] if found else None
        (forward, _, ahead), (backward, _, behind) = sorted(found, key=lambda item: item[0].is_backward)
        share = forward_share(frame, forward, backward)
        mixed = share * _decode(ahead) + (1 - share) * _decode(behind)
        return gray_png(torch.from_numpy(mixed)[None, None], *self._size)

    def close(self) -> None:
        """Remove what was kept."""
        self.clear()
        self._spool.close()

    def _plan_object(self, one: MarkedObject, start: int, end: int) -> _Shown:
        before = self._shown.get(one.id)
        known = {(run.marks, run.is_backward): run for _, run in before.legs} if before is not None else {}
        legs = []
        for leg in plan_legs(list(one.prompts), start, end):
            marks = (one.prompts[leg.reference],)
            run = known.get((marks, leg.is_backward)) or _Followed(marks, leg.is_backward, reached=leg.reference)
            legs.append((leg, run))
        return _Shown(one, tuple(legs))

    def _steps(self, shown: Sequence[_Shown], focus: int) -> Iterator[None]:
        try:
            for of_object in shown:
                prompts = tuple(of_object.one.prompts.values())
                for prompt in prompts:
                    self._stills.prepare(prompt)
                    yield
                matter = self._stills.matter(prompts)
                for leg, run in sorted(of_object.legs, key=lambda pair: abs(pair[0].reference - focus)):
                    yield from self._follow(matter, leg, run)
        except VidmatteError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"the preview cannot be kept ({error.strerror}); free some space"

    def _follow(self, matter: Matter, leg: Leg, run: _Followed) -> Iterator[None]:
        if run.follower is None:
            run.follower = matter.follower()
            if run.follower is not None:
                coarse = run.follower.start(self._footage.reference(run.marks[0]))
                if not leg.is_backward:
                    self._keep(run, leg.reference, coarse)
                yield
        if run.follower is None:
            yield from self._match(matter, leg, run)
        elif leg.is_backward:
            yield from self._follow_backward(matter, leg, run, run.follower)
        else:
            for frame, rgb in self._footage.small_frames(_SEEN, run.reached + 1, leg.last + 1):
                self._keep(run, frame, run.follower.step(matter.shrink(rgb)))
                yield

    def _follow_backward(self, matter: Matter, leg: Leg, run: _Followed, follower: Follower) -> Iterator[None]:
        for high in range(run.reached, leg.first, -_CHUNK):
            low = max(leg.first, high - _CHUNK)
            chunk = [(n, matter.shrink(rgb)) for n, rgb in self._footage.small_frames(_SEEN, low, high)]
            for frame, small in reversed(chunk):
                self._keep(run, frame, follower.step(small))
                yield

    def _match(self, matter: Matter, leg: Leg, run: _Followed) -> Iterator[None]:
        """Mattes of a model that looks at each frame alone."""
        for frame, rgb in self._footage.small_frames(SMALL, leg.first, leg.last + 1):
            if frame not in run.confidence:
                matte = matter(FrameBatch(rgb, (frame,), (frame,), (0,)))
                self._keep(run, frame, CoarseMatte(matte.alpha[0, 0], matte.confidence[0]))
            yield

    def _keep(self, run: _Followed, frame: int, coarse: CoarseMatte) -> None:
        self._spool.put((run.number, frame), gray_png(_pasted(coarse, self._size), *self._size))
        run.confidence[frame], run.reached = coarse.confidence, frame
        self.computed += 1


def _pasted(coarse: CoarseMatte, size: tuple[int, int]) -> Tensor:
    """(1, 1, h, w) alpha of the whole frame at a size (width, height)."""
    width, height = size
    left, top, right, bottom = coarse.window
    x, y = round(left * width), round(top * height)
    inside = (slice(y, max(y + 1, round(bottom * height))), slice(x, max(x + 1, round(right * width))))
    alpha = np.zeros((height, width), np.float32)
    part = alpha[inside]
    part[:] = cv2.resize(
        coarse.alpha.float().cpu().numpy(), (part.shape[1], part.shape[0]), interpolation=cv2.INTER_AREA
    )
    return torch.from_numpy(alpha)[None, None]


def _decode(png: bytes) -> NDArray[np.float32]:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(image, np.float32) / np.float32(255)
