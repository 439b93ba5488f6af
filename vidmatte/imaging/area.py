"""Shrink pictures by averaging areas, in half of OpenCV's time if the ratio is no integer."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from vidmatte.imaging.arrays import Pixels

_PIXELS = 48
"""Rows of the picture in one product of matrices, about."""


@dataclass(frozen=True)
class _Block:
    """A run of averages along a column of pixels.

    Attributes:
        first: the first average.
        end: the average after the last one.
        begin: the first pixel that they average.
        weights: (end - first, pixels).
    """

    first: int
    end: int
    begin: int
    weights: Tensor


def shrink_planes(planes: Pixels, size: tuple[int, int]) -> Pixels:
    """Return planes (C, H, W) averaged to a size (h, w), channels last: (h, w, C) float32.

    Each pixel of the result is the mean of the area that it covers, as of `cv2.INTER_AREA`, which
    does it across the rows, and alone for whole ratios and for sizes that are not smaller.
    """
    height, width = planes.shape[1:]
    is_whole = height % size[0] == 0 and width % size[1] == 0
    if size[0] < height and size[1] <= width and not is_whole:
        planes = _averaged_down(planes, size[0])
        # Across it is faster with all channels together.
        return _resized(cv2.merge(list(planes)), size)
    return np.asarray(cv2.merge([_resized(plane, size) for plane in planes]), np.float32)


def split(picture: Pixels) -> list[Pixels]:
    """Return the planes (h, w) of a picture (h, w, C), each of its own in memory."""
    return [np.asarray(plane, np.float32) for plane in cv2.split(picture)]


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    found = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(found, np.float32)


def _averaged_down(planes: Pixels, height: int) -> Pixels:
    """Return planes (C, H, W) with columns averaged to another height: (C, height, W)."""
    tall = torch.empty((len(planes), height, planes.shape[2]))
    for plane, target in zip(planes, tall, strict=True):
        source = torch.from_numpy(np.ascontiguousarray(plane))
        for block in _blocks(plane.shape[0], height):
            rows = source[block.begin : block.begin + block.weights.shape[1]]
            torch.mm(block.weights, rows, out=target[block.first : block.end])
    return tall.numpy()


@functools.lru_cache(32)
def _blocks(pixels: int, averages: int) -> tuple[_Block, ...]:
    """Return the averages of a column of pixels, block by block."""
    ratio = pixels / averages
    step = max(1, round(_PIXELS / ratio))
    blocks = []
    for first in range(0, averages, step):
        end = min(first + step, averages)
        # The small number keeps a rounding error from reaching into one more pixel.
        begin = math.floor(first * ratio + 1e-9)
        place = np.arange(begin, min(pixels, math.ceil(end * ratio - 1e-9)))
        low = np.arange(first, end)[:, None] * ratio
        # The share of each pixel that lies between the edges of an average.
        covered = np.minimum(place + 1, low + ratio) - np.maximum(place, low)
        weights = np.clip(covered, 0, 1) / ratio
        blocks.append(_Block(first, end, begin, torch.from_numpy(weights.astype(np.float32))))
    return tuple(blocks)
