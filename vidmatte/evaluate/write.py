"""Files of an evaluation, each in place when it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vidmatte.errors import WriteError
from vidmatte.evaluate.formats import as_csv, as_json, as_latex, as_markdown, as_text, to_text
from vidmatte.evaluate.page import page_of
from vidmatte.evaluate.plot import can_plot, plot_of
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Table, table_of
from vidmatte.media.atomic import atomic_write

PAGE = "index.html"
PLOT = "plot.svg"
CSV = "results.csv"
JSON = "summary.json"
TEXT = "table.txt"
MARKDOWN = "table.md"
LATEX = "table.tex"
NO_PLOT = "no plot was drawn: it needs matplotlib (pip install 'vidmatte[evaluate]')"


def write_evaluation(evaluation: Evaluation) -> Table:
    """Write table, CSV, JSON, plot and page to the folder of the run. Raises WriteError.

    Returns:
        The table.
    """
    table = table_of(evaluation)
    drawn = can_plot()
    if not drawn:
        table = replace(table, notes=(*table.notes, NO_PLOT))
    files = {
        **tables_as_files(table),
        CSV: as_csv(evaluation),
        JSON: to_text(as_json(evaluation, table)),
        PAGE: page_of(evaluation, table, plot=PLOT if drawn else None),
    }
    if drawn:
        files[PLOT] = plot_of(evaluation).decode()
    write_files(evaluation.folder, files)
    return table


def tables_as_files(table: Table) -> dict[str, str]:
    """Return the table in all formats for people, by the names of their files."""
    return {
        TEXT: as_text(table) + "\n",
        MARKDOWN: as_markdown(table) + "\n",
        LATEX: as_latex(table) + "\n",
    }


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write files of text whole or not at all. Raises WriteError."""
    for name, text in files.items():
        try:
            atomic_write(folder / name, text)
        except OSError as error:
            raise WriteError(
                f"{folder / name}: cannot be written ({error.strerror}); free some space or check "
                f"the rights, and start the same command again: nothing is measured twice"
            ) from error
