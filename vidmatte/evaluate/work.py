"""Measure one part of a plan: mattes in, values and pictures out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from vidmatte.datasets import Clip, Group
from vidmatte.errors import ReadError, WriteError
from vidmatte.evaluate.clicks import click_through
from vidmatte.evaluate.images import strip
from vidmatte.evaluate.journal import MATTES, PICTURES, Result
from vidmatte.evaluate.measures import ClipScore, Measure, measure_image, ranking
from vidmatte.evaluate.method import (
    Load,
    LoadChosen,
    Method,
    MethodUnderTest,
    ModelMethod,
    PredictedMatte,
    SeenImage,
    see,
)
from vidmatte.evaluate.predictions import PredictionMethod
from vidmatte.evaluate.protocol import Plan, WorkItem
from vidmatte.evaluate.usual_prompts import mark_each_way
from vidmatte.imaging.display import to_display
from vidmatte.imaging.optical_flow import to_gray
from vidmatte.media.atomic import atomic_write
from vidmatte.model.interface import Model
from vidmatte.read.images import read_image


@dataclass(frozen=True)
class Work:
    """Everything a process needs; called once there, it returns the function to measure a part."""

    plan: Plan
    measures: tuple[Measure, ...]
    folder: Path
    keep_mattes: bool
    load: Load | None
    subject: MethodUnderTest

    def __call__(self) -> Callable[[WorkItem], tuple[str, list[Result]]]:
        """Load the method and return the function to measure a part with it."""
        return partial(self.measure, self._method())

    def _method(self) -> Method:
        if self.subject.predictions is not None:
            return PredictionMethod(self.subject.predictions)
        options = self.subject.options
        model = (self.load or LoadChosen(options))(self.subject.switches)
        return ModelMethod(model, options.adapt_steps, options.smooth)

    def measure(self, method: Method, part: WorkItem) -> tuple[str, list[Result]]:
        """Return the key of a part and its measures."""
        if self.plan.protocol.marks_each:
            assert isinstance(method, ModelMethod)  # given mattes were refused before
            return part.key, self._measure_marks(method, part)
        with closing(method.mattes(self.plan, part)) as mattes:
            if self.plan.dataset.clips:
                return part.key, [self._measure_clip(mattes, part)]
            return part.key, [self._measure_image(found, part) for found in mattes]

    def _measure_image(self, found: PredictedMatte, part: WorkItem) -> Result:
        group = self.plan.dataset.groups[part.index]
        name = group.images[found.index].name
        values = measure_image(self.measures, found.alpha, found.truth, found.counted)
        pictures = []
        if part.round == 0:
            self._keep(found, group.name, name)
            pictures.append(("", self._picture(part, found.index, strip(found))))
        return Result(group.name, name, part.round, values, found.confidence, pictures=pictures)

    def _measure_clip(self, mattes: Generator[PredictedMatte], part: WorkItem) -> Result:
        clip = self.plan.dataset.clips[part.index]
        rank = ranking(self.measures)
        score = ClipScore(self.measures, counts_still_start=self.plan.counts_first_frame)
        confidence: list[float] = []
        worst: tuple[float, int, bytes] | None = None
        sign = -1 if rank.higher_is_better else 1
        last = b""
        for found in mattes:
            score.add(found.alpha, found.truth, to_gray(found.rgb))
            if found.confidence is not None:
                confidence.append(found.confidence)
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
            # The worst frame and the last; one picture if they are the same.
            shown = {worst[1]: worst[2], part.targets[-1]: last}
            for frame, picture in shown.items():
                pictures.append((f"frame {frame}", self._picture(part, frame, picture)))
        return Result(
            clip.name,
            "",
            part.round,
            score.values,
            float(np.mean(confidence)) if confidence else None,
            score.by_frame[rank.name],
            part.targets,
            pictures,
        )

    def _measure_marks(self, method: ModelMethod, part: WorkItem) -> list[Result]:
        dataset = self.plan.dataset
        results = []
        for index in part.targets:
            if dataset.clips:
                clip = dataset.clips[part.index]
                group, name, truth = clip.name, clip.frames[index].stem, clip.truth_file(index)
                seen = _see_frame(clip, index)
            else:
                images: Group = dataset.groups[part.index]
                sample = images.images[index]
                group, name, truth = images.name, sample.name, sample.alpha
                seen = see(sample, self.plan)
            try:
                results.append(self._marked(method.model, seen, part, index, (group, name)))
            except ReadError as error:
                raise ReadError(f"{truth}: {error}") from error
        return results

    def _marked(
        self, model: Model, seen: SeenImage, part: WorkItem, index: int, names: tuple[str, str]
    ) -> Result:
        """Return what was measured of an image that is clicked, or marked in the usual ways."""
        most = self.plan.protocol.clicks
        if most is None:
            seed = self.plan.protocol.seed
            marked = mark_each_way(model, seen, index=index, seed=seed)
            picture = self._picture(part, index, strip(marked.last))
            confidence = marked.last.confidence
            caption = ("the stroke", picture)
            return Result(*names, part.round, marked.values, confidence, pictures=[caption])
        session = click_through(model, seen, index=index, most=most)
        picture = self._picture(part, index, strip(session.last))
        count = len(session.clicks)
        return Result(
            *names,
            part.round,
            session.values(most),
            session.last.confidence,
            session.overlaps,
            tuple(range(1, 1 + len(session.overlaps))),
            [(f"after {count} click{'s' * (count > 1)}", picture)],
        )

    def _picture(self, part: WorkItem, index: int, data: bytes) -> str:
        path = f"{PICTURES}/{part.index:05d}_{index:05d}.jpg"
        _write(self.folder / path, data)
        return path

    def _keep(self, found: PredictedMatte, group: str, name: str) -> None:
        if self.keep_mattes:
            codes = (found.alpha * 65535 + 0.5).clip(0, 65535).astype(np.uint16)
            _, data = cv2.imencode(".png", codes)
            _write(self.folder / MATTES / group / f"{name}.png", data.tobytes())


def _see_frame(clip: Clip, frame: int) -> SeenImage:
    image = read_image(clip.frames[frame])
    size = (image.rgb.shape[1], image.rgb.shape[2])
    rgb = to_display(torch.from_numpy(image.rgb)[None], image.color)
    return SeenImage(rgb, clip.read_alpha(frame, size), None)


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data, durable=False)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); free some space or check the rights"
        ) from error
