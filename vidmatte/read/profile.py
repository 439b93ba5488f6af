"""The colour profile of an image file, and the conversion of its code values."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vidmatte.frames import ColorTags
from vidmatte.imaging.profile import parse_profile, to_srgb
from vidmatte.imaging.transfer import linear_to_srgb
from vidmatte.media.limits import open_pillow
from vidmatte.read.still import STILL

_SRGB_GAMMA = 1 / 2.2
"""PNG's gAMA of sRGB, as written by most programs."""
_CLOSE = 0.01
_P3 = 12

Rgb = npt.NDArray[np.float32]


def with_profile(path: Path, rgb: Rgb) -> tuple[Rgb, ColorTags, tuple[str, ...]]:
    """Return the code values of an image, their tags, and notes on a conversion.

    A profile of curves and a matrix is kept in the tags with its code values. Tables, and the gamma
    of a PNG without profile, are converted to sRGB.

    Args:
        path: The image.
        rgb: (3, H, W) in 0..1.
    """
    icc, gamma = read_profile(path)
    if icc is None:
        if gamma is None or abs(gamma - _SRGB_GAMMA) < _CLOSE:
            return rgb, STILL, ()
        light = torch.from_numpy(rgb) ** (1 / gamma)
        note = f"the images have the gamma {gamma:.3g} of PNG and were converted to sRGB"
        return linear_to_srgb(light).numpy(), STILL, (note,)
    profile = parse_profile(icc)
    if profile is None:
        return _by_table(rgb, icc)
    if profile.is_srgb:
        return rgb, STILL, ()
    color = replace(STILL, icc=icc)
    return rgb, replace(color, primaries=_P3) if profile.is_display_p3 else color, ()


def read_profile(path: Path) -> tuple[bytes | None, float | None]:
    """Return the ICC profile of a colour image, and the gamma of a PNG; None without one.

    A PNG tagged as sRGB has no other gamma.
    """
    try:
        with open_pillow(path) as image:
            icc = image.info.get("icc_profile")
            gamma = None if "srgb" in image.info else image.info.get("gamma")
    except (OSError, ValueError, SyntaxError):
        return None, None  # formats unknown to Pillow, such as TIFF of floats
    # Profiles of gray and of printing inks belong to pixels already converted by the decoder.
    is_rgb = isinstance(icc, bytes) and icc[16:20] == b"RGB "
    return icc if is_rgb else None, gamma or None


def in_srgb(rgb: Rgb, color: ColorTags) -> Rgb:
    """Return code values (3, H, W) without profile."""
    return rgb if color.icc is None else to_srgb(torch.from_numpy(rgb), color.icc).numpy()


def _by_table(rgb: Rgb, icc: bytes) -> tuple[Rgb, ColorTags, tuple[str, ...]]:
    """Convert with LittleCMS, in 8 bits; an unreadable profile is ignored, with a note."""
    from PIL import Image, ImageCms

    codes = np.round(rgb.transpose(1, 2, 0) * 255).astype(np.uint8)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        done = ImageCms.profileToProfile(
            Image.fromarray(codes), source, ImageCms.createProfile("sRGB")
        )
    except (ImageCms.PyCMSError, OSError):
        return rgb, STILL, ("the images have a colour profile that cannot be read; it was ignored",)
    pixels = np.asarray(done, np.float32).transpose(2, 0, 1) / np.float32(255)
    note = "the images have a colour profile with tables and were converted to sRGB, in 8 bits"
    return np.ascontiguousarray(pixels), STILL, (note,)
