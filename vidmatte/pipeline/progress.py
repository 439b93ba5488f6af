"""How far a run is: what it does now, and how long the rest takes. Plain values, loads no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Stage = Literal[
    "opening",
    "counting",
    "identifying",
    "loading",
    "encoding",
    "adapting",
    "propagating",
    "matting",
    "joining",
    "finishing",
]
"""What a run does: open the source, count its frames, identify all inputs, load the model, encode
the references, adapt to them, propagate each object over the frames, matte and write frames, join
segments, finish the files. Frames are propagated and matted in turns."""

_USUAL_COSTS: Mapping[Stage, float] = {
    "adapting": 5.0,
    "propagating": 1.0,
    "matting": 2.0,
    "joining": 0.2,
}
"""Time of a step, a frame or a segment in relation to each other, for stages that were not timed
yet. The other stages have no units."""
_MEMORY = 0.97
"""Weight of all earlier units beside the next one: about the last thirty count."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    stage: Stage
    done: int = 0
    """Units of the stage: steps of the adaptation, frames, segments to join; 0 of other stages."""
    total: int | None = None
    """All units of the stage; None if they are not known."""
    rate: float | None = None
    """Units of the stage in a second, lately; None before they were timed."""
    share: float | None = None
    """Of the whole run, 0 to 1 and never falling; None if it is not known."""
    seconds_left: float | None = None
    """Estimate for the whole run; None if it is not known."""


ProgressCallback = Callable[[Progress], None]
"""Called at the beginning of a stage, and after each of its units."""


@dataclass
class _Tally:
    """The units of a stage, and the time of those that count."""

    total: int | None = None
    done: int = 0
    reports: int = 0
    units: float = 0.0
    seconds: float = 0.0

    @property
    def known_total(self) -> int | None:
        """All units; None if there are more than the headers said."""
        return None if self.total is None or self.done > self.total else self.total

    @property
    def seconds_each(self) -> float | None:
        return self.seconds / self.units if self.units else None

    def add(self, units: int, seconds: float) -> None:
        self.done += units
        self.reports += 1
        # The first report bears the start of the stage: it counts until there is another.
        memory = 0.0 if self.reports == 2 else _MEMORY**units
        self.units = self.units * memory + units
        self.seconds = self.seconds * memory + seconds


class Work:
    """Counts the units of a run, and estimates from their time how long the rest takes.

    Thread-safe. Errors of the callback come out of the method that called it.
    """

    def __init__(self, callback: ProgressCallback | None = None) -> None:
        self._callback = callback
        self._tallies: dict[Stage, _Tally] = {}
        self._last = time.monotonic()
        self._share: float | None = None
        self._lock = threading.RLock()

    def expect(self, stage: Stage, units: int | None, *, done: int = 0) -> None:
        """Say how many units a stage has (None if that is not known), and how many were done by an
        earlier run."""
        with self._lock:
            self._tallies[stage] = _Tally(units, done)

    def begin(self, stage: Stage) -> None:
        """Report the beginning of a stage; time up to here belongs to no unit."""
        with self._lock:
            self._last = time.monotonic()
            self._report(stage)

    def add(self, stage: Stage, units: int = 1, *, is_reported: bool = True) -> None:
        """Count units of a stage that were done since the last call, and report it."""
        with self._lock:
            now = time.monotonic()
            self._tallies.setdefault(stage, _Tally()).add(units, now - self._last)
            self._last = now
            if is_reported:
                self._report(stage)

    def _report(self, stage: Stage) -> None:
        if self._callback is None:
            return
        tally = self._tallies.get(stage, _Tally())
        each = tally.seconds_each
        left = self._estimate()
        self._callback(
            Progress(
                stage,
                tally.done,
                tally.known_total,
                rate=1 / each if each else None,
                share=self._share,
                seconds_left=left,
            )
        )

    def _estimate(self) -> float | None:
        """Return the seconds left, and note the share of the whole run."""
        tallies = self._tallies
        timed = [(stage, tally) for stage, tally in tallies.items() if tally.units]
        usual = sum(_USUAL_COSTS[stage] * tally.units for stage, tally in timed)
        if not usual or any(tally.known_total is None for tally in tallies.values()):
            return None
        # How much slower than usual everything was so far.
        pace = sum(tally.seconds for _, tally in timed) / usual
        spent = left = 0.0
        for stage, tally in tallies.items():
            each = tally.seconds_each
            cost = _USUAL_COSTS[stage] * pace if each is None else each
            spent += tally.done * cost
            left += ((tally.total or 0) - tally.done) * cost
        if spent + left > 0:
            self._share = max(self._share or 0.0, spent / (spent + left))
        return left
