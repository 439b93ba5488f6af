"""The run at full quality, in a process of its own, which can be cancelled at any moment and ends with the server."""

from __future__ import annotations

import contextlib
import multiprocessing
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
from vidmatte.pipeline import matte
from vidmatte.prompt import load_prompts
from vidmatte.read.source import smaller
from vidmatte.summary import Summary
from vidmatte.web.footage import SMALL, Spool
from vidmatte.web.still import gray_png

State = Literal["starting", "rehearsal", "matting", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """What a run is asked for: what its command line says."""

    source: Path
    prompt_file: Path
    outputs: tuple[str, ...]
    alphas: tuple[str, ...]
    options: MatteOptions


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    state: State = "starting"
    done: int = 0
    total: int | None = None
    """Steps of the rehearsal, then frames; None where the number of frames is not known."""
    since: float = 0.0
    """`time.monotonic()` at which this state began to count."""
    at: float = 0.0
    """The same, of the last report."""
    error: str = ""
    summary: Summary | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        rate = self.done / (self.at - self.since) if self.at > self.since else 0.0
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
        self.mattes = Spool()
        """Small gray PNGs by (name of the object, frame), as they are written."""
        self.confidence: dict[int, float] = {}
        """Of the frames that were written, that of the least sure object."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(job, theirs), name="vidmatte-run")
        self._process.start()
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="vidmatte-run", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop; returns at once. What was begun is removed."""
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
        with contextlib.suppress(EOFError, OSError):
            while True:
                what, *values = self._pipe.recv()
                if what == "mattes":
                    self._keep(*values)
                else:
                    self.progress = _after(self.progress, what, *values)
        self._process.join()
        if not self.progress.is_over:
            why = f"the run ended without a word (exit code {self._process.exitcode}); was it out of memory?"
            self.progress = replace(self.progress, state="failed", error=why)

    def _keep(self, frame: int, confidence: float, pngs: dict[str, bytes]) -> None:
        self.confidence[frame] = confidence
        for name, png in pngs.items():
            self.mattes.put((name, frame), png)


def _after(progress: Progress, what: str, *values: Any) -> Progress:
    now = time.monotonic()
    if what in ("rehearsal", "matting"):
        state: State = "rehearsal" if what == "rehearsal" else "matting"
        since = progress.since if progress.state == state else now
        return Progress(state, done=values[0], total=values[1], since=since, at=now)
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
    threading.Thread(target=_await_cancel, args=(pipe,), daemon=True).start()
    try:
        summary = matte(
            job.source,
            load_prompts(job.prompt_file),
            output=job.outputs,
            alpha=job.alphas,
            options=job.options,
            progress=lambda done, total: pipe.send(("matting", done, total)),
            on_rehearsal=lambda done, total: pipe.send(("rehearsal", done, total)),
            on_mattes=lambda mattes: _show(mattes, pipe),
        )
        answer: tuple[Any, ...] = ("done", summary)
    except VidmatteError as error:
        answer = ("failed", str(error))
    except KeyboardInterrupt:
        answer = ("cancelled",)
    except OSError as error:
        answer = ("failed", f"{error.filename or 'a file'}: {error.strerror}; check the path and its permissions")
    with contextlib.suppress(OSError):
        pipe.send(answer)


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
