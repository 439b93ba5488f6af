"""What runs tasks: workers that take one at a time, `local` processes of this machine or `ray` actors of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

from vidmatte.batch.task import Outcome, Progress, Task


@dataclass(frozen=True)
class TaskDone:
    """A worker came to the end of a task, well or not."""

    task: Task
    outcome: Outcome


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
    def idle(self) -> int:
        """How many of them have nothing to do."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker, to one that has its shot open where there is one."""
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
