"""The embedded model behind the one interface: fit the image, run the network, bring alpha back to full size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.imaging.arrays import Alpha, Flow, Rgb8
from vidmatte.imaging.optical_flow import optical_flow, warp
from vidmatte.model.compact.motion import motion_cue, no_motion
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.refine import Refiner, refine
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.window import (
    Box,
    crop_alpha,
    crop_rgb,
    drop_far_components,
    expand,
    full_frame,
    paste,
    window_around,
    window_on,
)
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference

DEFAULT_WORKING_SIZE = 336
_SMALL_FRAME = 3
"""Longer side of the frames that windows are cut from, in working sizes: what the smallest window can use."""
_TRUSTED = 0.5
"""Confidence from which a frame's own matte is remembered for the frames after it."""
_LOST = 0.1
"""Confidence under which the object counts as lost: the window opens, and no prior is given until it is found."""
_REVISIONS = 3
"""How often the matte of clicks, strokes or a box is revised on its own frame."""
_SEARCHED = (0.7, 0.45)
"""Windows that a marked object is looked for in beside the whole frame, as shares of its side."""
_MARKS_REACH = 0.1
_MIN_AREA = 2e-5
"""Share of the frame under which a matte is nothing."""


@dataclass(frozen=True)
class _WindowPrediction:
    """What the network made of a window of a frame."""

    alpha: Alpha
    """(h, w) over the window, at the size that the network saw it."""
    confidence: float
    memory: Memory
    """The window with this alpha as a reference."""


@dataclass(frozen=True)
class CompactModel:
    """`compact`: a small in-context matting network; see `net.py` for its blocks."""

    net: CompactNet
    refiner: Refiner
    name: str
    device: torch.device
    precision: torch.dtype
    working_size: int
    """Longer side, in pixels, of what the network sees of a 16:9 frame; others get as many pixels."""

    def with_reference(self, references: Sequence[Reference]) -> CompactPredictor:
        """Encode the references; those that are marked in part get their whole alpha from the network first."""
        if not references:
            raise ValueError("at least one reference is needed")
        return CompactPredictor(self, tuple(self.encode(reference) for reference in references))

    def shrink(self, rgb: Tensor) -> Tensor:
        """(h, w, 3) uint8 of (1, 3, H, W) in 0..1: what windows are cut from, at most three working sizes wide."""
        height, width = rgb.shape[-2:]
        scale = min(1.0, _SMALL_FRAME * self.working_size / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in rgb[0].numpy()]
        return torch.from_numpy((cv2.merge(planes) * np.float32(255) + np.float32(0.5)).astype(np.uint8))

    def fitted_size(self, window: Box) -> tuple[int, int]:
        """Height and width at which the network sees a window: multiples of its stride, the aspect nearly kept."""
        pixels = self.working_size**2 * 9 / 16
        scale = (pixels / (window[2] * window[3])) ** 0.5
        stride = self.net.stride
        height, width = (max(2, round(side * scale / stride)) * stride for side in (window[3], window[2]))
        return height, width

    def infer_window(
        self,
        frame: Rgb8,
        window: Box,
        memories: Sequence[Memory],
        expected: Alpha | None,
        marks: tuple[Alpha, Alpha] | None = None,
        flow: Flow | None = None,
    ) -> _WindowPrediction:
        """Matte of a window of a frame.

        `expected` (h, w) is the alpha that is foreseen, None for nothing. `flow` (h, w, 2) leads to a frame of the clip
        close by, None where there is none. `marks` are labels and where they were given: they are one more memory,
        stand in for what is expected where that is None, and bind where they are.
        """
        size = self.fitted_size(window)
        image = self._image(crop_rgb(frame, window, size))
        label, where = (self._plane(plane) for plane in marks or (np.zeros(size, np.float32),) * 2)
        prior, known = (label, where) if expected is None else (self._plane(expected), torch.ones_like(where))
        with self._inference():
            features = self.net.encode(image)
            marked = [self.net.encode_memory(features, label, where)] if marks else []
            motion = no_motion(image) if flow is None else self._motion(flow, prior * known)
            prediction = self.net.decode(image, features, [*marked, *memories], prior, known, motion)
            alpha = torch.where(where > 0, label, prediction.alpha.float())
            memory = self.net.encode_memory(features, alpha, torch.ones_like(alpha))
        return _WindowPrediction(alpha[0, 0].cpu().numpy(), float(prediction.confidence), memory)

    def flow(self, frame: Rgb8, other: Rgb8, window: Box) -> Flow:
        """Optical flow from a frame to another one, over a window, at the size that the network sees it."""
        size = self.fitted_size(window)
        here, there = (cv2.cvtColor(crop_rgb(each, window, size), cv2.COLOR_RGB2GRAY) for each in (frame, other))
        return optical_flow(np.asarray(here, np.uint8), np.asarray(there, np.uint8))

    def encode_memory(self, frame: Rgb8, window: Box, alpha: Alpha) -> Memory:
        """A window of a frame with its alpha as a reference."""
        with self._inference():
            features = self.net.encode(self._image(crop_rgb(frame, window, alpha.shape)))
            given = self._plane(alpha)
            return self.net.encode_memory(features, given, torch.ones_like(given))

    def encode(self, reference: Reference) -> EncodedReference:
        """A reference as it is matched; one that is marked in part gets its whole alpha from the network first."""
        frame = self.shrink(reference.rgb).numpy()
        adjacent = None if reference.adjacent is None else self.shrink(reference.adjacent).numpy()
        marked = PromptedFrame(frame, adjacent, *_shrink_labels(reference, frame.shape[0], frame.shape[1]))
        if reference.is_complete:
            return self.encode_known(reference.frame, marked)
        window, estimate = self._expand_prompt(marked)
        whole_alpha = replace(marked, alpha=paste(estimate.alpha, window, *marked.alpha.shape))
        return EncodedReference(
            reference.frame, whole_alpha, estimate.memory, window, estimate.alpha, estimate.confidence
        )

    def encode_known(self, index: int | None, marked: PromptedFrame) -> EncodedReference:
        """A frame of the clip whose alpha is known everywhere as a reference."""
        window = window_around(marked.alpha)
        given = crop_alpha(marked.alpha, window, self.fitted_size(window))
        memory = self.encode_memory(marked.rgb, window, given)
        estimate = self.infer_window(marked.rgb, window, [memory], given, flow=self._flow(marked, window))
        # The mask is what the artist wants: on its own frame it holds, and only its edge is refined.
        return EncodedReference(index, marked, memory, window, given, estimate.confidence)

    def _expand_prompt(self, marked: PromptedFrame) -> tuple[Box, _WindowPrediction]:
        """From marks to the whole object (section 3.6): the frame is its own reference.

        Marks do not say how large the object is, so it is looked for in windows of several sizes, then in the one that
        fits what was found; the answer that the network is surest of counts. Its matte then joins the marks as
        reference and is expected again, which fills holes and drops what does not belong, as later frames of a clip do.
        """
        height, width = marked.alpha.shape
        # A box alone marks no object: it is somewhere inside.
        inside = marked.alpha * marked.known if (marked.alpha * marked.known).any() else 1 - marked.known
        windows = {full_frame(height, width), *(window_on(inside, share) for share in _SEARCHED)}
        tried = [self._estimate_in(marked, window) for window in sorted(windows)]
        window, estimate = max(tried, key=lambda found: found[1].confidence)
        found = drop_far_components(paste(estimate.alpha, window, height, width), inside, _MARKS_REACH)
        nearer = window_around(np.maximum(found, inside))
        if nearer[2] < window[2]:
            tried.append(self._estimate_in(marked, nearer))
            window, estimate = max(tried, key=lambda found: found[1].confidence)
        marks, flow = self._marks(window, marked), self._flow(marked, window)
        for _ in range(_REVISIONS):
            estimate = self.infer_window(marked.rgb, window, [estimate.memory], estimate.alpha, marks, flow)
        return window, estimate

    def _estimate_in(self, marked: PromptedFrame, window: Box) -> tuple[Box, _WindowPrediction]:
        marks, flow = self._marks(window, marked), self._flow(marked, window)
        return window, self.infer_window(marked.rgb, window, [], None, marks, flow)

    def _flow(self, marked: PromptedFrame, window: Box) -> Flow | None:
        return None if marked.adjacent is None else self.flow(marked.rgb, marked.adjacent, window)

    def _marks(self, window: Box, marked: PromptedFrame) -> tuple[Alpha, Alpha]:
        """Marks of a window at the size that the network sees it: labels, and where there are any."""
        size = self.fitted_size(window)
        weight = crop_alpha(marked.known, window, size)
        label = crop_alpha(marked.alpha * marked.known, window, size) / np.maximum(weight, 1e-6)
        return (label > 0.5).astype(np.float32), (weight > 0.3).astype(np.float32)

    def refine(self, rgb: NDArray[np.float32], alpha: Alpha) -> Alpha:
        """(H, W) alpha of an image (3, H, W) in 0..1 from its coarse matte (h, w)."""
        with self._inference():
            return refine(self.refiner, rgb, alpha, self.device)

    def _motion(self, flow: Flow, inside: Tensor) -> Tensor:
        return motion_cue(torch.from_numpy(flow)[None].to(self.device), inside, 1 - inside)

    def _plane(self, values: Alpha) -> Tensor:
        return torch.from_numpy(values)[None, None].to(self.device)

    def _image(self, pixels: Rgb8) -> Tensor:
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float() / 255
        return image.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        with torch.inference_mode(), autocast:
            yield


@dataclass(frozen=True)
class PromptedFrame:
    """A frame with its object marked, small enough to be kept."""

    rgb: Rgb8
    """(h, w, 3)"""
    adjacent: Rgb8 | None
    """The frame beside it in its clip; None for a still."""
    alpha: Alpha
    """(h, w), read where it is known."""
    known: Alpha
    """(h, w) 0-1."""


@dataclass(frozen=True)
class EncodedReference:
    """A reference as it is matched."""

    frame: int | None
    """Its index in the clip; None for another image."""
    marked: PromptedFrame
    """With its whole alpha, given or found."""
    memory: Memory
    window: Box
    predicted: Alpha
    """(h, w) over the window: the mask itself, or what the network made of marks."""
    confidence: float
    """Of the network in its own matte of the frame."""

    def coarse(self) -> CoarseMatte:
        """The matte of the frame itself."""
        return coarse_matte(self.predicted, self.confidence, self.window, *self.marked.alpha.shape)


@dataclass(frozen=True)
class CompactPredictor:
    """`compact` with its references encoded."""

    model: CompactModel
    references: tuple[EncodedReference, ...]

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Mattes of independent images: each is looked at whole, then nearer where the object is small.

        A marked image has its matte from its marks.
        """
        memories = [reference.memory for reference in self.references]
        marked = {reference.frame: reference.coarse() for reference in self.references}
        coarse = [
            marked[index] if index in marked else self._match(self.shrink(batch.rgb[i : i + 1]).numpy(), memories)
            for i, index in enumerate(batch.frames)
        ]
        alphas = [self.finish(batch.rgb[i : i + 1], matte) for i, matte in enumerate(coarse)]
        return MatteBatch(batch, torch.cat(alphas), tuple(matte.confidence for matte in coarse))

    def _match(self, frame: Rgb8, memories: Sequence[Memory]) -> CoarseMatte:
        height, width = frame.shape[:2]
        window = full_frame(height, width)
        estimate = self.model.infer_window(frame, window, memories, None)
        nearer = window_around(paste(estimate.alpha, window, height, width))
        if nearer != window:
            window, estimate = nearer, self.model.infer_window(frame, nearer, memories, None)
        return coarse_matte(estimate.alpha, estimate.confidence, window, height, width)

    def with_network(self, net: CompactNet) -> CompactPredictor:
        """The same references, encoded by another network."""
        model = replace(self.model, net=net)
        again = tuple(model.encode_known(reference.frame, reference.marked) for reference in self.references)
        return CompactPredictor(model, again)

    def tracker(self) -> CompactTracker:
        """A new tracker for consecutive frames."""
        return CompactTracker(self)

    def shrink(self, rgb: Tensor) -> Tensor:
        """The frame as a tracker takes it, (h, w, 3) uint8."""
        return self.model.shrink(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Full-size alpha by the refiner inside the window, 0 outside; see `refine`."""
        height, width = rgb.shape[-2:]
        left, top, right, bottom = coarse.window
        x, y = round(left * width), round(top * height)
        inside = (slice(y, max(y + 1, round(bottom * height))), slice(x, max(x + 1, round(right * width))))
        alpha = np.zeros((height, width), np.float32)
        alpha[inside] = self.model.refine(rgb[0].numpy()[:, inside[0], inside[1]], coarse.alpha.numpy())
        return torch.from_numpy(alpha)[None, None]


class CompactTracker:
    """Carries the matte along: the flow-warped last alpha is the prior, the last sure frame is one more reference."""

    def __init__(self, predictor: CompactPredictor) -> None:
        self._predictor = predictor
        self._recent: list[Memory] = []
        self._before: tuple[Rgb8, Alpha] | None = None
        self._window: Box = (0, 0, 0, 0)
        self._sure = False

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame, with the alpha that was marked there."""
        encoded = next(known for known in self._predictor.references if known.frame == reference.frame)
        frame = self._predictor.shrink(reference.rgb).numpy()
        self._before, self._window, self._recent, self._sure = (frame, encoded.marked.alpha), encoded.window, [], True
        return encoded.coarse()

    def step(self, small: Tensor) -> CoarseMatte:
        """Matte of the next frame; see `CompactModel.shrink`."""
        model, frame = self._predictor.model, small.numpy()
        height, width = frame.shape[:2]
        self._place(height, width)
        flow, expected = self._expect(frame)
        memories = [reference.memory for reference in self._predictor.references] + self._recent
        estimate = model.infer_window(frame, self._window, memories, expected, flow=flow)
        alpha = estimate.alpha if expected is None else drop_far_components(estimate.alpha, expected)
        whole_alpha = paste(alpha, self._window, height, width)
        present = bool((whole_alpha > 0.5).mean() > _MIN_AREA)
        if present and estimate.confidence >= _TRUSTED:
            memory = estimate.memory if alpha is estimate.alpha else model.encode_memory(frame, self._window, alpha)
            self._recent = [memory]
        self._before, self._sure = (frame, whole_alpha), present and estimate.confidence >= _LOST
        return coarse_matte(alpha, estimate.confidence, self._window, height, width)

    def state(self) -> dict[str, Tensor]:
        """The window, the last frame with its alpha, and the memory of the last sure one."""
        state = {"window": torch.tensor(self._window), "sure": torch.tensor(self._sure)}
        if self._before is not None:
            state |= {"frame": torch.from_numpy(self._before[0]), "alpha": torch.from_numpy(self._before[1])}
        for memory in self._recent:
            state |= {f"memory.{field.name}": getattr(memory, field.name).cpu() for field in fields(memory)}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what another tracker did."""
        x, y, width, height = state["window"].tolist()
        self._window, self._sure = (x, y, width, height), bool(state["sure"])
        self._before = (state["frame"].numpy(), state["alpha"].numpy()) if "frame" in state else None
        kept = {name.removeprefix("memory."): part for name, part in state.items() if name.startswith("memory.")}
        place = self._predictor.model.device
        self._recent = [Memory(**{name: part.to(place) for name, part in kept.items()})] if kept else []

    def _place(self, height: int, width: int) -> None:
        if self._before is None:
            self._window = full_frame(height, width)
        elif self._sure:
            self._window = window_around(self._before[1], before=self._window)
        else:
            self._window = expand(self._window, height, width)

    def _expect(self, frame: Rgb8) -> tuple[Flow | None, Alpha | None]:
        """The optical flow to the last frame and the last alpha moved along it; no alpha where the object is lost."""
        if self._before is None:
            return None, None
        flow = self._predictor.model.flow(frame, self._before[0], self._window)
        if not self._sure:
            return flow, None
        return flow, warp(crop_alpha(self._before[1], self._window, flow.shape[:2]), flow)


def coarse_matte(alpha: Alpha, confidence: float, window: Box, height: int, width: int) -> CoarseMatte:
    """The matte of a window, given in pixels of a frame of this size."""
    x, y, wide, tall = window
    return CoarseMatte(
        torch.from_numpy(alpha), confidence, (x / width, y / height, (x + wide) / width, (y + tall) / height)
    )


def _shrink_labels(reference: Reference, height: int, width: int) -> tuple[Alpha, Alpha]:
    """Alpha and known (h, w) of a reference at another size: alpha averaged over what is known."""
    alpha, known = reference.alpha[0, 0].numpy(), reference.known[0, 0].numpy()
    share = cv2.resize(known, (width, height), interpolation=cv2.INTER_AREA)
    marked = cv2.resize(alpha * known, (width, height), interpolation=cv2.INTER_AREA)
    average = np.divide(marked, share, out=np.zeros_like(marked), where=share > 0)
    return np.asarray(average, np.float32), np.asarray(share, np.float32)
