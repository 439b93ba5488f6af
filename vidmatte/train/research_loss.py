"""Losses of IconMatting's public code (Guo et al., CVPR 2024, section 3.4), for one pair each.

All take float32 maps (N, 1, S, S) in 0..1 and return one number per item, (N,). `region` is a map
of 0 and 1. The public code sums over the items of a batch; training takes their mean. AdamW
does not tell it from the sum, so a step is the same however its batch is divided.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Regions are weighted like regions of a 512 x 512 crop, whatever the crop is.
_PIXELS = 512 * 512
# Levels of the pyramid, and the share of smoothness in the gradient's loss, as published.
_LEVELS = 5
_SMOOTHNESS = 0.01
_SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def scaled_l1(alpha: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Return the mean l1 over all pixels inside a region, times 262144 / its number of pixels.

    It is 0 if the region is empty.
    """
    return _scaled(F.l1_loss(alpha * region, truth * region, reduction="none"), region)


def scaled_smooth_l1(alpha: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Return the smooth l1 (beta 1) inside a region, scaled as `scaled_l1`."""
    return _scaled(F.smooth_l1_loss(alpha * region, truth * region, reduction="none"), region)


def gradient_penalty(alpha: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """Return the difference of the Sobel gradients inside a region, scaled as `scaled_l1`.

    A hundredth of the absolute gradient of `alpha` itself is added, for smoothness.
    """
    sobel_x = torch.tensor(_SOBEL_X, device=alpha.device, dtype=alpha.dtype)
    total = torch.zeros(len(alpha), device=alpha.device, dtype=alpha.dtype)
    # Transposed, it is the kernel of the other axis.
    for kernel in (sobel_x, sobel_x.mT):
        found = F.conv2d(alpha, kernel[None, None], padding=1) * region
        wanted = F.conv2d(truth, kernel[None, None], padding=1) * region
        total = total + _scaled((found - wanted).abs() + _SMOOTHNESS * found.abs(), region)
    return total


def gaussian_laplacian(alpha: Tensor, truth: Tensor) -> Tensor:
    """Return the l1 of a Laplacian pyramid of 5 Gaussian levels, level k weighted by 2^k / 5."""
    total = torch.zeros(len(alpha), device=alpha.device, dtype=alpha.dtype)
    # The pyramid is linear: one of the difference says the same as the difference of two.
    current = alpha - truth
    for level in range(_LEVELS):
        # An odd row or column is dropped, as in the public code.
        height = current.shape[-2] // 2 * 2
        width = current.shape[-1] // 2 * 2
        current = current[..., :height, :width]
        smaller = _blur(current)[..., ::2, ::2]
        spread = current.new_zeros(current.shape)
        # Three of four pixels are zero; the factor makes up for them.
        spread[..., ::2, ::2] = 4 * smaller
        band = current - _blur(spread)
        total = total + 2**level * band.abs().mean((1, 2, 3))
        current = smaller
    return total / _LEVELS


def matting_terms(alpha: Tensor, truth: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    """Return the terms (N,) of pairs with true alpha; `unknown` is the trimap's unknown region."""
    return {
        "l1 unknown": scaled_l1(alpha, truth, unknown),
        "l1 known": scaled_l1(alpha, truth, 1 - unknown),
        "laplacian": gaussian_laplacian(alpha, truth),
        "gradient": gradient_penalty(alpha, truth, unknown),
    }


def segmentation_terms(alpha: Tensor, truth: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    """Return the terms (N,) of pairs with a mask; `unknown` is its outline."""
    return {"smooth l1 known": scaled_smooth_l1(alpha, truth, 1 - unknown)}


Terms = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]
"""From alpha, truth and unknown region (N, 1, S, S) to terms (N,) by name."""


def _scaled(errors: Tensor, region: Tensor) -> Tensor:
    size = region.sum((1, 2, 3))
    # An empty region has no errors to weight.
    scale = torch.where(size > 0, _PIXELS / size.clamp(min=1), torch.zeros_like(size))
    return errors.mean((1, 2, 3)) * scale


def _blur(image: Tensor) -> Tensor:
    """Blur with the 5 x 5 binomial kernel, mirrored at the edges."""
    line = torch.tensor(_BINOMIAL, device=image.device, dtype=image.dtype) / 16
    padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, (line[:, None] * line[None])[None, None])
