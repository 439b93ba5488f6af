"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from vidmatte.cli.console import say
from vidmatte.media.closing import Closing

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 5.0


class ProgressLine(Closing):
    """Shows the number of finished frames, their rate, and the time left.

    `update` can be given to `vidmatte.matte(progress=...)`.
    """

    def __init__(self, *, enabled: bool = True, unit: str = "frames") -> None:
        self.text = f"0 {unit}"
        self._unit = unit
        self._enabled = enabled
        self._began = self._last = time.monotonic()
        self._base: int | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if enabled and sys.stderr.isatty():
            from vidmatte.cli.bar import make_bar

            self._bar = make_bar(unit)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._enabled

    def _start(self) -> None:
        """Show the bar at the first report: a download before it may show its own."""
        if self._bar is not None and self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(self.text, total=None)

    def adapt(self, done: int, total: int) -> None:
        """Report `done` of `total` adaptation steps, before any frame is done."""
        self._start()
        self.text = f"0 frames, step {done} of {total} of the adaptation"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done, total=total, description=f"adaptation {done} of {total}"
            )
        elif self._enabled and time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            say(f"adaptation: {done} of {total} steps")
        # Adaptation steps are no frames: the rate of frames counts from here.
        self._base = None

    def status(self, text: str) -> None:
        """Show the current activity before the first frame."""
        self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text)
        elif self._enabled:
            say(text)

    def update(self, done: int, total: int | None) -> None:
        """Report `done` of `total` frames; None if the total is not known."""
        of_total = f" of {total}" if total is not None and total >= done else ""
        self.text = f"{done}{of_total} {self._unit}"
        self._start()
        if self._base is None:  # a resumed run begins with frames that were done before
            self._base, self._began = done, time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=self.text)
        elif self._enabled and time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._print(done, total)

    def _print(self, done: int, total: int | None) -> None:
        rate = (done - (self._base or 0)) / max(1e-6, time.monotonic() - self._began)
        left = f", {max(0, total - done) / rate:.0f} s left" if total is not None and rate else ""
        # The first report has nothing to count a rate from.
        speed = f", {rate:.2f} {self._unit}/s{left}" if rate else ""
        say(f"{self.text}{speed}")
