"""The run at full quality, in a process of its own.

It can be cancelled at any moment, and ends with the server.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import threading
from _thread import interrupt_main
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from vidmatte.errors import VidmatteError
from vidmatte.frames import ColorTags, MatteBatch
from vidmatte.options import MatteOptions
from vidmatte.pipeline.progress import Progress as StageProgress
from vidmatte.pipeline.progress import Stage
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.run import matte_request
from vidmatte.pipeline.segments.long_render import resumable
from vidmatte.process import use_one_heap
from vidmatte.prompts.prompt import Prompt
from vidmatte.read.video import smaller
from vidmatte.report.summary import Summary
from vidmatte.web.frame_cache import SMALL, DiskCache, color_jpeg
from vidmatte.web.still import gray_png

_NUMBERS = count(1)
_MOST_BYTES = 4 << 30
"""Disk space for small pictures of what is written."""
State = Literal[
    "starting",
    "adapting",
    "propagating",
    "matting",
    "joining",
    "finishing",
    "done",
    "failed",
    "cancelled",
]
_STATES: Mapping[Stage, State] = {
    "adapting": "adapting",
    "propagating": "propagating",
    "matting": "matting",
    "joining": "joining",
    "finishing": "finishing",
}
"""State of a run in each stage; "starting" in all others."""


@dataclass(frozen=True)
class Job:
    """The request for a run, equivalent to its command line."""

    source: Path
    prompt_file: Path
    """Holds the marks, and may change during the run."""
    prompts: Mapping[str, tuple[Prompt, ...]]
    outputs: tuple[str, ...]
    alphas: tuple[str, ...]
    options: MatteOptions
    report: Path | None = None
    """Folder of the report, None if there is none."""
    color: ColorTags = field(default_factory=ColorTags)
    """Of the source, to show the colour of mattes."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

    state: State = "starting"
    now: StageProgress = field(default_factory=lambda: StageProgress("opening"))
    """The last report of the run."""
    error: str = ""
    summary: Summary | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """Return the progress as the page takes it."""
        now = self.now
        return {
            "state": self.state,
            "done": now.done,
            "total": now.total,
            "rate": round(now.rate or 0.0, 2),
            "share": now.share,
            "seconds_left": None if now.seconds_left is None else round(now.seconds_left, 1),
            "error": self.error,
        }


class Run:
    """A run, going on or ended."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = Progress()
        self.number = next(_NUMBERS)
        """Of this run among those of the page."""
        self.mattes = DiskCache(_MOST_BYTES)
        """What is written, small, by (object name, frame): gray PNGs; and the straight colour by
        (object name, frame, "colour"): JPEGs."""
        self.confidence: dict[int, float] = {}
        """By written frame, that of the object with the lowest."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._is_cancelled = False
        self._process = context.Process(target=_work, args=(job, theirs), name="vidmatte-run")
        self._process.start()
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="vidmatte-run", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop without waiting. Partial outputs are removed."""
        self._is_cancelled = True
        with contextlib.suppress(OSError):
            self._pipe.send("cancel")

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it has ended, or for so many seconds."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Cancel, and wait until partial outputs are removed."""
        self.cancel()
        self.wait()
        self.mattes.close()

    def _listen(self) -> None:
        # A message that was cut off by a kill does not unpickle; no more will come then.
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
            why = (
                f"the render process crashed (exit code {self._process.exitcode}), "
                "possibly out of memory"
            )
            self.progress = replace(self.progress, state="failed", error=why)

    def _keep(self, frame: int, confidence: float, pictures: dict[tuple[str, ...], bytes]) -> None:
        self.confidence[frame] = confidence
        with contextlib.suppress(
            OSError
        ):  # on a full disk the page shows fewer mattes, and the run goes on
            for (name, *kind), picture in pictures.items():
                self.mattes.put((name, frame, *kind), picture)


def _after(progress: Progress, what: str, *values: Any) -> Progress:
    if what == "progress":
        (now,) = values
        return Progress(_STATES.get(now.stage, "starting"), now)
    if what == "done":
        return replace(progress, state="done", summary=values[0])
    if what == "cancelled":
        return replace(progress, state="cancelled")
    return replace(progress, state="failed", error=values[0])


def _work(job: Job, pipe: Connection) -> None:
    """Run the job in the process, and report progress to the server."""
    use_one_heap()
    # Ctrl-C in the terminal reaches this process, too; only the server cancels, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    answer: tuple[Any, ...] = ("cancelled",)
    try:
        # Inside the try, as the request to cancel may be there already.
        threading.Thread(target=_await_cancel, args=(pipe,), daemon=True).start()
        summary = matte_request(
            _request(job),
            progress=lambda now: pipe.send(("progress", now)),
            on_mattes=lambda mattes: _show(mattes, job.color, pipe),
        )
        answer = ("done", summary)
    except VidmatteError as error:
        answer = ("failed", str(error))
    except KeyboardInterrupt:
        pass  # the answer stays "cancelled"
    except OSError as error:
        answer = (
            "failed",
            f"{error.filename or 'a file'}: {error.strerror}; check the path and its permissions",
        )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        pipe.send(answer)


def _request(job: Job) -> Request:
    """Return the request; it resumes segments of the same run, and removes those of others."""
    request = Request.of(
        job.source,
        job.prompts,
        output=job.outputs,
        alpha=job.alphas,
        report=job.report,
        options=job.options,
    )
    return resumable(request)


def _show(mattes: Mapping[str, MatteBatch], color: ColorTags, pipe: Connection) -> None:
    """Send small pictures of mattes and their colour, for the page to show and play."""
    first = next(iter(mattes.values()))
    height, width = first.alpha.shape[2:]
    size = smaller(width, height, SMALL)
    for n, frame in enumerate(first.source.frames):
        pictures: dict[tuple[str, ...], bytes] = {}
        for name, batch in mattes.items():
            pictures[name,] = gray_png(batch.alpha[n : n + 1], *size)
            if batch.foreground is not None:
                pictures[name, "colour"] = color_jpeg(batch.foreground[n], color, size)
        confidence = min(batch.confidence[n] for batch in mattes.values())
        pipe.send(("mattes", frame, confidence, pictures))


def _await_cancel(pipe: Connection) -> None:
    """Wait for a request to cancel, or for the end of the server, which closes the pipe."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    interrupt_main(signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up must not be interrupted again
    raise KeyboardInterrupt
