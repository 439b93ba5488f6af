"""The stages behind the mattes, from the model to what is written: smooth, finish, share, colour."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import cv2
import torch

from vidmatte.despill import despill
from vidmatte.errors import OptionError
from vidmatte.finish import Finisher
from vidmatte.foreground import estimate_foreground
from vidmatte.frames import MatteBatch
from vidmatte.model.build import choose_device, load_model
from vidmatte.model.compact.matter import CompactMatter
from vidmatte.model.given import given_mattes, take
from vidmatte.model.interface import Matter, Model, TakesTrimaps
from vidmatte.model.settings import parse_settings
from vidmatte.model.viewer import show_to
from vidmatte.objects import Mattes, for_each_object, share_overlaps
from vidmatte.options import MatteOptions
from vidmatte.prompt import Reference
from vidmatte.read import Video
from vidmatte.request import Shot
from vidmatte.smoothing import smooth
from vidmatte.stream import map_behind
from vidmatte.train.rehearse import DEFAULT_STEPS, STEPS_A_FRAME, rehearse

StepCallback = Callable[[int, int], None]
"""Told how many steps of practice are done, and of how many."""
MattesCallback = Callable[[Mapping[str, MatteBatch]], None]
"""Given the mattes of each object by its name, frames in order."""
_VIDEO_PEAK = 1.25
"""No code value of video stands for more; light of scene-linear sources goes far beyond."""


def completed(
    mattes: Generator[Mattes],
    options: MatteOptions,
    finisher: Finisher,
    objects: int,
    with_color: bool,
    device: torch.device,
    span: tuple[int, int] | None = None,
) -> Generator[Mattes]:
    """Smooth, finish, share what overlaps, and estimate colour where an output wants it.

    Frames outside of `span` (first, and the one after the last) only help to smooth those inside.
    """

    def complete(batches: Mattes) -> Mattes:
        done = share_overlaps(tuple(map(finisher, batches)))
        if not with_color:
            return done
        edges = done
        if options.finish.feather and options.foreground == "estimate":
            edges = share_overlaps(tuple(finisher(batch, feathered=False) for batch in batches))
        return tuple(_with_color(batch, edge, options, device) for batch, edge in zip(done, edges, strict=True))

    with ExitStack() as stages:
        # The last stage is closed first, so that none is closed while another still draws from it.
        stages.enter_context(closing(mattes))
        if options.smooth:
            smoothed = for_each_object(lambda batches: smooth(batches, options.smooth), mattes, objects)
            mattes = stages.enter_context(closing(smoothed))
        if span is not None:
            mattes = stages.enter_context(closing(_within(mattes, span)))
        if with_color or options.finish or objects > 1:
            mattes = stages.enter_context(closing(map_behind(complete, mattes, 1)))
        yield from mattes


def _within(mattes: Generator[Mattes], span: tuple[int, int]) -> Generator[Mattes]:
    for batches in mattes:
        inside = [index for index, frame in enumerate(batches[0].source.frames) if span[0] <= frame < span[1]]
        if len(inside) == len(batches[0]):
            yield batches
        elif inside:
            yield tuple(batch[inside[0] : inside[-1] + 1] for batch in batches)


def _with_color(batch: MatteBatch, edge: MatteBatch, options: MatteOptions, device: torch.device) -> MatteBatch:
    """The batch with its colour; `edge` is the matte that says how much of a pixel's colour is the object's."""
    if options.foreground == "estimate":
        batch = replace(batch, foreground=with_foreground(edge, device).foreground)
    return batch if options.despill is None else replace(batch, foreground=despill(batch.color, options.despill))


def with_foreground(batch: MatteBatch, device: torch.device | str = "cpu") -> MatteBatch:
    """The batch with the straight foreground colour of its soft pixels estimated, computed on `device`."""
    rgb, alpha = batch.source.rgb, batch.alpha
    # Light above diffuse white is brought into 0..1 for it, by a power of two: that changes no bit of the fraction.
    peak = float(rgb.max())
    if peak <= _VIDEO_PEAK:
        return replace(batch, foreground=estimate_foreground(rgb.to(device), alpha.to(device)).to(rgb.device))
    peak = 2.0 ** math.ceil(math.log2(peak))
    color = estimate_foreground((rgb / peak).to(device), alpha.to(device)).to(rgb.device)
    return replace(batch, foreground=color * peak)


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


def rehearsal_steps(matter: Matter, asked: int | None, frames: int | None, images: bool) -> int:
    """Steps of practice for a clip of so many frames. Raises OptionError where they are asked for in vain."""
    if images or not isinstance(matter, CompactMatter):
        if asked:
            what = "a set of images" if images else "this model"
            raise OptionError(f"a rehearsal of {asked} steps was asked for, but {what} has none; leave it out")
        return 0
    steps = DEFAULT_STEPS if frames is None else min(DEFAULT_STEPS, STEPS_A_FRAME * frames)
    return steps if asked is None else asked


def rehearsed(
    matter: Matter, asked: int | None, frames: int | None, images: bool, on_step: StepCallback | None
) -> Matter:
    """The matter after its practice, where it is one that can."""
    steps = rehearsal_steps(matter, asked, frames, images)
    if not steps or not isinstance(matter, CompactMatter):
        return matter
    return rehearse(matter, steps=steps, on_step=lambda done: on_step(done, steps) if on_step else None)


def part_of(on_step: StepCallback | None, number: int, rehearsals: int) -> StepCallback | None:
    """What reports the steps of one of several rehearsals, as part of all of them."""
    if on_step is None:
        return None
    return lambda done, steps: on_step(number * steps + done, rehearsals * steps)


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
        raise OptionError(f"{unused[0].replace('_', ' ')} was given: it has no meaning where mattes are; leave it out")
    device = choose_device(options.device)
    return given_mattes(shot.given, shot.video, start=shot.start, end=shot.end, device=device)


def matter_of(shot: Shot, model: Model, references: Sequence[Reference]) -> Matter:
    """The model with what says where an object of a shot is: its references, or trimaps of all frames."""
    trimaps = shot.trimaps
    if trimaps is None:
        return model.with_reference(references)
    if not isinstance(model, TakesTrimaps):
        raise OptionError(f"trimaps were given: model {model.name!r} goes by marks; leave the trimaps out")
    return model.with_trimaps(lambda batch: take(trimaps, batch, shot.video.info))


def load(options: MatteOptions, settings: Mapping[str, str] | None = None) -> Model:
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


def matte_set(matters: Sequence[Matter], video: Video) -> Generator[Mattes]:
    """Mattes of independent images, one of each matter for each."""
    shown = [show_to(matter, video.info.color) for matter in matters]
    return (tuple(matter(batch) for matter in shown) for batch in video.batches(1))
