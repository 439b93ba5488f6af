"""What runs tasks: workers that take one at a time, `local` processes of this machine or `ray` actors of a cluster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

from vidmatte.batch.task import Outcome, Progress, Task


@dataclass(frozen=True)
class TaskDone:
    """A worker came to the end of a task, well or not."""

    task: Task
    outcome: Outcome
    machine: str = ""
    """Name of the machine that did it; empty for this one."""


@dataclass(frozen=True)
class WorkerLost:
    """The worker of a task is gone; another one took its place."""

    task: Task
    reason: str


Event: TypeAlias = TaskDone | WorkerLost | Progress


class Engine(Protocol):
    """Workers, each with at most one task: what is not given to a worker stays with the caller, so that no queue grows.

    To be entered with `with`; leaving it stops the workers, at once where they are busy.
    """

    @property
    def size(self) -> int:
        """How many workers there are."""
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
        """Return the machine of each worker that can take a task; "" is this machine."""
        ...

    @property
    def machines(self) -> Collection[str]:
        """Return all machines that have a worker which takes tasks."""
        ...

    def submit(self, task: Task, machines: Collection[str]) -> None:
        """Give a task to an idle worker on one of some machines.

        One that has its shot open is preferred.
        """
        ...

    def poll(self, seconds: float) -> Sequence[Event]:
        """What happened, as soon as anything did, and nothing after so many seconds."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
