"""The network on windows of frames: pixels in, a coarse matte and a memory out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from vidmatte.imaging.area import shrink_planes
from vidmatte.imaging.arrays import Alpha, Flow, Gray8, Rgb8
from vidmatte.imaging.optical_flow import flow_agreement, optical_flow
from vidmatte.model.compact.correct import Corrector, correct, detail_of
from vidmatte.model.compact.expectation import Expectation, Movement
from vidmatte.model.compact.motion import motion_cue, no_motion
from vidmatte.model.compact.net import CompactNet, Features, mark_channels
from vidmatte.model.compact.similarity import Memory
from vidmatte.model.compact.views import LastViews
from vidmatte.model.compact.window import Box, crop_alpha, crop_rgb
from vidmatte.model.interface import CoarseMatte

DEFAULT_WORKING_SIZE = 448
BEST_WORKING_SIZE = 512
"""Working size of the best quality: sharper in thin parts, for a third more time."""
_SMALL_FRAME = 3
"""Longer side of the frames from which windows are cut, in working sizes.

The smallest window is about a third of the frame, so more pixels would not help.
"""


@dataclass(frozen=True)
class WindowLabels:
    """The prompt inside a window: (h, w) 1 object or 0 background, read where `known` is 1."""

    label: Alpha
    known: Alpha


@dataclass(frozen=True)
class WindowPrediction:
    """The network's answer for a window of a frame.

    Attributes:
        alpha: (h, w) over the window, at the network's size.
        confidence: expected overlap with the true matte, 0-1.
        memory: the window with this alpha as a reference.
        features: the encoding of the window.
    """

    alpha: Alpha
    confidence: float
    memory: Memory
    features: Features


@dataclass(frozen=True)
class WindowModel:
    """A network and its settings, to run it on windows of frames.

    Attributes:
        net: the network.
        device: device of the network.
        precision: number format of the network.
        working_size: longer side, in pixels, of the network's input for a 16:9 frame; windows of
            another shape get as many pixels.
        corrector: corrects the edges of mattes that are found in an image; None leaves them.
        views: what several objects need of the same frames.
    """

    net: CompactNet
    device: torch.device
    precision: torch.dtype
    working_size: int
    corrector: Corrector | None = field(default=None, kw_only=True)
    views: LastViews = field(default_factory=LastViews, kw_only=True, compare=False, repr=False)

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the frame (1, 3, H, W) 0-1 for cutting windows, as (h, w, 3) uint8.

        It is the same tensor each time that it is asked for a frame.
        """
        key = ("small", self.working_size)
        return self.views.get(key, (rgb,), lambda: self._shrink(rgb))

    def _shrink(self, rgb: Tensor) -> Tensor:
        height, width = rgb.shape[-2:]
        scale = min(1.0, _SMALL_FRAME * self.working_size / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = torch.from_numpy(shrink_planes(rgb[0].numpy(), size[::-1]))
        return small.mul_(255).add_(0.5).to(torch.uint8)

    def fitted_size(self, window: Box) -> tuple[int, int]:
        """Return height and width of a window for the network.

        They are multiples of its stride, so the aspect is kept only nearly.
        """
        # As many pixels as a 16:9 frame of the working size, whatever the shape of the window.
        pixels = self.working_size**2 * 9 / 16
        scale = (pixels / (window[2] * window[3])) ** 0.5
        stride = self.net.stride
        height = max(2, round(window[3] * scale / stride)) * stride
        width = max(2, round(window[2] * scale / stride)) * stride
        return height, width

    def infer_window(
        self,
        frame: Rgb8,
        window: Box,
        memories: Sequence[Memory],
        *,
        expected: Expectation | None = None,
        labels: WindowLabels | None = None,
        flow: Flow | None = None,
        recent: Sequence[Memory] = (),
        features: Features | None = None,
        pixels: Rgb8 | None = None,
    ) -> WindowPrediction:
        """Matte a window of a frame.

        Args:
            frame: (h, w, 3), of `shrink`.
            window: in pixels of the frame.
            memories: the references, marked frames first; may be empty if `labels` are given.
            expected: the expected alpha; None for none.
            labels: a prompt in this window. It is one more memory, and overrides both the expected
                alpha and the answer.
            flow: (h, w, 2) to a frame of the clip close by; None if there is none.
            recent: memories of the last frames, matched only near the same place.
            features: the encoding of the window if it is known, of `see`.
            pixels: the window of the frame at the network's size if it is known, of `view`.
        """
        size = self.fitted_size(window)
        image = self._image(crop_rgb(frame, window, size) if pixels is None else pixels)
        nothing = np.zeros(size, np.float32)
        label = self._plane(nothing if labels is None else labels.label)
        bound = self._plane(nothing if labels is None else labels.known)
        prior = label
        known = bound
        if expected is not None:
            prior = torch.where(bound > 0, label, self._plane(expected.alpha))
            known = torch.maximum(bound, self._plane(expected.known))
        marks = mark_channels(label, bound)
        with self._inference():
            if features is None:
                features = self.net.encode(image, self._to_frame(window, size))
            references = list(memories)
            if labels is not None:
                # First, as the marks of this very frame tell most.
                references.insert(0, self.net.encode_memory(features, label, bound))
            motion = no_motion(image)
            if flow is not None:
                # The motion of the object is fitted where the prior is known.
                inside = prior * known
                motion = motion_cue(
                    torch.from_numpy(flow)[None].to(self.device), inside, 1 - inside
                )
            prediction = self.net.decode(
                image, features, references, prior, known, motion, list(recent), marks
            )
            # Marks bind: the answer never contradicts them.
            alpha = torch.where(bound > 0, label, prediction.alpha.float())
            memory = self.net.encode_memory(features, alpha, torch.ones_like(alpha))
        confidence = float(prediction.confidence)
        return WindowPrediction(alpha[0, 0].cpu().numpy(), confidence, memory, features)

    def see(self, frame: Rgb8, window: Box) -> Features:
        """Return the encoding of a window of a frame (h, w, 3), of `shrink`."""
        return self._encode(self._look(frame, window), window)

    def _encode(self, pixels: Rgb8, window: Box) -> Features:
        with self._inference():
            return self.net.encode(self._image(pixels), self._to_frame(window, pixels.shape[:2]))

    def view(self, small: Tensor, window: Box) -> tuple[Rgb8, Features]:
        """Return a window of a frame of `shrink` at the network's size, and its encoding.

        All objects with the same window share them.
        """
        pixels = self._pixels(small, window)
        key = ("features", window)
        of = (small, self.net)
        return pixels, self.views.get(key, of, lambda: self._encode(pixels, window))

    def _pixels(self, small: Tensor, window: Box) -> Rgb8:
        key = ("pixels", window)
        return self.views.get(key, (small,), lambda: self._look(small.numpy(), window))

    def _look(self, frame: Rgb8, window: Box) -> Rgb8:
        return crop_rgb(frame, window, self.fitted_size(window))

    def corrected(
        self, small: Tensor, window: Box, alpha: Alpha, expected: Expectation | None = None
    ) -> Alpha:
        """Return the matte (h, w) of a window of a frame of `shrink`, corrected at its edges.

        `expected` is the corrected matte of the frame before, moved along; None if there is none.
        """
        if self.corrector is None:
            return alpha
        size = (alpha.shape[0], alpha.shape[1])
        key = ("detail", window, size)
        detail = self.views.get(key, (small,), lambda: detail_of(small.numpy(), window, size))
        with self._inference():
            return correct(self.corrector, detail, alpha, self.device, expected)

    def flow(self, frame: Rgb8, other: Rgb8, window: Box) -> Flow:
        """Return the optical flow between frames over a window, at the network's size."""
        return optical_flow(_gray(self._look(frame, window)), _gray(self._look(other, window)))

    def movement(self, small: Tensor, before: Tensor, window: Box) -> Movement:
        """Return the motion in a window of a frame since the one before it, both of `shrink`.

        All objects with the same window share it.
        """

        def compute() -> Movement:
            first = _gray(self._pixels(small, window))
            second = _gray(self._look(before.numpy(), window))
            flow = optical_flow(first, second)
            return Movement(flow, flow_agreement(flow, optical_flow(second, first)))

        return self.views.get(("movement", window), (small, before), compute)

    def memory_of(self, features: Features, alpha: Alpha) -> Memory:
        """Return an encoded window with its alpha (h, w) as a reference."""
        with self._inference():
            given = self._plane(alpha)
            return self.net.encode_memory(features, given, torch.ones_like(given))

    def labels_in(self, window: Box, alpha: Alpha, known: Alpha) -> WindowLabels:
        """Return the prompt of a frame, (h, w) both, in a window at the network's size."""
        size = self.fitted_size(window)
        weight = crop_alpha(known, window, size)
        # Averaged over marked pixels only, then rounded: a thin stroke must not fade when it
        # shrinks.
        label = crop_alpha(alpha * known, window, size) / np.maximum(weight, 1e-6)
        return WindowLabels((label > 0.5).astype(np.float32), (weight > 0.3).astype(np.float32))

    def _to_frame(self, window: Box, size: Sequence[int]) -> Tensor:
        """Return the (1, 2, 3) map from pixels of a window at a size to those of its frame."""
        x, y, width, height = window
        across = width / size[1]
        down = height / size[0]
        # Pixel centres lie at half a pixel.
        rows = [[across, 0, x + across / 2 - 0.5], [0, down, y + down / 2 - 0.5]]
        return torch.tensor([rows], device=self.device)

    def _plane(self, values: Alpha) -> Tensor:
        return torch.from_numpy(values)[None, None].to(self.device)

    def _image(self, pixels: Rgb8) -> Tensor:
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float() / 255
        # Convolutions on CPUs are faster with channels last.
        return image.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        mixed = self.precision != torch.float32
        autocast = torch.autocast(self.device.type, self.precision, enabled=mixed)
        with torch.inference_mode(), autocast:
            yield


def _gray(pixels: Rgb8) -> Gray8:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def coarse_matte(
    alpha: Alpha, confidence: float, window: Box, height: int, width: int
) -> CoarseMatte:
    """Return the matte of a window, given in pixels of a frame of this height and width."""
    x, y, wide, tall = window
    # Shares of the frame, so the window holds at any size of it.
    share = (x / width, y / height, (x + wide) / width, (y + tall) / height)
    return CoarseMatte(torch.from_numpy(alpha), confidence, share)
