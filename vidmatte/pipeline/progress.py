"""Count frames for the progress callbacks of a run."""

from __future__ import annotations

from collections.abc import Callable, Set

from vidmatte.pipeline.segments.plan import Plan, Unit
from vidmatte.prompts.objects import Mattes

ProgressCallback = Callable[[int, "int | None"], None]
"""Called with the number of frames done, and of all frames (None if unknown)."""
StatusCallback = Callable[[str], None]
"""Called with the current activity, such as "counting frames"."""


class FrameCounter:
    """Counts the frames of a run at once, and keeps their confidence."""

    def __init__(self, progress: ProgressCallback | None, expected: int | None) -> None:
        self.confidence: list[float] = []
        self.expected = expected
        self._progress = progress
        self._backward = 0

    def add(self, mattes: Mattes) -> None:
        """Count the frames of a batch; each has the lowest confidence of its objects."""
        for of_frame in zip(*(batch.confidence for batch in mattes), strict=True):
            self.confidence.append(min(of_frame))
        self._report()

    def add_backward(self, frames: int) -> None:
        """Count frames that were propagated backward, before any of them comes out."""
        self._backward += frames
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            # Both numbers grow, so that the share done never falls below the truth.
            expected = None if self.expected is None else self.expected + self._backward
            self._progress(len(self.confidence) + self._backward, expected)


class UnitCounter:
    """Counts the frames of a run in segments; propagated frames are work like rendered ones."""

    def __init__(self, plan: Plan, done: Set[str], progress: ProgressCallback | None) -> None:
        self._frames = plan.frames
        self._progress = progress
        propagated = [pass_.last - pass_.first + 1 for passes in plan.passes for pass_ in passes]
        self._work = plan.frames + sum(propagated)
        self._done = sum(plan.size(Unit.parse(name)) for name in done)

    def add(self, frames: int) -> None:
        """Count frames that were propagated or rendered."""
        self._done += frames
        if self._progress is not None:
            # Shown as frames of the clip: the share of the work done, in whole frames.
            self._progress(self._done * self._frames // self._work, self._frames)
