"""What every model offers, so that the pipeline, the command line and evaluation take any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.prompts.prompt import Reference

ReadTrimaps: TypeAlias = Callable[[FrameBatch], Tensor]
"""From frames to their trimaps, (N, 1, H, W) 1 object, 0 background, anything between unknown."""


@dataclass(frozen=True)
class CoarseMatte:
    """A matte at the model's working size; small enough to be kept for many frames."""

    alpha: Tensor
    """(h, w) float32 in 0..1, over the window; 0 outside."""
    confidence: float
    """How sure the model is of it, 0..1."""
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right, bottom of what the model looked at, as shares of the frame's width and height."""


class Tracker(Protocol):
    """Follows the object from frame to frame in one direction, remembering what it saw."""

    def start(self, reference: Reference) -> CoarseMatte:
        """Matte of the frame that a reference marks; the next step comes from there."""
        ...

    def step(self, small: Tensor) -> CoarseMatte:
        """Matte of the next frame, given as `Predictor.shrink` makes it."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All that it remembers, on the processor."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what another tracker of the same predictor remembered, in place of `start`."""
        ...


class Predictor(Protocol):
    """A model that has seen its references: encoded once, matched to any number of images. Immutable."""

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Mattes of images that do not belong together: each is matched to the references alone."""
        ...

    def tracker(self) -> Tracker | None:
        """A new tracker for consecutive frames; None where the model looks at each frame alone."""
        ...

    def shrink(self, rgb: Tensor) -> Tensor:
        """The frame (1, 3, H, W) as a tracker takes it: smaller, in a layout of the model's own."""
        ...

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """(1, 1, H, W) alpha at full size, its edges those of the image (1, 3, H, W)."""
        ...


@runtime_checkable
class SupportsGuidance(Protocol):
    """A predictor that can show what its head was guided by."""

    def guidance(self, batch: FrameBatch) -> Mapping[str, Tensor]:
        """Maps (N, 1, h, w) in 0..1 over whole images, by name: `inter_similarity`, `intra_similarity`."""
        ...


class Model(Protocol):
    """A loaded network with its pre- and postprocessing."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def precision(self) -> torch.dtype:
        """What it computes in."""
        ...

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """Encode references (at least one); the features inside their regions of interest become the query."""
        ...


@runtime_checkable
class SupportsTrimaps(Protocol):
    """A model that is told a trimap of each image instead of a reference; `with_reference` raises OptionError then."""

    def with_trimaps(self, trimaps: ReadTrimaps) -> Predictor:
        """The predictor that takes the trimap of each image from a function."""
        ...
