"""References as `compact` matches them, from a whole mask or from a prompt that marks a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidmatte.imaging.arrays import Alpha, Flow, Rgb8
from vidmatte.model.compact.inference import (
    Expectation,
    WindowModel,
    WindowPrediction,
    coarse_matte,
)
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.window import (
    Box,
    crop_alpha,
    drop_far_components,
    full_frame,
    paste,
    window_around,
    window_on,
)
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference

_REVISIONS = 3
"""How often the matte of clicks, strokes or a box is revised on its own frame."""
_SEARCHED = (0.7, 0.45)
"""Windows in which an object is looked for beside the whole frame, as shares of its side."""
_PROMPT_REACH = 0.1
"""How far from a prompt a piece of the object may begin, as a share of the object's size."""


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
class EncodedReference:
    """A reference as it is matched.

    Attributes:
        frame: its index in the clip; None for another image.
        marked: the frame with its whole alpha, given or found.
        memory: its encoding.
        window: what the network saw of the frame.
        predicted: (h, w) over the window: the mask itself, or what the network made of a prompt.
        confidence: of the network in its own matte of the frame.
    """

    frame: int | None
    marked: PromptedFrame
    memory: Memory
    window: Box
    predicted: Alpha
    confidence: float

    def coarse(self) -> CoarseMatte:
        """Return the matte of the frame itself."""
        height, width = self.marked.alpha.shape
        return coarse_matte(self.predicted, self.confidence, self.window, height, width)


def encode_reference(model: WindowModel, reference: Reference) -> EncodedReference:
    """Encode a reference; if it is marked in part, the network finds its whole alpha first."""
    frame = model.shrink(reference.rgb).numpy()
    adjacent = None
    if reference.adjacent is not None:
        adjacent = model.shrink(reference.adjacent).numpy()
    alpha, known = _shrink_labels(reference, frame.shape[0], frame.shape[1])
    marked = PromptedFrame(frame, adjacent, alpha, known)
    if reference.is_complete:
        return encode_known(model, reference.frame, marked)
    window, found = expand_prompt(model, marked)
    height, width = alpha.shape
    whole = replace(marked, alpha=paste(found.alpha, window, height, width))
    return EncodedReference(
        reference.frame, whole, found.memory, window, found.alpha, found.confidence
    )


def encode_known(model: WindowModel, index: int | None, marked: PromptedFrame) -> EncodedReference:
    """Encode a frame of the clip whose alpha is known everywhere."""
    window = window_around(marked.alpha)
    given = crop_alpha(marked.alpha, window, model.fitted_size(window))
    memory = model.encode_memory(marked.rgb, window, given)
    expected = Expectation(given, np.ones_like(given))
    flow = _adjacent_flow(model, marked, window)
    own = model.infer_window(marked.rgb, window, [memory], expected=expected, flow=flow)
    # The mask is what the artist wants: it holds on its own frame, and only its edge is refined.
    return EncodedReference(index, marked, memory, window, given, own.confidence)


def expand_prompt(model: WindowModel, marked: PromptedFrame) -> tuple[Box, WindowPrediction]:
    """Find the whole object from a prompt (section 3.6): the frame is its own reference.

    A box says how large the object is, and its own matte is what the points and strokes inside it
    correct. Without one the object is looked for in windows of several sizes, then in the one that
    fits what was found; the answer with the highest confidence counts. Its matte then joins the
    prompt as a reference and is expected again, which fills holes and drops what does not belong,
    as later frames of a clip do.
    """
    inside = marked.alpha * marked.known
    # Everything but the known background. A box closes off at least one side of the frame.
    free = 1 - marked.known * (1 - marked.alpha)
    sides = (free[0], free[-1], free[:, 0], free[:, -1])
    if all(side.max() > 0.5 for side in sides):
        window, found = _search(model, marked, inside if inside.any() else free)
        return window, _revise(model, marked, window, found)
    box_window = window_around(free)
    background_alone = replace(marked, known=marked.known * (1 - marked.alpha))
    by_box = _answer(model, background_alone, box_window)
    by_box = _revise(model, background_alone, box_window, by_box)
    if not inside.any():
        return box_window, by_box
    return box_window, _revise(model, marked, box_window, by_box)


def _revise(
    model: WindowModel, marked: PromptedFrame, window: Box, found: WindowPrediction
) -> WindowPrediction:
    """Return the answer after it was expected, and matched to itself, a few times."""
    for _ in range(_REVISIONS):
        expected = Expectation(found.alpha, np.ones_like(found.alpha))
        found = _answer(model, marked, window, memories=[found.memory], expected=expected)
    return found


def _search(
    model: WindowModel, marked: PromptedFrame, inside: Alpha
) -> tuple[Box, WindowPrediction]:
    """Look for the object of a prompt in windows of several sizes on `inside` (h, w)."""
    height, width = marked.alpha.shape
    windows = {full_frame(height, width)}
    windows |= {window_on(inside, share) for share in _SEARCHED}
    answers = [(window, _answer(model, marked, window)) for window in sorted(windows)]
    window, found = max(answers, key=lambda pair: pair[1].confidence)
    pasted = paste(found.alpha, window, height, width)
    connected = drop_far_components(pasted, inside, _PROMPT_REACH)
    nearer = window_around(np.maximum(connected, inside))
    if nearer[2] < window[2]:
        answers.append((nearer, _answer(model, marked, nearer)))
        window, found = max(answers, key=lambda pair: pair[1].confidence)
    return window, found


def _answer(
    model: WindowModel,
    marked: PromptedFrame,
    window: Box,
    *,
    memories: Sequence[Memory] = (),
    expected: Expectation | None = None,
) -> WindowPrediction:
    """Matte a window of a frame from the prompt in it."""
    labels = model.labels_in(window, marked.alpha, marked.known)
    flow = _adjacent_flow(model, marked, window)
    return model.infer_window(
        marked.rgb, window, memories, expected=expected, labels=labels, flow=flow
    )


def _adjacent_flow(model: WindowModel, marked: PromptedFrame, window: Box) -> Flow | None:
    if marked.adjacent is None:
        return None
    return model.flow(marked.rgb, marked.adjacent, window)


def _shrink_labels(reference: Reference, height: int, width: int) -> tuple[Alpha, Alpha]:
    """Return alpha and known of a reference at another size: alpha averaged over what is known."""
    alpha = reference.alpha[0, 0].numpy()
    known = reference.known[0, 0].numpy()
    share = cv2.resize(known, (width, height), interpolation=cv2.INTER_AREA)
    marked = cv2.resize(alpha * known, (width, height), interpolation=cv2.INTER_AREA)
    average = np.divide(marked, share, out=np.zeros_like(marked), where=share > 0)
    return np.asarray(average, np.float32), np.asarray(share, np.float32)
