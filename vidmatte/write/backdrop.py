"""What stands behind the object in outputs without alpha: a colour, a checkerboard or an image."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vidmatte.errors import OptionError, ReadError
from vidmatte.read.images import IMAGE_SUFFIXES, read_image

CHECKER = "checker"
_CHECKS = (0.36, 0.5)
"""Grays of the checkerboard: fringes of light and dark stand out against both."""
_CHECK_SIZE = 16
_COLOR = re.compile(r"#?([0-9a-fA-F]{6})")


def image_of(text: str) -> Path | None:
    """Return the image that a backdrop is read from; None for a colour or a checkerboard."""
    path = Path(text)
    return path if path.suffix.lower() in IMAGE_SUFFIXES else None


def check_backdrop(text: str) -> None:
    """Raise OptionError if a text names no backdrop; an image is not opened yet."""
    if text != CHECKER and not _COLOR.fullmatch(text) and image_of(text) is None:
        raise OptionError(
            f"over={text} is not valid: write over=#404040, over={CHECKER} or over=IMAGE.png"
        )


def make_backdrop(text: str, height: int, width: int) -> Tensor:
    """Return the backdrop that a text names, (3, H, W) in 0..1, in code values of the output.

    An image is scaled until it covers the frame, and cut evenly. Raises ReadError for an image that
    cannot be read.
    """
    if text == CHECKER:
        y, x = np.mgrid[:height, :width] // _CHECK_SIZE
        plane = np.array(_CHECKS, np.float32)[(x + y) % 2]
        return torch.from_numpy(np.repeat(plane[None], 3, axis=0))
    if color := _COLOR.fullmatch(text):
        values = torch.tensor([int(color[1][n : n + 2], 16) / 255 for n in (0, 2, 4)])
        return values[:, None, None].expand(3, height, width)
    path = Path(text)
    if not path.is_file():
        raise ReadError(f"{path}: no such image for the background; check the path behind over=")
    rgb = read_image(path).rgb.clip(0, 1)
    scale = max(height / rgb.shape[1], width / rgb.shape[2])
    size = max(width, round(rgb.shape[2] * scale)), max(height, round(rgb.shape[1] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.stack([cv2.resize(plane, size, interpolation=way) for plane in rgb])
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    cut = scaled[:, top : top + height, left : left + width]
    return torch.from_numpy(np.ascontiguousarray(cut, np.float32))
