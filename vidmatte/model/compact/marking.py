"""Find an object from the marks on a frame: each mark corrects the answer to those before it.

The last answer is what the network expects, as in RITM (Sofiiuk et al., ICIP 2022). A mark binds
the region that it lies in. A mark on the object takes nothing away that marks hold, one off it
nothing that is much nearer to those on it. Pieces that touch neither a mark nor the last answer
stay out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Alpha, Flow, Rgb8
from vidmatte.model.compact.belonging import alike_to_mark, share_of_mark
from vidmatte.model.compact.expectation import Expectation
from vidmatte.model.compact.inference import WindowModel, WindowPrediction
from vidmatte.model.compact.net import Features
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.window import (
    Box,
    crop_alpha,
    drop_far_components,
    full_frame,
    grown,
    holds,
    inner_weight,
    is_cut,
    paste,
    window_around,
    window_on,
)
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Mark

Region = NDArray[np.bool_]
_SEARCHED = (0.7, 0.45)
"""Windows in which an object is looked for beside the whole frame, as shares of its side."""
_PROMPT_REACH = 0.1
"""How far from a mark a piece of the object may begin, as a share of the mark's size."""
_UNLIKE = 0.8
"""Overlap below which two mattes are different answers."""
_PIECE = 0.3
"""Alpha from which pixels form the pieces of a matte."""
_ALIKE = 0.85
"""How much a place must look like a mark to be one region with it; see `alike_to_mark`."""
_HELD = 0.3
"""Share of a mark off the object, see `share_of_mark`, below which it takes nothing away."""
_KEPT_WINDOWS = 4
_KEPT_SHARE = 0.6
"""Size of the window that an answer needs, as a share of the last one, from which that is kept."""
_FRINGE = 5
"""Side in pixels of the neighbourhood by which a changed region is widened for its soft edge."""
_MARKED = 0.3
"""Share of a pixel that a mark has to cover."""


class MarkedFrame:
    """A frame that is being marked, and its encodings through the last few windows.

    Attributes:
        rgb: (h, w, 3), of `WindowModel.shrink`.
        adjacent: the frame beside it in its clip; None for a still.
    """

    def __init__(self, model: WindowModel, rgb: Rgb8, adjacent: Rgb8 | None) -> None:
        self.model = model
        self.rgb = rgb
        self.adjacent = adjacent
        self._seen: dict[Box, tuple[Features, Flow | None]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def features(self, window: Box) -> Features:
        """Return the encoding of a window, which is computed once."""
        return self._see(window)[0]

    def answer(
        self,
        window: Box,
        marks: DrawnMarks,
        *,
        memories: Sequence[Memory] = (),
        expected: Alpha | None = None,
    ) -> WindowPrediction:
        """Return the matte of a window from the marks, and from the alpha (h, w) expected there."""
        features, flow = self._see(window)
        foreseen = None
        if expected is not None:
            foreseen = Expectation(expected, np.ones_like(expected))
        return self.model.infer_window(
            self.rgb,
            window,
            memories,
            expected=foreseen,
            labels=self.model.labels_in(window, marks.alpha, marks.known),
            flow=flow,
            features=features,
        )

    def _see(self, window: Box) -> tuple[Features, Flow | None]:
        if window not in self._seen:
            flow = None
            if self.adjacent is not None:
                flow = self.model.flow(self.rgb, self.adjacent, window)
            self._seen[window] = (self.model.see(self.rgb, window), flow)
        # The latest is last, so that the one that was not used for longest is dropped.
        self._seen[window] = self._seen.pop(window)
        while len(self._seen) > _KEPT_WINDOWS:
            del self._seen[next(iter(self._seen))]
        return self._seen[window]


@dataclass(frozen=True)
class DrawnMarks:
    """Marks drawn on a frame: (h, w) alpha 0-1, read where (h, w) known is above 0."""

    alpha: Alpha
    known: Alpha

    @property
    def inside(self) -> Alpha:
        """(h, w) what is marked as object."""
        return self.alpha * self.known

    @property
    def free(self) -> Alpha:
        """(h, w) everything but what is marked as background."""
        return 1 - self.known * (1 - self.alpha)

    @property
    def is_box(self) -> bool:
        """Whether a box is among them: it closes off at least one side of the frame."""
        free = self.free
        sides = (free[0], free[-1], free[:, 0], free[:, -1])
        return any(side.max() <= 0.5 for side in sides)


@dataclass(frozen=True)
class Step:
    """Marks that are answered together.

    Attributes:
        marks: what was marked; empty if only its drawing is known.
        drawn: all marks so far.
        on: (h, w) the new ones on the object.
        off: (h, w) the new ones off it.
    """

    marks: tuple[Mark, ...]
    drawn: DrawnMarks
    on: Alpha
    off: Alpha


@dataclass(frozen=True)
class Answer:
    """What the marks so far show.

    Attributes:
        marks: those that were answered.
        window: what the network saw of the frame.
        alpha: (h, w) over the window.
        confidence: of the network, 0-1.
        memory: the window with this alpha as a reference.
        extents: what the first mark may have meant, smallest first.
        extent: what this answer takes it for.
    """

    marks: tuple[Mark, ...]
    window: Box
    alpha: Alpha
    confidence: float
    memory: Memory
    extents: tuple[Extent, ...] = ("object",)
    extent: Extent = "object"


def first_answer(frame: MarkedFrame, step: Step, extent: Extent | None) -> Answer:
    """Return the answer to the first marks, of which one at least is on the object, or a box is."""
    drawn = step.drawn
    if drawn.is_box:
        # It says how large the object is.
        window = window_around(drawn.free)
        found = frame.answer(window, drawn)
        # Expected once more, the matte has fewer holes; expected again and again, it shrinks.
        found = frame.answer(window, drawn, memories=[found.memory], expected=found.alpha)
        return Answer(step.marks, window, found.alpha, found.confidence, found.memory)
    offered = _nested(_search(frame, drawn), frame.size)
    chosen = extent if extent in offered else "object"
    window, found = offered[chosen]
    answer = Answer(step.marks, window, found.alpha, found.confidence, found.memory)
    answer = _connected(frame, drawn, answer)
    return replace(answer, extents=tuple(offered), extent=chosen)


def next_answer(frame: MarkedFrame, step: Step, last: Answer) -> Answer:
    """Return the last answer, corrected by further marks."""
    height, width = frame.size
    whole = paste(last.alpha, last.window, height, width)
    window = _window_for(np.maximum(whole, np.maximum(step.drawn.inside, step.off)), last.window)
    found, before = _expect(frame, step, window, last)
    if is_cut(paste(found.alpha, window, height, width), window):
        # What runs out of its window is looked at in a larger one.
        window = grown(window, height, width)
        found, before = _expect(frame, step, window, last)
    if step.on.any():
        # What the mark added tells more of the object than the mark alone.
        found, _ = _expect(frame, step, window, replace(last, window=window, alpha=found.alpha))
    after = found.alpha
    on = _covered(step.drawn.inside, window, before.shape)
    if not step.off.any():
        # Marks on the object say nothing against what marks hold already.
        held = _widened(_touching(before > _PIECE, on))
        after = np.where(held, np.maximum(before, after), after)
    for label, plane in ((1, step.on), (0, step.off)):
        new = _covered(plane, window, before.shape)
        if new.any():
            against = _covered(
                step.drawn.known * np.abs(step.drawn.alpha - label), window, before.shape
            )
            after = _bind(frame, window, before, after, new, against & ~new, label)
    after = _without_islands(after, before, on)
    memory = frame.model.memory_of(frame.features(window), after)
    return replace(
        last,
        marks=last.marks + step.marks,
        window=window,
        alpha=after,
        confidence=found.confidence,
        memory=memory,
    )


def _expect(
    frame: MarkedFrame, step: Step, window: Box, last: Answer
) -> tuple[WindowPrediction, Alpha]:
    """Return the network's answer in a window that expects the last one, and that one there."""
    height, width = frame.size
    before = last.alpha
    if window != last.window:
        before = _seen_in(frame, paste(last.alpha, last.window, height, width), window)
    expected = before.copy()
    expected[_covered(step.on, window, before.shape)] = 1
    expected[_covered(step.off, window, before.shape)] = 0
    # As in training: the last matte is the prior, and one of the references.
    found = _expected_answer(frame, step.drawn, window, expected)
    # Nothing new begins at the edge of a window: what is beyond was not looked at.
    inner = inner_weight(window, before.shape, height, width)
    return replace(found, alpha=before + inner * (found.alpha - before)), before


def _expected_answer(
    frame: MarkedFrame, drawn: DrawnMarks, window: Box, expected: Alpha
) -> WindowPrediction:
    """Return the answer of a window in which an alpha (h, w) is expected and remembered."""
    memory = frame.model.memory_of(frame.features(window), expected)
    return frame.answer(window, drawn, memories=[memory], expected=expected)


def _seen_in(frame: MarkedFrame, whole: Alpha, window: Box) -> Alpha:
    """Return the alpha (h, w) of a frame as a window shows it."""
    return crop_alpha(whole, window, frame.model.fitted_size(window))


def _bind(
    frame: MarkedFrame,
    window: Box,
    before: Alpha,
    found: Alpha,
    new: Region,
    against: Region,
    label: int,
) -> Alpha:
    """Return the network's answer, in which a new mark binds the region that it lies in.

    The region is what looks alike around it, nearer to it than to opposite marks. A mark off the
    object takes the whole piece with it unless another mark holds that, and nothing that is much
    nearer to the marks on the object.

    All planes are (h, w) over the window.

    Args:
        frame: the marked frame.
        window: in pixels of the frame.
        before: the last answer.
        found: the network's answer with the new mark.
        new: the new mark.
        against: all marks of the opposite label.
        label: of the new mark.
    """
    keys = frame.features(window).keys
    mine = torch.from_numpy(new)
    share = share_of_mark(keys, mine, torch.from_numpy(against)).numpy()
    if not label:
        # What surely belongs to the marks on the object stays.
        found = np.where((found < before) & (share < _HELD), before, found)
    wrong = (before > 0.5) != bool(label)
    alike = alike_to_mark(keys, mine).numpy() > _ALIKE
    forced = _touching(wrong & alike & (share > 0.5), new) | new
    if not label:
        blob = _touching(before > 0.5, new)
        if not (blob & against).any():
            # With its soft edge: a ring would stay behind.
            forced |= blob | (_widened(blob) & ~(before > 0.5))
    return np.ascontiguousarray(np.where(forced, np.float32(label), found), np.float32)


def _without_islands(after: Alpha, before: Alpha, on: Region) -> Alpha:
    """Return an answer (h, w) without new pieces that touch neither a mark nor the last answer."""
    pieces = after > _PIECE
    held = (before > _PIECE) | on
    islands = pieces & ~_touching(pieces, pieces & held)
    return np.where(_widened(islands) & ~held, np.minimum(after, before), after)


def _widened(region: Region) -> Region:
    """Return a region (h, w) with the soft edge around it."""
    kernel = np.ones((_FRINGE, _FRINGE), np.uint8)
    return np.asarray(cv2.dilate(region.astype(np.uint8), kernel) > 0)


def _touching(region: Region, mark: Region) -> Region:
    """Return the connected pieces of a region (h, w), together with a mark, that touch the mark."""
    count, pieces = cv2.connectedComponents((region | mark).astype(np.uint8))
    touched = np.zeros(count, np.bool_)
    touched[np.unique(pieces[mark])] = True
    touched[0] = False
    return np.asarray(touched[pieces])


def _covered(plane: Alpha, window: Box, size: tuple[int, ...]) -> Region:
    """Return where a drawing (h, w) of the frame covers a window seen at a size."""
    return crop_alpha(plane, window, (size[0], size[1])) > _MARKED


def _window_for(wanted: Alpha, last: Box) -> Box:
    """Return the window for all that is wanted of a frame (h, w): the last one if it will do."""
    height, width = wanted.shape
    window = window_around(wanted)
    if holds(last, wanted) and window[2] > _KEPT_SHARE * last[2]:
        return last
    while not holds(window, wanted):
        window = grown(window, height, width)
    return window


def _connected(frame: MarkedFrame, drawn: DrawnMarks, answer: Answer) -> Answer:
    """Return an answer without what is apart from all marks, in a window that holds it."""
    height, width = frame.size
    whole = paste(answer.alpha, answer.window, height, width)
    near = drop_far_components(whole, drawn.inside, _PROMPT_REACH)
    window = answer.window
    while not holds(window, np.maximum(near, drawn.inside)):
        window = grown(window, height, width)
        found = _expected_answer(frame, drawn, window, _seen_in(frame, near, window))
        near = paste(found.alpha, window, height, width)
        near = drop_far_components(near, drawn.inside, _PROMPT_REACH)
        answer = replace(answer, confidence=found.confidence)
    if window == answer.window and near is whole:
        return answer
    alpha = _seen_in(frame, near, window)
    memory = frame.model.memory_of(frame.features(window), alpha)
    return replace(answer, window=window, alpha=alpha, memory=memory)


def _search(frame: MarkedFrame, drawn: DrawnMarks) -> list[tuple[Box, WindowPrediction]]:
    """Return what windows of several sizes on the marks show, the surest answer first."""
    height, width = frame.size
    inside = drawn.inside if drawn.inside.any() else drawn.free
    windows = {full_frame(height, width)}
    windows |= {window_on(inside, share) for share in _SEARCHED}
    answers = [(window, frame.answer(window, drawn)) for window in sorted(windows)]

    def confidence(pair: tuple[Box, WindowPrediction]) -> float:
        return pair[1].confidence

    window, found = max(answers, key=confidence)
    pasted = paste(found.alpha, window, height, width)
    connected = drop_far_components(pasted, inside, _PROMPT_REACH)
    nearer = window_around(np.maximum(connected, inside))
    if nearer[2] < window[2]:
        answers.append((nearer, frame.answer(nearer, drawn)))
    return sorted(answers, key=confidence, reverse=True)


def _nested(
    answers: Sequence[tuple[Box, WindowPrediction]], size: tuple[int, int]
) -> dict[Extent, tuple[Box, WindowPrediction]]:
    """Return the surest answer as the object, and a smaller and a larger one if there are any.

    Args:
        answers: the surest first.
        size: height and width of the frame.
    """
    whole = [paste(found.alpha, window, *size) > 0.5 for window, found in answers]
    area = [int(mask.sum()) for mask in whole]
    different = [
        i
        for i in range(1, len(answers))
        if (whole[i] & whole[0]).sum() < _UNLIKE * (whole[i] | whole[0]).sum()
    ]
    smaller = [i for i in different if 0 < area[i] < area[0]]
    larger = [i for i in different if area[i] > area[0]]
    offered: dict[Extent, tuple[Box, WindowPrediction]] = {}
    if smaller:
        offered["part"] = answers[smaller[0]]
    offered["object"] = answers[0]
    if larger:
        offered["group"] = answers[larger[0]]
    return offered


def steps_of(
    marks: Sequence[Mark], full_size: tuple[int, int], size: tuple[int, int], *, done: int = 0
) -> Iterator[Step]:
    """Draw marks one after the other at the size of a small frame.

    The marks up to the first one on the object belong together, and a box stands alone.

    Args:
        marks: of a frame, in their order.
        full_size: height and width of the frame that they were made on.
        size: height and width to draw at.
        done: how many of them were answered before: they are drawn, but make no step.
    """
    alpha = torch.zeros(full_size)
    known = torch.zeros(full_size)
    waiting: list[Mark] = []
    has_object = done > 0
    for number, mark in enumerate(marks):
        mark.draw(alpha, known)
        if number < done:
            continue
        waiting.append(mark)
        step = _step(tuple(waiting), alpha, known, size)
        is_box = number == 0 and not mark.is_object and step.drawn.is_box
        has_object = has_object or mark.is_object or is_box
        if has_object:
            yield step
            waiting.clear()
    if not has_object and waiting:
        # A box of the whole frame closes no side, and leaves the network to find the object.
        yield step


def _step(
    marks: tuple[Mark, ...], alpha: torch.Tensor, known: torch.Tensor, size: tuple[int, int]
) -> Step:
    new_alpha = torch.zeros_like(alpha)
    new_known = torch.zeros_like(known)
    for mark in marks:
        mark.draw(new_alpha, new_known)
    new = shrink_labels(new_alpha, new_known, size)
    return Step(marks, shrink_labels(alpha, known, size), new.inside, new.known - new.inside)


def shrink_labels(alpha: torch.Tensor, known: torch.Tensor, size: tuple[int, int]) -> DrawnMarks:
    """Return marks (H, W) at another size: alpha averaged over what is known."""
    whole = alpha.numpy()
    there = known.numpy()
    share = cv2.resize(there, size[::-1], interpolation=cv2.INTER_AREA)
    marked = cv2.resize(whole * there, size[::-1], interpolation=cv2.INTER_AREA)
    average = np.divide(marked, share, out=np.zeros_like(marked), where=share > 0)
    return DrawnMarks(np.asarray(average, np.float32), np.asarray(share, np.float32))
