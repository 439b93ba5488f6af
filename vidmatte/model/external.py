"""External mattes: read from a file instead of computed by a model."""

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
    """Model stand-in for mattes of a file, with confidence 1; it needs no references."""

    mask: Mask
    """Mattes by frame, see `read.mask.open_mask`; closed by its opener."""
    like: VideoInfo
    device: torch.device
    """Device of the rest of the flow."""
    name: str = NO_MODEL
    precision: torch.dtype = torch.float32

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """Return the mattes: there is nothing to encode."""
        return self

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return the mattes of a batch.

        Raises OptionError if the file has another size or length.
        """
        return MatteBatch(batch, read_masks(self.mask, batch, self.like), (1.0,) * len(batch))

    def tracker(self) -> None:
        """Return None: no frame needs another."""
        return None

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the frame as it is."""
        return rgb

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return alpha (1, 1, H, W) at the size of the frame."""
        return F.interpolate(coarse.alpha[None, None], size=rgb.shape[2:], mode="bilinear")


def read_masks(mask: Mask, batch: FrameBatch, like: VideoInfo) -> Tensor:
    """(N, 1, H, W) in 0..1 of a mask for the frames of a batch of the clip `like`.

    Raises OptionError for a file of another size or length.
    """
    height, width = batch.rgb.shape[2:]
    display_width = max(1, round(width * like.sample_aspect_ratio))
    return torch.from_numpy(np.stack(mask.read(batch, (height, width), display_width))[:, None])


def external_mattes(
    mask: Mask, video: Video, *, start: int, end: int | None, device: torch.device
) -> ExternalMattes:
    """Return the mattes of a clip, or of its part `start` to `end` if they have that length.

    `end` is exclusive.

    Raises OptionError for mattes of another size or length than the clip.
    """
    fit_to_clip(mask, video, start=start, end=end)
    return ExternalMattes(mask, video.info, device)


def fit_to_clip(mask: Mask, video: Video, *, start: int, end: int | None) -> None:
    """Align mattes or trimaps with a clip, or with a part of it if they are as long as the part.

    `end` is exclusive. Raises OptionError if they have another size or length than the clip.
    """
    mask.check_size(video.info)
    clip = video.count_frames()
    part = min(clip, end or clip) - start
    # As long as the clip, or as long as the part to matte.
    if mask.frames not in (None, clip, part):
        asked = "" if part == clip else f", and the chosen part of it {part}"
        raise OptionError(
            f"{mask.path}: has {mask.frames} frames, but the clip has {clip}{asked}; give "
            f"mattes of the same frames"
        )
    if mask.frames == part:
        mask.first = start
