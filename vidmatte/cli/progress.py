"""Progress on standard error: one line for the whole run.

A terminal gets a line of text at once and a bar from the first unit of work on; everything else
gets a line now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from vidmatte.cli.console import say
from vidmatte.media.closing import Closing
from vidmatte.pipeline.progress import Progress, Stage, Work

if TYPE_CHECKING:
    from vidmatte.cli.bar import Bar

_FIRST_LINES_APART, _LINES_APART = 5.0, 60.0
"""Seconds between lines off a terminal, at first and after a while."""
_TICK_SECONDS = 1.0
_TEXTS: Mapping[Stage, str] = {
    "opening": "opening the source",
    "counting": "counting frames",
    "identifying": "identifying the inputs",
    "loading": "loading the model",
    "encoding": "encoding the references",
    "adapting": "adaptation: {count} steps",
    "propagating": "following the object: {count} frames",
    "matting": "{count} {unit}",
    "joining": "joining: {count} segments",
    "finishing": "finishing the files",
}
_UNITS: Mapping[Stage, str] = {"adapting": "steps", "propagating": "frames", "joining": "segments"}


class ProgressLine(Closing):
    """Shows what a run does, how fast, and how long the rest takes.

    `show` can be given to `vidmatte.matte(progress=...)`. Use it in a `with` block, around all that
    takes time: imports, too.
    """

    def __init__(self, *, enabled: bool = True, unit: str = "frames") -> None:
        self._written = self.text = f"0 {unit}"
        """What is done, for the message after an interruption."""
        self._unit = unit
        self._enabled = enabled
        self._is_terminal = enabled and sys.stderr.isatty()
        self._bar: Bar | None = None
        self._now = ""
        self._began = self._last = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self._counted = Work(self.show)
        self._updated: tuple[int, int | None] | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._enabled

    def __enter__(self) -> ProgressLine:
        if self._is_terminal:
            self._write("starting")
        elif self._enabled:
            # Long stages without units would say nothing.
            self._ticker = threading.Thread(target=self._tick, name="vidmatte-line", daemon=True)
            self._ticker.start()
        return self

    def close(self) -> None:
        """Take the line off the terminal."""
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
            self._ticker = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._is_terminal:
            self._write("")

    def show(self, progress: Progress) -> None:
        """Show how far a run is."""
        text = self._describe(progress)
        if progress.stage == "matting":
            self._written = self.text = text
        elif progress.stage in _UNITS:
            self.text = f"{self._written}, {text}"
        if not self._enabled:
            return
        if not self._is_terminal:
            self._now = f"{text}{self._details(progress)}"
            self._print_if_due()
        elif self._bar is None and not progress.done:
            # No bar yet: a download while the model loads may show its own.
            self._write(text)
        else:
            self._show_bar(text, progress)

    def update(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` clips or images are done; None if the total is not known."""
        before, self._updated = self._updated, (done, total)
        if before is None or before[1] != total or done < before[0]:
            # The first report, or another table: what was done before does not count for the speed.
            self._counted.expect("matting", total, done=done)
            self._counted.begin("matting")
        else:
            self._counted.add("matting", done - before[0])

    def _describe(self, progress: Progress) -> str:
        total = "" if progress.total is None else f" of {progress.total}"
        return _TEXTS[progress.stage].format(count=f"{progress.done}{total}", unit=self._unit)

    def _details(self, progress: Progress) -> str:
        unit = _UNITS.get(progress.stage, self._unit)
        speed = "" if progress.rate is None else f", {progress.rate:.2f} {unit}/s"
        if progress.seconds_left is None or progress.stage == "finishing":
            return speed
        return f"{speed}, {duration(progress.seconds_left)} left"

    def _show_bar(self, text: str, progress: Progress) -> None:
        if self._bar is None:
            from vidmatte.cli.bar import Bar

            self._bar = Bar()
        unit = _UNITS.get(progress.stage, self._unit)
        self._bar.update(text, unit, progress)

    def _write(self, text: str) -> None:
        """Write a text over the line, which whatever comes next is written over."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"\r{text:<{_WIDEST_TEXT}}\r")
            sys.stderr.flush()

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            self._print_if_due()

    def _print_if_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            # A run of hours does not fill the log of a farm.
            apart = min(max(_FIRST_LINES_APART, (now - self._began) / 20), _LINES_APART)
            # Wrong usage is found at the start, and is one line.
            if self._now and now - self._last >= apart:
                self._last = now
                say(self._now)


_WIDEST_TEXT = max(map(len, _TEXTS.values()))


def duration(seconds: float) -> str:
    """Return a time in words, as in "19 s", "3 min 20 s" or "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
