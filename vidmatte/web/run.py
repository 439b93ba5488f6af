"""The run at full quality, in a process of its own, which can be cancelled at any moment and ends with the server."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import threading
import time
from _thread import interrupt_main
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from vidmatte.errors import VidmatteError
from vidmatte.frames import MatteBatch
from vidmatte.options import MatteOptions
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.run import matte_request
from vidmatte.pipeline.segments.fingerprint import fingerprint
from vidmatte.pipeline.segments.long_render import journal_of
from vidmatte.prompts.prompt import Prompt
from vidmatte.read.video import smaller
from vidmatte.report.summary import Summary
from vidmatte.web.frame_cache import SMALL, DiskCache
from vidmatte.web.still import gray_png

State = Literal["starting", "adapting", "matting", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """What a run is asked for: what its command line says."""

    source: Path
    prompt_file: Path
    """Holds the marks, and may change while the run goes on."""
    prompts: Mapping[str, tuple[Prompt, ...]]
    outputs: tuple[str, ...]
    alphas: tuple[str, ...]
    options: MatteOptions


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    state: State = "starting"
    done: int = 0
    total: int | None = None
    """Steps of the adaptation, then frames; None where the number of frames is not known."""
    since: float = 0.0
    """`time.monotonic()` at which this state began to count."""
    at: float = 0.0
    """The same, of the last report."""
    error: str = ""
    summary: Summary | None = None
    base: int = 0
    """What was done when this state began: frames of a run that goes on."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        rate = (self.done - self.base) / (self.at - self.since) if self.at > self.since else 0.0
        left = (self.total - self.done) / rate if rate and self.total is not None else None
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "rate": round(rate, 2),
            "seconds_left": None if left is None else round(max(0.0, left), 1),
            "error": self.error,
        }


class Run:
    """A run under way, or over."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()
        self.mattes = DiskCache()
        """Small gray PNGs by (name of the object, frame), as they are written."""
        self.confidence: dict[int, float] = {}
        """Of the frames that were written, that of the least sure object."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._is_cancelled = False
        self._process = context.Process(target=_work, args=(job, theirs), name="vidmatte-run")
        self._process.start()
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="vidmatte-run", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop; returns at once. What was begun is removed."""
        self._is_cancelled = True
        with contextlib.suppress(OSError):
            self._pipe.send("cancel")

    def wait(self, seconds: float | None = None) -> None:
        """Until it is over, or for so long."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Cancel, and wait until everything is removed."""
        self.cancel()
        self.wait()
        self.mattes.close()

    def _listen(self) -> None:
        # What an interruption cut short in the middle does not unpickle; then no more will come.
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError, ValueError):
            while True:
                what, *values = self._pipe.recv()
                if what == "mattes":
                    self._keep(*values)
                else:
                    self.progress = _after(self.progress, what, *values)
        self._pipe.close()  # a process that still sends must not wait for a reader
        self._process.join()
        if self._is_cancelled and not self.progress.is_over:
            self.progress = replace(self.progress, state="cancelled")
        elif not self.progress.is_over:
            why = f"the run ended without a word (exit code {self._process.exitcode}); was it out of memory?"
            self.progress = replace(self.progress, state="failed", error=why)

    def _keep(self, frame: int, confidence: float, pngs: dict[str, bytes]) -> None:
        self.confidence[frame] = confidence
        with contextlib.suppress(OSError):  # on a full disk the page shows fewer mattes, and the run goes on
            for name, png in pngs.items():
                self.mattes.put((name, frame), png)


def _after(progress: Progress, what: str, *values: Any) -> Progress:
    now = time.monotonic()
    if what in ("adapting", "matting"):
        state: State = "adapting" if what == "adapting" else "matting"
        since = progress.since if progress.state == state else now
        base = progress.base if progress.state == state else values[0]
        return Progress(state, done=values[0], total=values[1], since=since, at=now, base=base)
    if what == "done":
        return replace(progress, state="done", summary=values[0])
    if what == "cancelled":
        return replace(progress, state="cancelled")
    return replace(progress, state="failed", error=values[0])


def _work(job: Job, pipe: Connection) -> None:
    """The process: runs the job, and tells the server how far it is."""
    # Ctrl-C in the terminal reaches this process too: it is the server that cancels, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    answer: tuple[Any, ...] = ("cancelled",)
    try:
        # Inside, as the word may be there already.
        threading.Thread(target=_await_cancel, args=(pipe,), daemon=True).start()
        summary = matte_request(
            _request(job),
            progress=lambda done, total: pipe.send(("matting", done, total)),
            on_adapt=lambda done, total: pipe.send(("adapting", done, total)),
            on_mattes=lambda mattes: _show(mattes, pipe),
        )
        answer = ("done", summary)
    except VidmatteError as error:
        answer = ("failed", str(error))
    except KeyboardInterrupt:
        pass  # what was done already counts
    except OSError as error:
        answer = ("failed", f"{error.filename or 'a file'}: {error.strerror}; check the path and its permissions")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        pipe.send(answer)


def _request(job: Job) -> Request:
    """What is asked for; it goes on with the segments that a stopped run left of the very same, and removes others."""
    options = replace(job.options, resume=False)
    request = Request.of(job.source, job.prompts, output=job.outputs, alpha=job.alphas, options=options)
    journal = journal_of(request)
    if next(journal.done(), None) is None:
        return request
    if journal.header().get("key") == fingerprint(request).key:
        return replace(request, options=replace(options, resume=True))
    with journal.lock():
        journal.remove()
    return request


def _show(mattes: Mapping[str, MatteBatch], pipe: Connection) -> None:
    """Send small pictures of mattes, so that they can be looked at while the run goes on."""
    first = next(iter(mattes.values()))
    height, width = first.alpha.shape[2:]
    size = smaller(width, height, SMALL)
    for n, frame in enumerate(first.source.frames):
        pngs = {name: gray_png(batch.alpha[n : n + 1], *size) for name, batch in mattes.items()}
        pipe.send(("mattes", frame, min(batch.confidence[n] for batch in mattes.values()), pngs))


def _await_cancel(pipe: Connection) -> None:
    """Wait for the word to stop, or for the end of the server, which closes the pipe."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    interrupt_main(signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what cleans up must not be interrupted again
    raise KeyboardInterrupt
