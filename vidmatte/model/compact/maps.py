"""Operations on feature maps (N, C, h, w) that `compact`'s parts share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def join(*maps: Tensor) -> Tensor:
    """Concatenate maps along their channels, with channels last in memory.

    Convolutions on a processor are fastest so. `torch.cat` along the channels keeps that order only
    if all maps have it; otherwise it copies them slowly, and the convolution copies them again.
    """
    return torch.cat([each.permute(0, 2, 3, 1) for each in maps], -1).permute(0, 3, 1, 2)


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize `x` bilinearly to the rows and columns of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def shrink(x: Tensor, like: Tensor) -> Tensor:
    """Average `x` down to the rows and columns of `like`, in the dtype of `like`."""
    return F.adaptive_avg_pool2d(x, (like.shape[-2], like.shape[-1])).to(like.dtype)


def halve(x: Tensor) -> Tensor:
    """Average blocks of 2 x 2; those at an odd end are smaller."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def as_input(maps: Tensor) -> Tensor:
    """Return maps in the dtype of autocast, channels last in memory, as convolutions take them."""
    # Cast, then reorder: half the time of one `to` that does both.
    return in_autocast(maps).contiguous(memory_format=torch.channels_last)


def in_autocast(x: Tensor) -> Tensor:
    """Return a tensor in the dtype of autocast, for more than one product; as it is without."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
