"""The progress bar on a terminal. Loaded only if there is one: Rich takes its time."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Frames, or other units, per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        # The speed is None until the second report.
        return Text(f"{task.speed or 0:.2f} {self._unit}/s")


def make_bar(unit: str) -> Progress:
    """Return a bar on standard error for counting `unit`, not started yet."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        # Standard output is for results alone.
        console=Console(stderr=True),
        transient=True,
    )
