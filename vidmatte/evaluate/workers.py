"""Work shared among processes, whose errors and deaths come back as errors here."""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias, TypeVar

import cv2
import torch

from vidmatte import errors
from vidmatte.errors import VidmatteError

Task = TypeVar("Task")
Done = TypeVar("Done")
Work: TypeAlias = Callable[[Task], Done]
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class _Failure:
    """An error that a user can mend, on its way between processes: not every exception can be pickled."""

    kind: str
    text: str

    def error(self) -> VidmatteError:
        kind = getattr(errors, self.kind, VidmatteError)
        found: VidmatteError = kind.__new__(kind, self.text)
        found.args = (self.text,)
        return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums come out the same however many processes share the work."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def share(prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task], workers: int) -> Generator[Done]:
    """Results of the tasks, as they are done; each of `workers` processes prepares once. With one worker, in order.

    Where there are several, `prepare`, tasks and results have to be picklable. Leaving the generator ends them.

    Raises:
        VidmatteError: the first that a task raises, or a process died.
    """
    return _here(prepare, tasks) if min(workers, len(tasks)) <= 1 else _in_processes(prepare, tasks, workers)


def _here(prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task]) -> Generator[Done]:
    with one_thread():
        work = prepare()
        for task in tasks:
            yield work(task)


def _in_processes(prepare: Callable[[], Work[Task, Done]], tasks: Sequence[Task], workers: int) -> Generator[Done]:
    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    count = min(workers, len(tasks))
    for task in [*tasks, *[None] * count]:
        todo.put(task)
    processes = [context.Process(target=_serve, args=(prepare, todo, done), daemon=True) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        for _ in tasks:
            result = _next(done, processes)
            if isinstance(result, _Failure):
                raise result.error()
            yield result
    finally:
        _end(processes)
        todo.cancel_join_thread()


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.pid is not None:
            process.terminate()
            process.join()


def _next(done: Any, processes: Sequence[BaseProcess]) -> Any:
    while True:
        try:
            return done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            dead = [process.exitcode for process in processes if process.exitcode]
        if dead:
            raise VidmatteError(
                f"a process that computed ended by itself (exit code {dead[0]}): where it says -9 memory ran out, use "
                f"fewer workers; the same command goes on with what is done"
            )


def _serve(prepare: Callable[[], Work[Any, Any]], todo: Any, done: Any) -> None:
    # Ctrl-C goes to all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with one_thread():
        try:
            work = prepare()
            while (task := todo.get()) is not None:
                done.put(work(task))
        except VidmatteError as error:
            done.put(_Failure(type(error).__name__, str(error)))
