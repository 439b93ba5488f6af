"""Tables of evaluations: our rows, and quoted rows beside the definitions they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from vidmatte.evaluate.journal import Result
from vidmatte.evaluate.measures import Measure, conn_header
from vidmatte.evaluate.quoted import Quoted, Source, quoted_for
from vidmatte.evaluate.run import Evaluation, mean
from vidmatte.evaluate.usual_prompts import DRAWS


@dataclass(frozen=True)
class Row:
    """A line of a table: its name, how many samples, and a value for each measure."""

    label: str
    samples: int
    values: tuple[float, ...]
    """NaN if there is none."""


@dataclass(frozen=True)
class Table:
    """Our rows, quoted rows, and remarks on them."""

    title: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    quoted: tuple[Quoted, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """Cells of a table as text, in any format."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_quoted: bool = False
    remarks: tuple[str, ...] = ()
    """Sentences below the block."""


def table_of(evaluation: Evaluation) -> Table:
    """Return a row for each group or clip, the mean of all samples, and published rows."""
    measures = evaluation.measures
    results = evaluation.results
    rows = [row_of(name, of_group, measures) for name, of_group in _by_group(results)]
    means = [row_of("mean", results, measures)]
    # A mean hides the clip that failed.
    if evaluation.plan.dataset.clips and len(rows) > 1:
        means.append(_worst(rows, measures))
    quoted = _quoted(evaluation)
    notes = (*evaluation.notes, *notes_on_conn(quoted, measures))
    return Table(title_of(evaluation), measures, tuple(rows), tuple(means), quoted, notes)


def row_of(label: str, results: Sequence[Result], measures: Sequence[Measure]) -> Row:
    """Return the means of some results as a row."""
    # Samples of later rounds are the same ones again.
    samples = sum(result.round == 0 for result in results)
    return Row(label, samples, tuple(mean(results, measure) for measure in measures))


def title_of(evaluation: Evaluation, *, most_references: int | None = None) -> str:
    """Return the choices behind the figures, in one line.

    Args:
        evaluation: the run.
        most_references: the largest number of references, if their number is compared.
    """
    plan = evaluation.plan
    name = f"{evaluation.subject.name} on {plan.dataset}"
    if plan.protocol.usual_prompts:
        return (
            f"{name}; J at alpha 0.5 of a tight box, of the box and a point in the middle, of "
            f"three points on and one off the object ({DRAWS} draws, seed {plan.protocol.seed}), "
            f"and of one stroke along it"
        )
    if plan.protocol.clicks is not None:
        return (
            f"{name}; up to {plan.protocol.clicks} clicks on each image, at its largest error; J "
            f"at alpha 0.5"
        )
    rounds = 1 + max(part.round for part in plan.parts)
    seeds = f"seed {plan.protocol.seed}"
    if rounds > 1:
        seeds += f" to {plan.protocol.seed + rounds - 1}"
    where = "the unknown area of trimaps" if plan.region == "unknown" else "the whole image"
    if plan.protocol.squares is not None:
        where += f", squares of {plan.protocol.squares} pixels from its middle"
    return (
        f"{name}; {_marks(evaluation, most_references)}; errors in {where}; "
        f"{rounds} round{'s' * (rounds > 1)}, {seeds}"
    )


def _marks(evaluation: Evaluation, most_references: int | None) -> str:
    plan = evaluation.plan
    if evaluation.subject.predictions is not None:
        return "given mattes"
    one, many = ("frame", "clip") if plan.dataset.clips else ("image", "group")
    if plan.guidance == "each":
        return f"{plan.protocol.prompt} of every {one}"
    count = str(plan.protocol.references)
    if most_references is not None:
        count = f"1 to {most_references}"
    return f"{plan.protocol.prompt} on {count} {one}{'s' * (count != '1')} of each {many}"


def _quoted(evaluation: Evaluation) -> tuple[Quoted, ...]:
    plan = evaluation.plan
    # Published figures are of other protocols.
    if plan.protocol.marks_each:
        return ()
    return quoted_for(plan.dataset.name, plan.protocol.prompt, _frame_size(evaluation))


def _frame_size(evaluation: Evaluation) -> tuple[int, int] | None:
    """Return width and height of the clips, None if they hold images."""
    if not evaluation.plan.dataset.clips:
        return None
    path = evaluation.plan.dataset.clips[0].frames[0]
    try:
        with Image.open(path) as image:
            return image.size
    # Formats that Pillow does not read, such as EXR, are of no published benchmark.
    except OSError:
        return None


def notes_on_conn(quoted: Sequence[Quoted], measures: Sequence[Measure]) -> tuple[str, ...]:
    """Return a note if quoted rows have another Conn than ours."""
    # Every source says which definition of Conn it has.
    own = next((measure.header for measure in measures if measure.name == "Conn"), None)
    has_conn = [row for row in quoted if "Conn" in row.values]
    others = {row.source.conn for row in has_conn if conn_header(row.source.conn) != own}
    if own is None or not others:
        return ()
    return (
        f"the Conn of quoted rows is another one than ours: --conn {min(others)} measures theirs",
    )


def blocks_of(table: Table) -> list[Block]:
    """Return the cells of a table: ours, then a block for each quoted publication."""
    heads = [measure.header for measure in table.measures]
    own = []
    for row in (*table.rows, *table.means):
        own.append((row.label, str(row.samples), *_texts(row.values, table.measures)))
    blocks = [Block(("", "samples", *heads), tuple(own))]
    # dict.fromkeys keeps the order of the rows.
    for source in dict.fromkeys(row.source for row in table.quoted):
        blocks.append(_quoted_block(source, table))
    return blocks


def _quoted_block(source: Source, table: Table) -> Block:
    heads = []
    for measure in table.measures:
        heads.append(conn_header(source.conn) if measure.name == "Conn" else measure.header)
    of_source = [row for row in table.quoted if row.source == source]
    rows = []
    for row in of_source:
        values = [row.values.get(measure.name, math.nan) for measure in table.measures]
        rows.append((*label_of(row), *_texts(values, table.measures)))
    remarks = [f"{source.title} counts: {source.counting}"]
    for row in of_source:
        if row.remark:
            place = f"table {row.table}, " if row.table is not None else ""
            remarks.append(f"{place}{row.variant or row.method}: {row.remark}")
    head = (f"quoted from {source.title}", "", *heads)
    return Block(head, tuple(rows), is_quoted=True, remarks=tuple(remarks))


def label_of(row: Quoted) -> tuple[str, str]:
    """Return the name of a quoted row, and its marks."""
    name = f"{row.method}, {row.variant}" if row.variant else row.method
    place = f"table {row.table}, quoted" if row.table is not None else "quoted"
    return f"{name} ({place})", row.guidance


def _texts(values: Sequence[float], measures: Sequence[Measure]) -> list[str]:
    return [measure.text(value) for measure, value in zip(measures, values, strict=True)]


def _by_group(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    return list(groups.items())


def _worst(rows: Sequence[Row], measures: Sequence[Measure]) -> Row:
    columns = zip(*(row.values for row in rows), strict=True)
    values = []
    for measure, column in zip(measures, columns, strict=True):
        # A clip without a value can be no worst one.
        there = [value for value in column if not math.isnan(value)]
        worst = min if measure.higher_is_better else max
        values.append(worst(there) if there else math.nan)
    return Row("worst", 1, tuple(values))
