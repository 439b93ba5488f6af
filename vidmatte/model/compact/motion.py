"""Separate the motion of the object from that of the background, in optical flow.

The parts of an object move together (common fate) even if they look different, and a lookalike in
the background does not move with them. One affine map is fitted to the background's motion and one
to the object's, robustly: iteratively reweighted least squares with Cauchy weights (Holland and
Welsch, 1977). The residuals to the two maps tell object and background pixels apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 4
"""Channels of `motion_cue`: residual to the background (x, y), nearness to the object, known."""

_SCALES = (4.0, 2.0, 1.0, 0.5, 0.5)
"""Widths of the weights from round to round, in units of `_UNIT`."""
_UNIT = 1 / 80
"""Residual with a nearness of one half, as a share of the frame's shorter side."""
_STRIDE = 4
"""Side in pixels of the cells of the fit: flow is smooth, so a sixteenth of the pixels suffices."""
_BACKGROUND_STIFFNESS = 1e-4
_OBJECT_STIFFNESS = 3e-2
"""Ridge on the linear terms of a map. The object's is stiff: a few marks fix only a shift."""


def motion_cue(flow: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Return the motion of each pixel against the background and against the object.

    Args:
        flow: (N, h, w, 2) float32 optical flow in pixels to a frame close in time, both frames seen
            through one window.
        inside: (N, 1, h, w) 0-1, the expected object; all 0 if nothing is known.
        outside: (N, 1, h, w) 0-1, the expected background; it may hold some of the object.

    Returns:
        (N, 4, h, w) float32: residual (x, y) to the background's affine motion, its length squashed
        to 0-1; length of the residual to the object's motion, squashed likewise (1/2 if nothing is
        marked as object); 1 for "known".
    """
    flow = flow.permute(0, 3, 1, 2)
    unit = _UNIT * min(flow.shape[-2:])
    # Half precision is too coarse for the normal equations.
    with torch.autocast(flow.device.type, enabled=False):
        # Both fits in one batch: their matrices are small, and each operation has a price.
        weights = (outside.float(), inside.float())
        fitted = _affine_motions(flow, weights, (_BACKGROUND_STIFFNESS, _OBJECT_STIFFNESS))
        behind, own = (flow - motion for motion in fitted)
    behind_length = _length(behind)
    own_length = _length(own)
    # Without marks the object's fit is meaningless, so nearness is neutral.
    marked = (inside.sum((1, 2, 3), keepdim=True) > 0).float()
    nearness = marked * own_length / (own_length + unit) + (1 - marked) / 2
    # Squashed to less than 1: fast motion must not drown the other inputs.
    return torch.cat([behind / (behind_length + unit), nearness, torch.ones_like(nearness)], 1)


def no_motion(like: Tensor) -> Tensor:
    """Return the cue (N, 4, h, w) of frames (N, C, h, w) without a neighbour in time: all 0."""
    return like.new_zeros(len(like), CHANNELS, *like.shape[-2:], dtype=torch.float32)


def _length(vectors: Tensor) -> Tensor:
    """Return the length (N, 1, h, w) of vectors (N, 2, h, w)."""
    # A sum of squares: torch's norm over the channels is a hundred times slower on a CPU.
    return vectors.square().sum(1, keepdim=True).sqrt()


def _affine_motions(
    flow: Tensor, weights: Sequence[Tensor], ridges: Sequence[float]
) -> tuple[Tensor, ...]:
    """Fit an affine motion (N, 2, h, w) to a flow (N, 2, h, w) under each weight (N, 1, h, w).

    `ridges` are the stiffness of each fit.
    """
    height, width = flow.shape[-2:]
    unit = _UNIT * min(height, width)
    small = F.avg_pool2d(flow, _STRIDE)
    target = small.flatten(2).mT.repeat(len(weights), 1, 1)
    share = F.avg_pool2d(torch.cat(list(weights)), _STRIDE).flatten(2).mT
    # The average position of a cell is that of its centre, so both sizes share one basis.
    basis = _basis(small.shape[-2], small.shape[-1], flow.device)
    # The constant term has a ridge only to keep the system solvable if no pixel has any weight.
    terms = [[1e-6, ridge, ridge] for ridge in ridges for _ in flow]
    stiff = torch.diag_embed(torch.tensor(terms, device=flow.device))
    # Each round fits with the weights of the last residuals; the first one knows none.
    fit = target.new_zeros(len(target), 3, 2)
    current = share
    for scale in _SCALES:
        # Divided by the total weight, so that the ridge means the same for small and large objects.
        total = current.sum(1, keepdim=True).clamp(min=1e-6)
        weighted = (basis * current).mT
        fit = torch.linalg.solve(weighted @ basis / total + stiff, weighted @ target / total)
        residual = target - basis @ fit
        missed = residual[..., :1].square() + residual[..., 1:].square()
        # Cauchy weights: pixels of another motion lose their say, ever more so as the scale
        # shrinks.
        current = share / (1 + missed / (scale * unit) ** 2)
    y, x = _centres(height, width, flow.device)
    constant, across, down = fit[..., None, None].unbind(1)
    return (constant + across * x + down * y[:, None]).chunk(len(weights))


def _basis(height: int, width: int, device: torch.device) -> Tensor:
    """Return (1, h w, 3): 1, x, y of each pixel's centre, see `_centres`."""
    y, x = torch.meshgrid(*_centres(height, width, device), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y], -1).flatten(0, 1)[None]


def _centres(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y (h) and x (w) of the pixels' centres, from -1 to 1 over the longer side."""
    y = (2 * torch.arange(height, device=device) + 1.0 - height) / max(height, width)
    x = (2 * torch.arange(width, device=device) + 1.0 - width) / max(height, width)
    return y, x
