"""OpenEXR images: scene-linear, premultiplied, half float; through the OpenEXR library (extra `exr`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import MissingExtraError, OptionError, WriteError
from vidmatte.frames import ColorTags, VideoInfo

_RGB, _UNSPECIFIED, _LINEAR, _SRGB = 0, 2, 8, 13
_POWERS = {4: 2.2, 5: 2.8}
_BT709_CURVES = (1, 2, 6, 14, 15)
_CHROMATICITIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
}
"""CIE xy of red, green, blue and white by H.273 number of the primaries: BT.709, BT.2020."""


def check_exr(color: ColorTags, *, alpha_only: bool) -> None:
    """Raise MissingExtraError without the library, OptionError for colour that cannot be made scene-linear."""
    try:
        import OpenEXR  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("EXR output", "exr") from error
    if not alpha_only and color.transfer not in (_LINEAR, _SRGB, *_POWERS, *_BT709_CURVES):
        raise OptionError(
            f"EXR holds scene-linear colour, and no conversion is known from the transfer {color.transfer} "
            f"(ITU-T H.273) of the source, such as PQ or HLG; choose .mov, which keeps it"
        )


def to_linear(color: Tensor, tags: ColorTags) -> Tensor:
    """Scene-linear light in 0..1 of display-referred colour.

    Video is taken through the inverse of the camera curve of ITU-R BT.709-6 (item 1.2), still images without tags and
    those that say so through that of sRGB (IEC 61966-2-1), the gamma systems of H.273 through their powers.
    """
    is_image = tags.matrix == _RGB and tags.transfer == _UNSPECIFIED
    if tags.transfer == _LINEAR:
        return color
    if tags.transfer in _POWERS:
        return color.clamp(min=0) ** _POWERS[tags.transfer]
    if tags.transfer == _SRGB or is_image:
        return torch.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return torch.where(color < 0.081, color / 4.5, ((color + 0.099) / 1.099) ** (1 / 0.45))


def write_exr(path: Path, layers: Mapping[str, tuple[Tensor | None, Tensor]], like: VideoInfo) -> None:
    """Write (3, H, W) straight display-referred colour with (1, H, W) alpha as R, G, B, A, or alpha alone as Y.

    A layer with a name has it before its channels, as in person.R; its alpha alone is person.A.

    Raises WriteError when the library cannot write the file.
    """
    import OpenEXR

    header: dict[str, Any] = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.ZIP_COMPRESSION,
        "pixelAspectRatio": float(like.sample_aspect_ratio),
        "framesPerSecond": like.frame_rate,
    }
    channels: dict[str, NDArray[np.float16]] = {}
    for layer, (color, alpha) in layers.items():
        if color is None:
            channels[f"{layer}.A" if layer else "Y"] = alpha[0].numpy().astype(np.float16)
            continue
        primaries = 1 if like.color.primaries == _UNSPECIFIED else like.color.primaries
        if primaries in _CHROMATICITIES:
            header["chromaticities"] = _CHROMATICITIES[primaries]
        stored = alpha.half().float()  # where this is 1, colour stays as it is
        pixels = torch.cat([to_linear(color, like.color) * stored, stored]).numpy().astype(np.float16)
        for channel, plane in zip("RGBA", pixels, strict=True):
            channels[f"{layer}.{channel}" if layer else channel] = plane
    try:
        OpenEXR.File(header, channels).write(str(path))
    except RuntimeError as error:
        reason = str(error).rpartition('". ')[2].rstrip(".")  # behind the sentence that names the file
        raise WriteError(reason) from error
