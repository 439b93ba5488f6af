"""Load the model of a shot and adapt it to the references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch

from vidmatte.errors import OptionError
from vidmatte.model.build import choose_device, load_model, notes_of, with_note
from vidmatte.model.external import external_mattes, read_masks
from vidmatte.model.interface import (
    Model,
    Predictor,
    SupportsAdaptation,
    SupportsEncodedReferences,
    SupportsTrimaps,
)
from vidmatte.model.prompted import PromptedModel, PromptModel
from vidmatte.model.settings import parse_settings
from vidmatte.options import MatteOptions
from vidmatte.pipeline.progress import Work
from vidmatte.pipeline.request import Shot
from vidmatte.prompts.prompt import Reference
from vidmatte.threads import Threads, using


@contextmanager
def share_cores(options: MatteOptions, threads: int | None = None) -> Iterator[None]:
    """Share the cores among the network, decoding and encoding for a block.

    Args:
        options: Device, model and number of threads.
        threads: Number of threads in place of that of the options; it changes the last bits of the
            network's results. None for the options' own, or the default for the machine.
    """
    # `compact` follows the object through the next frame while one is refined.
    stages = 2 if options.model == MatteOptions.model else 1
    asked = threads or options.threads
    with using(Threads.for_run(options.device, asked, stages=stages)):
        yield


def batch_size_of(options: MatteOptions, device: torch.device) -> int:
    """Return how many frames are decoded and passed on together."""
    return options.batch_size or (4 if device.type == "cuda" else 1)


def check_adaptation(predictor: Predictor, steps: int, images: bool) -> None:
    """Check that a predictor can be adapted to a source, if it is to be.

    Args:
        predictor: The model with its references.
        steps: Number of steps in the options.
        images: Whether the source is a set of independent images.

    Raises:
        OptionError: If the model or the source does not support adaptation.
    """
    if steps and (images or not isinstance(predictor, SupportsAdaptation)):
        what = "a set of images" if images else "this model"
        raise OptionError(
            f"{steps} adaptation steps were given, but {what} does not support adaptation; "
            f"leave them out"
        )


def adapted(predictor: Predictor, steps: int, images: bool, work: Work) -> Predictor:
    """Return the adapted predictor, or the same one without steps.

    See `check_adaptation`; each step is counted as `work`.
    """
    check_adaptation(predictor, steps, images)
    if not steps or not isinstance(predictor, SupportsAdaptation):
        return predictor
    work.begin("adapting")
    return predictor.adapt(steps, on_step=lambda done: work.add("adapting"))


def model_of(shot: Shot, load: Callable[[MatteOptions], Model]) -> Model:
    """Return the model of a shot, from `load`, or its external mattes in place of one.

    Raises OptionError if options of a model were given with external mattes.
    """
    if shot.given is None:
        return load(shot.options)
    options = shot.options
    for name in ("sd", "weights", "settings", "working_size", "quality", "precision"):
        if getattr(options, name) != getattr(MatteOptions, name):
            raise OptionError(
                f"{name.replace('_', ' ')} was given: it has no meaning where mattes are; leave it "
                f"out"
            )
    device = choose_device(options.device)
    return external_mattes(shot.given, shot.video, start=shot.start, end=shot.end, device=device)


def predictor_of(shot: Shot, model: Model, references: Sequence[Reference]) -> Predictor:
    """Return the model with the references of an object, or with the trimaps of all frames.

    Raises OptionError if there are trimaps or an extent, and the model does not take them.
    """
    trimaps = shot.trimaps
    if trimaps is None:
        extents = [reference.extent for reference in references if reference.extent is not None]
        if extents and not isinstance(model, SupportsEncodedReferences):
            raise OptionError(
                f"extent {extents[0]} was given: model {model.name!r} has one answer to its marks; "
                f"leave the extent out, or choose compact, sam2 or edgetam"
            )
        return model.with_reference(references)
    if not isinstance(model, SupportsTrimaps):
        raise OptionError(
            f"trimaps were given: model {model.name!r} goes by marks; leave the trimaps out"
        )
    return model.with_trimaps(lambda batch: read_masks(trimaps, batch, shot.video.info))


def model_from_options(options: MatteOptions, settings: Mapping[str, str] | None = None) -> Model:
    """Load the model of the options, with the one for its marks if that is another.

    `settings` override those of the options. See `load_model`.
    """
    model = _matting_model(options, settings)
    return with_prompt_model(model, options) if options.prompt_model is not None else model


def with_prompt_model(model: Model, options: MatteOptions) -> Model:
    """Return a model with the one of the options for its marks; itself if it is the same.

    See `load_model` for the errors.
    """
    if options.prompt_model is None or options.prompt_model == model.name:
        return model
    found = load_model(
        options.prompt_model,
        device=options.device,
        precision=options.precision,
        weights=options.prompt_weights,
    )
    if not isinstance(found, SupportsEncodedReferences):
        raise OptionError(f"prompt_model {found.name!r} does not answer marks; choose another one")
    return with_note(
        PromptedModel(model, cast("PromptModel", found)),
        f"marks were answered by {found.name!r}",
        *notes_of(found),
    )


def _matting_model(options: MatteOptions, settings: Mapping[str, str] | None) -> Model:
    return load_model(
        options.model,
        device=options.device,
        precision=options.precision,
        working_size=options.working_size,
        quality=options.quality,
        sd=options.sd,
        weights=options.weights,
        settings={**parse_settings(options.settings), **(settings or {})},
    )
