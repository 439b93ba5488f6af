"""Run a stage of the flow on a thread of its own, with a bounded queue between it and the next."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    """Marks that the producer is done."""


class _Producer(Generic[T]):
    """Iterates on its own thread and hands over through a bounded queue."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._stopped = threading.Event()
        self.ready: queue.Queue[T | _Failure | _End] = queue.Queue(depth)
        self._thread = threading.Thread(target=self._run, name="vidmatte-prefetch", daemon=True)
        self._thread.start()

    def _put(self, item: T | _Failure | _End) -> None:
        while not self._stopped.is_set():
            try:
                self.ready.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        try:
            iterator = iter(self._items)
            for item in iterator:
                self._put(item)
                if self._stopped.is_set():
                    break
            # A generator holds open files: it is closed here, on the thread that ran it.
            getattr(iterator, "close", lambda: None)()
        except BaseException as error:  # noqa: BLE001 - carried over to the consumer's thread
            self._put(_Failure(error))
        else:
            self._put(_End())

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """Yield `items` in order while a thread works ahead by at most `depth` of them.

    An exception of the producer is raised here, in its place. When the consumer stops early, the producer is stopped
    and joined before control returns, so that files are closed and no thread outlives its stage.
    """
    if depth < 1:
        raise ValueError(f"prefetch needs a depth of at least 1, got {depth}")
    producer = _Producer(items, depth)
    try:
        while not isinstance(item := producer.ready.get(), _End):
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        producer.stop()


def map_behind(function: Callable[[T], U], items: Iterable[T], depth: int) -> Generator[U]:
    """Yield `function(item)` in order; a thread applies it while the caller's thread goes on with the next items.

    At most `depth` results wait. `items` are drawn on the caller's thread, so that an interruption stops them at once.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="vidmatte-map") as pool:
        waiting: deque[Future[U]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
