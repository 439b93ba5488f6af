"""Run an evaluation: measure every part of the plan once, keep it in a journal, resume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte import __version__
from vidmatte.datasets import Dataset
from vidmatte.errors import OptionError
from vidmatte.evaluate.clicks import CLICKS
from vidmatte.evaluate.environment import describe_environment
from vidmatte.evaluate.journal import Journal, Result, open_journal
from vidmatte.evaluate.measures import Measure, measures_of, ranking
from vidmatte.evaluate.method import Load, LoadChosen, MethodUnderTest, reseed
from vidmatte.evaluate.protocol import Plan, Protocol, make_plan
from vidmatte.evaluate.usual_prompts import PROMPTS
from vidmatte.evaluate.work import Work
from vidmatte.evaluate.workers import share
from vidmatte.model.build import notes_of
from vidmatte.model.interface import Model
from vidmatte.model.settings import parse_settings

OnDone = Callable[[int, int], None]
"""Told how many samples are done, and how many there are."""


@dataclass(frozen=True)
class Evaluation:
    """The results of a run."""

    subject: MethodUnderTest
    plan: Plan
    measures: tuple[Measure, ...]
    results: tuple[Result, ...]
    """In the order of the plan, round by round."""
    notes: tuple[str, ...]
    folder: Path
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device and hashes of weights; see `environment.describe_environment`."""

    @property
    def rank(self) -> Measure:
        """The measure for sorting samples."""
        return ranking(self.measures)

    def worst_first(self) -> list[Result]:
        """Return the samples of the first round, from the worst to the best."""
        sign = 1 if self.rank.higher_is_better else -1
        first = [result for result in self.results if result.round == 0]

        def place(result: Result) -> tuple[float, str]:
            # Missing values count as 0.
            return float(sign * np.nan_to_num(result.values[self.rank.name])), result.name

        return sorted(first, key=place)


@dataclass(frozen=True)
class _Prepared:
    """The facts from a trial of the method."""

    model: Model | None
    """None for given mattes."""
    rounds: int
    """How many rounds differ."""
    notes: tuple[str, ...]


def run(
    dataset: Dataset,
    subject: MethodUnderTest,
    protocol: Protocol,
    folder: str | Path,
    *,
    workers: int = 1,
    keep_mattes: bool = False,
    overwrite: bool = False,
    on_done: OnDone | None = None,
) -> Evaluation:
    """Measure a method on a data set; finished parts of a stopped run are not repeated.

    Args:
        dataset: images or clips with their truth.
        subject: a model, or a folder of mattes.
        protocol: the choices of the measurement.
        folder: for the journal and pictures; made if it does not exist.
        workers: processes of one thread each; results do not depend on them.
        keep_mattes: write the mattes of the first round to `folder/mattes`, as 16-bit PNG.
        overwrite: replace the results of another run in that folder.
        on_done: told after each part.

    Raises:
        OptionError: If choices do not fit each other, the data set or the model.
        ReadError: a file of the data set or a matte is missing, damaged or of another size.
        ModelError: the model cannot be loaded.
        WriteError: the folder cannot be written.
    """
    if workers < 1:
        raise OptionError(f"{workers} workers are not valid: it must be at least 1")
    folder = Path(folder)
    prepared = _prepare(subject, protocol)
    plan = make_plan(dataset, protocol, rounds=prepared.rounds)
    measures = _measures(dataset, protocol)
    identity = _identity(plan, subject, folder, keep_mattes=keep_mattes)
    journal = open_journal(folder, identity, overwrite=overwrite)
    # Parts of a stopped run are not repeated.
    left = [part for part in plan.parts if part.key not in journal.done]
    done = _count(journal, plan)
    report = on_done or (lambda done, total: None)
    report(done, plan.samples)
    notes = (*plan.notes, *prepared.notes)
    environment = describe_environment(prepared.model, subject.options)
    # One worker takes the model of the trial, several load their own.
    load = _loaded(prepared.model) if workers == 1 else subject.load
    work = Work(plan, measures, folder, keep_mattes, load, subject)
    del prepared, load  # the model, which other processes load again
    with closing(share(work, left, workers)) as finished:
        for key, results in finished:
            journal.add(key, results)
            done += len(results)
            report(done, plan.samples)
    # In the order of the plan, whatever worker was first.
    complete = tuple(result for part in plan.parts for result in journal.done[part.key])
    return Evaluation(subject, plan, measures, complete, notes, folder, environment)


def _loaded(model: Model | None) -> Load | None:
    return None if model is None else lambda switches: model


def _prepare(subject: MethodUnderTest, protocol: Protocol) -> _Prepared:
    """Load the model, for early errors, and find out whether rounds differ."""
    if subject.predictions is not None:
        if protocol.marks_each:
            raise OptionError("marks ask a model again and again: give a model, not mattes")
        if not subject.predictions.is_dir():
            raise OptionError(
                f"{subject.predictions}: mattes were to be read from it, but it is no folder"
            )
        return _Prepared(None, 1, ("mattes written by another system; one round",))
    if "seed" in parse_settings(subject.options.settings) or "seed" in subject.switches:
        raise OptionError(
            "setting seed was given, but rounds have seeds of their own: round k of an evaluation "
            "draws marks and noise with seed + k; use --seed"
        )
    model = (subject.load or LoadChosen(subject.options))(subject.switches)
    notes = notes_of(model)
    if protocol.marks_each:
        return _Prepared(model, 1, notes)
    if not protocol.draws_marks and reseed(model, 0) is None and protocol.rounds > 1:
        alike = f"nothing is drawn: one round stands for all {protocol.rounds}"
        return _Prepared(model, 1, (*notes, alike))
    return _Prepared(model, protocol.rounds, notes)


def _measures(dataset: Dataset, protocol: Protocol) -> tuple[Measure, ...]:
    if protocol.usual_prompts:
        return PROMPTS
    if protocol.clicks is not None:
        return CLICKS
    kinds = {clip.kind for clip in dataset.clips}
    for group in dataset.groups:
        kinds |= {sample.kind for sample in group.images}
    if "alpha" in kinds and len(kinds) > 1:
        raise OptionError(
            f"{dataset.root}: holds truth of both kinds, alpha and masks, whose measures differ: "
            f"evaluate them apart"
        )
    return measures_of(
        clips=bool(dataset.clips),
        soft=kinds == {"alpha"},
        conn=protocol.conn,
        is_sparse=any(None in clip.alphas for clip in dataset.clips),
        has_objects=any(clip.label is not None for clip in dataset.clips),
    )


def _identity(
    plan: Plan, subject: MethodUnderTest, folder: Path, *, keep_mattes: bool
) -> dict[str, Any]:
    """Return everything that results depend on, for comparison with an earlier run."""
    options = subject.options
    places: list[str | Path | None] = [plan.dataset.root]
    if subject.predictions is not None:
        places.append(subject.predictions)
    else:
        places += [options.model, options.weights, options.sd, options.prompt_weights]
    # First masks lie beside the data set.
    places += [clip.first_mask for clip in plan.dataset.clips]
    files = [_stamp(Path(place).expanduser(), folder) for place in places if place is not None]
    return {
        "files": files,
        "vidmatte": __version__,
        "dataset": plan.dataset.name,
        "root": str(plan.dataset.root.resolve()),
        "samples": plan.samples,
        **plan.protocol.as_json(),
        "rounds": 1 + max(part.round for part in plan.parts),
        "subject": subject.as_json(),
        "mattes": keep_mattes,
    }


def _stamp(place: Path, results: Path) -> str:
    """Return a hash of the names, sizes and times of change of files, but for the results."""
    digest = hashlib.blake2b(digest_size=16)
    own = results.resolve()
    for path in sorted([place] if place.is_file() else place.rglob("*")):
        if path.is_file() and not path.resolve().is_relative_to(own):
            facts = path.stat()
            name = path.relative_to(place)
            digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _count(journal: Journal, plan: Plan) -> int:
    return sum(len(journal.done[part.key]) for part in plan.parts if part.key in journal.done)


def mean(results: Sequence[Result], measure: Measure) -> float:
    """Return the mean over samples and then over rounds; samples without a value do not count."""
    by_round: dict[int, list[float]] = {}
    for result in results:
        value = result.values[measure.name]
        if not np.isnan(value):
            by_round.setdefault(result.round, []).append(value)
    rounds = [sum(values) / len(values) for _, values in sorted(by_round.items())]
    return sum(rounds) / len(rounds) if rounds else float("nan")
