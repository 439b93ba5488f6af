"""The eight ways of turning and mirroring a stored picture for display."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Orientation:
    """Transformation of stored to displayed pixels: transpose first, then mirror."""

    is_transposed: bool = False
    """Rows become columns."""
    mirrors_x: bool = False
    mirrors_y: bool = False

    def apply(self, picture: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return the displayed picture of a stored one (..., H, W)."""
        if self.is_transposed:
            picture = picture.swapaxes(-2, -1)
        if self.mirrors_x:
            picture = picture[..., ::-1]
        if self.mirrors_y:
            picture = picture[..., ::-1, :]
        return np.ascontiguousarray(picture)


UPRIGHT = Orientation()
_EXIF = {
    1: UPRIGHT,
    2: Orientation(mirrors_x=True),
    3: Orientation(mirrors_x=True, mirrors_y=True),
    4: Orientation(mirrors_y=True),
    5: Orientation(is_transposed=True),
    6: Orientation(is_transposed=True, mirrors_x=True),
    7: Orientation(is_transposed=True, mirrors_x=True, mirrors_y=True),
    8: Orientation(is_transposed=True, mirrors_y=True),
}
"""By the number in EXIF and TIFF (TIFF 6.0, section 8, Orientation)."""


def from_exif(number: int) -> Orientation:
    """Return the orientation of an EXIF number, 1 to 8."""
    return _EXIF[number]


def from_display_matrix(data: bytes) -> Orientation:
    """Return the orientation of a display matrix: nine 32-bit numbers in FFmpeg's order.

    x' = a x + c y, y' = b x + d y for the numbers a b u c d v ... (ISO/IEC 14496-12, 6.2.2). Angles
    between the right ones go to the nearest; a matrix of zeros is upright.
    """
    a, b, _, c, d = struct.unpack_from("=5i", data)
    # The larger diagonal decides whether x and y are swapped.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(mirrors_x=a < 0, mirrors_y=d < 0)
    return Orientation(is_transposed=True, mirrors_x=c < 0, mirrors_y=b < 0)
