"""What was measured as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vidmatte.evaluate.journal import Result
from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.quoted import SOURCE, Quoted, quoted_for
from vidmatte.evaluate.run import Evaluation, mean

_WIDEST = 44
"""Characters that the first column has at most."""


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is of, how many samples, and a value for each measure."""

    label: str
    samples: int
    values: tuple[float, ...]
    """NaN where there is none."""


@dataclass(frozen=True)
class Table:
    """Rows of ours, rows quoted, and what to say of them."""

    title: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    quoted: tuple[Quoted, ...]
    notes: tuple[str, ...]


def table_of(evaluation: Evaluation) -> Table:
    """A row for each group or clip, the mean over all samples, and rows of the paper for the same data set."""
    measures, results = evaluation.measures, evaluation.results
    rows = [row_of(name, of_group, measures) for name, of_group in _by_group(results)]
    means = [row_of("mean", results, measures)]
    if evaluation.plan.dataset.clips and len(rows) > 1:
        means.append(_worst(rows, measures))
    protocol = evaluation.plan.protocol
    quoted = quoted_for(evaluation.plan.dataset.name, protocol.prompt)
    return Table(
        title_of(evaluation), measures, tuple(rows), tuple(means), quoted, evaluation.notes
    )


def row_of(label: str, results: Sequence[Result], measures: Sequence[Measure]) -> Row:
    """The means of some results."""
    samples = sum(result.round == 0 for result in results)
    return Row(label, samples, tuple(mean(results, measure) for measure in measures))


def title_of(evaluation: Evaluation, *, most_references: int | None = None) -> str:
    """The choices that the figures depend on, in one line; `most_references` where their number is compared."""
    plan = evaluation.plan
    protocol, rounds = plan.protocol, 1 + max(part.round for part in plan.parts)
    one, many = ("frame", "clip") if plan.dataset.clips else ("image", "group")
    count = str(protocol.references) if most_references is None else f"1 to {most_references}"
    marked = {
        "each": f"of every {one}",
        "group": f"on {count} {one}{'s' * (count != '1')} of each {many}",
    }[plan.guidance]
    seeds = f"seed {protocol.seed}" + (f" to {protocol.seed + rounds - 1}" if rounds > 1 else "")
    marks = (
        "given mattes"
        if evaluation.subject.predictions is not None
        else f"{protocol.prompt} {marked}"
    )
    where = "the unknown area of trimaps" if plan.region == "unknown" else "the whole image"
    return (
        f"{evaluation.subject.name} on {plan.dataset}; {marks}; errors in {where}; "
        f"{rounds} round{'s' * (rounds > 1)}, {seeds}"
    )


def as_text(table: Table) -> str:
    """The table for a terminal."""
    cells = [["", "samples", *(measure.header for measure in table.measures)]]
    cells += [
        [_cut(row.label), str(row.samples), *_values(row, table.measures)]
        for row in (*table.rows, *table.means)
    ]
    lines = [table.title, *_columns(cells)]
    if table.quoted:
        heads = [measure.header for measure in table.measures]
        quoted = [
            [f"quoted from {SOURCE}", "", *heads],
            *(_cells(row, table.measures) for row in table.quoted),
        ]
        lines += ["", *_columns(quoted)]
        lines += [
            f"table {row.table}, {row.variant}: {row.remark}" for row in table.quoted if row.remark
        ]
    return "\n".join([*lines, *(f"Note: {note}" for note in table.notes)])


def label_of(row: Quoted) -> tuple[str, str]:
    """What a quoted row is of, and what was marked."""
    return (
        f"{row.method}{', ' + row.variant if row.variant else ''} (table {row.table}, quoted)",
        row.guidance,
    )


def _cells(row: Quoted, measures: Sequence[Measure]) -> list[str]:
    values = (row.values.get(measure.name, math.nan) for measure in measures)
    return [
        *label_of(row),
        *(measure.text(value) for measure, value in zip(measures, values, strict=True)),
    ]


def _values(row: Row, measures: Sequence[Measure]) -> list[str]:
    return [measure.text(value) for measure, value in zip(measures, row.values, strict=True)]


def _cut(label: str) -> str:
    return label if len(label) <= _WIDEST else "..." + label[3 - _WIDEST :]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in cells
    ]


def _by_group(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return list(groups.items())


def _worst(rows: Sequence[Row], measures: Sequence[Measure]) -> Row:
    columns = zip(*(row.values for row in rows), strict=True)
    values = []
    for measure, column in zip(measures, columns, strict=True):
        there = [value for value in column if not math.isnan(value)]
        values.append((min if measure.higher_is_better else max)(there) if there else math.nan)
    return Row("worst", 1, tuple(values))


def as_csv(evaluation: Evaluation) -> str:
    """A line for each sample and round, values unrounded in the scale of the table."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    headers = [measure.header for measure in evaluation.measures]
    lines.writerow(["group", "sample", "round", *headers, "confidence"])
    for result in evaluation.results:
        values = [repr(result.values[measure.name]) for measure in evaluation.measures]
        confidence = "" if result.confidence is None else repr(result.confidence)
        lines.writerow([result.group, result.sample, result.round, *values, confidence])
    return file.getvalue()


def as_json(evaluation: Evaluation, table: Table) -> dict[str, Any]:
    """What `--json` prints: choices, means of groups or clips and of all, and what is quoted; null for no value."""
    plan = evaluation.plan
    return {
        "dataset": plan.dataset.name,
        "root": str(plan.dataset.root),
        "subject": evaluation.subject.as_json(),
        "protocol": {**plan.protocol.as_json(), "guidance": plan.guidance, "region": plan.region},
        "rounds": 1 + max(part.round for part in plan.parts),
        "measures": measures_as_json(table.measures),
        "rows": [row_as_json(row, table.measures) for row in table.rows],
        "mean": row_as_json(table.means[0], table.measures)["values"],
        "quoted": [quoted_as_json(row) for row in table.quoted],
        "notes": list(table.notes),
    }


def measures_as_json(measures: Sequence[Measure]) -> dict[str, Any]:
    """Scale and direction of each measure, by name."""
    return {m.name: {"header": m.header, "higher_is_better": m.higher_is_better} for m in measures}


def row_as_json(row: Row, measures: Sequence[Measure]) -> dict[str, Any]:
    """A row with its values by measure."""
    values = {
        measure.name: None if math.isnan(value) else value
        for measure, value in zip(measures, row.values, strict=True)
    }
    return {"label": row.label, "samples": row.samples, "values": values}


def quoted_as_json(row: Quoted) -> dict[str, Any]:
    """A quoted row with its source."""
    return {**asdict(row), "source": SOURCE}


def to_text(document: dict[str, Any]) -> str:
    """JSON as it is written to files."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
