"""The interface of every model, for all stages, the command line and evaluation.

Every model offers `Model` and `Predictor`. The `Supports...` protocols are offered by some
models: callers test for them with `isinstance`, never for a concrete model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Reference

ReadTrimaps: TypeAlias = Callable[[FrameBatch], Tensor]
"""Gives the trimaps of frames, (N, 1, H, W): 1 object, 0 background, anything between unknown."""


@dataclass(frozen=True)
class CoarseMatte:
    """A matte at the working size of a model, small enough to be kept for many frames."""

    alpha: Tensor
    """(h, w) float32 in 0..1 over the window; outside of it alpha is 0."""
    confidence: float
    """How sure the model is of the matte, 0..1."""
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right, bottom of the model's window, as shares of the frame."""

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the window in a frame of this height and width."""
        left, top, right, bottom = self.window
        x = round(left * width)
        y = round(top * height)
        # At least one pixel, also for a window smaller than a pixel.
        rows = slice(y, max(y + 1, round(bottom * height)))
        return rows, slice(x, max(x + 1, round(right * width)))


class Tracker(Protocol):
    """Propagates a matte from frame to frame in one direction, with a memory."""

    def start(self, reference: Reference) -> CoarseMatte:
        """Return the matte of a reference frame; the next step continues from there."""
        ...

    def step(self, small: Tensor) -> CoarseMatte:
        """Return the matte of the next frame, given as `Predictor.shrink` makes it."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return its whole memory, on the CPU."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another tracker of the same predictor, instead of `start`."""
        ...


LaterMatte: TypeAlias = Callable[[], CoarseMatte]
"""Returns a coarse matte, which may still have to be completed; see `SupportsDeferral`."""


@runtime_checkable
class SupportsDeferral(Protocol):
    """A tracker that can put off the work that the next frame does not need."""

    def follow(self, small: Tensor) -> LaterMatte:
        """Go to the next frame, as `Tracker.step` does; return a function that returns its matte.

        The function may be called on any thread, in any order, more than once, and after a later
        `start` or `restore`.
        """
        ...


class Predictor(Protocol):
    """A model with its references encoded, to be matched to any number of images. Immutable."""

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return mattes of independent images: each is matched to the references alone."""
        ...

    def tracker(self) -> Tracker | None:
        """Return a new tracker for consecutive frames; None if the model keeps no frame memory."""
        ...

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return a frame (1, 3, H, W) as a tracker takes it: smaller, in a layout of the model."""
        ...

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return (1, 1, H, W) alpha at full size, with the edges of the image (1, 3, H, W)."""
        ...


@runtime_checkable
class SupportsMaskedFrames(Protocol):
    """A predictor that sees more in a mask of full size than in the coarse matte of its frame."""

    def finish_masked(self, rgb: Tensor, frame: int) -> Tensor | None:
        """Return alpha at full size of a frame with a mask, as `Predictor.finish`; else None."""
        ...


@runtime_checkable
class SupportsAdaptation(Protocol):
    """A predictor with a network that can be fine-tuned on its references."""

    def adapt(self, steps: int, *, on_step: Callable[[int], None] | None = None) -> Predictor:
        """Return a predictor with the fine-tuned network; this one stays as it is.

        `on_step` is told the number of steps done.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return the weights changed by adaptation."""
        ...

    def with_weights(self, weights: Mapping[str, Tensor]) -> Predictor:
        """Return a predictor of the same references with the weights of an adapted one."""
        ...


@runtime_checkable
class SupportsGuidance(Protocol):
    """A predictor that can show the guidance of its head."""

    def guidance(self, batch: FrameBatch) -> Mapping[str, Tensor]:
        """Return maps (N, 1, h, w) in 0..1 over whole images by name.

        The names are `inter_similarity` and `intra_similarity`.
        """
        ...


class Model(Protocol):
    """A loaded network with its pre- and postprocessing."""

    @property
    def name(self) -> str:
        """Return the name, as it was asked for."""
        ...

    @property
    def device(self) -> torch.device:
        """Return its device."""
        ...

    @property
    def precision(self) -> torch.dtype:
        """Return the data type of its computation."""
        ...

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """Encode references (at least one); features in their regions of interest are the query."""
        ...


@runtime_checkable
class SupportsTrimaps(Protocol):
    """A model that takes a trimap of each image; its `with_reference` raises OptionError."""

    def with_trimaps(self, trimaps: ReadTrimaps) -> Predictor:
        """Return the predictor with the trimap of each image from a function."""
        ...


class EncodedMarks(Protocol):
    """An encoded reference that says which answers its marks have."""

    @property
    def extents(self) -> tuple[Extent, ...]:
        """What the first mark may mean, smallest first; one for a mask."""
        ...

    @property
    def extent(self) -> Extent:
        """What this answer takes it for."""
        ...


@runtime_checkable
class SupportsEncodedReferences(Protocol):
    """A model that encodes references one by one, for any combination of them."""

    def encode(self, reference: Reference, *, after: Any | None = None) -> EncodedMarks:
        """Return one encoded reference.

        Args:
            reference: an image with its object marked.
            after: what was returned for the same image with other marks, best with the first of
                these, which may save time; the result does not depend on it.
        """
        ...

    def with_encoded(self, references: Sequence[Any]) -> Predictor:
        """Return the result of `with_reference` for references encoded before."""
        ...


@runtime_checkable
class SupportsSeed(Protocol):
    """A model that may use random noise."""

    def with_seed(self, seed: int) -> Model | None:
        """Return the model with another seed of its noise; None if it uses no noise."""
        ...
