"""Run a stage of the flow on a thread of its own, with a bounded queue between it and the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

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
        # A generator holds open files: it is closed here, on the thread that ran it.
        iterator = iter(self._items)
        close = getattr(iterator, "close", lambda: None)
        try:
            for item in iterator:
                self._put(item)
                if self._stopped.is_set():
                    break
            close()
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
