"""How a batch gets on, on standard error: a table of shots on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from vidmatte.batch.run import ShotRun
from vidmatte.cli.console import say

_ROWS = 30
"""Largest number of shots in the table: running ones first, then failed, then waiting ones."""
_SECONDS_BETWEEN_LINES = 5.0


class Board:
    """A table of shots on a terminal; a line now and then elsewhere."""

    def __init__(self, count: int, *, quiet: bool) -> None:
        """`count` is the number of shots; with `quiet` nothing is shown."""
        self.runs: Sequence[ShotRun] = ()
        self._quiet = quiet
        self._count = count
        self._began = time.monotonic()
        self._last = self._began
        console = Console(stderr=True)
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._table
        )
        self._has_table = not quiet and console.is_terminal

    def __enter__(self) -> Board:
        if self._has_table:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._has_table:
            self._live.stop()

    def note(self, text: str) -> None:
        """Show something about the batch as a whole."""
        if self._has_table:
            # Printed above the table, which is drawn anew below it.
            self._live.console.print(text, highlight=False, markup=False)
        elif not self._quiet:
            say(text)

    def update(self, run: ShotRun) -> None:
        """Show a change of a shot. The table looks for itself."""
        if self._quiet or self._has_table:
            return
        if run.state in ("done", "up to date") and not run.running:
            text = f"{run.name}: {run.state}, {run.record.get('frames', 0)} frames"
            if run.state == "done":
                text += f", {run.record['frames'] / run.seconds:.2f} frames/s"
            say(text)
        elif run.state == "failed":
            say(f"{run.name}: failed: {run.reason}")
        elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            ended = sum(each.is_over for each in self.runs)
            say(f"{ended} of {self._count} shots, {run.name} at {_frames_of(run)}")

    def _table(self) -> Table:
        table = Table("shot", "state", "frames", "frames/s", "left", box=None)
        for run in sorted(self.runs, key=_rank)[:_ROWS]:
            table.add_row(*_row(run))
        ended = sum(run.is_over for run in self.runs)
        table.caption = f"{ended} of {self._count} shots, {time.monotonic() - self._began:.0f} s"
        return table


def _rank(run: ShotRun) -> int:
    """Return the rank of a shot in the table: the most interesting ones come first."""
    order: dict[str, int] = {"running": 0, "failed": 1, "waiting": 2}
    return order.get(run.state, 3)


def _row(run: ShotRun) -> tuple[str, str, str, str, str]:
    spent = run.seconds
    # A running shot has no duration yet.
    if run.began and not spent:
        spent = time.monotonic() - run.began
    rate = run.frames / spent if run.frames and spent else 0.0
    left = ""
    if run.total and rate and not run.is_over:
        # At the rate so far.
        left = f"{(run.total - run.frames) / rate:.0f} s"
    shown_rate = f"{rate:.2f}" if rate else ""
    return run.name, run.reason or run.state, _frames_of(run), shown_rate, left


def _frames_of(run: ShotRun) -> str:
    return f"{run.frames} of {run.total}" if run.total else str(run.frames)
