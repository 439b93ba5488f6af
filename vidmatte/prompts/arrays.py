"""Masks that are in memory: arrays or Pillow images in place of files."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from vidmatte.errors import PromptError


class MaskArray:
    """A mask in memory, (H, W) float32 in 0..1; equal if its pixels are.

    `Prompt(mask=...)` makes it of an array or a Pillow image: bool, or whole numbers of 0 and 1,
    or uint8 in 0..255, uint16 in 0..65535, floats in 0..1.
    """

    def __init__(self, image: Any) -> None:
        """Copy the pixels. Raises PromptError if the image is no single channel of such values."""
        if getattr(image, "mode", "") in ("P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
            raise PromptError(
                f"a mask of mode {image.mode} was given: give one channel, such as "
                f"image.convert('L') or np.asarray(image) == 2"
            )
        values = np.asarray(image)
        if values.ndim == 3 and values.shape[2] == 1:
            values = values[..., 0]
        if values.ndim != 2 or not values.size:
            raise PromptError(
                f"a mask of the shape {values.shape} was given: give (H, W), as of the frame"
            )
        self.alpha = _alpha_of(values)
        self.alpha.flags.writeable = False
        self._digest = hashlib.blake2b(
            self.alpha.tobytes() + repr(self.alpha.shape).encode(), digest_size=16
        ).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskArray) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        height, width = self.alpha.shape
        return f"MaskArray({width}x{height}, {self._digest})"


def _alpha_of(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if values.dtype == bool or (np.issubdtype(values.dtype, np.integer) and values.max() <= 1):
        return values.astype(np.float32)
    if values.dtype in (np.uint8, np.uint16):
        return (values / np.float32(np.iinfo(values.dtype).max)).astype(np.float32, copy=False)
    if np.issubdtype(values.dtype, np.floating) and np.isfinite(values).all():
        return np.array(values.clip(0, 1), np.float32)
    raise PromptError(
        f"a mask of type {values.dtype} was given: give bool, 0 and 1, uint8 (0 to 255), uint16 "
        f"(0 to 65535) or finite floats (0 to 1); one label of several is labels == 2"
    )
