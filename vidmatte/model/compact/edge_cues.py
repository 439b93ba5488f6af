"""What a coarse matte and the colours around it tell about alpha: input of the networks for edges.

The networks change the logit of alpha, and only within reach of what is soft.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.imaging.area import split
from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.compact.upsample import soft_band

REACH = 12
"""How far from what is soft a matte is refined, in coarse pixels: 40 at 1080p, mostly."""
LINES = 8
"""Channels of two linear functions of colour, one local and one global; see `_line`."""
COARSE_CHANNELS = 3 + 1 + 12 + 2 + 2
"""Colour, alpha, four mean colours, two shares of sure pixels, alpha by two lines."""
_CONTEXT = 32
"""What is seen around the places that may change, in pixels of the coarse matte."""
_GRID = 16
"""What is seen begins and ends at multiples of it: twice the largest stride of the networks."""
_NEAR = 9
"""Side of the box of local mean colours, in pixels of the coarse matte."""
_FAR = 11
"""Side of the box of wide mean colours, in blocks of 4 x 4 pixels of the coarse matte."""
_SURE = 0.05
"""Alpha this close to 0 or 1 is sure background or object."""
_LEAST_CERTAIN = 0.02
"""Alpha is kept this far from 0 and 1 before its logit is taken, which is infinite there."""


def reachable(alpha: Alpha) -> npt.NDArray[np.uint8]:
    """Return (h, w) 1 within `REACH` of what is soft in a matte (h, w), else 0."""
    return soft_band(alpha, REACH)


def surroundings(near: npt.NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns that a network has to see of a mask (h, w) with pixels of 1.

    They begin and end at multiples of the networks' strides, if the mask's border is not nearer: a
    part of another size has the same pooled pixels, and parts have few different sizes. The library
    of convolutions keeps code for each size that it meets.
    """
    left, top, width, height = cv2.boundingRect(near)
    return _span(top, height), _span(left, width)


def _span(first: int, length: int) -> slice:
    start = max(0, first - _CONTEXT) // _GRID * _GRID
    end = -(-(first + length + _CONTEXT) // _GRID) * _GRID
    return slice(start, end)


def refined(alpha: Tensor, change: Tensor) -> Tensor:
    """Return alpha with a change of its logit, (N, 1, h, w) each, before `certain`."""
    return (torch.logit(alpha.clamp(_LEAST_CERTAIN, 1 - _LEAST_CERTAIN)) + change).sigmoid()


def coarse_features(rgb: Pixels, alpha: Alpha) -> tuple[Pixels, Pixels]:
    """Return the first stage's input and the linear functions of colour.

    Args:
        rgb: (h, w, 3) image at the size of its coarse matte, 0-1.
        alpha: (h, w) coarse matte, 0-1.

    Returns:
        (COARSE_CHANNELS, h, w): colour, alpha, mean colours of object and background nearby, and
        at large, share of sure pixels nearby, alpha by each line.
        (LINES, h, w): two lines as of `_line`, from the mean colours nearby and at large.
    """
    # Planes of their own throughout, on which NumPy is several times as fast.
    colours = split(rgb)
    front_near, front_far, front_share = _mean_colours(colours, alpha)
    back_near, back_far, back_share = _mean_colours(colours, 1 - alpha)
    lines = [_line(front_near, back_near), _line(front_far, back_far)]
    along = [np.clip(_dot(line, colours) + line[3], -0.5, 1.5) for line in lines]
    means = [*front_near, *back_near, *front_far, *back_far]
    planes = np.stack([*colours, alpha, *means, front_share, back_share, *along])
    return planes.astype(np.float32, copy=False), np.stack([*lines[0], *lines[1]])


def along_lines(lines: Tensor, pixels: Tensor) -> list[Tensor]:
    """Return alpha of the pixels in blocks of 2 x 2 by each of two linear functions of colour.

    Args:
        lines: (N, LINES, s, s) of `coarse_features`.
        pixels: (N, 12 or more, s, s) of `F.pixel_unshuffle`: four each of red, green and blue.

    Returns:
        (N, 4, s, s) of each function, clipped to -0.5..1.5.
    """
    return [_along(line, pixels) for line in torch.split(lines, LINES // 2, 1)]


def _along(line: Tensor, pixels: Tensor) -> Tensor:
    found = torch.addcmul(line[:, 3:], line[:, :1], pixels[:, :4])
    found = torch.addcmul(found, line[:, 1:2], pixels[:, 4:8])
    return torch.addcmul(found, line[:, 2:3], pixels[:, 8:12]).clamp(-0.5, 1.5)


def _dot(first: Sequence[Pixels], second: Sequence[Pixels]) -> Pixels:
    """Return the sum of the products of three planes each."""
    total = first[0] * second[0]
    total += first[1] * second[1]
    total += first[2] * second[2]
    return total


def _mean_colours(
    colours: Sequence[Pixels], side: Alpha
) -> tuple[list[Pixels], list[Pixels], Pixels]:
    """Return the mean colours of the sure pixels of one side, object or background.

    A mean without any sure pixel in its box falls back to the next larger box.

    Returns:
        Three planes (h, w) nearby, three at large, (h, w) share of sure pixels nearby.
    """
    # A pixel beside an unsure one may hold some of its colour.
    weight = (cv2.erode(side, np.ones((3, 3), np.uint8)) >= 1 - _SURE).astype(np.float32)
    weighted = np.asarray(cv2.merge([*(colour * weight for colour in colours), weight]), np.float32)
    *sums, total = cv2.sumElems(weighted)
    anywhere = [np.float32(each / max(total, 1.0)) for each in sums]
    *wide, wide_share = cv2.split(_blur_at_large(weighted))
    wide_share += np.float32(1e-4)
    few = np.float32(1e-4)
    at_large = [
        (plane + few * mean) / wide_share for plane, mean in zip(wide, anywhere, strict=True)
    ]
    # Two boxes in a row make a smooth window.
    *close, share = cv2.split(cv2.blur(cv2.blur(weighted, (_NEAR, _NEAR)), (_NEAR, _NEAR)))
    some = np.float32(1e-2)
    near = [
        (plane + some * mean) / (share + some) for plane, mean in zip(close, at_large, strict=True)
    ]
    return near, at_large, np.asarray(share, np.float32)


def _blur_at_large(planes: Pixels) -> Pixels:
    # At a quarter of the size, as the window is wide.
    height, width = planes.shape[:2]
    fours = cv2.resize(planes, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.blur(cv2.blur(fours, (_FAR, _FAR)), (_FAR, _FAR))
    return np.asarray(
        cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def _line(front: Sequence[Pixels], back: Sequence[Pixels]) -> list[Pixels]:
    """Return the linear function of colour that is 0 at `back` and 1 at `front`.

    Args:
        front: three planes (h, w), the mean colour of the object.
        back: three planes (h, w), the mean colour of the background.

    Returns:
        Four planes (h, w): three weights and a constant.
    """
    way = [there - here for there, here in zip(front, back, strict=True)]
    # The last term keeps the function flat between colours that are nearly equal.
    length = _dot(way, way) + np.float32(2e-3)
    weights = [plane / length for plane in way]
    return [*weights, -_dot(weights, back)]
