"""Share work among processes: `concurrent.futures`, with one preparation for each process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, TypeVar

from vidmatte import errors
from vidmatte.errors import VidmatteError
from vidmatte.threads import SINGLE, decide, using

Task = TypeVar("Task")
Done = TypeVar("Done")
Work: TypeAlias = Callable[[Task], Done]


@dataclass(frozen=True)
class _Failure:
    """A user's mistake on its way between processes; not every exception can be pickled."""

    kind: str
    text: str

    def error(self) -> VidmatteError:
        kind = getattr(errors, self.kind, VidmatteError)
        # Without the constructor, which may take other arguments than the text.
        found: VidmatteError = kind.__new__(kind, self.text)
        found.args = (self.text,)
        return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums then do not depend on the number of processes."""
    with using(SINGLE):
        yield


def share(
    prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task], workers: int
) -> Generator[Done]:
    """Yield the results of tasks as they are done; with one worker, in order.

    Closing the generator ends the processes at once.

    Args:
        prepare: called once in each process; returns the function for a task.
        tasks: with several workers, tasks, results and `prepare` must be picklable.
        workers: number of processes; 1 works in this one.

    Raises:
        VidmatteError: The first error of a task, or if a process died.
    """
    if min(workers, len(tasks)) <= 1:
        return _in_this_process(prepare, tasks)
    return _in_processes(prepare, tasks, workers)


def _in_this_process(
    prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task]
) -> Generator[Done]:
    with one_thread():
        work = prepare()
        for task in tasks:
            yield work(task)


def _in_processes(
    prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task], workers: int
) -> Generator[Done]:
    # Spawned, not forked: torch and CUDA do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Workers leave when this pipe closes: when we are done, and also if we are killed.
    leave, alive = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), context, initializer=_start, initargs=(prepare, leave)
    )
    try:
        for future in as_completed([pool.submit(_run, task) for task in tasks]):
            result = future.result()
            if isinstance(result, _Failure):
                raise result.error()
            yield result
    except BrokenProcessPool as error:
        raise VidmatteError(
            "a worker process died, probably because memory ran out; use fewer --workers. The "
            "same command continues with what is done"
        ) from error
    finally:
        # First, or the shutdown would wait for tasks that run.
        alive.close()
        pool.shutdown(wait=True, cancel_futures=True)
        leave.close()


@dataclass
class _Worker:
    """State of a worker process."""

    prepare: Callable[[], Work[Any, Any]] | None = None
    work: Work[Any, Any] | None = None


_worker = _Worker()


def _start(prepare: Callable[[], Work[Any, Any]], leave: Connection) -> None:
    """Set up a worker process. Errors of `prepare` come with its first task, not here."""
    # A terminal sends Ctrl-C to all its processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_when_closed, args=(leave,), daemon=True).start()
    decide(SINGLE)
    _worker.prepare = prepare


def _leave_when_closed(leave: Connection) -> None:
    leave.poll(None)
    os._exit(1)


def _run(task: Any) -> Any:
    try:
        if _worker.work is None:
            assert _worker.prepare is not None  # `_start` ran before any task
            _worker.work = _worker.prepare()
        return _worker.work(task)
    except VidmatteError as error:
        return _Failure(type(error).__name__, str(error))
