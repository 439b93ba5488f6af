"""Pages of evaluations: the table, the plot, and pictures from the worst sample to the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidmatte.evaluate.images import COLUMNS
from vidmatte.evaluate.journal import Result
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Table, blocks_of
from vidmatte.report.html import render

_TEMPLATES = Path(__file__).parent / "templates"


def page_of(evaluation: Evaluation, table: Table, *, plot: str | None) -> str:
    """Return the HTML of an evaluation.

    Args:
        evaluation: its pictures lie in the folder of the run.
        table: its printed table.
        plot: name of the file of the plot; None if there is none.
    """
    samples = [_sample(result, evaluation) for result in evaluation.worst_first()]
    return _render(
        "evaluation.html",
        table,
        plot_file=plot,
        rank=evaluation.rank.header,
        columns=", ".join(COLUMNS),
        samples=samples,
    )


def page_of_variants(table: Table, *, plot: str | None, pages: Mapping[str, str]) -> str:
    """Return the HTML of an experiment.

    Args:
        table: a row for each variant.
        plot: name of the file of the plot; None if there is none.
        pages: paths of the variants' pages, by their names.
    """
    return _render("experiment.html", table, plot_file=plot, pages=list(pages.items()))


def _sample(result: Result, evaluation: Evaluation) -> dict[str, Any]:
    values = [f"{m.header} {m.text(result.values[m.name])}" for m in evaluation.measures]
    if result.confidence is not None:
        values.append(f"confidence {result.confidence:.2f}")
    return {
        "name": result.name,
        "figures": "; ".join(values),
        "pictures": result.pictures,
    }


def _render(template: str, table: Table, **values: Any) -> str:
    return render(
        template,
        templates=_TEMPLATES,
        title=f"vidmatte evaluate: {table.title}",
        heading=table.title,
        blocks=blocks_of(table),
        notes=table.notes,
        **values,
    )
