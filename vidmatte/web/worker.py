"""The one thread that computes: newer requests supersede older ones, long jobs run in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class SupersededError(Exception):
    """A newer request with the same key arrived before this one was started."""


class Worker:
    """Runs requests in order of arrival, and single steps of a long job while there are none."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[object, tuple[Future[Any], Callable[[], Any]]] = {}
        self._steps: Iterator[None] | None = None
        self._is_closed = False
        self.is_busy = False
        """Whether a request is waiting or running; background work should pause then."""
        self._thread = threading.Thread(target=self._run, name="vidmatte-compute", daemon=True)
        self._thread.start()

    def submit(self, key: object, function: Callable[[], T]) -> Future[T]:
        """Run `function()` soon; a waiting request with the same key fails with SupersededError."""
        future: Future[T] = Future()
        with self._condition:
            # Clicks come faster than answers: only the newest of a kind is worth computing.
            older = self._waiting.pop(key, None)
            self._waiting[key] = (future, function)
            self.is_busy = True
            self._condition.notify()
        # Outside of the lock: whoever waits for it may ask for something else at once.
        if older is not None:
            older[0].set_exception(SupersededError())
        return future

    def work_on(self, steps: Iterator[None] | None) -> None:
        """Draw from `steps` while there are no requests, instead of the job before; None stops."""
        with self._condition:
            self._steps = steps
            self._condition.notify()

    def close(self) -> None:
        """Stop the thread after its current step."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._is_closed or self._waiting or self._steps):
                    self._condition.wait()
                if self._is_closed:
                    break
                # A click goes before the next step of a preview, which is a fraction of a second.
                asked = self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
                steps = self._steps
            if asked is not None:
                _answer(*asked)
            elif steps is not None:
                self._step(steps)
            with self._condition:
                self.is_busy = bool(self._waiting)
        for future, _ in self._waiting.values():
            future.cancel()

    def _step(self, steps: Iterator[None]) -> None:
        try:
            next(steps)
            return
        except StopIteration:
            pass
        except BaseException:  # noqa: BLE001 - a bug must not end the thread that answers clicks
            _log.exception("a long job failed")
        with self._condition:
            # Another job may have taken its place meanwhile.
            if self._steps is steps:
                self._steps = None


def _answer(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised again by the future
        future.set_exception(error)
