"""Tracking with `compact`: each frame's matte helps to find the object in the next frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from vidmatte.imaging.arrays import Alpha, Flow, Rgb8
from vidmatte.imaging.optical_flow import flow_agreement, warp
from vidmatte.model.compact.cycle import CycleCheck, expected_overlap
from vidmatte.model.compact.inference import (
    Expectation,
    WindowModel,
    WindowPrediction,
    coarse_matte,
)
from vidmatte.model.compact.net import RECENT_FRAMES
from vidmatte.model.compact.reference import EncodedReference
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.window import (
    Box,
    crop_alpha,
    drop_far_components,
    drop_left_behind,
    full_frame,
    paste,
    window_around,
)
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference

_TRUSTED = 0.5
"""Least confidence of a frame whose matte is remembered for later frames."""
_LOST = 0.1
"""Confidence below which the object counts as lost."""
_MIN_AREA = 2e-5
"""Share of the frame below which a matte counts as empty."""


_CHECK_EVERY = 5
"""Frames from one check against the reference to the next; mattes get worse slowly."""


class CompactTracker:
    """Carries the matte from frame to frame.

    The flow-warped last alpha is the prior, and the last confident frames are further references.
    If the object is lost, the whole frame is searched for it by the references alone.
    """

    def __init__(self, model: WindowModel, references: Sequence[EncodedReference]) -> None:
        self._model = model
        self._references = references
        self._recent: list[Memory] = []
        self._before: tuple[Tensor, Alpha] | None = None
        self._window: Box = (0, 0, 0, 0)
        self._found = False
        self._origin = 0
        self._check: CycleCheck | None = None
        self._steps = 0
        self._agreement = 1.0

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame, with its marked alpha."""
        frames = [each.frame for each in self._references]
        self._origin = frames.index(reference.frame)
        encoded = self._references[self._origin]
        self._before = (self._model.shrink(reference.rgb), encoded.marked.alpha)
        self._window = encoded.window
        self._recent = [encoded.memory]
        self._found = True
        self._check = None
        self._steps = 0
        self._agreement = 1.0
        return encoded.coarse()

    def step(self, small: Tensor) -> CoarseMatte:
        """Return the matte of the next frame (h, w, 3), from `WindowModel.shrink`."""
        frame = small.numpy()
        height, width = frame.shape[:2]
        if self._before is None or not self._found:
            self._window, answer = match_anywhere(self._model, frame, self._memories())
            alpha = answer.alpha
        else:
            answer, alpha = self._propagate(small, *self._before)
        # The window moves from frame to frame, so alpha is kept over the whole frame.
        whole_alpha = paste(alpha, self._window, height, width)
        is_present = bool((whole_alpha > 0.5).mean() > _MIN_AREA)
        memory = answer.memory
        # The network's own memory holds the components that were dropped.
        if alpha is not answer.alpha:
            memory = self._model.memory_of(answer.features, alpha)
        if is_present and answer.confidence >= _TRUSTED:
            # An uncertain frame would teach the following ones its own errors.
            self._recent = [*self._recent, memory][-RECENT_FRAMES:]
        self._before = (small, whole_alpha)
        self._found = is_present and answer.confidence >= _LOST
        confidence = self._expect_overlap(memory if is_present else None, answer.confidence)
        return coarse_matte(alpha, confidence, self._window, height, width)

    def state(self) -> dict[str, Tensor]:
        """Return the window, the last frame with its alpha, recent memories, the last check."""
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
        for index, memory in enumerate(self._recent):
            for field in fields(memory):
                state[f"memory.{index}.{field.name}"] = getattr(memory, field.name).cpu()
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
        self._recent = []
        # Memories are numbered without gaps, so the first missing number ends them.
        while f"memory.{len(self._recent)}.keys" in state:
            prefix = f"memory.{len(self._recent)}."
            parts = {
                field.name: state[prefix + field.name].to(self._model.device)
                for field in fields(Memory)
            }
            self._recent.append(Memory(**parts))

    def _expect_overlap(self, memory: Memory | None, confidence: float) -> float:
        """Return the overlap to expect of a new matte, see `model.compact.cycle`.

        Args:
            memory: the frame with its matte; None if that is empty.
            confidence: the network's own.
        """
        if memory is None:
            # Nothing agrees with an empty matte, until the object is found again.
            self._agreement = 0.0
            self._steps = 0
            return expected_overlap(self._agreement, confidence)
        if self._steps % _CHECK_EVERY == 0:
            if self._check is None:
                self._check = CycleCheck(self._model, self._references[self._origin])
            self._agreement = self._check.agreement(memory)
        self._steps += 1
        return expected_overlap(self._agreement, confidence)

    def _memories(self) -> list[Memory]:
        """Return the references, and the last confident frame behind them."""
        return [reference.memory for reference in self._references] + self._recent[-1:]

    def _propagate(
        self, small: Tensor, before: Tensor, last_alpha: Alpha
    ) -> tuple[WindowPrediction, Alpha]:
        """Matte the frame after one with the object; return the answer and the alpha to keep."""
        # The window follows the last alpha, as this frame's is not known yet.
        self._window = window_around(last_alpha, before=self._window)
        pixels, features = self._model.view(small, self._window)
        flow, expected = self._expect(small, before, last_alpha)
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
        return answer, drop_left_behind(near, flow)

    def _expect(self, small: Tensor, before: Tensor, last_alpha: Alpha) -> tuple[Flow, Expectation]:
        """Return the flow from a frame's window to the last frame, and the last alpha moved by it.

        Nothing is expected at pixels where forward and backward flow disagree: they were hidden
        before, or the flow is wrong.
        """
        flow, backward = self._model.flows(small, before, self._window)
        cropped = crop_alpha(last_alpha, self._window, flow.shape[:2])
        moved = np.asarray(warp(cropped, flow), np.float32)
        return flow, Expectation(moved, flow_agreement(flow, backward))


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
