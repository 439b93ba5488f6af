"""Tables of evaluations as text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.quoted import Quoted
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Block, Row, Table, blocks_of

TableFormat = Literal["text", "markdown", "latex"]
# Names of clips are long; their ends tell them apart.
_WIDEST = 44
"""Characters of the first column, at most."""
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def as_text(table: Table) -> str:
    """Return the table for a terminal."""
    lines = [table.title]
    for block in blocks_of(table):
        rows = block.rows
        if block.is_quoted:
            # Names of methods stay whole; only those of clips are cut.
            lines.append("")
        else:
            rows = tuple((_cut(row[0]), *row[1:]) for row in rows)
        lines += _columns([block.head, *rows])
        lines += block.remarks
    lines += [f"Note: {note}" for note in table.notes]
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """Return the table as GitHub's Markdown."""
    lines = [table.title]
    for block in blocks_of(table):
        lines += ["", *_markdown_block(block)]
        if block.remarks:
            lines.append("")
        lines += [f"- {remark}" for remark in block.remarks]
    if table.notes:
        lines.append("")
    lines += [f"- Note: {note}" for note in table.notes]
    return "\n".join(lines)


def as_latex(table: Table) -> str:
    r"""Return the table as LaTeX, for the package booktabs; remarks are comments."""
    blocks = blocks_of(table)
    lines = [f"% {table.title}", rf"\begin{{tabular}}{{ll{'r' * len(table.measures)}}}"]
    for number, block in enumerate(blocks):
        lines.append(r"\midrule" if number else r"\toprule")
        lines += [_latex_row(block.head), r"\midrule"]
        lines += [_latex_row(row) for row in block.rows]
    # Rules of the package booktabs.
    lines += [r"\bottomrule", r"\end{tabular}"]
    for block in blocks:
        lines += [f"% {remark}" for remark in block.remarks]
    lines += [f"% Note: {note}" for note in table.notes]
    return "\n".join(lines)


def as_format(table: Table, kind: TableFormat) -> str:
    """Return the table in one of the formats for people."""
    return {"text": as_text, "markdown": as_markdown, "latex": as_latex}[kind](table)


def _markdown_block(block: Block) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        # A bar would end the cell.
        escaped = [cell.replace("|", "\\|") for cell in cells]
        return f"| {' | '.join(escaped)} |"

    alignment = ["---", "---", *["---:"] * (len(block.head) - 2)]
    return [line(block.head), line(alignment), *(line(row) for row in block.rows)]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX_SPECIAL.get(c, c) for c in cell) for cell in cells) + r" \\"


def _cut(label: str) -> str:
    return label if len(label) <= _WIDEST else "..." + label[3 - _WIDEST :]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Align the first column to the left, all others to the right."""
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    lines = []
    for first, *others in cells:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return lines


def as_csv(evaluation: Evaluation) -> str:
    """Return a line for each sample and round, unrounded and in the scale of the table."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    headers = [measure.header for measure in evaluation.measures]
    lines.writerow(["group", "sample", "round", *headers, "confidence"])
    for result in evaluation.results:
        # repr keeps every digit of a float.
        values = [repr(result.values[measure.name]) for measure in evaluation.measures]
        confidence = "" if result.confidence is None else repr(result.confidence)
        lines.writerow([result.group, result.sample, result.round, *values, confidence])
    return file.getvalue()


def as_json(evaluation: Evaluation, table: Table) -> dict[str, Any]:
    """Return the object for --json: choices, environment, means, quoted rows; null if unknown."""
    plan = evaluation.plan
    return {
        "dataset": plan.dataset.name,
        "root": str(plan.dataset.root),
        "subject": evaluation.subject.as_json(),
        "environment": dict(evaluation.environment),
        "protocol": {
            **plan.protocol.as_json(),
            "guidance": plan.guidance,
            "region": plan.region,
        },
        "rounds": 1 + max(part.round for part in plan.parts),
        "measures": measures_as_json(table.measures),
        "rows": [row_as_json(row, table.measures) for row in table.rows],
        "mean": row_as_json(table.means[0], table.measures)["values"],
        "quoted": [quoted_as_json(row) for row in table.quoted],
        "notes": list(table.notes),
    }


def measures_as_json(measures: Sequence[Measure]) -> dict[str, Any]:
    """Return scale and direction of each measure, by name."""
    return {m.name: {"header": m.header, "higher_is_better": m.higher_is_better} for m in measures}


def row_as_json(row: Row, measures: Sequence[Measure]) -> dict[str, Any]:
    """Return a row with its values by measure."""
    values = {}
    for measure, value in zip(measures, row.values, strict=True):
        values[measure.name] = None if math.isnan(value) else value
    return {"label": row.label, "samples": row.samples, "values": values}


def quoted_as_json(row: Quoted) -> dict[str, Any]:
    """Return a quoted row with its source and definitions."""
    return {
        **asdict(row),
        "source": row.source.title,
        "conn": row.source.conn,
        "counting": row.source.counting,
    }


def to_text(document: dict[str, Any]) -> str:
    """Return JSON as it is written to files."""
    # NaN is no JSON; missing values are null.
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
