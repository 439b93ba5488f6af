"""Chain the stages between the model and the outputs: smooth, finish, share overlaps, colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

import torch

from vidmatte.frames import MatteBatch
from vidmatte.imaging.despill import despill
from vidmatte.imaging.foreground import estimate_foreground
from vidmatte.media.prefetch import map_async
from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import Predictor
from vidmatte.options import MatteOptions
from vidmatte.prompts.objects import Mattes, for_each_object, share_overlaps
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.stages.finish import Finisher
from vidmatte.stages.full_size import keep_given_areas
from vidmatte.stages.smooth import smooth

MattesCallback = Callable[[Mapping[str, MatteBatch]], None]
"""Called with the mattes of each object by its name, frames in order."""
_VIDEO_PEAK = 1.25
"""The highest value of video; light of scene-linear sources goes far beyond."""


def postprocess(
    mattes: Generator[Mattes],
    options: MatteOptions,
    finisher: Finisher,
    objects: int,
    with_color: bool,
    device: torch.device,
    span: tuple[int, int] | None = None,
) -> Generator[Mattes]:
    """Smooth and finish mattes, share overlaps between objects, and estimate colour.

    Args:
        mattes: mattes of all objects in order, from the model; closed at the end.
        options: the options of the stages.
        finisher: the FINISH controls with their masks.
        objects: number of objects.
        with_color: whether an output holds colour.
        device: device for the estimation of colour.
        span: first frame and end (exclusive) of the frames to yield; frames outside only help
            to smooth those inside. None for all.
    """

    def complete(batches: Mattes) -> Mattes:
        # After finishing: a grown matte may reach into its neighbour.
        done = share_overlaps(tuple(map(finisher, batches)))
        if not with_color:
            return done
        # A feathered edge would count colour of the background as the object's.
        edges = done
        if options.finish.feather and options.foreground == "estimate":
            edges = share_overlaps(tuple(finisher(batch, feathered=False) for batch in batches))
        return tuple(
            _with_color(batch, edge, options, device)
            for batch, edge in zip(done, edges, strict=True)
        )

    with ExitStack() as stages:
        # The last stage is closed first: none is closed while another still draws from it.
        stages.enter_context(closing(mattes))
        if options.smooth:
            smoothed = for_each_object(
                lambda batches: smooth(batches, options.smooth), mattes, objects
            )
            mattes = stages.enter_context(closing(smoothed))
        if span is not None:
            mattes = stages.enter_context(closing(_within(mattes, span)))
        # On a thread of its own, beside the network.
        if with_color or finisher or objects > 1:
            mattes = stages.enter_context(closing(map_async(complete, mattes, 1)))
        yield from mattes


def _within(mattes: Generator[Mattes], span: tuple[int, int]) -> Generator[Mattes]:
    for batches in mattes:
        inside = [
            index
            for index, frame in enumerate(batches[0].source.frames)
            if span[0] <= frame < span[1]
        ]
        if len(inside) == len(batches[0]):
            yield batches
        elif inside:
            # The first or the last batch lies half inside.
            yield tuple(batch[inside[0] : inside[-1] + 1] for batch in batches)


def _with_color(
    batch: MatteBatch, edge: MatteBatch, options: MatteOptions, device: torch.device
) -> MatteBatch:
    """Return the batch with its colour.

    `edge` is the matte that decides the object's share in the colour of a pixel.
    """
    if options.foreground == "estimate":
        batch = replace(batch, foreground=with_foreground(edge, device).foreground)
    if options.despill is None:
        return batch
    return replace(batch, foreground=despill(batch.color, options.despill))


def with_foreground(batch: MatteBatch, device: torch.device | str = "cpu") -> MatteBatch:
    """Return the batch with the straight foreground colour estimated, computed on `device`."""
    rgb, alpha = batch.source.rgb, batch.alpha
    # Light above diffuse white is scaled into 0..1 by a power of two, to change no bit of the
    # fraction.
    peak = float(rgb.max())
    if peak <= _VIDEO_PEAK:
        return replace(
            batch, foreground=estimate_foreground(rgb.to(device), alpha.to(device)).to(rgb.device)
        )
    # Its logarithm is a whole number, so scaling is exact.
    peak = 2.0 ** math.ceil(math.log2(peak))
    color = estimate_foreground((rgb / peak).to(device), alpha.to(device)).to(rgb.device)
    return replace(batch, foreground=color * peak)


def matte_images(
    predictors: Sequence[Predictor], video: Video, references: Sequence[Sequence[Reference]]
) -> Generator[Mattes]:
    """Yield the mattes of independent images, one of each predictor for each image.

    Args:
        predictors: one of each object.
        video: the images.
        references: those of each object; a mask with a hard edge stays as it is on its own image.
    """
    shown = [with_display_transform(predictor, video.info.color) for predictor in predictors]
    pairs = list(zip(shown, references, strict=True))
    return (
        tuple(keep_given_areas(predictor(batch), marks) for predictor, marks in pairs)
        # One image at a time: their sizes may differ.
        for batch in video.batches(1)
    )
