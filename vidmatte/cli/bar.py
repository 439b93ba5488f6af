"""The progress bar on a terminal. Loaded only if there is one: Rich takes its time."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from vidmatte.cli import progress as lines
from vidmatte.pipeline import progress as run


class _Left(ProgressColumn):
    """The time left for the whole run; it runs down between two reports."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time as text; nothing as long as it is not known."""
        left, at = task.fields["left"]
        if left is None:
            return Text("")
        remaining = max(0.0, left - (time.monotonic() - at))
        return Text(f"{lines.duration(remaining)} left")


class Bar:
    """One bar on standard error, for the share of the whole run that is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            _Left(),
            # Standard output is for results alone.
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=None, rate="", left=(None, 0.0))

    def update(self, text: str, unit: str, now: run.Progress) -> None:
        """Show what is done now; `unit` is that of its rate."""
        self._progress.update(
            self._task,
            description=text,
            # Without an end the bar moves to and fro.
            total=None if now.share is None else 1.0,
            completed=now.share or 0.0,
            rate="" if now.rate is None else f"{now.rate:.2f} {unit}/s",
            left=(None if now.stage == "finishing" else now.seconds_left, time.monotonic()),
        )

    def stop(self) -> None:
        """Take it off the terminal."""
        self._progress.stop()
