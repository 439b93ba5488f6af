"""Resizing and normalisation for networks trained on ImageNet and the like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.model.memory import memory_errors

# Mean and deviation of ImageNet, which all of these networks were trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, C, h, w) at another size (height, width), averaged if it becomes smaller."""
    if tuple(picture.shape[-2:]) == size:
        return picture
    return F.interpolate(picture, size=size, mode="bilinear", align_corners=False, antialias=True)


def normalised(rgb: Tensor) -> Tensor:
    """Return colours (N, 3, h, w) 0-1 less ImageNet's mean, divided by its deviation."""
    mean, deviation = (
        torch.tensor(x, device=rgb.device)[None, :, None, None] for x in (_MEAN, _DEVIATION)
    )
    return (rgb - mean) / deviation


def fitted(height: int, width: int, longest: int, stride: int) -> tuple[int, int]:
    """Return height and width with about the same aspect and the longer side `longest`.

    Both are multiples of `stride`.
    """
    scale = longest / max(height, width)
    return max(1, round(height * scale / stride)) * stride, max(
        1, round(width * scale / stride)
    ) * stride


@contextmanager
def inference(device: torch.device, precision: torch.dtype, what: str) -> Iterator[None]:
    """Run networks without gradients in a precision; `what` names the work in memory errors."""
    autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)
    with memory_errors(what), torch.inference_mode(), autocast:
        yield
