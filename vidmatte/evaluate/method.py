"""Methods under test: a model, run as the command line runs it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.datasets import Clip, Group, ImageSample, read_truth, read_unknown
from vidmatte.errors import OptionError, ReadError
from vidmatte.evaluate.prompts import draw_reference
from vidmatte.evaluate.protocol import Plan, WorkItem
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.display import to_display
from vidmatte.imaging.squares import rgb_to_square, to_square
from vidmatte.model.interface import Model, Predictor, SupportsSeed, SupportsTrimaps
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.pipeline.models import adapted, model_from_options
from vidmatte.pipeline.progress import Work
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video, open_video
from vidmatte.stages.propagate import matte_clip
from vidmatte.stages.smooth import smooth

Load: TypeAlias = Callable[[Mapping[str, object]], Model]
"""Loads the model with some of its switches set; picklable if several processes are to work."""


@dataclass(frozen=True)
class LoadChosen:
    """Load the model of the options."""

    options: MatteOptions

    def __call__(self, switches: Mapping[str, object]) -> Model:
        """Return the model. Raises OptionError, ModelError.

        Args:
            switches: settings with precedence over those of the options.
        """
        # Settings are given as on the command line.
        texts = {name: _text(value) for name, value in switches.items()}
        return model_from_options(self.options, texts)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def reseed(model: Model, seed: int) -> Model | None:
    """Return the model with another seed of its noise; None if it has no noise."""
    return model.with_seed(seed) if isinstance(model, SupportsSeed) else None


@dataclass(frozen=True)
class MethodUnderTest:
    """The method under test: a model with its options, or a folder of mattes."""

    name: str
    """As tables call it."""
    options: MatteOptions = field(default_factory=MatteOptions)
    """Of the model: its name, files, device, adaptation and smoothing."""
    load: Load | None = None
    """Loads the model instead of `load_model`: for models of one's own."""
    predictions: Path | None = None
    """A folder of mattes, see `predictions`; then no model is run."""
    switches: Mapping[str, object] = field(default_factory=dict)
    """Settings of the model to compare, see `experiments`."""

    def as_json(self) -> dict[str, Any]:
        """Return everything that decides the mattes, by name."""
        if self.predictions is not None:
            return {"predictions": str(self.predictions)}
        # Only choices that differ from the defaults belong to the identity.
        own = {name: str(value) for name, value in chosen_options(self.options).items()}
        return {"name": self.name, **own, **self.switches}


@dataclass(frozen=True)
class PredictedMatte:
    """One matte, with all there is to say and to show of it."""

    index: int
    """Of the image in its group, or of the frame in its clip."""
    rgb: Tensor
    """(3, H, W) as a model sees it."""
    alpha: Alpha
    """(H, W) the matte."""
    truth: Alpha
    counted: NDArray[np.bool_] | None
    """(H, W) counted pixels; None for all."""
    reference: Reference | None
    """The marks; None for given mattes."""
    confidence: float | None


class Method(Protocol):
    """A maker of mattes."""

    def mattes(self, plan: Plan, part: WorkItem) -> Generator[PredictedMatte]:
        """Yield the mattes of the targets of a part, in order."""
        ...


@dataclass(frozen=True)
class SeenImage:
    """An image from its file, in the model's form, with its truth."""

    rgb: Tensor
    """(1, 3, H, W)."""
    truth: Alpha
    """(H, W)."""
    counted: NDArray[np.bool_] | None
    """(H, W) counted pixels; None for all."""
    unknown: NDArray[np.bool_] | None = None
    """(H, W) the unknown area of the trimap, if there is one and it was asked for."""


def see(sample: ImageSample, plan: Plan, *, with_trimap: bool = False) -> SeenImage:
    """Read an image and its truth, cut to a square if the protocol says so. Raises ReadError.

    Args:
        sample: the image.
        plan: the plan, for the counted pixels.
        with_trimap: read the trimap even if its unknown area does not decide the counted pixels.
    """
    image = sample.read_image()
    size = (image.rgb.shape[1], image.rgb.shape[2])
    # The model gets what it would get in a run.
    rgb = to_display(torch.from_numpy(image.rgb)[None], image.color)
    truth = sample.read_alpha(size)
    unknown = None
    if sample.trimap is not None and (with_trimap or plan.region == "unknown"):
        unknown = read_unknown(sample.trimap, size, image=sample.image)
    border = sample.read_border(size)
    side = plan.protocol.squares
    # The protocol of the paper cuts everything to squares first.
    if side is not None:
        rgb = torch.from_numpy(rgb_to_square(rgb[0].numpy(), side))[None]
        truth = to_square(truth, side)
        if unknown is not None:
            unknown = to_square(unknown.astype(np.uint8), side, nearest=True) > 0
        if border is not None:
            border = to_square(border.astype(np.uint8), side, nearest=True) > 0
    counted = unknown if plan.region == "unknown" else None
    if border is not None:
        counted = ~border if counted is None else counted & ~border
    return SeenImage(rgb, truth, counted, unknown)


@dataclass(frozen=True)
class ModelMethod:
    """A model, and how it is run."""

    model: Model
    adapt_steps: int = 0
    """As `MatteOptions.adapt_steps`."""
    smooth: float = 0.0

    def mattes(self, plan: Plan, part: WorkItem) -> Generator[PredictedMatte]:
        """See `Method.mattes`. Images are matted alone, clips propagated from marked frames."""
        # Models without noise are the same in all rounds.
        model = reseed(self.model, plan.protocol.seed + part.round) or self.model
        if plan.dataset.clips:
            return self._of_clip(model, plan, part, plan.dataset.clips[part.index])
        group = plan.dataset.groups[part.index]
        if plan.guidance == "each":
            return self._each(model, plan, part, group)
        return self._of_group(model, plan, part, group)

    def _of_group(
        self, model: Model, plan: Plan, part: WorkItem, group: Group
    ) -> Generator[PredictedMatte]:
        references = []
        for index in part.references:
            _, reference = self._mark(plan, part, index, group.images[index])
            references.append(reference)
        predictor = model.with_reference(references)
        for index in part.targets:
            yield _matte(predictor, see(group.images[index], plan), index, references[0])

    def _each(
        self, model: Model, plan: Plan, part: WorkItem, group: Group
    ) -> Generator[PredictedMatte]:
        for index in part.targets:
            seen, reference = self._mark(plan, part, index, group.images[index])
            if _wants_trimap(model, plan):
                predictor = _with_trimap(model, reference)
            else:
                predictor = model.with_reference([reference])
            yield _matte(predictor, seen, index, reference)

    def _mark(
        self, plan: Plan, part: WorkItem, index: int, sample: ImageSample
    ) -> tuple[SeenImage, Reference]:
        """Read an image and draw its marks."""
        seen = see(sample, plan, with_trimap=plan.protocol.prompt == "trimap")
        return seen, _marked(plan, part, sample.name, seen, index, sample.alpha)

    def _of_clip(
        self, model: Model, plan: Plan, part: WorkItem, clip: Clip
    ) -> Generator[PredictedMatte]:
        end = 1 + max(*part.references, *part.targets, 0)
        with open_video(clip.folder) as video:
            references = []
            if plan.protocol.prompt == "trimap":
                predictor = _with_trimaps_of_frames(model, plan, part, clip)
            else:
                for frame in part.references:
                    references.append(_mark_frame(plan, part, clip, video, frame))
                conditioned = model.with_reference(references)
                predictor = adapted(conditioned, self.adapt_steps, False, Work())
            # Several frames at once pay only on an accelerator.
            batch_size = 4 if model.device.type == "cuda" else 1
            mattes = matte_clip(predictor, video, references, end=end, batch_size=batch_size)
            shown = references[0] if references else None
            with closing(smooth(mattes, self.smooth) if self.smooth else mattes) as batches:
                for batch in batches:
                    yield from _of_frames(batch, part, clip, video.info.color, shown)


def _marked(
    plan: Plan, part: WorkItem, name: str, seen: SeenImage, index: int, truth_file: Path
) -> Reference:
    try:
        return draw_reference(
            plan.protocol.prompt,
            seen.rgb,
            seen.truth,
            plan.rng(part, name),
            frame=index,
            unknown=seen.unknown,
            is_any_alpha=plan.protocol.squares is not None,
        )
    except ReadError as error:
        raise ReadError(f"{truth_file}: {error}") from error


def _mark_frame(plan: Plan, part: WorkItem, clip: Clip, video: Video, frame: int) -> Reference:
    """Return the reference of a frame, with the frame beside it, as a run makes it."""
    color = video.info.color
    rgb = to_display(video.frame(frame).rgb, color)
    size = (rgb.shape[-2], rgb.shape[-1])
    if clip.first_mask is not None and frame == 0 and plan.protocol.prompt == "mask":
        truth_file = clip.first_mask
        truth = read_truth((clip.first_mask,), "mask", size, image=clip.frames[0])
    else:
        truth_file = clip.truth_file(frame)
        truth = clip.read_alpha(frame, size)
    seen = SeenImage(rgb, truth, None)
    reference = _marked(plan, part, clip.frames[frame].stem, seen, frame, truth_file)
    beside = video.adjacent(frame)
    if beside is None:
        return reference
    return replace(reference, adjacent=to_display(beside.rgb, color))


def _matte(
    predictor: Predictor, seen: SeenImage, index: int, reference: Reference
) -> PredictedMatte:
    batch = predictor(FrameBatch(seen.rgb, frames=(index,), pts=(index,), durations=(1,)))
    alpha = np.asarray(batch.alpha[0, 0].numpy())
    return PredictedMatte(
        index, seen.rgb[0], alpha, seen.truth, seen.counted, reference, batch.confidence[0]
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
    """Tell whether a trimap is handed over as such; other models take it for marks."""
    if isinstance(model, SupportsTrimaps) and plan.protocol.prompt != "trimap":
        raise OptionError(f"model {model.name!r} takes a trimap of each image: use prompt 'trimap'")
    return isinstance(model, SupportsTrimaps)


def _with_trimap(model: Model, reference: Reference) -> Predictor:
    assert isinstance(model, SupportsTrimaps)  # only such models get here
    trimap = _as_trimap(reference)
    return model.with_trimaps(lambda batch: trimap.expand(len(batch), -1, -1, -1))


def _with_trimaps_of_frames(model: Model, plan: Plan, part: WorkItem, clip: Clip) -> Predictor:
    if not isinstance(model, SupportsTrimaps):
        raise OptionError(
            f"prompt 'trimap' was given, but model {model.name!r} takes none of each frame"
        )
    return model.with_trimaps(lambda batch: _trimaps_of_frames(plan, part, clip, batch))


def _as_trimap(reference: Reference) -> Tensor:
    return torch.where(reference.known > 0, reference.alpha, torch.full((), 0.5))


def _trimaps_of_frames(plan: Plan, part: WorkItem, clip: Clip, batch: FrameBatch) -> Tensor:
    size = (batch.rgb.shape[-2], batch.rgb.shape[-1])
    trimaps = []
    for i, frame in enumerate(batch.frames):
        seen = SeenImage(batch.rgb[i : i + 1], clip.read_alpha(frame, size), None)
        reference = _marked(plan, part, str(frame), seen, frame, clip.truth_file(frame))
        trimaps.append(_as_trimap(reference))
    return torch.cat(trimaps)
