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
    """Iterates on its own thread, and begins with an item only where there is room for it."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._stopped = threading.Event()
        self._room = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[T | _Failure | _End] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="vidmatte-prefetch", daemon=True)
        self._thread.start()

    def _has_room(self) -> bool:
        """Wait for room; false where nothing is wanted any more."""
        while not self._stopped.is_set():
            if self._room.acquire(timeout=_POLL_SECONDS):
                return True
        return False

    def _run(self) -> None:
        try:
            iterator = iter(self._items)
            while self._has_room():
                # Handed over without a name: an item that was taken is not to be held here while the next one is made.
                try:
                    self._ready.put(next(iterator))
                except StopIteration:
                    break
            # A generator holds open files: it is closed here, on the thread that ran it.
            getattr(iterator, "close", lambda: None)()
        except BaseException as error:  # noqa: BLE001 - carried over to the consumer's thread
            self._ready.put(_Failure(error))
        else:
            self._ready.put(_End())

    def take(self) -> T | _Failure | _End:
        """The next item, as soon as it is there."""
        item = self._ready.get()
        self._room.release()
        return item

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """Yield `items` in order while a thread works ahead by at most `depth` of them, the one in the making included.

    An exception of the producer is raised here, in its place. When the consumer stops early, the producer is stopped
    and joined before control returns, so that files are closed and no thread outlives its stage.
    """
    if depth < 1:
        raise ValueError(f"prefetch needs a depth of at least 1, got {depth}")
    producer = _Producer(items, depth)
    try:
        while not isinstance(item := producer.take(), _End):
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        producer.stop()


def map_async(function: Callable[[T], U], items: Iterable[T], depth: int) -> Generator[U]:
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
