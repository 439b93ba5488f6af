"""Cut a long clip into units of work, and order them by their dependencies.

Models with a tracker first *propagate* the matte, in chunks of one segment that hand their state on
and leave a coarse matte of each frame. Then each segment is *rendered* independently: brought to
full size, smoothed, finished, coloured and encoded. A unit depends on nothing but the clip, the
request and the files of its dependencies; so any process may do it, at any time, and more than
once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vidmatte.stages.passes import Pass

UnitKind = Literal["adapt", "propagate", "render", "join"]


@dataclass(frozen=True)
class Unit:
    """A piece of work on one shot."""

    kind: UnitKind
    index: int = 0
    """Number of the object to adapt to, the chunk to propagate, or the segment to render."""
    object: int = 0
    """Number of the object, for propagation."""
    pass_index: int = 0
    """Number of the pass of that object."""

    @property
    def name(self) -> str:
        """Return the name in the journal."""
        if self.kind == "propagate":
            return f"propagate:{self.object}:{self.pass_index}:{self.index}"
        return "join" if self.kind == "join" else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, name: str) -> Unit:
        """Return the unit with a name. Raises ValueError."""
        kind, *numbers = name.split(":")
        values = [int(number) for number in numbers]
        if kind == "propagate":
            return cls("propagate", values[2], values[0], values[1])
        if kind == "join":
            return cls("join")
        if kind not in ("adapt", "render"):
            raise ValueError(f"unit {name!r}")
        return cls("adapt" if kind == "adapt" else "render", values[0])


JOIN = Unit("join")


@dataclass(frozen=True)
class Plan:
    """The cut of one shot into units."""

    first: int
    end: int
    """End frame, exclusive."""
    length: int
    """Frames of a segment; the last one may have fewer."""
    adapted: tuple[int, ...] = ()
    """Numbers of the objects with an adapted network."""
    passes: tuple[tuple[Pass, ...], ...] = ()
    """Passes of each object; none if the model has no tracker."""
    overlap: int = 0
    """Number of frames that a segment reads beyond its ends, for the smoother."""

    def as_json(self) -> dict[str, Any]:
        """Return the plan as the journal holds it."""
        passes = [
            [[pass_.reference, pass_.first, pass_.last] for pass_ in passes]
            for passes in self.passes
        ]
        return {**asdict(self), "adapted": list(self.adapted), "passes": passes}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """Return the plan of the result of `as_json`."""
        passes = tuple(tuple(Pass(*numbers) for numbers in passes) for passes in document["passes"])
        return cls(**{**document, "adapted": tuple(document["adapted"]), "passes": passes})

    @property
    def frames(self) -> int:
        """Return the number of frames that are rendered."""
        return self.end - self.first

    @property
    def propagated_frames(self) -> int:
        """Return the number of frames of all passes of all objects."""
        return sum(pass_.last - pass_.first + 1 for passes in self.passes for pass_ in passes)

    @property
    def segments(self) -> int:
        """Return the number of segments."""
        # Ceiling division.
        return -(-self.frames // self.length)

    def span(self, segment: int) -> tuple[int, int]:
        """Return the first frame of a segment and its end (exclusive)."""
        first = self.first + segment * self.length
        return first, min(first + self.length, self.end)

    def seen(self, segment: int) -> tuple[int, int]:
        """Return the first frame and the end (exclusive) of a segment with its overlap."""
        first, end = self.span(segment)
        return max(self.first, first - self.overlap), min(self.end, end + self.overlap)

    def chunks(self, pass_: Pass) -> range:
        """Return the chunks of a pass in the order of propagation.

        Chunks before the first frame have negative numbers.
        """
        # Chunks lie on the grid of the segments, so that a segment needs few of them.
        low = self._chunk_of(pass_.first)
        high = self._chunk_of(pass_.last)
        return range(high, low - 1, -1) if pass_.is_backward else range(low, high + 1)

    def chunk_span(self, pass_: Pass, chunk: int) -> tuple[int, int]:
        """Return the first frame of a chunk of a pass and its end (exclusive)."""
        first = self.first + chunk * self.length
        return max(pass_.first, first), min(pass_.last + 1, first + self.length)

    def dependencies(self, segment: int) -> Iterator[Unit]:
        """Yield the chunks with the mattes needed by a segment."""
        low, end = self.seen(segment)
        for name, passes in enumerate(self.passes):
            for number, pass_ in enumerate(passes):
                # A pass ends with its last frame, a segment before its end.
                first = max(low, pass_.first)
                last = min(end - 1, pass_.last)
                if first <= last:
                    for chunk in range(self._chunk_of(first), self._chunk_of(last) + 1):
                        yield Unit("propagate", chunk, name, number)

    def dependents(self, chunk: Unit) -> range:
        """Return the segments that depend on the mattes of a chunk."""
        first, end = self.chunk_span(self.passes[chunk.object][chunk.pass_index], chunk.index)
        # The first and the last segment whose frames, with the overlap, reach into the chunk.
        low = max(0, (first - self.overlap - self.first) // self.length)
        high = min(self.segments - 1, (end - 1 + self.overlap - self.first) // self.length)
        return range(low, high + 1)

    def predecessor(self, chunk: Unit) -> Unit | None:
        """Return the chunk whose state this one continues from, None for the first of a pass."""
        pass_ = self.passes[chunk.object][chunk.pass_index]
        chunks = self.chunks(pass_)
        at = chunks.index(chunk.index)
        return (
            None if at == 0 else Unit("propagate", chunks[at - 1], chunk.object, chunk.pass_index)
        )

    def size(self, unit: Unit) -> int:
        """Return the number of frames of a unit."""
        if unit.kind == "render":
            first, end = self.span(unit.index)
            return end - first
        if unit.kind == "propagate":
            first, end = self.chunk_span(self.passes[unit.object][unit.pass_index], unit.index)
            return end - first
        return 0

    def _chunk_of(self, frame: int) -> int:
        return (frame - self.first) // self.length


class Schedule:
    """Hands out the units of a plan whose dependencies are done, the most urgent first.

    Its memory grows with the number of segments, not of frames.
    """

    def __init__(self, plan: Plan, done: Iterable[str] = (), *, ahead: int = 1) -> None:
        """Take a plan and the names of its finished units.

        Forward propagation stays about `ahead` segments ahead of rendering at most.
        """
        self._plan = plan
        self._ahead = ahead
        self._done = set(done)
        # A heap of (rank, count, unit): the lowest rank first, among equals the oldest.
        self._ready: list[tuple[float, int, Unit]] = []
        self._count = 0
        self._missing = {
            segment: {unit for unit in plan.dependencies(segment) if unit.name not in self._done}
            for segment in range(plan.segments)
            if Unit("render", segment).name not in self._done
        }
        # No unit is begun before the network is adapted to all objects.
        self._unadapted = {
            unit for name in plan.adapted if (unit := Unit("adapt", name)).name not in self._done
        }
        for unit in sorted(self._unadapted, key=lambda unit: unit.index):
            self._push(-2.0 * 10**9, unit)
        if not self._unadapted:
            self._begin()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return JOIN.name in self._done

    def take(self) -> Unit | None:
        """Return the next unit whose dependencies are done, None if there is none now.

        It is not given out again unless it is requeued.
        """
        if not self._ready:
            return None
        return heapq.heappop(self._ready)[2]

    def requeue(self, unit: Unit) -> None:
        """Give out a unit again that was taken and not done."""
        self._push(-3.0 * 10**9, unit)

    def finish(self, unit: Unit) -> None:
        """Note that a unit was done."""
        self._done.add(unit.name)
        if unit.kind == "adapt":
            self._unadapted.discard(unit)
            if not self._unadapted:
                self._begin()
        elif unit.kind == "propagate":
            self._push_after(unit)
            for segment in self._plan.dependents(unit):
                if unit in self._missing.get(segment, ()):
                    self._missing[segment].discard(unit)
                    self._push_render(segment)
        elif unit.kind == "render":
            del self._missing[unit.index]
            self._push_join()

    def _begin(self) -> None:
        """Queue every unit whose only dependency is the adapted network."""
        for name, passes in enumerate(self._plan.passes):
            for number, pass_ in enumerate(passes):
                chunks = self._plan.chunks(pass_)
                units = (Unit("propagate", chunk, name, number) for chunk in chunks)
                left = next((unit for unit in units if unit.name not in self._done), None)
                if left is not None:
                    self._push(self._rank(left), left)
        for segment in self._missing:
            self._push_render(segment)
        self._push_join()

    def _push_after(self, unit: Unit) -> None:
        chunks = self._plan.chunks(self._plan.passes[unit.object][unit.pass_index])
        at = chunks.index(unit.index) + 1
        if at < len(chunks):
            after = Unit("propagate", chunks[at], unit.object, unit.pass_index)
            self._push(self._rank(after), after)

    def _rank(self, unit: Unit) -> float:
        # Backward passes come before everything else: no segment up to their reference can be
        # rendered without them.
        if self._plan.passes[unit.object][unit.pass_index].is_backward:
            return -1.0 * 10**9 - unit.index
        # Half a rank behind the segment `ahead` places earlier: rendering keeps up with
        # propagation.
        return unit.index + 0.5 - self._ahead

    def _push_render(self, segment: int) -> None:
        if not self._missing[segment]:
            self._push(float(segment), Unit("render", segment))

    def _push_join(self) -> None:
        # After a crash the join itself may be in the journal already.
        if not self._missing and not self.is_complete:
            self._push(0.0, JOIN)

    def _push(self, rank: float, unit: Unit) -> None:
        self._count += 1
        heapq.heappush(self._ready, (rank, self._count, unit))
