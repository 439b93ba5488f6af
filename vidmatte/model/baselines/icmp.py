"""`icmp`: the in-context pipeline compared with IconMatting.

Guo et al., CVPR 2024, supplement 10. The marked points are found again in each image
(`correspondence.py`). SAM makes a mask from them, erosion and dilation make a pseudo-trimap from
the mask, and ViTMatte makes alpha from the trimap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.model.baselines.correspondence import Features, carry
from vidmatte.model.baselines.mask import BAND, FinishAlpha, MaskPredictor, check_band, mean_of
from vidmatte.model.baselines.prompts import PointPrompt, check_points, point_prompt, spread_points
from vidmatte.model.baselines.sam import Sam
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference


@dataclass(frozen=True)
class IcmpOptions:
    """Settings of `icmp`."""

    points: int = 8
    """Largest number of points of the object, and of the background, taken from a reference."""
    side: int = 770
    """Longer side of DINOv2's input in pixels; its cells are 14 pixels wide."""
    band: float = BAND
    """Half-width of the unknown band around a mask, as a share of the image's longer side."""

    def __post_init__(self) -> None:
        check_band(self.band)
        check_points(self.points)
        if not 56 <= self.side <= 2800:
            raise OptionError(f"side {self.side} is not valid: it must be 56 to 2800 pixels")


@dataclass(frozen=True)
class Encoded:
    """A reference with its features and its prompt."""

    features: Tensor
    """(C, h, w)"""
    prompt: PointPrompt
    frame: int | None
    mask: Tensor | None
    """(1, 1, H, W) of a fully known reference: final on its own frame."""


@dataclass(frozen=True)
class IcmpModel:
    """The pipeline with its networks; `features`, `sam` and `finish_alpha` may be any functions."""

    features: Features
    sam: Sam
    finish_alpha: FinishAlpha
    options: IcmpOptions
    name: str
    device: torch.device
    precision: torch.dtype

    def with_reference(self, references: Sequence[Reference]) -> MaskPredictor:
        """Encode references: in each image the points of all of them make one mask together."""
        if not references:
            raise ValueError("at least one reference is needed")
        encoded = [self._encode(reference) for reference in references]
        return MaskPredictor(
            lambda rgb, index: self._find(encoded, rgb, index), self.finish_alpha, self.options.band
        )

    def _encode(self, reference: Reference) -> Encoded:
        prompt = point_prompt(reference, most=self.options.points)
        if not (prompt.labels == 1).any():
            # A box alone marks no point of the object: its mask does.
            found, _ = self.sam(reference.rgb, prompt)
            # Middles of pixels, as shares of the picture.
            points = (spread_points(found.numpy() > 0.5, self.options.points) + 0.5) / (
                found.shape[1],
                found.shape[0],
            )
            if not len(points) and prompt.box is not None:
                # An empty answer: the middle of the box is the only guess left.
                points = np.array(
                    [[(prompt.box[0] + prompt.box[2]) / 2, (prompt.box[1] + prompt.box[3]) / 2]]
                )
            shares = np.concatenate([points, prompt.points]).astype(np.float32)
            prompt = PointPrompt(
                shares, np.concatenate([np.ones(len(points), np.int64), prompt.labels])
            )
        mask = reference.roi if reference.is_complete else None
        return Encoded(
            self.features(reference.rgb),
            # The box stays behind: in another image the object lies elsewhere.
            PointPrompt(prompt.points, prompt.labels),
            reference.frame,
            mask,
        )

    def _find(self, encoded: Sequence[Encoded], rgb: Tensor, index: int | None) -> CoarseMatte:
        for reference in encoded:
            if (
                reference.mask is not None
                and reference.frame == index
                and reference.mask.shape[-2:] == rgb.shape[-2:]
            ):
                return CoarseMatte(reference.mask[0, 0], 1.0)
        target = self.features(rgb)
        carried = [
            carry(reference.prompt.points, reference.features, target) for reference in encoded
        ]
        labels = np.concatenate(
            [each.prompt.labels[found.kept] for each, found in zip(encoded, carried, strict=True)]
        )
        points = np.concatenate([found.points for found in carried])
        likeness = np.concatenate([found.similarity for found in carried])[labels == 1]
        # Points of the background alone tell nothing about the object.
        if not len(likeness):
            return CoarseMatte(torch.zeros(1, 1), 0.0)
        mask, expected = self.sam(rgb, PointPrompt(points, labels))
        # Sam's own estimate, lowered if the points look unlike the reference's.
        return CoarseMatte(mask, expected * max(0.0, mean_of(likeness.tolist())))
