"""One worker for each device, each in a process of its own, which keeps the model between shots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from vidmatte.batch.engine import Event
from vidmatte.batch.local import LocalEngine, default_threads
from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun, ShotRun
from vidmatte.media.closing import Closing
from vidmatte.pipeline.segments.long_render import resumable


class CancelledError(Exception):
    """The shot that was rendered is not wanted any more."""


def device_names() -> tuple[str, ...]:
    """Return the devices of this machine: each GPU, or the processor (or Apple's GPU) as "auto"."""
    if torch.cuda.is_available():
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return ("auto",)


class _CancellableEngine(LocalEngine):
    """The worker of one device. Waiting for it ends with CancelledError if that is asked for."""

    def __init__(self, device: str, cancelled: threading.Event, *, threads: int) -> None:
        super().__init__(1, threads=threads)
        self._devices = [device]
        self.cancelled = cancelled

    def poll(self, seconds: float) -> Sequence[Event]:
        """Return the next events. Raises CancelledError."""
        if self.cancelled.is_set():
            raise CancelledError
        return super().poll(seconds)


class Renderer(Closing):
    """Renders shots one after the other on one device. Used from one thread."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = default_threads()
        self._engine: _CancellableEngine | None = None

    def render(
        self,
        shot: ShotRequest,
        results: Results,
        *,
        cancelled: threading.Event,
        watch: Callable[[ShotRun], None] | None = None,
        retries: int = 0,
    ) -> ShotRun:
        """Render a shot, and return how it ended. A worker that crashes is replaced.

        Finished segments of an earlier try with the same request are used.

        Args:
            shot: The shot.
            results: Gets the outcome.
            cancelled: Ends the render when it is set.
            watch: Called at every change.
            retries: Repetitions after errors that may pass.

        Raises:
            CancelledError: If it was cancelled. Nothing is left but finished segments.
        """
        if self._engine is None:
            self._engine = _CancellableEngine(self._device, cancelled, threads=self._threads)
        self._engine.cancelled = cancelled
        if not shot.problem:
            shot = replace(shot, request=resumable(shot.request))
        run = BatchRun(
            [shot], self._engine, results, threads=self._threads, retries=retries, watch=watch
        )
        try:
            (ended,) = run.run()
        except BaseException:
            # The worker is in the middle of something: it is told to clean up and stop.
            self.close()
            raise
        return ended

    def close(self) -> None:
        """Stop the worker; partial outputs are removed."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()
