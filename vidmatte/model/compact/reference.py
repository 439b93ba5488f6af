"""References as `compact` matches them, from a whole mask or from a prompt that marks a part."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vidmatte.imaging.arrays import Alpha, Flow, Rgb8
from vidmatte.model.compact.expectation import Expectation
from vidmatte.model.compact.inference import WindowModel, coarse_matte
from vidmatte.model.compact.marking import (
    Answer,
    MarkedFrame,
    Step,
    first_answer,
    next_answer,
    shrink_labels,
    steps_of,
)
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.unknown_area import fill_unknown
from vidmatte.model.compact.window import Box, crop_alpha, paste, window_around
from vidmatte.model.interface import CoarseMatte
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Reference

_WHOLLY = 0.99
"""Share of a small pixel above which it is known, short of 1 for rounding."""
_Images: TypeAlias = "tuple[weakref.ref[Tensor], weakref.ref[Tensor] | None]"


@dataclass(frozen=True)
class PromptedFrame:
    """A frame with its object marked, small enough to be kept.

    Attributes:
        rgb: (h, w, 3).
        adjacent: the frame beside it in its clip; None for a still.
        alpha: (h, w), read where it is known.
        known: (h, w) 0-1.
    """

    rgb: Rgb8
    adjacent: Rgb8 | None
    alpha: Alpha
    known: Alpha


@dataclass(frozen=True)
class Marking:
    """How the alpha of a marked frame was found, so that further marks begin from it.

    Attributes:
        frame: its encodings.
        answer: to its marks.
        extent: what was asked for; None for what the network is surest of.
        images: those of the reference, which are not shrunk again while they are in use.
    """

    frame: MarkedFrame
    answer: Answer
    extent: Extent | None
    images: _Images


@dataclass(frozen=True)
class EncodedReference:
    """A reference as it is matched.

    Attributes:
        frame: its index in the clip; None for another image.
        marked: the frame with its whole alpha, given or found.
        memory: its encoding.
        window: what the network saw of the frame.
        predicted: (h, w) over the window: the mask itself, or what the network made of a prompt.
        confidence: of the network in its own matte of the frame.
        marking: how its alpha was found from marks; None for a mask.
        mask: (1, 1, H, W) at full size, as it was given; None for another prompt.
    """

    frame: int | None
    marked: PromptedFrame
    memory: Memory
    window: Box
    predicted: Alpha
    confidence: float
    marking: Marking | None = None
    mask: Tensor | None = None

    @property
    def extents(self) -> tuple[Extent, ...]:
        """See `EncodedMarks.extents`."""
        return ("object",) if self.marking is None else self.marking.answer.extents

    @property
    def extent(self) -> Extent:
        """See `EncodedMarks.extent`."""
        return "object" if self.marking is None else self.marking.answer.extent

    def coarse(self, model: WindowModel) -> CoarseMatte:
        """Return the matte of the frame itself; one that was found from marks is corrected."""
        height, width = self.marked.alpha.shape
        alpha = self.predicted
        if self.marking is not None:
            alpha = model.corrected(torch.from_numpy(self.marked.rgb), self.window, alpha)
        return coarse_matte(alpha, self.confidence, self.window, height, width)


def encode_reference(
    model: WindowModel, reference: Reference, *, after: EncodedReference | None = None
) -> EncodedReference:
    """Encode a reference; if it is marked in part, its whole alpha is found first.

    The network finds it from marks, and the image's colours fill the unknown area of a trimap.

    Args:
        model: of windows.
        reference: an image with its object marked.
        after: the same image with other marks. The image is not encoded again then, and if its
            marks begin those of the reference, they are not answered again; the result does not
            depend on it.
    """
    rgb, adjacent = _small_images(model, reference, after)
    size = rgb.shape[:2]
    if reference.is_complete or reference.is_trimap:
        drawn = shrink_labels(reference.alpha[0, 0], reference.known[0, 0], size)
        # A small pixel is known only if all of it is.
        known = np.asarray(drawn.known > _WHOLLY, np.float32)
        alpha = drawn.alpha
        if reference.is_trimap:
            alpha = fill_unknown(rgb, alpha, known)
        marked = PromptedFrame(rgb, adjacent, alpha, np.ones_like(alpha))
        encoded = encode_known(model, reference.frame, marked)
        return encoded if reference.is_trimap else replace(encoded, mask=reference.alpha)
    frame, answer = _continued(after, reference, rgb, adjacent)
    frame = frame or MarkedFrame(model, rgb, adjacent)
    answer = _answered(frame, reference, answer)
    alpha = paste(answer.alpha, answer.window, *size)
    return EncodedReference(
        reference.frame,
        PromptedFrame(rgb, adjacent, alpha, np.ones_like(alpha)),
        answer.memory,
        answer.window,
        answer.alpha,
        answer.confidence,
        Marking(frame, answer, reference.extent, _images_of(reference)),
    )


def _images_of(reference: Reference) -> _Images:
    """Return the images of a reference, so that they are known again but not kept alive."""
    beside = reference.adjacent
    return weakref.ref(reference.rgb), None if beside is None else weakref.ref(beside)


def _small_images(
    model: WindowModel, reference: Reference, after: EncodedReference | None
) -> tuple[Rgb8, Rgb8 | None]:
    """Return the image of a reference and the one beside it, shrunk; as before if they are same."""
    if after is not None and after.marking is not None:
        rgb, beside = after.marking.images
        same_beside = None if beside is None else beside()
        if rgb() is reference.rgb and same_beside is reference.adjacent:
            return after.marked.rgb, after.marked.adjacent
    adjacent = None
    if reference.adjacent is not None:
        adjacent = model.shrink(reference.adjacent).numpy()
    return model.shrink(reference.rgb).numpy(), adjacent


def _continued(
    after: EncodedReference | None, reference: Reference, rgb: Rgb8, adjacent: Rgb8 | None
) -> tuple[MarkedFrame | None, Answer | None]:
    """Return the encodings and the answer of an earlier reference, as far as they still hold."""
    if after is None or after.marking is None:
        return None, None
    frame = after.marking.frame
    if not np.array_equal(frame.rgb, rgb) or (adjacent is None) != (frame.adjacent is None):
        return None, None
    beside = frame.adjacent
    if adjacent is not None and beside is not None and not np.array_equal(adjacent, beside):
        return None, None
    done = after.marking.answer.marks
    is_begun = len(done) <= len(reference.steps) and all(
        mark.is_same(now) for mark, now in zip(done, reference.steps, strict=False)
    )
    if not done or not is_begun or after.marking.extent != reference.extent:
        return frame, None
    return frame, after.marking.answer


def _answered(frame: MarkedFrame, reference: Reference, answer: Answer | None) -> Answer:
    """Return the answer to all marks of a reference, from the answer to the first ones if any."""
    known = reference.known[0, 0]
    full_size = (known.shape[0], known.shape[1])
    if not reference.steps:
        drawn = shrink_labels(reference.alpha[0, 0], known, frame.size)
        step = Step((), drawn, drawn.inside, drawn.known - drawn.inside)
        return first_answer(frame, step, reference.extent)
    done = 0 if answer is None else len(answer.marks)
    for step in steps_of(reference.steps, full_size, frame.size, done=done):
        if answer is None:
            answer = first_answer(frame, step, reference.extent)
        else:
            answer = next_answer(frame, step, answer)
    assert answer is not None  # a prompt marks the object, or is a box
    return answer


def encode_known(model: WindowModel, index: int | None, marked: PromptedFrame) -> EncodedReference:
    """Encode a frame of the clip whose alpha is known everywhere."""
    window = window_around(marked.alpha)
    given = crop_alpha(marked.alpha, window, model.fitted_size(window))
    features = model.see(marked.rgb, window)
    memory = model.memory_of(features, given)
    expected = Expectation(given, np.ones_like(given))
    flow = _adjacent_flow(model, marked, window)
    own = model.infer_window(
        marked.rgb, window, [memory], expected=expected, flow=flow, features=features
    )
    # The mask is what the artist wants: it holds on its own frame, and only its edge is refined.
    return EncodedReference(index, marked, memory, window, given, own.confidence)


def _adjacent_flow(model: WindowModel, marked: PromptedFrame, window: Box) -> Flow | None:
    if marked.adjacent is None:
        return None
    return model.flow(marked.rgb, marked.adjacent, window)
