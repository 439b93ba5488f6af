"""Colour profiles of still images (ICC.1:2022): from their code values to those of sRGB.

Profiles of three curves and a matrix, as of cameras and screens, are applied in float.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.imaging.transfer import linear_to_srgb

_SRGB_FROM_D50 = np.array(
    [
        [3.1341359, -1.6172847, -0.4906628],
        [-0.9787556, 1.9161365, 0.0334433],
        [0.0719395, -0.2289765, 1.4053860],
    ]
)
"""XYZ of D50, the white of all profiles, to linear sRGB; inverse of the matrix in sRGB's
profile."""
_P3_TO_SRGB = np.array(
    [
        [1.2249402, -0.2249402, 0.0],
        [-0.0420570, 1.0420570, 0.0],
        [-0.0196376, -0.0786361, 1.0982736],
    ]
)
_STEPS = 4095
_CLOSE = 3e-3
"""Difference, of 1, below which curves and matrices count as the same."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Three curves to linear light, and a matrix to that of sRGB."""

    name: str
    curves: npt.NDArray[np.float64]
    """(3, 4096) light by code value in 0..1, of red, green and blue."""
    matrix: npt.NDArray[np.float64]
    """(3, 3)"""

    @property
    def is_srgb(self) -> bool:
        """Whether code values have the same meaning as without a profile."""
        return self._has_srgb_curves and _is_close(self.matrix, np.eye(3))

    @property
    def is_display_p3(self) -> bool:
        """Whether it is that of Display P3: primaries of P3-D65, curve of sRGB."""
        return self._has_srgb_curves and _is_close(self.matrix, _P3_TO_SRGB)

    @property
    def _has_srgb_curves(self) -> bool:
        return _is_close(self.curves, _srgb_curve(np.linspace(0, 1, _STEPS + 1)))


@functools.lru_cache(maxsize=16)
def parse_profile(icc: bytes) -> Profile | None:
    """Return a profile of curves and a matrix; None for other kinds, and damaged ones."""
    try:
        tags = _tags(icc)
        is_rgb = icc[16:20] == b"RGB " and icc[20:24] == b"XYZ "
        # A table takes precedence over curves and matrix.
        if not is_rgb or "A2B0" in tags:
            return None
        colorants = np.array([_xyz(tags[name]) for name in ("rXYZ", "gXYZ", "bXYZ")]).T
        curves = np.array([_curve(tags[name]) for name in ("rTRC", "gTRC", "bTRC")])
        return Profile(_text(tags.get("desc", b"")), curves, _SRGB_FROM_D50 @ colorants)
    except (KeyError, ValueError, IndexError, struct.error):
        return None


def to_srgb(rgb: Tensor, icc: bytes) -> Tensor:
    """Return code values of sRGB for those of a profile supported by `parse_profile`.

    Args:
        rgb: (..., 3, H, W) in 0..1; values beyond are clipped.
        icc: The profile.

    Returns:
        The same shape in 0..1; colours outside sRGB are clipped.
    """
    profile = parse_profile(icc)
    assert profile is not None
    curves = torch.from_numpy(profile.curves).to(rgb.device, torch.float32)
    place = rgb.clamp(0, 1) * _STEPS
    low = place.floor().clamp(max=_STEPS - 1).long()
    # Linear interpolation between the entries of the curve.
    share = place - low
    light = torch.empty_like(rgb)
    for channel in range(3):
        curve = curves[channel]
        index = low.select(-3, channel)
        part = share.select(-3, channel)
        light.select(-3, channel).copy_(curve[index] * (1 - part) + curve[index + 1] * part)
    matrix = torch.from_numpy(profile.matrix).to(rgb.device, torch.float32)
    return linear_to_srgb(torch.einsum("ij,...jhw->...ihw", matrix, light).clamp(0, 1))


def _tags(icc: bytes) -> dict[str, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    tags = {}
    for entry in range(min(count, 100)):
        # A table of 12-byte entries behind the 128-byte header: name, offset, size.
        name, offset, size = struct.unpack_from(">4sII", icc, 132 + 12 * entry)
        tags[name.decode("latin-1")] = icc[offset : offset + size]
    return tags


def _xyz(tag: bytes) -> list[float]:
    # s15Fixed16Number: 16 bits before the point, 16 behind it.
    return [value / 65536 for value in struct.unpack_from(">3i", tag, 8)]


def _curve(tag: bytes) -> npt.NDArray[np.float64]:
    """Return the curve of a tag at 4096 code values (ICC.1, 10.6)."""
    code = np.linspace(0, 1, _STEPS + 1)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return code
        values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
        if count == 1:
            # A single value is a gamma, as u8Fixed8Number.
            return np.asarray(code ** (values[0] / 256))
        return np.interp(code, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError("unknown kind of curve")
    return _parametric(tag, code)


def _parametric(tag: bytes, code: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the light of code values by a formula (ICC.1, 10.18, table 68)."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    length = (1, 3, 4, 5, 7)[kind]
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{length}i", tag, 12))
    # Y = (aX + b)^g + e from X = d on, cX + f below.
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind == 1:
        a, b = rest
        d = -b / a
    elif kind == 2:
        a, b, e = rest
        d = -b / a
        f = e
    elif kind == 3:
        a, b, c, d = rest
    elif kind == 4:
        a, b, c, d, e, f = rest
    above = np.clip(a * code + b, 0, None) ** g + e
    return np.asarray(np.where(code >= d, above, c * code + f).clip(0, 1))


def _text(tag: bytes) -> str:
    """Return the name of a profile (ICC.1, 10.15; and of version 2)."""
    if tag[:4] == b"mluc":
        size, offset = struct.unpack_from(">II", tag, 20)
        return tag[offset : offset + size].decode("utf-16-be", "replace")
    if tag[:4] == b"desc":
        (size,) = struct.unpack_from(">I", tag, 8)
        return tag[12 : 12 + size].rstrip(b"\0").decode("ascii", "replace")
    return "unnamed"


def _srgb_curve(code: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the light of sRGB code values (IEC 61966-2-1)."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _is_close(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
    return bool(np.abs(a - b).max() < _CLOSE)
