"""Mattes that come from a file, in the place of a model's: for the rest of the flow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.model.interface import CoarseMatte, Predictor
from vidmatte.options import NO_MODEL
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.read.mask import Mask


@dataclass(frozen=True)
class ExternalMattes:
    """Takes the place of a model: needs no references, looks at no picture, and is sure of every frame."""

    mask: Mask
    """What the file shows of each frame, see `read.mask.open_mask`; belongs to whoever opened it."""
    like: VideoInfo
    device: torch.device
    """Where the rest of the flow computes."""
    name: str = NO_MODEL
    precision: torch.dtype = torch.float32

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """The mattes; there is nothing to encode."""
        return self

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """The mattes of a batch. Raises OptionError for a file of another size or length."""
        return MatteBatch(batch, read_masks(self.mask, batch, self.like), (1.0,) * len(batch))

    def tracker(self) -> None:
        """None: no frame needs another."""
        return None

    def shrink(self, rgb: Tensor) -> Tensor:
        """The frame as it is."""
        return rgb

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """(1, 1, H, W) alpha at the size of the frame."""
        return F.interpolate(coarse.alpha[None, None], size=rgb.shape[2:], mode="bilinear")


def read_masks(mask: Mask, batch: FrameBatch, like: VideoInfo) -> Tensor:
    """(N, 1, H, W) in 0..1 of what lies beside the frames of a batch of the clip `like`.

    Raises OptionError for a file of another size or length.
    """
    height, width = batch.rgb.shape[2:]
    display_width = max(1, round(width * like.sample_aspect_ratio))
    return torch.from_numpy(np.stack(mask.read(batch, (height, width), display_width))[:, None])


def external_mattes(
    mask: Mask, video: Video, *, start: int, end: int | None, device: torch.device
) -> ExternalMattes:
    """The mattes of a clip, or of the part `start` to `end` (`end` exclusive) where they are only as long as that.

    Raises OptionError for mattes of another size or length than the clip.
    """
    fit_to_clip(mask, video, start=start, end=end)
    return ExternalMattes(mask, video.info, device)


def fit_to_clip(mask: Mask, video: Video, *, start: int, end: int | None) -> None:
    """Lay mattes or trimaps beside a clip, or beside the part of it (`end` exclusive) where they are as long as that.

    Raises OptionError where they have another size or length than the clip.
    """
    mask.check_size(video.info)
    clip = video.count_frames()
    part = min(clip, end or clip) - start
    if mask.frames not in (None, clip, part):
        asked = "" if part == clip else f", and the part of it that was asked for {part}"
        raise OptionError(
            f"{mask.path}: has {mask.frames} frames, but the clip has {clip}{asked}; give it the same frames"
        )
    if mask.frames == part:
        mask.first = start
