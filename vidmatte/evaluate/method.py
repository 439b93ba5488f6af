"""What is measured: a model of ours, run as the command line runs it, or the mattes that any other system wrote."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.datasets import Clip, Group, ImageSample, read_unknown
from vidmatte.errors import OptionError, ReadError
from vidmatte.evaluate.prompts import draw_reference
from vidmatte.evaluate.protocol import Plan, WorkItem
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.display import to_display
from vidmatte.model.build import NotedModel
from vidmatte.model.iconmatting.predictor import IconMattingModel
from vidmatte.model.interface import Model, Predictor, SupportsTrimaps
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import adapted, model_from_options
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video, open_video
from vidmatte.stages.propagate import matte_clip
from vidmatte.stages.smooth import smooth

Load: TypeAlias = Callable[[Mapping[str, object]], Model]
"""Loads the model with some of its switches set; has to be picklable where several processes are to work."""


@dataclass(frozen=True)
class LoadChosen:
    """Loads the model that options name."""

    options: MatteOptions

    def __call__(self, switches: Mapping[str, object]) -> Model:
        """The model; `switches` go before the settings of the options. Raises OptionError, ModelError."""
        return model_from_options(
            self.options, {name: _text(value) for name, value in switches.items()}
        )


def _text(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def reseed(model: Model, seed: int) -> Model | None:
    """The model with another seed of its noise; None where it has no noise."""
    if isinstance(model, NotedModel):
        inner = reseed(model.model, seed)
        return None if inner is None else replace(model, model=inner)
    if isinstance(model, IconMattingModel):
        return replace(model, options=replace(model.options, seed=seed))
    return None


@dataclass(frozen=True)
class PredictedMatte:
    """One matte, with all there is to say and to show of it."""

    index: int
    """Of the image in its group, or of the frame in its clip."""
    rgb: Tensor
    """(3, H, W) as a model sees it."""
    alpha: Alpha
    """(H, W) what was found."""
    truth: Alpha
    unknown: NDArray[np.bool_] | None
    """(H, W) where errors count; None for everywhere."""
    reference: Reference | None
    """What was marked; None where mattes were given."""
    confidence: float | None


class Method(Protocol):
    """What makes mattes of a part of the plan."""

    def mattes(self, plan: Plan, part: WorkItem) -> Generator[PredictedMatte]:
        """The mattes of the targets of a part, in order."""
        ...


@dataclass(frozen=True)
class _Seen:
    """An image that was read, as a model sees it."""

    rgb: Tensor
    """(1, 3, H, W)."""
    truth: Alpha
    unknown: NDArray[np.bool_] | None


@dataclass(frozen=True)
class ModelMethod:
    """A model and how it is run."""

    model: Model
    adapt_steps: int | None = None
    """As `MatteOptions.adapt_steps`."""
    smooth: float = 0.0

    def mattes(self, plan: Plan, part: WorkItem) -> Generator[PredictedMatte]:
        """See `Method.mattes`. Images are looked at alone, clips followed from their marked frames."""
        model = reseed(self.model, plan.protocol.seed + part.round) or self.model
        if plan.dataset.clips:
            return self._of_clip(model, plan, part, plan.dataset.clips[part.index])
        group = plan.dataset.groups[part.index]
        return (self._each if plan.guidance == "each" else self._of_group)(model, plan, part, group)

    def _of_group(
        self, model: Model, plan: Plan, part: WorkItem, group: Group
    ) -> Generator[PredictedMatte]:
        references = [
            self._mark(plan, part, index, group.images[index]) for index in part.references
        ]
        predictor = model.with_reference(references)
        for index in part.targets:
            yield _matte(predictor, _see(group.images[index], plan), index, references[0])

    def _each(
        self, model: Model, plan: Plan, part: WorkItem, group: Group
    ) -> Generator[PredictedMatte]:
        for index in part.targets:
            reference = self._mark(plan, part, index, group.images[index])
            predictor = (
                _with_trimap(model, reference)
                if _wants_trimap(model, plan)
                else model.with_reference([reference])
            )
            yield _matte(predictor, _see(group.images[index], plan), index, reference)

    def _mark(self, plan: Plan, part: WorkItem, index: int, sample: ImageSample) -> Reference:
        seen = _see(sample, plan)
        unknown = seen.unknown
        if plan.protocol.prompt == "trimap" and sample.trimap is not None and unknown is None:
            unknown = read_unknown(sample.trimap, seen.truth.shape, image=sample.image)
        return _marked(plan, part, sample.name, seen, index, unknown, sample.alpha)

    def _of_clip(
        self, model: Model, plan: Plan, part: WorkItem, clip: Clip
    ) -> Generator[PredictedMatte]:
        end = 1 + max(*part.references, *part.targets, 0)
        with open_video(clip.folder) as video:
            if plan.protocol.prompt == "trimap":
                if not isinstance(model, SupportsTrimaps):
                    raise OptionError(
                        f"prompt 'trimap' was given, but model {model.name!r} takes none of each frame"
                    )
                references: list[Reference] = []
                predictor = model.with_trimaps(
                    lambda batch: _trimaps_of_frames(plan, part, clip, batch)
                )
            else:
                references = [
                    _mark_frame(plan, part, clip, video, frame) for frame in part.references
                ]
                predictor = adapted(
                    model.with_reference(references), self.adapt_steps, end, False, None
                )
            mattes = matte_clip(
                predictor,
                video,
                references,
                end=end,
                batch_size=4 if model.device.type == "cuda" else 1,
            )
            with closing(smooth(mattes, self.smooth) if self.smooth else mattes) as batches:
                for batch in batches:
                    yield from _of_frames(
                        batch, part, clip, video.info.color, references[0] if references else None
                    )


def _see(sample: ImageSample, plan: Plan) -> _Seen:
    image = sample.read_image()
    size = (image.rgb.shape[1], image.rgb.shape[2])
    truth = sample.read_alpha(size)
    unknown = None
    if plan.region == "unknown" and sample.trimap is not None:
        unknown = read_unknown(sample.trimap, size, image=sample.image)
    return _Seen(to_display(torch.from_numpy(image.rgb)[None], image.color), truth, unknown)


def _marked(
    plan: Plan,
    part: WorkItem,
    name: str,
    seen: _Seen,
    index: int,
    unknown: NDArray[np.bool_] | None,
    truth_file: Path,
) -> Reference:
    rng = plan.rng(part, name)
    try:
        return draw_reference(
            plan.protocol.prompt, seen.rgb, seen.truth, rng, frame=index, unknown=unknown
        )
    except ReadError as error:
        raise ReadError(f"{truth_file}: {error}") from error


def _mark_frame(plan: Plan, part: WorkItem, clip: Clip, video: Video, frame: int) -> Reference:
    """The reference of a frame, with the frame beside it, as `prompts.reference.make_references` makes it."""
    color = video.info.color
    rgb = to_display(video.frame(frame).rgb, color)
    size = (rgb.shape[-2], rgb.shape[-1])
    truth_file = clip.alphas[frame]
    truth = clip.read_alpha(frame, size)
    if clip.first_mask is not None and frame == 0 and plan.protocol.prompt == "mask":
        given = replace(clip, alphas=(clip.first_mask,), kind="mask")
        truth_file, truth = clip.first_mask, given.read_alpha(0, size)
    reference = _marked(
        plan, part, clip.frames[frame].stem, _Seen(rgb, truth, None), frame, None, truth_file
    )
    beside = video.adjacent(frame)
    return (
        reference if beside is None else replace(reference, adjacent=to_display(beside.rgb, color))
    )


def _matte(predictor: Predictor, seen: _Seen, index: int, reference: Reference) -> PredictedMatte:
    batch = predictor(FrameBatch(seen.rgb, frames=(index,), pts=(index,), durations=(1,)))
    alpha = np.asarray(batch.alpha[0, 0].numpy())
    return PredictedMatte(
        index, seen.rgb[0], alpha, seen.truth, seen.unknown, reference, batch.confidence[0]
    )


def _of_frames(
    batch: MatteBatch, part: WorkItem, clip: Clip, color: ColorTags, reference: Reference | None
) -> Iterator[PredictedMatte]:
    shown = to_display(batch.source.rgb, color)
    for i, frame in enumerate(batch.source.frames):
        if frame in part.targets:
            size = (shown.shape[-2], shown.shape[-1])
            alpha = np.asarray(batch.alpha[i, 0].numpy())
            yield PredictedMatte(
                frame,
                shown[i],
                alpha,
                clip.read_alpha(frame, size),
                None,
                reference,
                batch.confidence[i],
            )


def _wants_trimap(model: Model, plan: Plan) -> bool:
    """Whether a trimap is handed over as such; a model that knows none takes it for marks."""
    if isinstance(model, SupportsTrimaps) and plan.protocol.prompt != "trimap":
        raise OptionError(f"model {model.name!r} takes a trimap of each image: use prompt 'trimap'")
    return isinstance(model, SupportsTrimaps)


def _with_trimap(model: Model, reference: Reference) -> Predictor:
    assert isinstance(model, SupportsTrimaps)  # only such models get here
    trimap = _as_trimap(reference)
    return model.with_trimaps(lambda batch: trimap.expand(len(batch), -1, -1, -1))


def _as_trimap(reference: Reference) -> Tensor:
    return torch.where(reference.known > 0, reference.alpha, torch.full((), 0.5))


def _trimaps_of_frames(plan: Plan, part: WorkItem, clip: Clip, batch: FrameBatch) -> Tensor:
    size = (batch.rgb.shape[-2], batch.rgb.shape[-1])
    trimaps = []
    for i, frame in enumerate(batch.frames):
        seen = _Seen(batch.rgb[i : i + 1], clip.read_alpha(frame, size), None)
        trimaps.append(
            _as_trimap(_marked(plan, part, str(frame), seen, frame, None, clip.alphas[frame]))
        )
    return torch.cat(trimaps)
