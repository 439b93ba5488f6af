"""Loss terms on alpha, one function each, and their sum for training.

The kinds of l1, Laplacian and gradient are those of IconMatting (Guo et al., CVPR 2024, section
3.4; `train.research_loss` has the very terms of its code). Cross-entropy and overlap are added
because small objects have little weight in a mean over pixels; the last two train the coarse
logits and the confidence. All take float32 (N, 1, h, w) 0-1 unless stated otherwise, and return
one number per item, (N,).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.compact.net import Prediction

WEIGHTS: Mapping[str, float] = {
    "l1": 1.0,
    "laplacian": 0.5,
    "gradient": 0.5,
    "cross_entropy": 0.5,
    "overlap": 0.3,
    "coarse": 0.2,
    "confidence": 0.1,
}


def l1(alpha: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference."""
    # Per item, so that items can be weighted later.
    return (alpha - truth).abs().mean((1, 2, 3))


def l1_within(alpha: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Return the mean absolute difference inside a region (N, 1, h, w) of 0 and 1; 0 if empty."""
    return ((alpha - truth).abs() * region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)


def laplacian(alpha: Tensor, truth: Tensor, *, levels: int = 4) -> Tensor:
    """Return the difference of the bands of a box-filtered Laplacian pyramid.

    After Hou and Liu, ICCV 2019.
    """
    total = torch.zeros(alpha.shape[0], device=alpha.device)
    for _ in range(levels):
        total = total + l1(_band(alpha), _band(truth))
        alpha = F.avg_pool2d(alpha, 2)
        truth = F.avg_pool2d(truth, 2)
    return total


# A box filter in place of the Gaussian: cheaper, with nearly the same bands.
def _band(x: Tensor) -> Tensor:
    return x - F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)


def gradient(alpha: Tensor, truth: Tensor) -> Tensor:
    """Return the absolute difference of the first differences in x and y."""
    difference = alpha - truth
    down = difference[..., 1:, :] - difference[..., :-1, :]
    right = difference[..., 1:] - difference[..., :-1]
    return down.abs().mean((1, 2, 3)) + right.abs().mean((1, 2, 3))


def core_error(alpha: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Return the mean error where the truth is 0 or 1 all around: haze and hollows show on a key.

    Alpha beyond 0 and 1 is no error there, as it is clipped in use. A scalar, 0 if the region
    (N, 1, h, w) holds no such place.
    """
    low = -F.max_pool2d(-truth, 9, 1, 4)
    high = F.max_pool2d(truth, 9, 1, 4)
    solid = region * ((low > 0.999) | (high < 0.001)).float()
    wrong = F.relu(torch.where(truth > 0.5, 1 - alpha, alpha))
    return (solid * wrong).sum() / solid.sum().clamp(min=1)


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits with a soft truth."""
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((1, 2, 3))


def overlap(alpha: Tensor, truth: Tensor) -> Tensor:
    """Return one minus the soft Jaccard index; 0 if the object has a few pixels or none."""
    both = torch.minimum(alpha, truth).sum((1, 2, 3))
    either = torch.maximum(alpha, truth).sum((1, 2, 3))
    # Items with 8 pixels of object or fewer say nothing about overlap.
    return (1 - both / either.clamp(min=1.0)) * (truth.sum((1, 2, 3)) > 8)


def jaccard(alpha: Tensor, truth: Tensor) -> Tensor:
    """Return the region overlap J at 0.5, (N,); 1 if both are empty."""
    a = alpha > 0.5
    b = truth > 0.5
    both = (a & b).sum((1, 2, 3)).float()
    either = (a | b).sum((1, 2, 3)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))


def matting_losses(prediction: Prediction, truth: Tensor) -> dict[str, Tensor]:
    """Return all terms of a frame by name: means over the batch, without their weights."""
    alpha = prediction.alpha
    coarse = prediction.coarse_logits
    # The coarse logits are compared at their own size.
    small = F.adaptive_avg_pool2d(truth, (coarse.shape[-2], coarse.shape[-1]))
    # The confidence learns the overlap that the answer really reached.
    reached = jaccard(alpha.detach(), truth)
    terms = {
        "l1": l1(alpha, truth),
        "laplacian": laplacian(alpha, truth),
        "gradient": gradient(alpha, truth),
        "cross_entropy": cross_entropy(prediction.alpha_logits, truth),
        "overlap": overlap(alpha, truth),
        "coarse": cross_entropy(coarse, small),
        "confidence": F.binary_cross_entropy_with_logits(
            prediction.confidence_logits, reached, reduction="none"
        ),
    }
    return {name: term.mean() for name, term in terms.items()}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float] = WEIGHTS) -> Tensor:
    """Return the loss to minimise."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


Batch = dict[str, Tensor]


def optimizer_step(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
    *,
    clip: float = 1.0,
) -> None:
    """Update the weights along their gradients, with the norm clipped to `clip` (0: not at all)."""
    if clip:
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    if scaler is None:
        optimiser.step()
    else:
        scaler.step(optimiser)
        scaler.update()
