"""The page of an evaluation: the table, the plot, and pictures from the worst sample to the best."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from vidmatte.evaluate.images import COLUMNS
from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Row, Table, label_of
from vidmatte.report.page import document


def page_of(evaluation: Evaluation, table: Table, *, plot: str | None) -> str:
    """The HTML; `plot` is the name of its file, pictures lie in the folder of the run."""
    parts = [f"<h1>{escape(table.title)}</h1>", as_html(table), *_plot(plot)]
    parts.append(f"<h2>From the worst to the best by {escape(evaluation.rank.header)}</h2>")
    parts.append(
        f"<p>{', '.join(COLUMNS)}; error from dark blue (none) to yellow (1); first round</p>"
    )
    for place, result in enumerate(evaluation.worst_first(), 1):
        values = "; ".join(
            f"{m.header} {m.text(result.values[m.name])}" for m in evaluation.measures
        )
        sure = "" if result.confidence is None else f"; confidence {result.confidence:.2f}"
        parts.append(f"<h3>{place}. {escape(result.name)}</h3><p>{escape(values + sure)}</p>")
        for caption, path in result.pictures:
            text = f"{result.name} {caption}: {', '.join(COLUMNS)}"
            parts.append(f"<p>{escape(caption)}</p>" if caption else "")
            parts.append(f'<p><img loading="lazy" alt="{escape(text)}" src="{quote(path)}"></p>')
    return document(f"vidmatte evaluate: {table.title}", parts)


def page_of_variants(table: Table, *, plot: str | None, pages: dict[str, str]) -> str:
    """The HTML of an experiment; `pages` are the paths of its variants' pages, by their names."""
    links = [f'<li><a href="{quote(path)}">{escape(name)}</a></li>' for name, path in pages.items()]
    parts = [f"<h1>{escape(table.title)}</h1>", as_html(table), *_plot(plot)]
    return document(
        f"vidmatte evaluate: {table.title}",
        [*parts, "<h2>Pictures</h2>", f"<ul>{''.join(links)}</ul>"],
    )


def as_html(table: Table) -> str:
    """The table, with quoted rows marked as such."""
    head = "".join(
        f"<th>{escape(text)}</th>" for text in ("", "samples", *(m.header for m in table.measures))
    )
    rows = [_row(row, table.measures) for row in (*table.rows, *table.means)]
    for row in table.quoted:
        label, guidance = label_of(row)
        values = [row.values.get(measure.name, float("nan")) for measure in table.measures]
        rows.append(_cells([f"{label}; {guidance}", ""], values, table.measures, kind="quoted"))
    notes = [f"<p>Note: {escape(note)}</p>" for note in table.notes]
    notes += [
        f"<p>Table {row.table}, {escape(row.variant)}: {escape(row.remark)}</p>"
        for row in table.quoted
        if row.remark
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{''.join(notes)}"


def _row(row: Row, measures: Sequence[Measure]) -> str:
    return _cells([row.label, str(row.samples)], row.values, measures)


def _cells(
    texts: Sequence[str], values: Sequence[float], measures: Sequence[Measure], kind: str = "own"
) -> str:
    shown = [
        *texts,
        *(measure.text(value) for measure, value in zip(measures, values, strict=True)),
    ]
    return f'<tr class="{kind}">' + "".join(f"<td>{escape(text)}</td>" for text in shown) + "</tr>"


def _plot(name: str | None) -> list[str]:
    return [] if name is None else [f'<p><img alt="Plot of the table" src="{quote(name)}"></p>']
