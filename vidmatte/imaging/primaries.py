"""Primaries of RGB: their chromaticities, names, and the matrices between them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.frames import Chromaticities, ColorTags

BT709 = 1
_UNSPECIFIED = 2
OTHER_PRIMARIES = 3
"""Reserved in H.273: primaries that have no number there, such as those of ACES."""
_D65 = (0.3127, 0.3290)
_ACES_WHITE = (0.32168, 0.33767)
CHROMATICITIES: Mapping[int, Chromaticities] = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
}
"""CIE xy of red, green, blue and white, by the number of the primaries in H.273.

BT.709; BT.601 of 625 lines, then twice of 525; BT.2020; P3 with the white of cinema, then with D65.
"""
AP0: Chromaticities = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, *_ACES_WHITE)
"""Of ACES2065-1 (SMPTE ST 2065-1)."""
AP1: Chromaticities = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, *_ACES_WHITE)
"""Of ACEScg (Academy S-2014-004)."""
LINEAR_IDS: Mapping[str, Chromaticities] = {
    "lin_rec709_scene": CHROMATICITIES[1],
    "lin_rec2020_scene": CHROMATICITIES[9],
    "lin_p3d65_scene": CHROMATICITIES[12],
    "lin_ap0_scene": AP0,
    "lin_ap1_scene": AP1,
}
"""Names of linear spaces by the Color Interop Forum, for `colorInteropID` in the header of EXR."""
# Headers hold floats of a few digits, and some programs round the white.
_CLOSE = 2e-3
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def chromaticities_of(color: ColorTags) -> Chromaticities | None:
    """Return the chromaticities of tags; BT.709 if they are untagged, None if unknown."""
    if color.chromaticities is not None:
        return color.chromaticities
    return CHROMATICITIES.get(BT709 if color.primaries == _UNSPECIFIED else color.primaries)


def number_of(chromaticities: Chromaticities) -> int:
    """Return the number of primaries in H.273, 3 (reserved) if they have none."""
    found = [n for n, known in CHROMATICITIES.items() if _is_close(chromaticities, known)]
    return found[0] if found else OTHER_PRIMARIES


def linear_id_of(chromaticities: Chromaticities | None) -> str | None:
    """Return the name of linear light with these primaries in `LINEAR_IDS`; None if unknown."""
    if chromaticities is None:
        return None
    found = [name for name, known in LINEAR_IDS.items() if _is_close(chromaticities, known)]
    return found[0] if found else None


def _is_close(first: Chromaticities, second: Chromaticities) -> bool:
    return bool(np.allclose(first, second, atol=_CLOSE))


@functools.cache
def matrix_between(source: Chromaticities, target: Chromaticities) -> npt.NDArray[np.float64]:
    """Return the (3, 3) matrix from linear RGB of one set of primaries to that of another.

    A different white is adapted (Bradford), so that white stays 1, 1, 1.
    """
    from_rgb, to_rgb = _to_xyz(source), _to_xyz(target)
    white, other = _BRADFORD @ from_rgb.sum(1), _BRADFORD @ to_rgb.sum(1)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(other / white) @ _BRADFORD
    return np.asarray(np.linalg.inv(to_rgb) @ adapted @ from_rgb)


def _to_xyz(chromaticities: Chromaticities) -> npt.NDArray[np.float64]:
    """Return the matrix from linear RGB to XYZ; the white has a Y of 1."""
    points = np.reshape(chromaticities, (4, 2))
    xyz = np.column_stack([points[:, 0], points[:, 1], 1 - points.sum(1)])
    columns = xyz[:3].T
    white = xyz[3] / xyz[3, 1]
    return np.asarray(columns * np.linalg.solve(columns, white))


def to_primaries(light: Tensor, source: Chromaticities, target: Chromaticities) -> Tensor:
    """Return linear light (..., 3, H, W) of one set of primaries in another; not clipped."""
    if _is_close(source, target):
        return light
    matrix = torch.as_tensor(matrix_between(source, target), dtype=light.dtype, device=light.device)
    return torch.einsum("ij,...jhw->...ihw", matrix, light)


def to_bt709(light: Tensor, color: ColorTags) -> Tensor:
    """Return linear light (..., 3, H, W) with the primaries of BT.709; unknown ones stay."""
    found = chromaticities_of(color)
    return light if found is None else to_primaries(light, found, CHROMATICITIES[BT709])
