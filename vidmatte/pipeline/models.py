"""Load the model of a shot and adapt it to the references."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import cv2
import torch

from vidmatte.errors import OptionError
from vidmatte.model.build import choose_device, load_model
from vidmatte.model.compact.adapt import adapt
from vidmatte.model.compact.predictor import CompactPredictor
from vidmatte.model.external import external_mattes, read_masks
from vidmatte.model.interface import Model, Predictor, SupportsTrimaps
from vidmatte.model.settings import parse_settings
from vidmatte.options import ADAPT_STEPS_PER_FRAME, DEFAULT_ADAPT_STEPS, MatteOptions
from vidmatte.pipeline.request import Shot
from vidmatte.prompts.prompt import Reference

StepCallback = Callable[[int, int], None]
"""Told how many adaptation steps are done, and of how many."""


@contextmanager
def share_cores(device: str, threads: int | None = None) -> Iterator[None]:
    """Leave one core to decoding and encoding while the network runs on the processor.

    With `threads` it is those, whatever the machine has: their number changes the last bits of what the network says.

    The threads of torch and OpenCV wait for each other by spinning: when they share their cores with the codecs, a
    frame takes several times as long as with one thread less.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    if device in ("auto", "cpu"):
        spare = max(1, (os.cpu_count() or 2) - 1)
        torch.set_num_threads(threads or min(before[0], spare))
        cv2.setNumThreads(threads or min(before[1], spare))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def batch_size_of(options: MatteOptions, device: torch.device) -> int:
    """Frames that are decoded and passed on together."""
    return options.batch_size or (4 if device.type == "cuda" else 1)


def adaptation_steps(
    predictor: Predictor, asked: int | None, frames: int | None, images: bool
) -> int:
    """Adaptation steps for a clip of so many frames. Raises OptionError where they are asked for in vain."""
    if images or not isinstance(predictor, CompactPredictor):
        if asked:
            what = "a set of images" if images else "this model"
            raise OptionError(
                f"an adaptation of {asked} steps was asked for, but {what} has none; leave it out"
            )
        return 0
    steps = (
        DEFAULT_ADAPT_STEPS
        if frames is None
        else min(DEFAULT_ADAPT_STEPS, ADAPT_STEPS_PER_FRAME * frames)
    )
    return steps if asked is None else asked


def adapted(
    predictor: Predictor,
    asked: int | None,
    frames: int | None,
    images: bool,
    on_step: StepCallback | None,
) -> Predictor:
    """The adapted predictor, if it is of a kind that can adapt."""
    steps = adaptation_steps(predictor, asked, frames, images)
    if not steps or not isinstance(predictor, CompactPredictor):
        return predictor
    return adapt(
        predictor, steps=steps, on_step=lambda done: on_step(done, steps) if on_step else None
    )


def sub_progress(
    on_step: StepCallback | None, number: int, adaptations: int
) -> StepCallback | None:
    """What reports the steps of one of several adaptations, as part of all of them."""
    if on_step is None:
        return None
    return lambda done, steps: on_step(number * steps + done, adaptations * steps)


def model_of(shot: Shot, loaded: Callable[[MatteOptions], Model]) -> Model:
    """What mattes a shot: the model that its options ask for, as `loaded` gives it, or the mattes that were given."""
    if shot.given is None:
        return loaded(shot.options)
    options = shot.options
    unused = [
        name
        for name in ("sd", "weights", "settings", "working_size", "precision")
        if getattr(options, name) != getattr(MatteOptions, name)
    ]
    if unused:
        raise OptionError(
            f"{unused[0].replace('_', ' ')} was given: it has no meaning where mattes are; leave it out"
        )
    device = choose_device(options.device)
    return external_mattes(shot.given, shot.video, start=shot.start, end=shot.end, device=device)


def predictor_of(shot: Shot, model: Model, references: Sequence[Reference]) -> Predictor:
    """The model with what says where an object of a shot is: its references, or trimaps of all frames."""
    trimaps = shot.trimaps
    if trimaps is None:
        return model.with_reference(references)
    if not isinstance(model, SupportsTrimaps):
        raise OptionError(
            f"trimaps were given: model {model.name!r} goes by marks; leave the trimaps out"
        )
    return model.with_trimaps(lambda batch: read_masks(trimaps, batch, shot.video.info))


def model_from_options(options: MatteOptions, settings: Mapping[str, str] | None = None) -> Model:
    """The model that the options ask for; `settings` go before those of the options. See `load_model`."""
    return load_model(
        options.model,
        device=options.device,
        precision=options.precision,
        working_size=options.working_size,
        sd=options.sd,
        weights=options.weights,
        settings={**parse_settings(options.settings), **(settings or {})},
    )
