"""Transfer curves: sRGB, BT.709, PQ and HLG."""

from __future__ import annotations

import torch
from torch import Tensor

LINEAR, PQ, HLG = 8, 16, 18
"""Transfer characteristics of ITU-T H.273 with a display transform."""


def linear_to_srgb(light: Tensor) -> Tensor:
    """Return sRGB code values (IEC 61966-2-1) of linear light in 0..1."""
    return torch.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    )


def linear_to_video(light: Tensor) -> Tensor:
    """Return code values of the camera curve of ITU-R BT.709-6, item 1.2, of light in 0..1."""
    return torch.where(light < 0.018, 4.5 * light, 1.099 * light.clamp(min=0.018) ** 0.45 - 0.099)


def pq_decode(code: Tensor) -> Tensor:
    """Return display light in cd/m2 of PQ code values in 0..1 (BT.2100-2, table 4)."""
    power = code ** (1 / 78.84375)
    return 10000 * ((power - 0.8359375).clamp(min=0) / (18.8515625 - 18.6875 * power)) ** (
        1 / 0.1593017578125
    )


def pq_encode(light: Tensor) -> Tensor:
    """Return PQ code values in 0..1 of display light in cd/m2."""
    power = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_decode(code: Tensor) -> Tensor:
    """Return scene light in 0..1 of HLG code values in 0..1 (BT.2100-2, table 5)."""
    return torch.where(
        code <= 0.5, code**2 / 3, (torch.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )
