"""The paper's comparisons of a model with itself: ablation (table 5), references (table 6), time steps (table 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vidmatte.datasets import Dataset
from vidmatte.errors import OptionError
from vidmatte.evaluate.page import page_of_variants
from vidmatte.evaluate.plot import can_plot, plot_of_variants
from vidmatte.evaluate.protocol import Protocol
from vidmatte.evaluate.quoted import ABLATION, REFERENCES, Quoted
from vidmatte.evaluate.run import Evaluation, MethodUnderTest, run
from vidmatte.evaluate.table import (
    Table,
    as_text,
    measures_as_json,
    quoted_as_json,
    row_as_json,
    row_of,
    title_of,
    to_text,
)
from vidmatte.evaluate.write import JSON, NO_PLOT, PAGE, PLOT, TEXT, write_evaluation, write_files

Experiment = Literal["ablation", "references", "timesteps"]
DEFAULT_ADAPT_STEPS = (0, 50, 100, 200, 300, 400, 500)
"""Time steps that are compared where none are chosen; the paper's own are not known here."""
DEFAULT_REFERENCES = 4
OnVariant = Callable[[str, int, int], None]
"""Told the variant, and how many of its samples are done of how many."""


@dataclass(frozen=True)
class Variant:
    """One of the ways in which a model is run in an experiment."""

    label: str
    switches: Mapping[str, object] = field(default_factory=dict)
    references: int | None = None


def variants_of(
    experiment: Experiment, *, steps: Sequence[int] = (), references: int | None = None
) -> list[Variant]:
    """The variants of an experiment.

    `steps` are the time steps to compare, `references` the largest number of references. Raises OptionError for choices
    of another experiment.
    """
    if steps and experiment != "timesteps":
        raise OptionError(
            f"steps {', '.join(map(str, steps))} are not valid: they are for 'timesteps', not {experiment!r}"
        )
    if experiment == "ablation":
        return [
            Variant("full"),
            Variant("intra off", {"intra": False}),
            Variant("inter and intra off", {"inter": False, "intra": False}),
            Variant("multi-scale off", {"multi_scale": False}),
        ]
    if experiment == "references":
        most = references or DEFAULT_REFERENCES
        return [Variant(f"{n} reference{'s' * (n > 1)}", references=n) for n in range(1, most + 1)]
    return [
        Variant(f"step {step}", {"time_step": step})
        for step in dict.fromkeys(steps or DEFAULT_ADAPT_STEPS)
    ]


def experiment(
    kind: Experiment,
    dataset: Dataset,
    subject: MethodUnderTest,
    protocol: Protocol,
    folder: str | Path,
    *,
    steps: Sequence[int] = (),
    references: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_done: OnVariant | None = None,
) -> Table:
    """Run each variant in a folder of its own, and write table, JSON, plot and page of all.

    Where references are compared, as many images of a group never count as there are references at most, so that all
    variants are measured on the same images.

    Raises OptionError for a model that has not the switches, and what `run` raises.
    """
    if subject.predictions is not None:
        raise OptionError(f"{kind} compares switches of a model: give a model, not mattes")
    folder = Path(folder)
    variants = variants_of(kind, steps=steps, references=references)
    most = max((variant.references or 0 for variant in variants), default=0)
    done = []
    for variant in variants:
        chosen = replace(
            protocol, references=variant.references or protocol.references, kept_out=most
        )
        varied = replace(
            subject, name=f"{subject.name}, {variant.label}", switches=variant.switches
        )
        report = None if on_done is None else _told(on_done, variant.label)
        try:
            found = run(
                dataset, varied, chosen, folder / variant.label.replace(" ", "-"),
                workers=workers, overwrite=overwrite, on_done=report,
            )  # fmt: skip
        except OptionError as error:
            switches = ", ".join(variant.switches)
            if "setting" not in str(error) or not switches:
                raise
            raise OptionError(
                f"{kind} asked for, but the model has no switch {switches}: {error}"
            ) from error
        write_evaluation(found)
        done.append((variant, found))
    return _write(kind, done, folder, subject)


def _told(on_done: OnVariant, label: str) -> Callable[[int, int], None]:
    return lambda done, total: on_done(label, done, total)


def _write(
    kind: Experiment,
    done: Sequence[tuple[Variant, Evaluation]],
    folder: Path,
    subject: MethodUnderTest,
) -> Table:
    first = done[0][1]
    rows = tuple(row_of(variant.label, found.results, found.measures) for variant, found in done)
    quoted: tuple[Quoted, ...] = {"ablation": ABLATION, "references": REFERENCES}.get(kind, ())
    # Of clips nothing is comparable: the paper has no figures of any.
    quoted = () if first.plan.dataset.clips else quoted
    notes = tuple(dict.fromkeys(note for _, found in done for note in found.notes))
    if quoted and first.plan.dataset.name != quoted[0].dataset:
        notes += (f"quoted figures are of {quoted[0].dataset}: compare the shape, not the height",)
    if kind == "timesteps":
        notes += ("table 8 of the paper's supplement could not be read: nothing is quoted from it",)
    drawn = can_plot()
    notes += () if drawn else (NO_PLOT,)
    most = done[-1][0].references
    title = f"{kind} of {title_of(replace(first, subject=subject), most_references=most)}"
    table = Table(title, first.measures, rows, (), quoted, notes)
    document = {
        "experiment": kind,
        "title": table.title,
        "measures": measures_as_json(table.measures),
        "rows": [row_as_json(row, table.measures) for row in rows],
        "quoted": [quoted_as_json(row) for row in quoted],
        "notes": list(notes),
    }
    pages = {variant.label: f"{found.folder.name}/{PAGE}" for variant, found in done}
    files = {
        TEXT: as_text(table) + "\n",
        JSON: to_text(document),
        PAGE: page_of_variants(table, plot=PLOT if drawn else None, pages=pages),
    }
    if drawn:
        files[PLOT] = plot_of_variants(rows, quoted, table.measures, first.rank).decode()
    write_files(folder, files)
    return table
