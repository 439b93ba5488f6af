"""Workers of this machine: a process for each GPU, or as many as the cores allow."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from vidmatte.batch.engine import Event, TaskDone, WorkerLost
from vidmatte.batch.task import Outcome, Progress, Task
from vidmatte.batch.worker import Worker
from vidmatte.media.closing import Closing
from vidmatte.process import interrupt, protect_streams
from vidmatte.threads import cores

_MOST_THREADS = 4
"""More threads make a single frame hardly faster; more workers make more frames."""
_MEMORY_OF_WORKER = 2_000_000_000
_STOP_SECONDS = 10.0


def default_threads() -> int:
    """Return the threads of a network on the processor; a core is left to decoding and encoding."""
    return max(1, min(_MOST_THREADS, cores() - 1))


def default_workers(threads: int) -> int:
    """Return the number of GPUs, or how many workers the cores and the memory allow."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    # A worker also decodes and encodes: one core more.
    by_cores = cores() // (threads + 1)
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        memory = 8 * _MEMORY_OF_WORKER
    return max(1, min(by_cores, memory // _MEMORY_OF_WORKER))


@dataclass
class _Process:
    """A worker and its task."""

    process: BaseProcess
    pipe: Connection
    device: str
    task: Task | None = None
    last_shot: str = ""


class LocalEngine(Closing):
    """Worker processes of this machine, see `engine.Engine`."""

    def __init__(self, workers: int | None = None, *, threads: int | None = None) -> None:
        # A forked process would inherit the locks of torch's threads.
        self._context = multiprocessing.get_context("spawn")
        self._count = workers or default_workers(threads or default_threads())
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self._devices = [
            f"cuda:{number % gpus}" if gpus else "auto" for number in range(self._count)
        ]
        self._workers: list[_Process] = []

    @property
    def size(self) -> int:
        """Return how many workers there are."""
        return self._count

    @property
    def running(self) -> int:
        """Return how many tasks are being done."""
        return sum(worker.task is not None for worker in self._workers)

    @property
    def starting(self) -> int:
        """Return 0: a process takes a task before it has loaded anything."""
        return 0

    @property
    def idle_machines(self) -> Sequence[str]:
        """Return "" for each idle worker."""
        return [""] * (self._count - self.running)

    @property
    def machines(self) -> Collection[str]:
        """Return the one machine there is."""
        return [""]

    def submit(self, task: Task, machines: Collection[str] = ("",)) -> None:
        """Give a task to an idle worker; they are started as they are needed."""
        free = [worker for worker in self._workers if worker.task is None]
        known = [worker for worker in free if worker.last_shot == task.shot]
        # Workers are started one by one, as tasks come.
        if not known and len(self._workers) < self._count:
            self._workers.append(self._start(self._devices[len(self._workers)]))
            free = self._workers[-1:]
        worker = (known or free)[0]
        worker.task = task
        worker.last_shot = task.shot
        with suppress(OSError):  # a worker that died while it was idle: `poll` will notice
            worker.pipe.send(task)

    def poll(self, seconds: float) -> Sequence[Event]:
        """Return the next events as soon as there are any, or nothing after some seconds."""
        ready = wait([worker.pipe for worker in self._workers], seconds)
        events: list[Event] = []
        for number, worker in enumerate(self._workers):
            if worker.pipe in ready:
                events += self._receive(number, worker)
        return events

    def _receive(self, number: int, worker: _Process) -> list[Event]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.pipe.close()
            self._workers[number] = self._start(worker.device)
            code = worker.process.exitcode or 0
            # Negative exit codes are signals.
            cause = f"killed by signal {-code}" if code < 0 else f"ended with {code}"
            return (
                [] if worker.task is None else [WorkerLost(worker.task, f"its worker was {cause}")]
            )
        if isinstance(message, Outcome) and worker.task is not None:
            task, worker.task = worker.task, None
            return [TaskDone(task, message)]
        return [message] if isinstance(message, Progress) else []

    def _start(self, device: str) -> _Process:
        here, there = self._context.Pipe()  # one end for each process
        process = self._context.Process(
            target=_work, args=(there, device), name="vidmatte-worker", daemon=True
        )
        process.start()
        # The parent's copy of the other end has to close, or a dead worker's pipe would never end.
        there.close()
        return _Process(process, here, device)

    def close(self) -> None:
        """Stop all workers."""
        for worker in self._workers:
            # An idle worker ends with its pipe; a busy one is told to clean up and stop.
            if worker.task is not None:
                worker.process.terminate()
            worker.pipe.close()
        # Together at most this long for each, as all were told before.
        for worker in self._workers:
            worker.process.join(_STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(pipe: Connection, device: str) -> None:
    """Do the tasks from a pipe, until it is closed: the life of a worker process."""
    # Ctrl-C in a terminal reaches all its processes; the first one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupt)
    protect_streams()
    # A killed parent cannot close anything: the worker would go on for hours.
    threading.Thread(target=_end_with_parent, name="vidmatte-parent", daemon=True).start()
    worker = Worker(device, pipe.send)
    # A closed pipe means that the process which gives the tasks has ended.
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            pipe.send(worker.run(pipe.recv()))
    with suppress(KeyboardInterrupt):
        worker.close()


def _end_with_parent() -> None:
    """End at once if the parent was killed: its next run must not meet this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
