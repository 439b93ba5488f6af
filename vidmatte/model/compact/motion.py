"""What moves with the object and what with the background: common fate, read from optical flow.

Parts of an object that look nothing alike still move together, and lookalikes behind it do not. The background's
motion and the object's are each fitted by an affine map, robustly (iteratively reweighted least squares with Cauchy
weights, Holland and Welsch, 1977); what is left over says to which of the two a place belongs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 4
"""Of `motion_cue`: the motion against the background (x, y), how far it is from the object's, and where it is known."""

_SCALES = (4.0, 2.0, 1.0, 0.5, 0.5)
"""Widths of the weights from round to round, in units of `_UNIT`."""
_UNIT = 1 / 80
"""Residual that counts half as motion, as a share of the frame's shorter side."""
_STRIDE = 4
_STIFFNESS = 1e-4, 3e-2
"""Ridge on the linear terms of the background's and of the object's map: few marks fix no more than a shift."""


def motion_cue(flow: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Motion of each pixel against the background and against the object.

    Args:
        flow: (N, h, w, 2) float32 optical flow in pixels to a frame close in time, both seen through one window.
        inside: (N, 1, h, w) 0-1, where the object is thought to be; all 0 when nothing is known.
        outside: (N, 1, h, w) 0-1, where the background is thought to be; it may hold some of the object.

    Returns:
        (N, 4, h, w) float32: residual (x, y) to the background's affine motion, squashed to length 0-1; length of the
        residual to the object's, likewise (1/2 where nothing is marked as object); 1 for "known".
    """
    flow = flow.permute(0, 3, 1, 2)
    unit = _UNIT * min(flow.shape[-2:])
    with torch.autocast(flow.device.type, enabled=False):
        behind, own = (
            flow - _affine_motion(flow, weight.float(), ridge, unit)
            for weight, ridge in zip((outside, inside), _STIFFNESS, strict=True)
        )
    behind_length, own_length = (
        torch.linalg.vector_norm(rest, dim=1, keepdim=True) for rest in (behind, own)
    )
    marked = (inside.sum((1, 2, 3), keepdim=True) > 0).float()
    nearness = marked * own_length / (own_length + unit) + (1 - marked) / 2
    return torch.cat([behind / (behind_length + unit), nearness, torch.ones_like(nearness)], 1)


def no_motion(like: Tensor) -> Tensor:
    """The cue (N, 4, h, w) of images without a neighbour in time, for frames (N, C, h, w)."""
    return like.new_zeros(len(like), CHANNELS, *like.shape[-2:], dtype=torch.float32)


def _affine_motion(flow: Tensor, weight: Tensor, ridge: float, unit: float) -> Tensor:
    """The affine motion (N, 2, h, w) that fits a flow (N, 2, h, w) best where the weight (N, 1, h, w) is."""
    small, share = F.avg_pool2d(flow, _STRIDE), F.avg_pool2d(weight, _STRIDE)
    target, share = small.flatten(2).mT, share.flatten(2).mT
    # The average position of a cell is that of its centre, so both sizes share one basis.
    basis, full = (_basis(x.shape[-2], x.shape[-1], flow.device) for x in (small, flow))
    stiff = torch.diag(torch.tensor([1e-6, ridge, ridge], device=flow.device))
    fit, weights = target.new_zeros(len(flow), 3, 2), share
    for scale in _SCALES:
        total = weights.sum(1, keepdim=True).clamp(min=1e-6)
        gram = basis.mT @ (weights * basis) / total + stiff
        fit = torch.linalg.solve(gram, basis.mT @ (weights * target) / total)
        residual = (target - basis @ fit).square().sum(-1, keepdim=True)
        weights = share / (1 + residual / (scale * unit) ** 2)
    return (full @ fit).mT.reshape(flow.shape)


def _basis(height: int, width: int, device: torch.device) -> Tensor:
    """(1, h w, 3): 1, x, y of each pixel's centre, with x and y from -1 to 1 over the longer side."""
    y = (2 * torch.arange(height, device=device) + 1.0 - height) / max(height, width)
    x = (2 * torch.arange(width, device=device) + 1.0 - width) / max(height, width)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(x), x, y], -1).flatten(0, 1)[None]
