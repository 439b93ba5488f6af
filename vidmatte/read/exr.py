"""EXR images, scene-linear, through the OpenEXR library (extra `exr`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.media.limits import check_size
from vidmatte.read.still import LINEAR_STILL, StillImage, finite

OTHER_PRIMARIES = 3
"""A number that H.273 reserves: primaries that the header tells, but that have no number there (ACES, for one)."""
_PRIMARIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""CIE xy of red, green and blue by H.273 number: BT.709, BT.2020, P3-D65."""
_NAMES = {("R", "G", "B"), ("r", "g", "b"), ("red", "green", "blue"), ("Red", "Green", "Blue")}


def read_exr(path: Path) -> StillImage:
    """The R, G and B of the first part that has them (or Y as gray), cut or filled with black to the display window.

    Layers (`beauty.R`) count where there are no plain channels. Raises ReadError when there is no such part, or it is
    damaged or deep.
    """
    return _read(path, _find_rgb, "R, G and B, or Y")


def read_exr_opacity(path: Path) -> npt.NDArray[np.float32]:
    """(H, W) in 0..1: the A of the first part that has one, plain or of a layer, else its brightest channel."""
    return np.asarray(_read(path, _find_opacity, "A, Y, or R, G and B").rgb.max(axis=0).clip(0, 1))


def _read(
    path: Path, find: Callable[[list[str]], tuple[str, str, str] | None], wanted: str
) -> StillImage:
    """The image of the three channels that `find` chooses among the names of a part."""
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingExtraError("EXR input", "exr") from error
    try:
        for part in OpenEXR.File(str(path), header_only=True).parts:
            for window in ("dataWindow", "displayWindow"):
                check_size(path, *_size(part.header[window]))
        with OpenEXR.File(str(path), separate_channels=True) as file:
            for part in file.parts:
                names = find(list(part.channels))
                if names:
                    return _image(path, part.header, [part.channels[name].pixels for name in names])
    except (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        MemoryError,
    ) as error:  # what the binding lets through
        if isinstance(error, ReadError):
            raise
        raise ReadError(
            f"{path}: is not an EXR image that can be read, or is damaged ({error})"
        ) from error
    raise ReadError(
        f"{path}: has no part with the flat channels {wanted}; deep images have to be flattened"
    )


def _find_opacity(channels: list[str]) -> tuple[str, str, str] | None:
    alphas = sorted(
        (name for name in channels if name.rpartition(".")[2] == "A"),
        key=lambda name: ("." in name, name),
    )
    return (alphas[0],) * 3 if alphas else _find_rgb(channels)


def _find_rgb(channels: list[str]) -> tuple[str, str, str] | None:
    """The names of red, green and blue among those of a part: plain ones first, then those of the first layer."""
    for layer in sorted({name.rpartition(".")[0] for name in channels}):
        prefix = f"{layer}." if layer else ""
        for red, green, blue in sorted(_NAMES):
            names = (prefix + red, prefix + green, prefix + blue)
            if set(names) <= set(channels):
                return names
    is_gray = "Y" in channels and not {"RY", "BY"} & set(channels)
    return ("Y", "Y", "Y") if is_gray else None


def _image(
    path: Path, header: dict[str, Any], channels: list[npt.NDArray[np.generic]]
) -> StillImage:
    (left, top), _ = header["dataWindow"]
    (x, y), _ = header["displayWindow"]
    width, height = _size(header["displayWindow"])
    data_size = _size(header["dataWindow"])[::-1]
    if any(channel is None or channel.shape != data_size for channel in channels):
        raise ReadError(
            f"{path}: its channels are incomplete or subsampled; save it again with full channels"
        )
    rgb = np.zeros((3, height, width), np.float32)
    rows = slice(max(0, top - y), max(0, top - y + data_size[0]))
    columns = slice(max(0, left - x), max(0, left - x + data_size[1]))
    cut = (
        slice(max(0, y - top), max(0, y - top + height)),
        slice(max(0, x - left), max(0, x - left + width)),
    )
    for plane, channel in zip(rgb, channels, strict=True):
        plane[rows, columns] = channel[cut].astype(np.float32)
    primaries, notes = _primaries(header.get("chromaticities"))
    rate = header.get("framesPerSecond")
    aspect = float(header.get("pixelAspectRatio", 1.0))
    return StillImage(
        finite(rgb),
        replace(LINEAR_STILL, primaries=primaries),
        8 * channels[0].dtype.itemsize,
        frame_rate=Fraction(rate) if rate and 0 < rate < 1000 else None,
        timecode=_timecode(header.get("timeCode")),
        sample_aspect_ratio=Fraction(aspect).limit_denominator(1000)
        if 0.1 < aspect < 10
        else Fraction(1),
        notes=notes,
    )


def _size(window: Any) -> tuple[int, int]:
    (left, top), (right, bottom) = window
    return int(right) - int(left) + 1, int(bottom) - int(top) + 1


def _primaries(chromaticities: Any) -> tuple[int, tuple[str, ...]]:
    if chromaticities is None:
        return 1, ()
    for number, known in _PRIMARIES.items():
        if np.allclose(np.ravel(chromaticities)[:6], known, atol=2e-3):
            return number, ()
    return OTHER_PRIMARIES, (
        "the primaries that the EXR header tells have no number in ITU-T H.273: EXR outputs do not name them, other "
        "outputs say BT.709",
    )


def _timecode(code: Any) -> str | None:
    if code is None:
        return None
    separator = ";" if code.dropFrame else ":"
    return f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{separator}{code.frame:02}"
