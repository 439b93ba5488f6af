"""The refiner: alpha at full size in the soft band of a coarse matte, by a small network that looks at every pixel.

Two stages. At the size of the coarse matte a U-Net of three levels sees the whole window: colours, matte, and the mean
colours of sure object and sure background around each place. At full size a shallow network sees tiles of the band:
the pixels, the guided filter's alpha, where each pixel's colour lies on the line between the two mean colours, and what
the first stage says of the place. It corrects the guided filter's alpha; outside of the band nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.compact.upsample import band_share, certain, guided_upsample

CORE, HALO = 48, 8
"""Side of a tile and its surroundings, in pixels: the second stage sees 8 pixels far, so that tiles have no seams."""
TILE = CORE + 2 * HALO
MAX_ENLARGEMENT = 8
"""How many times larger than an image, on either side, its coarse matte may be for it to be refined."""
MOST_TILES = 192
"""About 0.44 million pixels: where the band takes more, it is refined at half the size or less."""
_LINES = 8
"""Channels of two linear functions of colour, near by and at large; see `_lines`."""
COARSE_CHANNELS = 3 + 1 + 12 + 2 + 2
_NEAR, _FAR = 9, 11
"""Sides of the boxes over which mean colours are taken: in pixels of the coarse matte, and in fours of them."""
_SURE = 0.05
_BATCH = 32
_LEAST_CERTAIN = 0.02

Size: TypeAlias = tuple[int, int]


class Refiner(nn.Module):
    """Corrects the logit of alpha; without norms, so that what a tile holds does not depend on where it is cut."""

    def __init__(self, channels: int = 16, deep_channels: int = 32) -> None:
        super().__init__()
        c, d = channels, deep_channels
        self.enter = _conv(COARSE_CHANNELS, c)
        self.down = nn.Sequential(_conv(c, d), _conv(d, d))
        self.deep = nn.Sequential(_conv(d, d), _conv(d, d), _conv(d, d))
        self.up = _conv(d, c)
        self.leave = nn.Sequential(_conv(2 * c, c), nn.Conv2d(c, c, 1))
        self.stem = nn.Conv2d(4 * (3 + 1) + _LINES, c, 3, 1, 1)
        self.sharp = nn.Sequential(_conv(c, c), _conv(c, c), _conv(c, c))
        self.change = nn.Conv2d(2 * c, 4, 1)
        # Starts as the guided filter.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type] # missing in torch's own annotations

    def context(self, coarse: Tensor) -> Tensor:
        """What there is around each place: (N, COARSE_CHANNELS, h, w) of `coarse_features` to (N, C, h, w)."""
        first = self.enter(coarse - 0.5)
        second = self.down(F.avg_pool2d(first, 2, ceil_mode=True))
        third = self.deep(F.avg_pool2d(second, 2, ceil_mode=True))
        second = self.up(second + _enlarge(third, second))
        maps: Tensor = self.leave(torch.cat([first, _enlarge(second, first)], 1))
        return maps

    def forward(self, pixels: Tensor, around: Tensor) -> Tensor:
        """Change of alpha's logit (N, 4, S / 2, S / 2) in tiles, four pixels in each place.

        Args:
            pixels: (N, 16, S / 2, S / 2) of `Tiles.cut`: rgb and the guided filter's alpha.
            around: (N, _LINES + C, S / 2, S / 2) of `Tiles.sample`: linear functions of colour, and context.
        """
        near, far = (_apply(around[:, i : i + 4], pixels) for i in (0, 4))
        x = F.relu(
            self.stem(torch.cat([pixels - 0.5, near - 0.5, far - 0.5], 1)) + around[:, _LINES:]
        )
        change: Tensor = self.change(torch.cat([x, self.sharp(x)], 1))
        return 4 * change


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, 1, 1), nn.ReLU(inplace=True))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _apply(line: Tensor, pixels: Tensor) -> Tensor:
    """A function of colour, weights and constant (N, 4, s, s), of the four pixels in each place, (N, 4, s, s)."""
    found = line[:, 3:] + line[:, :1] * pixels[:, :4]
    found = found + line[:, 1:2] * pixels[:, 4:8] + line[:, 2:3] * pixels[:, 8:12]
    return found.clamp(-0.5, 1.5)


def refined(guided: Tensor, change: Tensor) -> Tensor:
    """The guided filter's alpha (N, 1, S, S) with its logit changed (N, 4, S / 2, S / 2), before `certain`."""
    logits = torch.logit(guided.clamp(_LEAST_CERTAIN, 1 - _LEAST_CERTAIN))
    return (logits + F.pixel_shuffle(change.float(), 2)).sigmoid()


def coarse_features(rgb: Pixels, alpha: Alpha) -> tuple[Pixels, Pixels]:
    """What is known at the size of the coarse matte, of a small image (h, w, 3) 0-1 and its matte (h, w).

    Mean colours are those of sure object and sure background near by; where there is none near, of those at large.

    Returns:
        (COARSE_CHANNELS, h, w): colour, alpha, four mean colours, how much is sure near by, alpha by each line.
        (_LINES, h, w): see `_line`, for the mean colours near by and at large.
    """
    window = np.ones((3, 3), np.uint8)
    near, far, shares = [], [], []
    for side in (alpha, 1 - alpha):
        weight = (cv2.erode(side, window) >= 1 - _SURE).astype(np.float32)
        weighted = np.concatenate([rgb * weight[..., None], weight[..., None]], axis=-1)
        total = weighted.sum((0, 1))
        anywhere = total[:3] / max(float(total[3]), 1.0)
        wide = _blur_at_large(weighted)
        at_large = (wide[..., :3] + 1e-4 * anywhere) / (wide[..., 3:] + 1e-4)
        close = cv2.blur(cv2.blur(weighted, (_NEAR, _NEAR)), (_NEAR, _NEAR))
        near.append((close[..., :3] + 1e-2 * at_large) / (close[..., 3:] + 1e-2))
        far.append(at_large)
        shares.append(close[..., 3])
    lines = [_line(*near), _line(*far)]
    along = [np.clip((rgb * line[..., :3]).sum(-1) + line[..., 3], -0.5, 1.5) for line in lines]
    planes = np.dstack([rgb, alpha, *near, *far, *shares, *along]).astype(np.float32)
    return (
        np.ascontiguousarray(planes.transpose(2, 0, 1)),
        np.ascontiguousarray(np.dstack(lines).astype(np.float32).transpose(2, 0, 1)),
    )


def _blur_at_large(planes: Pixels) -> Pixels:
    height, width = planes.shape[:2]
    fours = cv2.resize(planes, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.blur(cv2.blur(fours, (_FAR, _FAR)), (_FAR, _FAR))
    return np.asarray(
        cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def _line(front: Pixels, back: Pixels) -> Pixels:
    """Weights and constant (h, w, 4) of how far a colour lies from `back` to `front`, both (h, w, 3)."""
    way = front - back
    weights = way / ((way * way).sum(-1, keepdims=True) + np.float32(2e-3))
    return np.dstack([weights, -(weights * back).sum(-1)])


@dataclass(frozen=True)
class Tiles:
    """Where tiles are cut: top left corners (n, 2), y and x, even, of their cores in an image of this size."""

    corners: Tensor
    height: int
    width: int

    def split(self, most: int) -> Iterator[Tiles]:
        """The same tiles, no more than `most` at a time."""
        for corners in torch.split(self.corners, most):
            yield Tiles(corners, self.height, self.width)

    def cut(self, planes: Pixels, side: int = TILE, halo: int = HALO) -> Pixels:
        """The tiles (n, C, side, side) of planes (C, H, W) with their surroundings, the image's border repeated."""
        cut = np.empty((len(self.corners), len(planes), side, side), np.float32)
        for tile, (top, left) in zip(cut, self.corners.tolist(), strict=True):
            y, x = top - halo, left - halo
            if min(y, x) >= 0 and y + side <= self.height and x + side <= self.width:
                tile[:] = planes[:, y : y + side, x : x + side]
            else:
                rows = np.clip(np.arange(y, y + side), 0, self.height - 1)
                columns = np.clip(np.arange(x, x + side), 0, self.width - 1)
                tile[:] = planes[:, rows[:, None], columns]
        return cut

    def sample(self, maps: Tensor, side: int = TILE, halo: int = HALO) -> Tensor:
        """Maps (1, C, h, w) of the whole image at every second pixel of the tiles, (n, C, side / 2, side / 2).

        Bilinear, as two products of small matrices: several times as fast as looking up every place.
        """
        tall, wide = maps.shape[-2:]
        rows, down = _weights(self.corners[:, 0] - halo, side, tall / self.height, tall)
        columns, across = _weights(self.corners[:, 1] - halo, side, wide / self.width, wide)
        # Channels last throughout: rows of all channels are short copies, and the network takes them so.
        near = maps[0].permute(1, 2, 0).float().contiguous()[rows[:, :, None], columns[:, None, :]]
        mixed = (down.to(maps.device) @ near.flatten(2)).reshape(
            len(near), side // 2, *near.shape[2:]
        )
        sampled: Tensor = across[:, None].to(maps.device) @ mixed
        return sampled.permute(0, 3, 1, 2)


def _weights(starts: Tensor, side: int, scale: float, length: int) -> tuple[Tensor, Tensor]:
    """What every second pixel of tiles that begin at `starts` (n,) takes of a row of `length` pixels of a map.

    Returns the places in the row (n, k), and the weights (n, side / 2, k) with which they are mixed.
    """
    at = ((starts[:, None] + torch.arange(0, side, 2) + 1) * scale - 0.5).clamp(0, length - 1)
    places = at[:, :1].floor().long() + torch.arange(int(side * scale) + 3)
    # Beyond the row no place has any weight, as `at` stays inside.
    return places.clamp(max=length - 1), (1 - (at[:, :, None] - places[:, None]).abs()).clamp(
        min=0
    ).float()


def tiles_on(share: Pixels, height: int, width: int) -> Tiles:
    """Tiles of an image of this size that hold all places where `share` (h, w), enlarged to that size, is not 0."""
    wanted = np.zeros((-(-height // CORE), -(-width // CORE)), bool)
    y, x = np.nonzero(share > 0)
    # Bilinear enlarging spreads a pixel over half of its neighbours.
    for near_y in (y - 0.5, y + 0.5, y + 1.5):
        for near_x in (x - 0.5, x + 0.5, x + 1.5):
            row = np.clip(near_y * height / share.shape[0], 0, height - 1) // CORE
            column = np.clip(near_x * width / share.shape[1], 0, width - 1) // CORE
            wanted[row.astype(int), column.astype(int)] = True
    return Tiles(torch.from_numpy(np.argwhere(wanted) * CORE), height, width)


def refine(net: Refiner, rgb: Pixels, alpha: Alpha, device: torch.device) -> Alpha:
    """(H, W) alpha of an image (3, H, W) in 0..1 from its coarse matte (h, w).

    Outside of the soft band it is the enlarged coarse matte to the bit, see `model.compact.upsample.guided_upsample`.
    What it costs is bounded: a band of more than `MOST_TILES` tiles is corrected at half the size or less.
    """
    guided = guided_upsample(rgb, alpha)
    if max(alpha.shape[0] / rgb.shape[1], alpha.shape[1] / rgb.shape[2]) > MAX_ENLARGEMENT:
        # There is no detail to find, and the tiles would span more maps than memory holds.
        return guided
    alpha = certain(alpha)
    share = band_share(alpha)
    height, width = guided.shape
    tiles = tiles_on(share, height, width)
    while len(tiles.corners) > MOST_TILES:
        tiles = tiles_on(share, -(-tiles.height // 2), -(-tiles.width // 2))
    if not len(tiles.corners):
        return guided
    if (tiles.height, tiles.width) == (height, width):
        change = _change(net, rgb, guided, alpha, tiles, device)
    else:
        size = (tiles.width, tiles.height)
        less = np.stack(
            [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (*rgb, guided)]
        )
        change = _change(net, less[:3], less[3], alpha, tiles, device)
        change = np.asarray(
            cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
        )
        # Enlarging spreads it a little beyond the band.
        change *= cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR) > 0
    guided += change
    np.clip(guided, 0, 1, out=guided)
    return guided


def _change(
    net: Refiner, rgb: Pixels, guided: Pixels, alpha: Alpha, tiles: Tiles, device: torch.device
) -> Pixels:
    """(H, W) what is to be added to the guided filter's alpha; 0 outside of the band."""
    small = cv2.merge(
        [cv2.resize(plane, alpha.shape[::-1], interpolation=cv2.INTER_AREA) for plane in rgb]
    )
    coarse, lines = (
        torch.from_numpy(planes)[None].to(device) for planes in coarse_features(small, alpha)
    )
    context = net.context(coarse.contiguous(memory_format=torch.channels_last))
    around = torch.cat([lines, context.float()], 1)
    share = cv2.resize(
        band_share(alpha), (tiles.width, tiles.height), interpolation=cv2.INTER_LINEAR
    )
    change = np.zeros((tiles.height, tiles.width), np.float32)
    for part in tiles.split(_BATCH):
        fine = torch.from_numpy(np.concatenate([part.cut(rgb), part.cut(guided[None])], axis=1)).to(
            device
        )
        logits = net(F.pixel_unshuffle(fine, 2), part.sample(around))
        core = (slice(None), slice(None), slice(HALO, -HALO), slice(HALO, -HALO))
        half = (
            slice(None),
            slice(None),
            slice(HALO // 2, -HALO // 2),
            slice(HALO // 2, -HALO // 2),
        )
        found = certain(refined(fine[:, 3:][core], logits[half])[:, 0].cpu().numpy())
        for (y, x), tile in zip(part.corners.tolist(), found, strict=True):
            inside = (slice(y, min(y + CORE, tiles.height)), slice(x, min(x + CORE, tiles.width)))
            kept = tile[: inside[0].stop - y, : inside[1].stop - x]
            change[inside] = share[inside] * (kept - guided[inside])
    return change
