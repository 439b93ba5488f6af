"""Correct a coarse matte at its own size, before it is enlarged, with a U-Net.

Most of the error at an edge is that of the coarse matte: the guided filter finds the strands of
hair if the coarse matte tells how much of each pixel they fill. The network that follows objects
does not know hair that well. This one sees nothing but edges, the image at twice the size of the
matte, where strands can be told from the gaps between them, and the corrected matte of the frame
before, so that edges do not crawl.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vidmatte.imaging.arrays import Alpha, Pixels, Rgb8
from vidmatte.model.compact.edge_cues import (
    COARSE_CHANNELS,
    LINES,
    along_lines,
    coarse_features,
    refined,
    surroundings,
)
from vidmatte.model.compact.expectation import Expectation
from vidmatte.model.compact.maps import as_input, halve, in_autocast, resize
from vidmatte.model.compact.upsample import certain, soft_band
from vidmatte.model.compact.window import Box, crop_rgb

Image = TypeVar("Image", Rgb8, Pixels)

DETAIL = 2
"""Size of the image that is seen, in sizes of the matte."""
_DETAIL_CHANNELS = 3 * DETAIL**2
MATTE_CHANNELS = COARSE_CHANNELS + 2
"""Those of `coarse_features`, the expected alpha, and where it is known."""
REACH = 6
"""How far from what is soft alpha is corrected, in pixels of the matte."""
_FAINT = 0.1
"""What was 0 or 1 stays if it would come no farther from it: haze and hollows show on a key."""
_STEEP = 4.0
"""Factor of the last layer, which starts at 0 and learns faster by it."""


class Corrector(nn.Module):
    """Changes the logit of a coarse matte's alpha: a U-Net of four levels.

    Each level has half the size of the one before. Batch norms let it learn in far fewer steps;
    `folded` takes them out of a trained one.
    """

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        first, second, third = channels
        self.first = _conv(MATTE_CHANNELS + _DETAIL_CHANNELS + LINES, first)
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

    def forward(self, coarse: Tensor, lines: Tensor, detail: Tensor) -> Tensor:
        """Return the change of alpha's logit (N, 1, h, w) float32.

        Args:
            coarse: (N, MATTE_CHANNELS, h, w) from `matte_features`.
            lines: (N, LINES, h, w) two linear functions of colour from there.
            detail: (N, 3, 2 h, 2 w) the image at `DETAIL` times that size, 0-1.
        """
        closer = F.pixel_unshuffle(detail, DETAIL)
        # Cast first: fewer bytes to move. Inputs are centred on 0.
        seen = [
            in_autocast(planes - 0.5) for planes in (coarse, closer, *along_lines(lines, closer))
        ]
        first = self.first(as_input(torch.cat(seen, 1)))
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
    net: Corrector,
    detail: Rgb8,
    alpha: Alpha,
    device: torch.device,
    expected: Expectation | None = None,
) -> Alpha:
    """Return a coarse matte (h, w) 0-1, corrected within reach of what is soft in it.

    Args:
        net: the corrector, on `device`.
        detail: (2 h, 2 w, 3) image at `DETAIL` times the size of the matte, of `detail_of`.
        alpha: (h, w) the coarse matte, 0-1.
        device: where the network runs.
        expected: the corrected matte of the frame before, moved along; None if there is none.
    """
    sure = certain(alpha)
    near = soft_band(sure, REACH)
    if not near.any():
        return alpha
    features, lines = matte_features(_as_share(at_size_of(sure, detail)), sure, expected)
    rows, columns = surroundings(near)
    seen, along = (
        torch.from_numpy(planes[:, rows, columns])[None].to(device) for planes in (features, lines)
    )
    closer = _as_share(detail[_enlarged(rows), _enlarged(columns)]).transpose(2, 0, 1)
    change = net(seen, along, torch.from_numpy(np.ascontiguousarray(closer))[None].to(device))
    found = refined(seen[:, 3:4], change)[0, 0].cpu().numpy()
    before = sure[rows, columns]
    stays = ((before == 0) & (found < _FAINT)) | ((before == 1) & (found > 1 - _FAINT))
    corrected = alpha.copy()
    np.copyto(corrected[rows, columns], found, where=(near[rows, columns] > 0) & ~stays)
    return corrected


def matte_features(
    rgb: Pixels, alpha: Alpha, expected: Expectation | None
) -> tuple[Pixels, Pixels]:
    """Return what the network sees beside the larger image.

    Args:
        rgb: (h, w, 3) image at the size of its coarse matte, 0-1.
        alpha: (h, w) coarse matte, 0-1.
        expected: the corrected matte of the frame before, moved along; None if there is none.

    Returns:
        (MATTE_CHANNELS, h, w), and the lines (LINES, h, w) of `coarse_features`.
    """
    features, lines = coarse_features(rgb, alpha)
    last, known = alpha, np.zeros_like(alpha)
    if expected is not None:
        known = expected.known
        # Where nothing is expected, nothing is to differ from the coarse matte.
        last = np.where(known > 0, expected.alpha, alpha)
    return np.concatenate([features, last[None], known[None]]), lines


def detail_of(frame: Rgb8, window: Box, size: tuple[int, int]) -> Rgb8:
    """Return a window of a frame (h, w, 3) as `correct` takes it for a matte of a size."""
    return crop_rgb(frame, window, (DETAIL * size[0], DETAIL * size[1]))


def at_size_of(alpha: Alpha, image: Image) -> Image:
    """Return an image that is larger than its matte (h, w) at the size of it: (h, w, 3)."""
    size = (alpha.shape[1], alpha.shape[0])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), image.dtype)


def _as_share(image: Rgb8) -> Pixels:
    """Return an image with its colours from 0 to 1."""
    return image.astype(np.float32) / np.float32(255)


def _enlarged(places: slice) -> slice:
    return slice(DETAIL * places.start, DETAIL * places.stop)
