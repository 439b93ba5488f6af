"""Tracking with `compact`: each frame's matte helps to find the object in the next frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from vidmatte.imaging.arrays import Alpha, Rgb8
from vidmatte.model.compact.cycle import CycleCheck, expected_overlap
from vidmatte.model.compact.expectation import Movement
from vidmatte.model.compact.inference import WindowModel, WindowPrediction
from vidmatte.model.compact.net import RECENT_FRAMES
from vidmatte.model.compact.reference import EncodedReference
from vidmatte.model.compact.shown import SearchedFrame, ShownMattes
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.still import StillParts, held, smoothed
from vidmatte.model.compact.window import (
    Box,
    drop_far_components,
    drop_left_behind,
    full_frame,
    paste,
    window_around,
)
from vidmatte.model.interface import CoarseMatte, LaterMatte
from vidmatte.prompts.prompt import Reference

_TRUSTED = 0.5
"""Least confidence of a frame whose matte is remembered for later frames."""
_LOST = 0.1
"""Confidence below which the object counts as lost."""
_MIN_AREA = 2e-5
"""Share of the frame below which a matte counts as empty."""


_CHECK_EVERY = 5
"""Frames from one check against the reference to the next; mattes get worse slowly."""
_DOUBTED = 0.8
"""Agreement with the reference below which the next frame is checked, too."""
_WRONG = 0.5
"""Agreement below which the object is looked for in the whole frame."""
_BETTER = 0.1
"""By how much the agreement of what is found there must be larger."""
_GOOD = 0.7
"""Agreement from which a frame is remembered for such a search."""


class CompactTracker:
    """Carries the matte from frame to frame.

    The flow-warped last alpha is the prior, and the last confident frames are further references.
    If the object is lost, or hardly found again on the reference, the whole frame is searched.
    """

    def __init__(self, model: WindowModel, references: Sequence[EncodedReference]) -> None:
        self._model = model
        self._references = references
        self._recent: list[Memory] = []
        self._before: tuple[Tensor, Alpha] | None = None
        self._still: StillParts | None = None
        self._shown = ShownMattes(model, None)
        self._window: Box = (0, 0, 0, 0)
        self._found = False
        self._origin = 0
        self._check: CycleCheck | None = None
        self._steps = 0
        self._agreement = 1.0
        self._good: list[Memory] = []

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame, with its marked alpha."""
        frames = [each.frame for each in self._references]
        self._origin = frames.index(reference.frame)
        encoded = self._references[self._origin]
        small = self._model.shrink(reference.rgb)
        self._before = (small, encoded.marked.alpha)
        self._still = StillParts(smoothed(small.numpy()), encoded.marked.alpha)
        coarse = encoded.coarse(self._model)
        shown = encoded.marked.alpha
        if encoded.marking is not None:
            # What is still keeps the matte as it was shown: corrected.
            shown = paste(coarse.alpha.numpy(), encoded.window, *shown.shape)
        self._shown = ShownMattes(self._model, shown)
        self._window = encoded.window
        self._recent = [encoded.memory]
        self._found = True
        self._check = None
        self._steps = 0
        self._agreement = 1.0
        self._good = []
        return coarse

    def step(self, small: Tensor) -> CoarseMatte:
        """Return the matte of the next frame (h, w, 3), from `WindowModel.shrink`."""
        return self.follow(small)()

    def follow(self, small: Tensor) -> LaterMatte:
        """Find the object in the next frame; see `SupportsDeferral.follow`."""
        return self._shown.add(self.search(small))

    def search(self, small: Tensor) -> SearchedFrame:
        """Find the object in the next frame (h, w, 3), of `WindowModel.shrink`."""
        frame = small.numpy()
        height, width = frame.shape[:2]
        still = self._still if self._found else None
        whole_still = movement = None
        if self._before is None or still is None:
            self._window, answer = match_anywhere(self._model, frame, self._memories())
            alpha = answer.alpha
        else:
            answer, alpha, movement = self._propagate(small, *self._before)
            whole_still = still.hold(frame, paste(alpha, self._window, height, width))
            alpha = held(whole_still, still.alpha, alpha, self._window)
        memory = answer.memory
        # The network's own memory holds the components that were dropped.
        if alpha is not answer.alpha:
            memory = self._model.memory_of(answer.features, alpha)
        # The window moves from frame to frame, so alpha is kept over the whole frame.
        if still is None:
            still = StillParts(smoothed(frame), paste(alpha, self._window, height, width))
        is_present = _is_present(still.alpha)
        better = self._checked(frame, memory, is_present=is_present)
        if better is not None:
            answer, alpha, memory = better, better.alpha, better.memory
            whole_still = movement = None
            still = StillParts(smoothed(frame), paste(alpha, self._window, height, width))
            is_present = True
        self._still = still
        whole_alpha = still.alpha
        if is_present and answer.confidence >= _TRUSTED:
            # An uncertain frame would teach the following ones its own errors.
            self._recent = [*self._recent, memory][-RECENT_FRAMES:]
        self._before = (small, whole_alpha)
        self._found = is_present and answer.confidence >= _LOST
        confidence = expected_overlap(self._agreement, answer.confidence)
        # The corrected matte is shown and not remembered: the network knows only mattes of its own.
        return SearchedFrame(small, self._window, alpha, confidence, whole_still, movement)

    def state(self) -> dict[str, Tensor]:
        """Return the window, the last frame with its alpha, what is still, memories, and checks.

        Mattes that wait are completed first, as the last one shown is a part of it.
        """
        state = {
            "window": torch.tensor(self._window),
            "found": torch.tensor(self._found),
            "origin": torch.tensor(self._origin),
            "steps": torch.tensor(self._steps),
            "agreement": torch.tensor(self._agreement, dtype=torch.float64),
        }
        if self._before is not None:
            frame, alpha = self._before
            state |= {"frame": frame, "alpha": torch.from_numpy(alpha)}
        if self._still is not None:
            state["anchor"] = torch.from_numpy(self._still.anchor)
        shown = self._shown.last()
        if shown is not None:
            state["shown"] = torch.from_numpy(shown)
        for kind, memories in (("memory", self._recent), ("good", self._good)):
            for index, memory in enumerate(memories):
                for field in fields(memory):
                    state[f"{kind}.{index}.{field.name}"] = getattr(memory, field.name).cpu()
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the state of another tracker of the same predictor."""
        x, y, width, height = state["window"].tolist()
        self._window = (x, y, width, height)
        self._found = bool(state["found"])
        self._origin = int(state["origin"])
        self._steps = int(state["steps"])
        self._agreement = float(state["agreement"])
        self._check = None
        self._before = None
        if "frame" in state:
            self._before = (state["frame"], state["alpha"].numpy())
        self._still = None
        if "anchor" in state and self._before is not None:
            self._still = StillParts(state["anchor"].numpy(), self._before[1])
        self._recent = self._restored("memory", state)
        self._shown = ShownMattes(self._model, state["shown"].numpy() if "shown" in state else None)
        self._good = self._restored("good", state)

    def _restored(self, kind: str, state: Mapping[str, Tensor]) -> list[Memory]:
        """Return the memories of a kind in a state; they are numbered without gaps."""
        memories: list[Memory] = []
        while f"{kind}.{len(memories)}.keys" in state:
            prefix = f"{kind}.{len(memories)}."
            parts = {
                field.name: state[prefix + field.name].to(self._model.device)
                for field in fields(Memory)
            }
            memories.append(Memory(**parts))
        return memories

    def _checked(self, frame: Rgb8, memory: Memory, *, is_present: bool) -> WindowPrediction | None:
        """Return a better answer for a frame if its matte is wrong and there is one, else None.

        A matte that does not find the object again on the reference lost it, or most of it.

        Args:
            frame: (h, w, 3).
            memory: the frame with its matte.
            is_present: whether there is anything in that matte.
        """
        if self._check is None:
            self._check = CycleCheck(self._model, self._references[self._origin])
        if not is_present:
            # Nothing agrees with an empty matte, until the object is found again.
            self._agreement = 0.0
            self._steps = 0
        elif self._steps % _CHECK_EVERY == 0 or self._agreement < _DOUBTED:
            self._agreement = self._check.agreement(memory)
            if self._agreement >= _GOOD:
                self._good = [memory]
        self._steps += 1
        # If it was lost in the frame before, the whole frame was searched already.
        if self._agreement < _WRONG and self._found:
            return self._searched(frame, self._check)
        return None

    def _searched(self, frame: Rgb8, check: CycleCheck) -> WindowPrediction | None:
        """Look for the object in the whole frame; return None if no better matte is found.

        The references and the last frame that was found good are looked for.
        """
        memories = [reference.memory for reference in self._references] + self._good
        window, found = match_anywhere(self._model, frame, memories)
        height, width = frame.shape[:2]
        if not _is_present(paste(found.alpha, window, height, width)):
            return None
        agreement = check.agreement(found.memory)
        if agreement <= self._agreement + _BETTER:
            return None
        self._agreement = agreement
        self._window = window
        # The last frames taught what was wrong.
        self._recent = list(self._good)
        return found

    def _memories(self) -> list[Memory]:
        """Return the references, and the last confident frame behind them."""
        return [reference.memory for reference in self._references] + self._recent[-1:]

    def _propagate(
        self, small: Tensor, before: Tensor, last_alpha: Alpha
    ) -> tuple[WindowPrediction, Alpha, Movement]:
        """Matte the frame after one with the object.

        Returns:
            The answer, the alpha to keep, and the motion in the window.
        """
        # The window follows the last alpha, as this frame's is not known yet.
        self._window = window_around(last_alpha, before=self._window)
        pixels, features = self._model.view(small, self._window)
        movement = self._model.movement(small, before, self._window)
        flow = movement.flow
        expected = movement.expect(last_alpha, self._window)
        answer = self._model.infer_window(
            small.numpy(),
            self._window,
            self._memories(),
            expected=expected,
            flow=flow,
            recent=self._recent,
            features=features,
            pixels=pixels,
        )
        near = drop_far_components(answer.alpha, expected.alpha)
        return answer, drop_left_behind(near, flow), movement


def _is_present(whole_alpha: Alpha) -> bool:
    return bool((whole_alpha > 0.5).mean() > _MIN_AREA)


def match_anywhere(
    model: WindowModel, frame: Rgb8, memories: Sequence[Memory]
) -> tuple[Box, WindowPrediction]:
    """Find the object in a frame (h, w, 3) by the references alone; returns window and answer.

    The whole frame comes first, then a window around the answer if that is small.
    """
    height, width = frame.shape[:2]
    window = full_frame(height, width)
    answer = model.infer_window(frame, window, memories)
    nearer = window_around(paste(answer.alpha, window, height, width))
    if nearer == window:
        return window, answer
    return nearer, model.infer_window(frame, nearer, memories)
