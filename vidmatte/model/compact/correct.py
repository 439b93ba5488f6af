"""Correct a coarse matte at its own size, before it is enlarged, with a U-Net.

Most of the error at an edge is that of the coarse matte: the guided filter finds the strands of
hair if the coarse matte tells how much of each pixel they fill. The network that follows objects
does not know hair that well; this one sees nothing but edges.
"""

from __future__ import annotations

import copy
import itertools
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.compact.edge_cues import (
    COARSE_CHANNELS,
    coarse_features,
    reachable,
    refined,
    surroundings,
)
from vidmatte.model.compact.maps import as_input, halve, resize
from vidmatte.model.compact.upsample import certain

_STEEP = 4.0
"""Factor of the last layer, which starts at 0 and learns faster by it."""

FOLLOWED = 0.5
"""Share of the change that is made to the mattes of a clip.

More of it gains on hair, but also moves edges of what is hard or blurred by motion: all of it cost
four real clips 0.006 of J.
"""
ALONE = 1.0
"""Share of the change that is made to an image that is matched to another one."""


class Corrector(nn.Module):
    """Changes the logit of a coarse matte's alpha: a U-Net of four levels.

    Each level has half the size of the one before. Batch norms let it learn in far fewer steps;
    `folded` takes them out of a trained one.
    """

    def __init__(self, channels: tuple[int, int, int] = (16, 40, 64)) -> None:
        super().__init__()
        first, second, third = channels
        self.first = _conv(COARSE_CHANNELS, first)
        self.second = nn.Sequential(_conv(first, second), _conv(second, second))
        self.third = nn.Sequential(_conv(second, third), _Residual(third))
        self.fourth = nn.Sequential(_conv(third, third), _Residual(third))
        self.up_to_second = nn.Conv2d(third, second, 1)
        self.mix_second = _conv(second, second)
        self.up_to_first = nn.Conv2d(second, first, 1)
        self.mix_first = _conv(2 * first, 16)
        self.change = nn.Conv2d(16, 1, 1)
        # Starts without a change.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(cast(Tensor, self.change.bias))

    def forward(self, coarse: Tensor) -> Tensor:
        """Return the change of alpha's logit (N, 1, h, w) float32.

        Args:
            coarse: (N, COARSE_CHANNELS, h, w) from `coarse_features`.
        """
        first = self.first(as_input(coarse - 0.5))
        second = self.second(halve(first))
        third = self.third(halve(second))
        third = third + resize(self.fourth(halve(third)), third)
        second = self.mix_second(second + resize(self.up_to_second(third), second))
        mixed = self.mix_first(torch.cat([first, resize(self.up_to_first(second), first)], 1))
        change: Tensor = self.change(mixed)
        return _STEEP * change.float()

    def folded(self) -> Corrector:
        """Return the same function with the batch norms folded into the convolutions."""
        net = copy.deepcopy(self).eval()
        for block in net.modules():
            if isinstance(block, nn.Sequential):
                for at, (layer, norm) in enumerate(itertools.pairwise(list(block))):
                    if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                        block[at] = fuse_conv_bn_eval(layer, norm)
                        block[at + 1] = nn.Identity()
        return net


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = _conv(channels, channels)
        self.outer = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )
        # Starts as the identity.
        nn.init.zeros_(cast(nn.BatchNorm2d, self.outer[1]).weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.outer(self.inner(x)))


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def correct(
    net: Corrector, rgb: Pixels, alpha: Alpha, device: torch.device, share: float = 1.0
) -> Alpha:
    """Return a coarse matte (h, w) 0-1, corrected within reach of what is soft in it.

    Args:
        net: the corrector, on `device`.
        rgb: (h, w, 3) image at the size of the matte, 0-1.
        alpha: (h, w) the coarse matte, 0-1.
        device: where the network runs.
        share: of the change that is made, 0 to 1.
    """
    sure = certain(alpha)
    near = reachable(sure)
    if not near.any():
        return alpha
    features, _ = coarse_features(rgb, sure)
    inside = surroundings(near)
    seen = torch.from_numpy(features[(slice(None), *inside)])[None].to(device)
    found = refined(seen[:, 3:4], share * net(seen))[0, 0].cpu().numpy()
    corrected = alpha.copy()
    np.copyto(corrected[inside], found, where=near[inside] > 0)
    return corrected
