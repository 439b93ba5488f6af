"""A still image with the facts of its file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vidmatte.frames import ColorTags

STILL = ColorTags(primaries=1, transfer=13, matrix=0, full_range=True)
"""Display-referred RGB of still images: sRGB."""
LINEAR_STILL = ColorTags(primaries=1, transfer=8, matrix=0, full_range=True)
"""Scene-linear RGB: images of floats."""


@dataclass(frozen=True)
class StillImage:
    """An image with the facts of its file."""

    rgb: npt.NDArray[np.float32]
    """(3, H, W) in 0..1, display-referred; scene-linear and unbounded if the transfer of `color` is
    8."""
    color: ColorTags
    bit_depth: int
    frame_rate: Fraction | None = None
    timecode: str | None = None
    sample_aspect_ratio: Fraction = Fraction(1)
    notes: tuple[str, ...] = ()
    declared_space: str = ""
    """Name of the colour space by the file, beyond the tags; see `VideoInfo.declared_space`."""


def finite(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Replace values that are not finite numbers, in place, and return the image."""
    return np.nan_to_num(rgb, copy=False, nan=0.0, posinf=65504.0, neginf=-65504.0)
