"""Trust in the machines of a batch: one that fails alone is set aside.

A machine without the mount of the plates, or with a full disk, answers at once and would be given
one shot after the other. After its first failure a machine gets no more work until the same work
was tried on another machine: if that fails too, the work is to blame, else the machine is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_MAX_STRIKES = 2
"""Largest number of failures in a row of one machine, at work that another one can do."""

Work = tuple[str, str]
"""Names of a shot and of a unit of it."""


class Machines:
    """Keeps count of failures. Machines are names; "" is the only one."""

    def __init__(self) -> None:
        self._open: dict[Work, list[str]] = {}
        """Machines that failed at some work, not tried by another machine since."""
        self._strikes: Counter[str] = Counter()
        self._set_aside: set[str] = set()

    def usable(self, idle: Iterable[str]) -> set[str]:
        """Return the machines still trusted with work."""
        suspects = {machine for failed in self._open.values() for machine in failed}
        # Machines with an open failure get no other work until it is known what was to blame.
        return set(idle) - suspects - self._set_aside

    def failed_at(self, work: Work) -> Sequence[str]:
        """Return the machines that failed at this work, the first one first."""
        return self._open.get(work, [])

    def add_failure(self, machine: str, work: Work) -> None:
        """Suspect a machine until another one has tried the same."""
        self._open.setdefault(work, []).append(machine)

    def add_success(self, machine: str, work: Work) -> list[str]:
        """Trust a machine after some work; return the machines set aside because of it."""
        # A success clears earlier failures: only those in a row count.
        self._strikes[machine] = 0
        blamed = []
        for other in self._open.pop(work, ()):
            if other == machine:
                continue
            self._strikes[other] += 1
            if self._strikes[other] >= _MAX_STRIKES and other not in self._set_aside:
                self._set_aside.add(other)
                blamed.append(other)
        return blamed

    def close(self, work: Work) -> None:
        """Clear the machines that failed at some work: the work itself was to blame."""
        self._open.pop(work, None)
