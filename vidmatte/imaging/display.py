"""Display transform: shows a model HDR, scene-linear and profiled colour as an SDR screen would.

Networks learned from ordinary pictures. HDR code values (PQ, HLG) look flat and gray to them,
scene-linear light looks black with burnt highlights. Models get a converted copy, outputs the
footage itself:

- PQ (SMPTE ST 2084) and HLG (ARIB STD-B67), both of ITU-R BT.2100-2: to light on a display of
  1000 cd/m2; the largest of red, green and blue is brought down to 203 cd/m2 (the diffuse white of
  ITU-R BT.2408) by the curve of BT.2390-10, section 5.4.1, and the other two by the same factor; to
  BT.709 primaries; to a screen with the gamma 2.4 of BT.1886.
- Footage in a colour space that the user named: through the view of the OpenColorIO config, see
  `imaging.ocio`.
- Scene-linear light (EXR, TIFF of floats): to BT.709 primaries; values up to 0.6 stay, those above
  lie on a shoulder with the limit 1; then the curve of sRGB.
- Still images with a colour profile: to sRGB, see `imaging.profile`.
- Everything else stays, clipped to 0..1 (super-whites).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from vidmatte.frames import ColorTags, VideoInfo
from vidmatte.imaging import ocio
from vidmatte.imaging.frame_memory import frame_memory
from vidmatte.imaging.primaries import OTHER_PRIMARIES, to_bt709
from vidmatte.imaging.profile import parse_profile, to_srgb
from vidmatte.imaging.transfer import (
    HLG,
    LINEAR,
    PQ,
    hlg_decode,
    linear_to_srgb,
    pq_decode,
    pq_encode,
)

_BT2020 = 9
_P3 = 12
_HDR = {
    PQ: ("PQ", "light of the display, 203 cd/m2 as 1"),
    HLG: ("HLG", "light of the scene, a signal of 75 % as 1"),
}
_PEAK, _WHITE = 1000.0, 203.0
"""cd/m2 of the assumed HDR display, and of the SDR white that its picture is brought down to."""
_SHOULDER = 0.6
_STEPS = 65535
_TO_BT709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
"""Linear BT.2020 to BT.709 (ITU-R BT.2087-0)."""
_HLG_LUMINANCE = (0.2627, 0.6780, 0.0593)


def describe_view(color: ColorTags) -> str | None:
    """Return a note on the display transform of this colour; None if there is none."""
    if color.space is not None:
        display, view = ocio.view_of(color.space)
        if color.space.is_linear:
            kept = "movies and PNG have the curve of BT.709 or sRGB, and end at 1"
        else:
            kept = "movies and PNG keep its code values"
        return (
            f"the source is read as {color.space!s} (of {color.space.config}); {kept}; the model "
            f"saw the view '{view}' of '{display}'"
        )
    if color.transfer == LINEAR:
        return (
            "the source is scene-linear: EXR outputs are, too, others have the curve of BT.709 "
            "(movies) or sRGB (PNG) "
            "and end at 1; the model saw a copy with the curve of sRGB and highlights rolled off"
        )
    if color.icc is not None:
        profile = parse_profile(color.icc)
        name = "" if profile is None else f" '{profile.name}'"
        kept = "movies and EXR are tagged as P3" if color.primaries == _P3 else "others are sRGB"
        return (
            f"the source has the colour profile{name}: PNG outputs keep it and its code values, "
            f"{kept}; the model saw sRGB"
        )
    if color.transfer in (PQ, HLG):
        name, light = _HDR[color.transfer]
        return (
            f"the source is HDR ({name}): its code values go to the outputs, EXR outputs get "
            f"{light}; the model saw a "
            f"tone-mapped copy"
        )
    return None


def describe_source(info: VideoInfo) -> Iterator[str]:
    """Yield notes on how a source is read, one sentence each."""
    yield from info.notes
    if view := describe_view(info.color):
        yield view
    if info.color.assumed:
        name = "BT.709" if info.color.matrix == 1 else "BT.601"
        yield f"the source does not say its colour matrix; {name} was assumed from its size"


def is_for_display(color: ColorTags) -> bool:
    """Return whether code values are those of an SDR screen already."""
    is_light = color.transfer in (LINEAR, PQ, HLG)
    return color.space is None and color.icc is None and not is_light


def to_display(rgb: Tensor, color: ColorTags) -> Tensor:
    """Return frames as on an SDR screen.

    Args:
        rgb: (..., 3, H, W) from a reader.
        color: Tags of the source.

    Returns:
        The same shape in 0..1.
    """
    if color.space is not None:
        return ocio.show(rgb, color.space)
    if color.icc is not None:
        return to_srgb(rgb, color.icc)
    if color.transfer == LINEAR:
        return linear_to_srgb(_roll_off(to_bt709(rgb, color).clamp(min=0)))
    if color.transfer == PQ:
        # The tone curve depends on the largest channel alone, and both it and the EOTF have one
        # variable: two tables.
        light = _look_up(rgb, _pq_light()) * _look_up(rgb.amax(-3, keepdim=True), _pq_gain())
    elif color.transfer == HLG:
        scene = _look_up(rgb, _hlg_scene())
        luminance = sum(weight * scene.select(-3, i) for i, weight in enumerate(_HLG_LUMINANCE))
        # The OOTF of a display of 1000 cd/m2.
        # 1.2 is the system gamma of such a display: the exponent is 0.2 on luminance.
        light = scene * (torch.as_tensor(luminance) ** 0.2).unsqueeze(-3)
        light *= _look_up(pq_encode(light.amax(-3, keepdim=True) * _PEAK), _pq_gain())
    else:
        return _clamped(rgb)
    if color.primaries == _BT2020:
        light = torch.einsum(
            "ij,...jhw->...ihw", torch.tensor(_TO_BT709, dtype=rgb.dtype, device=rgb.device), light
        )
    # As a function of the root the curve is nearly a line, so a table is precise enough.
    return _look_up((light * (_PEAK / _WHITE)).clamp_(0, 1).sqrt_(), _screen())


def _clamped(rgb: Tensor) -> Tensor:
    if rgb.device.type != "cpu" or rgb.dtype != torch.float32:
        return rgb.clamp(0, 1)
    return torch.clamp(rgb, 0, 1, out=frame_memory(tuple(rgb.shape)))


def for_output(
    rgb: Tensor,
    color: ColorTags,
    curve: Callable[[Tensor], Tensor],
    *,
    holds: Literal["nothing", "tags", "profile"] = "tags",
) -> Tensor:
    """Return frames as code values for an output.

    Scene-linear light goes through a curve, and highlights are clipped at 1; its primaries become
    those of BT.709, unless tags of the output name them. Code values of a colour profile become
    those of sRGB, unless the output holds the profile or tags for it. Those of a camera stay,
    unless the output holds nothing: it gets the picture that the model sees.

    Args:
        rgb: (..., 3, H, W) as read.
        color: Tags of the source.
        curve: From light to the code values of the output.
        holds: Colour information in the output: nothing (sRGB is assumed), the numbers of
            H.273, or the profile of the source.
    """
    if color.space is not None:
        if color.space.is_linear:
            return curve(ocio.light_in_bt709(rgb, color.space).clamp(0, 1))
        return ocio.show(rgb, color.space) if holds == "nothing" else rgb
    if color.icc is not None:
        is_said = holds == "profile" or (holds == "tags" and color.primaries == _P3)
        return rgb if is_said else to_srgb(rgb, color.icc)
    if color.transfer != LINEAR:
        return rgb
    is_said = holds == "tags" and color.primaries != OTHER_PRIMARIES
    return curve((rgb if is_said else to_bt709(rgb, color)).clamp(0, 1))


def tone_curve(code: Tensor) -> Tensor:
    """Return PQ code values compressed into the range of an SDR white.

    It is the EETF of BT.2390-10, 5.4.1, without black lift.
    """
    peak = pq_encode(torch.tensor(_PEAK, dtype=torch.float64))
    limit = pq_encode(torch.tensor(_WHITE, dtype=torch.float64)) / peak
    knee = 1.5 * limit - 0.5
    e = (code / peak).clamp(0, 1)
    t = (e - knee) / (1 - knee)
    # Hermite spline from the knee to the limit, as in the recommendation.
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * limit
    )
    return torch.where(e < knee, e, spline) * peak


def _roll_off(light: Tensor) -> Tensor:
    # The exponential continues the line at the shoulder with the same slope.
    above = 1 - (1 - _SHOULDER) * torch.exp((_SHOULDER - light) / (1 - _SHOULDER))
    return torch.where(light <= _SHOULDER, light, above)


def _look_up(values: Tensor, table: Tensor) -> Tensor:
    indices = (values * _STEPS + 0.5).clamp_(0, _STEPS).int()
    return table.to(values.device).index_select(0, indices.reshape(-1)).view_as(values)


def _codes() -> Tensor:
    return torch.linspace(0, 1, _STEPS + 1, dtype=torch.float64)


@functools.cache
def _pq_light() -> Tensor:
    """Return, by code, display light over the peak; an SDR screen shows anything brighter alike."""
    return (pq_decode(_codes()) / _PEAK).float()


@functools.cache
def _pq_gain() -> Tensor:
    """Return, by code of the largest channel, the factor of all three."""
    codes = _codes()
    return (pq_decode(tone_curve(codes)) / pq_decode(codes).clamp(min=1e-9)).clamp(max=1).float()


@functools.cache
def _screen() -> Tensor:
    return (_codes() ** (2 / 2.4)).float()


@functools.cache
def _hlg_scene() -> Tensor:
    return hlg_decode(_codes()).float()
