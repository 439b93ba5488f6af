"""Files of an evaluation, each in place when it is complete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidmatte.errors import WriteError
from vidmatte.evaluate.page import page_of
from vidmatte.evaluate.plot import can_plot, plot_of
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Table, as_csv, as_json, as_text, table_of, to_text
from vidmatte.media.atomic import atomic_write

PAGE, PLOT, CSV, JSON, TEXT = "index.html", "plot.svg", "results.csv", "summary.json", "table.txt"
NO_PLOT = "no plot was drawn: it needs matplotlib (pip install 'vidmatte[evaluate]')"


def write_evaluation(evaluation: Evaluation) -> Table:
    """Write table, CSV, JSON, plot and page to the folder of the run, and return the table. Raises WriteError."""
    table = table_of(evaluation)
    drawn = can_plot()
    if not drawn:
        table = replace(table, notes=(*table.notes, NO_PLOT))
    files = {
        TEXT: as_text(table) + "\n",
        CSV: as_csv(evaluation),
        JSON: to_text(as_json(evaluation, table)),
        PAGE: page_of(evaluation, table, plot=PLOT if drawn else None),
    }
    if drawn:
        files[PLOT] = plot_of(evaluation).decode()
    write_files(evaluation.folder, files)
    return table


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write files of text whole or not at all. Raises WriteError."""
    for name, text in files.items():
        try:
            atomic_write(folder / name, text)
        except OSError as error:
            raise WriteError(
                f"{folder / name}: cannot be written ({error.strerror}); free some space or check the rights, and "
                f"start the same command again: nothing is measured twice"
            ) from error
