"""The embedded model behind the one interface: fit the image, run the network, bring alpha back to full size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.flow import optical_flow, to_gray, warp
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.compact import CompactNet, Features
from vidmatte.model.interface import CoarseMatte
from vidmatte.model.similarity import Memory
from vidmatte.model.upsample import guided_upsample
from vidmatte.prompt import Reference

DEFAULT_WORKING_SIZE = 448
_TRUSTED = 0.5
"""Confidence from which a frame's own matte is remembered for the frames after it."""


@dataclass(frozen=True)
class CompactModel:
    """`compact`: a small in-context matting network; see `vidmatte/model/compact.py` for its blocks."""

    net: CompactNet
    name: str
    device: torch.device
    precision: torch.dtype
    working_size: int
    """Longer side, in pixels, of the images that the network sees."""

    def with_reference(self, references: Sequence[Reference]) -> CompactMatter:
        """Encode the references; those that are marked in part get their whole alpha from the network first."""
        if not references:
            raise ValueError("at least one reference is needed")
        return CompactMatter(self, tuple(self._encode(reference) for reference in references))

    def _encode(self, reference: Reference) -> _Encoded:
        rgb = self.shrink(reference.rgb)
        size = (rgb.shape[-2], rgb.shape[-1])
        alpha, known = _shrink_labels(reference, size)
        with self.inference():
            features = self.net.encode(self._to_device(rgb))
            alpha, known = alpha.to(self.device), known.to(self.device)
            marks = self.net.remember(features, alpha, known)
            prediction = self.net.decode(self._to_device(rgb), features, [marks], alpha, known)
            predicted = prediction.alpha.float()
            # A mask is what the artist wants; clicks and strokes bind only where they are.
            whole = alpha if reference.is_complete else torch.where(known > 0, alpha, predicted)
            memory = self.net.remember(features, whole, torch.ones_like(known))
        return _Encoded(reference.frame, whole.cpu(), predicted.cpu(), float(prediction.confidence), memory)

    def shrink(self, rgb: Tensor) -> Tensor:
        """(1, 3, h, w) of (1, 3, H, W): scaled so that the longer side is the working size, sides multiples of 16."""
        height, width = self.fitted_size(rgb.shape[-2], rgb.shape[-1])
        planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in rgb[0].numpy()]
        return torch.from_numpy(np.stack(planes))[None]

    def fitted_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame is scaled to; the aspect changes by less than half a step of 16 pixels."""
        scale = self.working_size / max(height, width)
        stride = self.net.stride
        return (
            max(2, round(height * scale / stride)) * stride,
            max(2, round(width * scale / stride)) * stride,
        )

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, and the precision of this model."""
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        with torch.inference_mode(), autocast:
            yield

    def _to_device(self, rgb: Tensor) -> Tensor:
        return rgb.to(self.device).contiguous(memory_format=torch.channels_last)

    def run(self, rgb: Tensor, memories: Sequence[Memory], prior: Tensor | None) -> tuple[Tensor, float, Features]:
        """Alpha (1, 1, h, w) on the CPU, confidence and features of a small image; `prior` is the expected alpha."""
        with self.inference():
            image = self._to_device(rgb)
            features = self.net.encode(image)
            known = torch.full_like(image[:, :1], 0.0 if prior is None else 1.0)
            expected = torch.zeros_like(known) if prior is None else prior.to(self.device)
            prediction = self.net.decode(image, features, memories, expected, known)
            return prediction.alpha.float().cpu(), float(prediction.confidence), features

    def remember(self, features: Features, alpha: Tensor) -> Memory:
        """A frame with its matte as one more reference."""
        with self.inference():
            alpha = alpha.to(self.device)
            return self.net.remember(features, alpha, torch.ones_like(alpha))


@dataclass(frozen=True)
class _Encoded:
    """A reference at working size: its frame in the clip, whole alpha, what the network makes of it, its memory."""

    frame: int | None
    alpha: Tensor
    predicted: Tensor
    confidence: float
    memory: Memory


@dataclass(frozen=True)
class CompactMatter:
    """`compact` with its references encoded."""

    model: CompactModel
    references: tuple[_Encoded, ...]

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Mattes of independent images."""
        alphas, confidences = [], []
        memories = [reference.memory for reference in self.references]
        for i in range(len(batch)):
            rgb = batch.rgb[i : i + 1]
            alpha, confidence, _ = self.model.run(self.shrink(rgb), memories, None)
            alphas.append(self.finish(rgb, CoarseMatte(alpha, confidence)))
            confidences.append(confidence)
        return MatteBatch(batch, torch.cat(alphas), tuple(confidences))

    def follower(self) -> CompactFollower:
        """A new follower for consecutive frames."""
        return CompactFollower(self)

    def shrink(self, rgb: Tensor) -> Tensor:
        """The frame at working size."""
        return self.model.shrink(rgb)

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Full-size alpha by a guided filter; see `guided_upsample`."""
        return torch.from_numpy(guided_upsample(rgb[0].numpy(), coarse.alpha[0, 0].numpy()))[None, None]


class CompactFollower:
    """Carries the matte along: the flow-warped last alpha is the prior, the last sure frame one more reference."""

    def __init__(self, matter: CompactMatter) -> None:
        self._matter = matter
        self._recent: list[Memory] = []
        self._gray: npt.NDArray[np.uint8] | None = None
        self._alpha: Tensor | None = None

    def start(self, reference: Reference) -> CoarseMatte:
        """Begin at a reference frame, with the alpha that was marked there."""
        small = self._matter.shrink(reference.rgb)
        encoded = next(known for known in self._matter.references if known.frame == reference.frame)
        self._recent = []
        self._gray, self._alpha = to_gray(small[0]), encoded.alpha
        return CoarseMatte(encoded.predicted, encoded.confidence)

    def step(self, small: Tensor) -> CoarseMatte:
        """Matte of the next frame at working size."""
        model = self._matter.model
        gray = to_gray(small[0])
        prior = None
        if self._gray is not None and self._alpha is not None:
            moved = warp(self._alpha[0, 0].numpy(), optical_flow(gray, self._gray))
            prior = torch.from_numpy(moved)[None, None]
        memories = [reference.memory for reference in self._matter.references] + self._recent
        alpha, confidence, features = model.run(small, memories, prior)
        if confidence >= _TRUSTED:
            self._recent = [model.remember(features, alpha)]
        self._gray, self._alpha = gray, alpha
        return CoarseMatte(alpha, confidence)


def _shrink_labels(reference: Reference, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Alpha and known (1, 1, h, w) at working size: alpha averaged over what is known, never losing a mark."""
    height, width = size
    alpha, known = reference.alpha[0, 0].numpy(), reference.known[0, 0].numpy()
    share = cv2.resize(known, (width, height), interpolation=cv2.INTER_AREA)
    marked = cv2.resize(alpha * known, (width, height), interpolation=cv2.INTER_AREA)
    average = np.divide(marked, share, out=np.zeros_like(marked), where=share > 0)
    touched = (share > 0).astype(np.float32)
    return torch.from_numpy(average)[None, None], torch.from_numpy(touched)[None, None]
