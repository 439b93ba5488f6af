"""The queue of the service: one thread for each device takes the oldest job and renders it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vidmatte.batch.results import Results
from vidmatte.batch.run import ShotRun
from vidmatte.errors import VidmatteError
from vidmatte.media.closing import Closing
from vidmatte.service.jobs import Job, Jobs
from vidmatte.service.render import CancelledError, Renderer

_LOOK_SECONDS = 1.0


class Queue(Closing):
    """Renders jobs until it is closed. A job that is running then is queued again later."""

    def __init__(self, jobs: Jobs, devices: Sequence[str]) -> None:
        self._jobs = jobs
        self._closing = threading.Event()
        self._cancelled: dict[str, threading.Event] = {}
        """Of the running jobs: set to stop them."""
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, args=(device,), name=f"vidmatte-{device}")
            for device in devices
        ]
        for thread in self._threads:
            thread.start()

    def cancel(self, job: Job) -> None:
        """Stop a job, running or not; its partial outputs are removed."""
        with self._lock:
            running = self._cancelled.get(job.id)
        if running is not None:
            running.set()
        elif job.state in ("new", "queued"):
            self._jobs.update(job, state="cancelled")

    def close(self) -> None:
        """Stop all renders, and wait until their partial outputs are removed."""
        self._closing.set()
        with self._lock:
            for event in self._cancelled.values():
                event.set()
        with self._jobs.changed:
            self._jobs.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, device: str) -> None:
        with Renderer(device) as renderer:
            while not self._closing.is_set():
                with self._lock:
                    job = self._jobs.take()
                    if job is not None:
                        self._cancelled[job.id] = cancelled = threading.Event()
                if job is None:
                    with self._jobs.changed:
                        self._jobs.changed.wait(_LOOK_SECONDS)
                    continue
                if self._closing.is_set():
                    cancelled.set()
                self._render(job, renderer, cancelled)
                with self._lock:
                    del self._cancelled[job.id]

    def _render(self, job: Job, renderer: Renderer, cancelled: threading.Event) -> None:
        try:
            run = renderer.render(
                self._jobs.shot(job),
                Results(self._jobs.results_file(job)),
                cancelled=cancelled,
                watch=lambda run: self._show(job, run),
            )
        except CancelledError:
            # When the service ends, the job waits for its next start.
            self._jobs.update(job, state="queued" if self._closing.is_set() else "cancelled")
        except (VidmatteError, OSError) as error:
            self._jobs.update(job, state="failed", error=self._jobs.plain(job, str(error)))
        else:
            if run.state in ("done", "up to date"):
                self._jobs.update(job, state="done", summary=dict(run.record), frames=run.frames)
            else:
                self._jobs.update(job, state="failed", error=self._jobs.plain(job, run.reason))

    def _show(self, job: Job, run: ShotRun) -> None:
        # In memory only: the disk keeps what a restart needs.
        job.frames = run.frames
        if run.total is not None:
            job.total = run.total
