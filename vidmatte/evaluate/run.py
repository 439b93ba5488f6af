"""A run: every part of the plan matted and measured once, kept in a journal, by one or several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidmatte import __version__
from vidmatte.datasets import Dataset
from vidmatte.errors import OptionError, WriteError
from vidmatte.evaluate.images import strip
from vidmatte.evaluate.journal import MATTES, PICTURES, Journal, Result, open_journal
from vidmatte.evaluate.measures import ClipScore, Measure, measure_image, measures_of, ranking
from vidmatte.evaluate.method import Load, LoadChosen, Method, ModelMethod, PredictedMatte, reseed
from vidmatte.evaluate.predictions import PredictionMethod
from vidmatte.evaluate.protocol import Plan, Protocol, WorkItem, make_plan
from vidmatte.evaluate.workers import share
from vidmatte.imaging.optical_flow import to_gray
from vidmatte.media.atomic import atomic_write
from vidmatte.model.build import notes_of
from vidmatte.options import MatteOptions, chosen_options

OnDone = Callable[[int, int], None]
"""Told how many samples are done, and how many there are."""


@dataclass(frozen=True)
class MethodUnderTest:
    """What is to be measured: a model and how it is run, or a folder of mattes."""

    name: str
    """As tables call it."""
    options: MatteOptions = field(default_factory=MatteOptions)
    """Of the model: its name, files, device, adaptation and smoothing."""
    load: Load | None = None
    """What loads the model instead of `load_model`: for models of one's own."""
    predictions: Path | None = None
    """A folder of mattes, see `predictions`; then no model is run."""
    switches: Mapping[str, object] = field(default_factory=dict)
    """Settings of the model that are compared, see `experiments`."""

    def as_json(self) -> dict[str, Any]:
        """What decides the mattes, by name."""
        if self.predictions is not None:
            return {"predictions": str(self.predictions)}
        own = {name: str(value) for name, value in chosen_options(self.options).items()}
        return {"name": self.name, **own, **self.switches}


@dataclass(frozen=True)
class Evaluation:
    """What came out of a run."""

    subject: MethodUnderTest
    plan: Plan
    measures: tuple[Measure, ...]
    results: tuple[Result, ...]
    """In the order of the plan, round by round."""
    notes: tuple[str, ...]
    folder: Path

    @property
    def rank(self) -> Measure:
        """The measure by which samples are sorted."""
        return ranking(self.measures)

    def worst_first(self) -> list[Result]:
        """The samples of the first round, from the worst to the best."""
        sign = 1 if self.rank.higher_is_better else -1
        first = [result for result in self.results if result.round == 0]
        return sorted(
            first,
            key=lambda result: (sign * np.nan_to_num(result.values[self.rank.name]), result.name),
        )


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
    """Measure a subject on a data set; what a stopped run of the same choices had done is not done again.

    Args:
        folder: for the journal and pictures; made where it is not there.
        workers: processes, each of which computes on one thread. The results do not depend on their number.
        keep_mattes: whether to write the mattes of the first round to `folder/mattes`, as 16-bit PNG.
        overwrite: replace the results of another run in that folder.

    Raises:
        OptionError: choices that do not fit each other, the data set or the model.
        ReadError: a file of the data set or a matte is missing, damaged or of another size.
        ModelError: the model cannot be loaded.
        WriteError: the folder cannot be written.
    """
    if workers < 1:
        raise OptionError(f"{workers} workers are not valid: it must be at least 1")
    folder = Path(folder)
    prepared, rounds, notes = _prepare(subject, protocol)
    plan = make_plan(dataset, protocol, rounds=rounds)
    measures = _measures(dataset)
    journal = open_journal(
        folder, _identity(plan, subject, folder, keep_mattes=keep_mattes), overwrite=overwrite
    )
    left = [part for part in plan.parts if part.key not in journal.done]
    done = _count(journal, plan)
    report = on_done or (lambda done, total: None)
    report(done, plan.samples)
    work = _Work(
        plan, measures, folder, keep_mattes, prepared if workers == 1 else subject.load, subject
    )
    del prepared  # it holds the model, which other processes load again
    with closing(share(work, left, workers)) as finished:
        for key, results in finished:
            journal.add(key, results)
            done += len(results)
            report(done, plan.samples)
    complete = tuple(result for part in plan.parts for result in journal.done[part.key])
    return Evaluation(subject, plan, measures, complete, (*plan.notes, *notes), folder)


def _prepare(subject: MethodUnderTest, protocol: Protocol) -> tuple[Load | None, int, list[str]]:
    """How the model comes, loaded once here so that errors come early; rounds that differ; what to say of them."""
    if subject.predictions is not None:
        if not subject.predictions.is_dir():
            raise OptionError(
                f"{subject.predictions}: mattes were to be read from it, but it is no folder"
            )
        return None, 1, ["mattes written by another system; one round"]
    model = (subject.load or LoadChosen(subject.options))(subject.switches)
    notes = list(notes_of(model))
    if not protocol.draws_marks and reseed(model, 0) is None and protocol.rounds > 1:
        return (
            lambda switches: model,
            1,
            [*notes, f"nothing is drawn: one round stands for all {protocol.rounds}"],
        )
    return lambda switches: model, protocol.rounds, notes


def _measures(dataset: Dataset) -> tuple[Measure, ...]:
    kinds = {clip.kind for clip in dataset.clips} | {
        s.kind for group in dataset.groups for s in group.images
    }
    if len(kinds & {"alpha"}) and len(kinds) > 1:
        raise OptionError(
            f"{dataset.root}: holds truth of both kinds, alpha and masks, whose measures differ: evaluate them apart"
        )
    return measures_of(clips=bool(dataset.clips), soft=kinds == {"alpha"})


def _identity(
    plan: Plan, subject: MethodUnderTest, folder: Path, *, keep_mattes: bool
) -> dict[str, Any]:
    options = subject.options
    given = (
        [subject.predictions]
        if subject.predictions
        else [options.model, options.weights, options.sd]
    )
    return {
        "files": [
            _stamp(Path(path).expanduser(), folder)
            for path in (plan.dataset.root, *given)
            if path is not None
        ],
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
    """Names, sizes and times of change of a file, or of all in a folder but the results themselves, as one hash."""
    digest, own = hashlib.blake2b(digest_size=16), results.resolve()
    for path in sorted([place] if place.is_file() else place.rglob("*")):
        if path.is_file() and not path.resolve().is_relative_to(own):
            facts = path.stat()
            digest.update(
                f"{path.relative_to(place)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()


def _count(journal: Journal, plan: Plan) -> int:
    return sum(len(journal.done[part.key]) for part in plan.parts if part.key in journal.done)


@dataclass(frozen=True)
class _Work:
    """Everything a process needs; called once there, it returns what measures a part."""

    plan: Plan
    measures: tuple[Measure, ...]
    folder: Path
    keep_mattes: bool
    load: Load | None
    subject: MethodUnderTest

    def __call__(self) -> Callable[[WorkItem], tuple[str, list[Result]]]:
        return partial(self.measure, self._method())

    def _method(self) -> Method:
        subject, options = self.subject, self.subject.options
        if subject.predictions is not None:
            return PredictionMethod(subject.predictions)
        model = (self.load or LoadChosen(options))(subject.switches)
        return ModelMethod(model, options.adapt_steps, options.smooth)

    def measure(self, method: Method, part: WorkItem) -> tuple[str, list[Result]]:
        """The key of a part and what was measured of it."""
        with closing(method.mattes(self.plan, part)) as mattes:
            if self.plan.dataset.clips:
                return part.key, [self._measure_clip(mattes, part)]
            return part.key, [self._measure_image(found, part) for found in mattes]

    def _measure_image(self, found: PredictedMatte, part: WorkItem) -> Result:
        group = self.plan.dataset.groups[part.index]
        name = group.images[found.index].name
        values = measure_image(self.measures, found.alpha, found.truth, found.unknown)
        pictures = []
        if part.round == 0:
            self._keep(found, group.name, name)
            pictures.append(
                ("", self._picture(f"{part.index:05d}_{found.index:05d}", strip(found)))
            )
        return Result(group.name, name, part.round, values, found.confidence, pictures=pictures)

    def _measure_clip(self, mattes: Generator[PredictedMatte], part: WorkItem) -> Result:
        clip = self.plan.dataset.clips[part.index]
        rank, score = ranking(self.measures), ClipScore(self.measures)
        confidence: list[float] = []
        worst: tuple[float, int, bytes] | None = None
        sign = -1 if rank.higher_is_better else 1
        last = b""
        for found in mattes:
            score.add(found.alpha, found.truth, to_gray(found.rgb))
            confidence += [] if found.confidence is None else [found.confidence]
            if part.round:
                continue
            self._keep(found, clip.name, clip.frames[found.index].stem)
            badness = sign * score.by_frame[rank.name][-1]
            is_worst = worst is None or badness > worst[0]
            if is_worst or found.index == part.targets[-1]:
                last = strip(found)
            if is_worst:
                worst = (badness, found.index, last)
        pictures = []
        if worst is not None:
            shown = {worst[1]: worst[2], part.targets[-1]: last}
            pictures = [
                (f"frame {frame}", self._picture(f"{part.index:05d}_{frame:05d}", picture))
                for frame, picture in shown.items()
            ]
        mean = float(np.mean(confidence)) if confidence else None
        frames = part.targets
        return Result(
            clip.name,
            "",
            part.round,
            score.values,
            mean,
            score.by_frame[rank.name],
            frames,
            pictures,
        )

    def _picture(self, name: str, data: bytes) -> str:
        path = f"{PICTURES}/{name}.jpg"
        _write(self.folder / path, data)
        return path

    def _keep(self, found: PredictedMatte, group: str, name: str) -> None:
        if self.keep_mattes:
            codes = (found.alpha * 65535 + 0.5).clip(0, 65535).astype(np.uint16)
            _, data = cv2.imencode(".png", codes)
            _write(self.folder / MATTES / group / f"{name}.png", data.tobytes())


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data, durable=False)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); free some space or check the rights"
        ) from error


def mean(results: Sequence[Result], measure: Measure) -> float:
    """Mean over samples and then over rounds; samples without a value (NaN) do not count."""
    by_round: dict[int, list[float]] = {}
    for result in results:
        value = result.values[measure.name]
        if not np.isnan(value):
            by_round.setdefault(result.round, []).append(value)
    rounds = [sum(values) / len(values) for _, values in sorted(by_round.items())]
    return sum(rounds) / len(rounds) if rounds else float("nan")
