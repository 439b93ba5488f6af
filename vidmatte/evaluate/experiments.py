"""The paper's comparisons of a model with itself.

Guo et al., "In-Context Matting", CVPR 2024: ablation (table 5), references (table 6), and time
steps (table 8 of the supplement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vidmatte.datasets import Dataset
from vidmatte.errors import OptionError
from vidmatte.evaluate.formats import measures_as_json, quoted_as_json, row_as_json, to_text
from vidmatte.evaluate.method import LoadChosen, MethodUnderTest
from vidmatte.evaluate.page import page_of_variants
from vidmatte.evaluate.plot import can_plot, plot_of_variants
from vidmatte.evaluate.protocol import Protocol
from vidmatte.evaluate.quoted import ABLATION, REFERENCES, TIME_STEPS, Quoted
from vidmatte.evaluate.run import Evaluation, run
from vidmatte.evaluate.table import Table, notes_on_conn, row_of, title_of
from vidmatte.evaluate.write import (
    JSON,
    NO_PLOT,
    PAGE,
    PLOT,
    tables_as_files,
    write_evaluation,
    write_files,
)

Experiment = Literal["ablation", "references", "timesteps"]
DEFAULT_TIME_STEPS = (0, 100, 200, 300, 400)
"""Default time steps to compare: those of table 8."""
DEFAULT_REFERENCES = 4
OnVariant = Callable[[str, int, int], None]
"""Told the variant, and how many of its samples are done of how many."""
_QUOTED: Mapping[Experiment, tuple[Quoted, ...]] = {
    "ablation": ABLATION,
    "references": REFERENCES,
    "timesteps": TIME_STEPS,
}


@dataclass(frozen=True)
class Variant:
    """One variant of a model in an experiment."""

    label: str
    switches: Mapping[str, object] = field(default_factory=dict)
    references: int | None = None


def variants_of(
    experiment: Experiment, *, steps: Sequence[int] = (), references: int | None = None
) -> list[Variant]:
    """Return the variants of an experiment.

    Args:
        experiment: the comparison.
        steps: time steps to compare.
        references: the largest number of references.

    Raises:
        OptionError: steps were given for another experiment.
    """
    if steps and experiment != "timesteps":
        raise OptionError(
            f"steps {', '.join(map(str, steps))} are not valid: they are for 'timesteps', not "
            f"{experiment!r}"
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
        numbers = range(1, most + 1)
        # One reference up to the most, as in table 6.
        return [Variant(f"{n} reference{'s' * (n > 1)}", references=n) for n in numbers]
    chosen = dict.fromkeys(steps or DEFAULT_TIME_STEPS)
    return [Variant(f"step {step}", {"time_step": step}) for step in chosen]


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

    If references are compared, as many images of a group never count as there are references at
    most, to measure all variants on the same images.

    Raises:
        OptionError: the model does not have the switches.
        VidmatteError: As from `run`.
    """
    if subject.predictions is not None:
        raise OptionError(f"{kind} compares switches of a model: give a model, not mattes")
    folder = Path(folder)
    variants = variants_of(kind, steps=steps, references=references)
    # Groups need as many images in every variant, so that the rows are comparable.
    most = max((variant.references or 0 for variant in variants), default=0)
    # The last variant has every switch of the experiment.
    _require_switches(kind, subject, variants[-1])
    done = []
    for variant in variants:
        chosen = replace(
            protocol, references=variant.references or protocol.references, kept_out=most
        )
        report = None if on_done is None else _told(on_done, variant.label)
        with _switches_named(kind, variant):
            found = run(
                dataset,
                replace(
                    subject, name=f"{subject.name}, {variant.label}", switches=variant.switches
                ),
                chosen,
                folder / variant.label.replace(" ", "-"),
                workers=workers,
                overwrite=overwrite,
                on_done=report,
            )
        write_evaluation(found)
        done.append((variant, found))
    return _write(kind, done, folder, subject)


def _require_switches(kind: Experiment, subject: MethodUnderTest, variant: Variant) -> None:
    """Load the model with the switches of a variant, before anything is measured."""
    if variant.switches:
        with _switches_named(kind, variant):
            # Loading is the test: a model refuses settings it does not have.
            (subject.load or LoadChosen(subject.options))(variant.switches)


@contextmanager
def _switches_named(kind: Experiment, variant: Variant) -> Iterator[None]:
    """Raise OptionError if the model lacks the switches of an experiment."""
    try:
        yield
    except OptionError as error:
        switches = ", ".join(variant.switches)
        # Other errors speak for themselves.
        if "setting" not in str(error) or not switches:
            raise
        raise OptionError(
            f"{kind} compares values of {switches}, and this model has no such setting: {error}"
        ) from error


def _told(on_done: OnVariant, label: str) -> Callable[[int, int], None]:
    return lambda done, total: on_done(label, done, total)


def _write(
    kind: Experiment,
    done: Sequence[tuple[Variant, Evaluation]],
    folder: Path,
    subject: MethodUnderTest,
) -> Table:
    first = done[0][1]
    # Of clips nothing is comparable: the paper has no figures of any.
    quoted = () if first.plan.dataset.clips else _QUOTED[kind]
    drawn = can_plot()
    title = title_of(replace(first, subject=subject), most_references=done[-1][0].references)
    table = Table(
        title=f"{kind} of {title}",
        measures=first.measures,
        rows=tuple(row_of(variant.label, found.results, found.measures) for variant, found in done),
        means=(),
        quoted=quoted,
        notes=tuple(_notes(done, quoted, drawn)),
    )
    document = {
        "experiment": kind,
        "title": table.title,
        "environment": dict(first.environment),
        "measures": measures_as_json(table.measures),
        "rows": [row_as_json(row, table.measures) for row in table.rows],
        "quoted": [quoted_as_json(row) for row in quoted],
        "notes": list(table.notes),
    }
    pages = {variant.label: f"{found.folder.name}/{PAGE}" for variant, found in done}
    files = {
        **tables_as_files(table),
        JSON: to_text(document),
        PAGE: page_of_variants(table, plot=PLOT if drawn else None, pages=pages),
    }
    if drawn:
        plot = plot_of_variants(table.rows, quoted, table.measures, first.rank)
        files[PLOT] = plot.decode()
    write_files(folder, files)
    return table


def _notes(
    done: Sequence[tuple[Variant, Evaluation]], quoted: Sequence[Quoted], drawn: bool
) -> list[str]:
    first = done[0][1]
    notes = list(dict.fromkeys(note for _, found in done for note in found.notes))
    if quoted and first.plan.dataset.name != quoted[0].dataset:
        notes.append(
            f"quoted figures are of {quoted[0].dataset}: compare the shape, not the height"
        )
    notes += notes_on_conn(quoted, first.measures)
    if not drawn:
        notes.append(NO_PLOT)
    return notes
