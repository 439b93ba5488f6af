"""Refine a coarse matte to alpha at full size where it is wrong or soft, with a small network.

There are two stages. At the size of the coarse matte a U-Net of three levels sees the surroundings
of the edge: colours, matte, and the mean colours of sure object and sure background around each
pixel. It predicts where the enlarged matte is not yet alpha: the band. At full size a shallow
network sees tiles of the band: the pixels, the guided filter's alpha, the position of each pixel's
colour on the line between the two mean colours, and the first stage's features. It corrects alpha
there; outside of the band nothing is changed.

The idea of a second network for the places that a first one finds wrong is that of Lin et al.,
Real-Time High-Resolution Background Matting, CVPR 2021 (section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.imaging.area import shrink_planes, split
from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.compact.edge_cues import (
    COARSE_CHANNELS,
    LINES,
    along_lines,
    coarse_features,
    reachable,
    refined,
    surroundings,
)
from vidmatte.model.compact.maps import as_input, halve, resize
from vidmatte.model.compact.upsample import certain, guided_upsample, settled

CORE = 48
"""Side in pixels of the part of a tile that is kept."""
HALO = 8
"""Pixels around it: the reach of the second stage's convolutions, so that tiles have no seams."""
TILE = CORE + 2 * HALO
MAX_ENLARGEMENT = 8
"""Largest ratio of an image's side to its coarse matte's up to which it is refined."""
MOST_TILES = 768
"""About 1.8 million pixels: a band of more is refined at half the size or less."""
_BATCH = 32
"""Tiles in one pass of the network: bounds its memory."""
_IN_BAND = 0.85
"""Probability from which a pixel of the coarse matte belongs to the band."""


class Survey(NamedTuple):
    """What the first stage tells of a coarse matte; (N, ..., h, w) float32.

    Attributes:
        band: (N, 1, h, w) logit of the probability that alpha is not yet found here.
        features: (N, C, h, w) for the second stage.
    """

    band: Tensor
    features: Tensor


class Refiner(nn.Module):
    """Corrects the logit of alpha at full size, where a survey of the coarse matte says so.

    There are no norms, so the result for a pixel does not depend on the tile that holds it.
    """

    def __init__(self, channels: int = 16, middle: int = 40, deep: int = 64) -> None:
        super().__init__()
        c, d, e = channels, middle, deep
        self.enter = _conv(COARSE_CHANNELS, c)
        self.down = nn.Sequential(_conv(c, d), _conv(d, d))
        self.deep = nn.Sequential(_conv(d, e), _conv(e, e), _conv(e, e), nn.Conv2d(e, d, 1))
        self.up = _conv(d, c)
        self.mix = _conv(2 * c, c)
        self.leave = nn.Conv2d(c, 1 + c, 1)
        self.stem = nn.Conv2d(4 * (3 + 1) + LINES, c, 3, 1, 1)
        self.sharp = nn.Sequential(_conv(c, c), _conv(c, c), _conv(c, c))
        self.change = nn.Conv2d(2 * c, 4, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                # Without norms, torch's own start lets the signal die out in the deep layers.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # Starts as the guided filter: the change is 0.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(cast(Tensor, self.change.bias))

    def survey(self, coarse: Tensor) -> Survey:
        """Look at a coarse matte and its image.

        Args:
            coarse: (N, COARSE_CHANNELS, h, w) from `coarse_features`.
        """
        first = self.enter(as_input(coarse - 0.5))
        second = self.down(halve(first))
        third = self.deep(halve(second))
        second = self.up(second + resize(third, second))
        maps = self.leave(self.mix(torch.cat([first, resize(second, first)], 1))).float()
        return Survey(maps[:, :1], maps[:, 1:])

    def forward(self, pixels: Tensor, around: Tensor) -> Tensor:
        """Return the change of alpha's logit in tiles.

        Blocks of 2 x 2 pixels lie in the channels, which makes the convolutions cheaper.

        Args:
            pixels: (N, 16, S / 2, S / 2) from `Tiles.cut`, pixel-unshuffled: rgb and the guided
                filter's alpha.
            around: (N, LINES + C, S / 2, S / 2) from `Tiles.sample`: two linear functions of
                colour, and the first stage's features.

        Returns:
            (N, 4, S / 2, S / 2), to be pixel-shuffled.
        """
        # Planes are multiplied several times as fast as interleaved channels.
        lines = around[:, :LINES].contiguous()
        seen = torch.cat([pixels, *along_lines(lines, pixels)], 1)
        # Inputs are centred on 0.
        x = F.relu(self.stem(as_input(seen - 0.5)) + around[:, LINES:])
        change: Tensor = self.change(torch.cat([x, self.sharp(x)], 1))
        # The factor speeds up the learning of the last layer, which starts at 0.
        return 4 * change


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, 1, 1), nn.ReLU(inplace=True))


@dataclass(frozen=True)
class Tiles:
    """Places of tiles in an image.

    Attributes:
        corners: (n, 2) y and x of the top left corners of the tiles' cores, even numbers.
        height: rows of the image.
        width: columns of the image.
    """

    corners: Tensor
    height: int
    width: int

    def split(self, most: int) -> Iterator[Tiles]:
        """Yield the same tiles, at most `most` at a time."""
        for corners in torch.split(self.corners, most):
            yield Tiles(corners, self.height, self.width)

    def cut(self, *pictures: Pixels, side: int = TILE, halo: int = HALO) -> Pixels:
        """Cut tiles with their surroundings out of pictures; the image's border is repeated.

        Args:
            pictures: (C, H, W) each; their planes follow each other in the tiles.
            side: side of a tile with its surroundings.
            halo: width of the surroundings.

        Returns:
            (n, all C, side, side).
        """
        channels = [0, *accumulate(len(planes) for planes in pictures)]
        cut = np.empty((len(self.corners), channels[-1], side, side), np.float32)
        for tile, (top, left) in zip(cut, self.corners.tolist(), strict=True):
            y = top - halo
            x = left - halo
            # A slice is much faster than an index, and most tiles lie inside.
            is_inside = min(y, x) >= 0 and y + side <= self.height and x + side <= self.width
            place: tuple[Any, ...] = np.s_[:, y : y + side, x : x + side]
            if not is_inside:
                rows = np.clip(np.arange(y, y + side), 0, self.height - 1)
                columns = np.clip(np.arange(x, x + side), 0, self.width - 1)
                place = np.s_[:, rows[:, None], columns]
            for planes, (first, end) in zip(pictures, pairwise(channels), strict=True):
                tile[first:end] = planes[place]
        return cut

    def sample(self, maps: Tensor, side: int = TILE, halo: int = HALO) -> Tensor:
        """Sample maps of the whole image bilinearly at every second pixel of the tiles.

        Two products of small matrices are several times as fast as a look-up of every pixel.

        Args:
            maps: (1, C, h, w).
            side: side of a tile with its surroundings.
            halo: width of the surroundings.

        Returns:
            (n, C, side / 2, side / 2), channels last in memory.
        """
        tall, wide = maps.shape[-2:]
        rows, down = _weights(self.corners[:, 0] - halo, side, tall / self.height, tall)
        columns, across = _weights(self.corners[:, 1] - halo, side, wide / self.width, wide)
        # Channels last throughout: the copies below are contiguous, and the network expects it.
        channels_last = maps[0].permute(1, 2, 0).float().contiguous()
        near = channels_last[rows[:, :, None], columns[:, None, :]]
        mixed = down.to(maps.device) @ near.flatten(2)
        mixed = mixed.reshape(len(near), side // 2, *near.shape[2:])
        sampled: Tensor = across[:, None].to(maps.device) @ mixed
        return sampled.permute(0, 3, 1, 2)


def _weights(starts: Tensor, side: int, scale: float, length: int) -> tuple[Tensor, Tensor]:
    """Return the bilinear weights of every second pixel of tiles along one axis of a map.

    Args:
        starts: (n,) first pixels of the tiles in the image.
        side: pixels of a tile.
        scale: size of the map over size of the image.
        length: size of the map.

    Returns:
        (n, k) positions in the map, and their weights (n, side / 2, k).
    """
    # Centres of pairs of pixels, in the map's coordinates.
    at = ((starts[:, None] + torch.arange(0, side, 2) + 1) * scale - 0.5).clamp(0, length - 1)
    # A tile spans `side * scale` places; the rest covers rounding and the right neighbour.
    places = at[:, :1].floor().long() + torch.arange(int(side * scale) + 3)
    weights = (1 - (at[:, :, None] - places[:, None]).abs()).clamp(min=0).float()
    # A clamped place has no weight, as `at` stays inside.
    return places.clamp(max=length - 1), weights


def tiles_on(share: Pixels, height: int, width: int) -> Tiles:
    """Return the tiles that hold all pixels of a share that are not 0.

    Args:
        share: (h, w), to be enlarged to the size of the image.
        height: rows of the image.
        width: columns of the image.
    """
    # A tile is wanted if a pixel of the share lies in its rows and in its columns.
    in_rows = _near_tiles(share.shape[0], height)
    in_columns = _near_tiles(share.shape[1], width)
    wanted = in_rows.T @ (share > 0).astype(np.float32) @ in_columns > 0
    return Tiles(torch.from_numpy(np.argwhere(wanted) * CORE), height, width)


def _near_tiles(places: int, pixels: int) -> Pixels:
    """Return (places, tiles) 1 where a place of the share reaches a tile along one axis, else 0.

    Args:
        places: size of the share.
        pixels: size of the image.
    """
    near = np.zeros((places, -(-pixels // CORE)), np.float32)
    place = np.arange(places)
    # Bilinear enlarging spreads a pixel over half of its neighbours.
    for beside in (-0.5, 0.5, 1.5):
        tile = np.clip((place + beside) * pixels / places, 0, pixels - 1) // CORE
        near[place, tile.astype(int)] = 1
    return near


def refine(
    net: Refiner,
    rgb: Pixels,
    alpha: Alpha,
    device: torch.device,
    small: Pixels | None = None,
) -> Alpha:
    """Refine a coarse matte to the size of its image.

    Outside of the soft band the result equals the enlarged coarse matte to the bit, see
    `model.compact.upsample.guided_upsample`. The cost is bounded: a band of more than `MOST_TILES`
    tiles is corrected at half the size or less.

    Args:
        net: the refiner, on `device`.
        rgb: (3, H, W) image, 0-1.
        alpha: (h, w) its coarse matte, 0-1.
        device: where the network runs.
        small: (h, w, 3) the image at the size of the matte, of `shrink_planes`, if it is known.

    Returns:
        (H, W) alpha, 0-1.
    """
    alpha = settled(alpha)
    if max(alpha.shape[0] / rgb.shape[1], alpha.shape[1] / rgb.shape[2]) > MAX_ENLARGEMENT:
        # There is no detail to find, and the tiles would span more maps than memory holds.
        return guided_upsample(rgb, alpha)
    if small is None:
        # Shrunk once: it takes longer than the filter.
        small = shrink_planes(rgb, (alpha.shape[0], alpha.shape[1]))
    guided = guided_upsample(rgb, alpha, small)
    alpha = certain(alpha)
    around, share = _surroundings(net, small, alpha, device)
    height, width = guided.shape
    tiles = tiles_on(share, height, width)
    while len(tiles.corners) > MOST_TILES:
        tiles = tiles_on(share, -(-tiles.height // 2), -(-tiles.width // 2))
    if not len(tiles.corners):
        return guided
    if (tiles.height, tiles.width) == (height, width):
        # All tiles are computed before the first one is changed: they overlap by their halos.
        for inside, change in list(_changes(net, rgb, guided, share, tiles, around)):
            guided[inside] += change
    else:
        size = (tiles.height, tiles.width)
        *less, less_guided = split(shrink_planes(np.stack([*rgb, guided]), size))
        less_changed = np.zeros(size, np.float32)
        for inside, change in _changes(net, np.stack(less), less_guided, share, tiles, around):
            less_changed[inside] = change
        changed = _enlarge_plane(less_changed, height, width)
        # Enlarging spreads it a little beyond the band.
        changed *= _enlarge_plane(share, height, width) > 0
        guided += changed
    np.clip(guided, 0, 1, out=guided)
    return guided


def _enlarge_plane(plane: Pixels, height: int, width: int) -> Pixels:
    enlarged = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def _changes(
    net: Refiner, rgb: Pixels, guided: Pixels, share: Pixels, tiles: Tiles, around: Tensor
) -> Iterator[tuple[tuple[slice, slice], Pixels]]:
    """Yield the place of each tile's core in the image, and the change of alpha there.

    It is 0 outside of the band.

    Args:
        net: the refiner.
        rgb: (3, H, W).
        guided: (H, W) the guided filter's alpha.
        share: (h, w) of `_surroundings`.
        tiles: those that hold the band.
        around: of `_surroundings`, on the device of the network.
    """
    share = _enlarge_plane(share, tiles.height, tiles.width)
    for part in tiles.split(_BATCH):
        fine = torch.from_numpy(part.cut(rgb, guided[None])).to(around.device)
        changes = net(F.pixel_unshuffle(fine, 2), part.sample(around)).float()
        corrected = refined(_core(fine[:, 3:], HALO), _core(F.pixel_shuffle(changes, 2), HALO))
        found = certain(corrected[:, 0].cpu().numpy())
        for (y, x), tile in zip(part.corners.tolist(), found, strict=True):
            # The last tiles of a row or a column may end beyond the image.
            bottom = min(y + CORE, tiles.height)
            right = min(x + CORE, tiles.width)
            inside = (slice(y, bottom), slice(x, right))
            kept = tile[: bottom - y, : right - x]
            yield inside, share[inside] * (kept - guided[inside])


def _surroundings(
    net: Refiner, small: Pixels, alpha: Alpha, device: torch.device
) -> tuple[Tensor, Pixels]:
    """Return what the second stage knows of its surroundings, and its share of the result.

    Args:
        net: the refiner.
        small: (h, w, 3) the image at the size of its coarse matte.
        alpha: (h, w) the coarse matte after `certain`.
        device: where the network runs.

    Returns:
        (1, LINES + C, h, w) linear functions of colour and features of the first stage: float32,
        channels last in memory, as `Tiles.sample` reads it.
        (h, w) 1 in the band; falls to 0 around it, which hides the edge of the band.
    """
    near = reachable(alpha)
    if not near.any():
        nothing = torch.empty(0)
        return nothing, np.zeros(alpha.shape, np.float32)
    features, lines = coarse_features(small, alpha)
    inside = surroundings(near)
    coarse = torch.from_numpy(features[(slice(None), *inside)])[None].to(device)
    survey = net.survey(coarse)
    channels = LINES + survey.features.shape[1]
    around = torch.zeros((1, *alpha.shape, channels), device=device).permute(0, 3, 1, 2)
    around[0, :LINES] = torch.from_numpy(lines)
    around[(0, slice(LINES, None), *inside)] = survey.features[0]
    is_unsure = np.zeros(alpha.shape, np.float32)
    is_unsure[inside] = survey.band[0, 0].sigmoid().cpu().numpy() > _IN_BAND
    share = cv2.blur((is_unsure * near).astype(np.float32), (3, 3))
    return around, np.asarray(share, np.float32)


def _core(x: Tensor, halo: int) -> Tensor:
    return x[:, :, halo:-halo, halo:-halo]
