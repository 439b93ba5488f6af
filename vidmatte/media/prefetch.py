"""Threads to run a stage of the flow ahead of the next one, with a bounded queue between."""

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
    """Iterates on its own thread, and begins an item only if there is room for it."""

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._stopped = threading.Event()
        self._room = threading.Semaphore(depth)
        self._ready: queue.SimpleQueue[T | _Failure | _End] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="vidmatte-prefetch", daemon=True)
        self._thread.start()

    def _has_room(self) -> bool:
        """Wait for room; False if no item is wanted any more."""
        while not self._stopped.is_set():
            if self._room.acquire(timeout=_POLL_SECONDS):
                return True
        return False

    def _run(self) -> None:
        try:
            iterator = iter(self._items)
            while self._has_room():
                # Handed over without a name: an item that was taken is not to be held here while
                # the next one is made.
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
        """Return the next item, as soon as it is ready."""
        item = self._ready.get()
        self._room.release()
        return item

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def prefetch(items: Iterable[T], depth: int) -> Generator[T]:
    """Yield `items` in order while a thread works ahead.

    An exception of the producer is raised here, in its place. If the consumer stops early, the
    producer is stopped and joined before control returns, so that files are closed and no thread
    outlives its stage.

    Args:
        items: Iterated on the thread.
        depth: Items ahead at most, at least 1; the one being made counts.
    """
    if depth < 1:
        raise ValueError(f"prefetch needs a depth of at least 1, got {depth}")
    producer = _Producer(items, depth)
    try:
        while not isinstance(item := producer.take(), _End):
            if isinstance(item, _Failure):
                raise item.error
            # Handed over without a name: large items are not to be held here as well.
            handed = [item]
            del item
            yield handed.pop()
    finally:
        producer.stop()


def map_async(function: Callable[[T], U], items: Iterable[T], depth: int) -> Generator[U]:
    """Yield `function(item)` in order, applied by a thread while the caller continues.

    Args:
        function: Applied on the thread.
        items: Drawn on the caller's thread, so that an interruption stops them at once.
        depth: Results that wait at most.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="vidmatte-map") as pool:
        waiting: deque[Future[U]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
