"""Engines for tasks: workers taking one at a time, as processes here or actors of Ray."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

from vidmatte.batch.task import Outcome, Progress, Task


@dataclass(frozen=True)
class TaskDone:
    """A worker has finished a task, or failed at it."""

    task: Task
    outcome: Outcome
    machine: str = ""
    """Name of its machine; empty for this one."""


@dataclass(frozen=True)
class WorkerLost:
    """The worker of a task is gone; another one has taken its place."""

    task: Task
    reason: str


Event: TypeAlias = TaskDone | WorkerLost | Progress


class Engine(Protocol):
    """Workers, each with at most one task, so no queue grows: the caller keeps the rest.

    To be used in a `with` statement; leaving it stops the workers, busy ones at once.
    """

    @property
    def size(self) -> int:
        """Return how many workers there are."""
        ...

    @property
    def running(self) -> int:
        """Return how many tasks are being done."""
        ...

    @property
    def starting(self) -> int:
        """Return how many workers have not answered yet, and take no task so far."""
        ...

    @property
    def idle_machines(self) -> Sequence[str]:
        """Return the machine of each idle worker; "" is this machine."""
        ...

    @property
    def machines(self) -> Collection[str]:
        """Return all machines with a working worker."""
        ...

    def submit(self, task: Task, machines: Collection[str]) -> None:
        """Give a task to an idle worker on one of some machines.

        A worker with the shot already open is preferred.
        """
        ...

    def poll(self, seconds: float) -> Sequence[Event]:
        """Return the next events as soon as there are any, or nothing after some seconds."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
