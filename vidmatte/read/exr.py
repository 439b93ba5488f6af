"""EXR images, scene-linear, through the OpenEXR library (extra `exr`)."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.media.limits import check_regular, check_size
from vidmatte.read.still import LINEAR_STILL, StillImage, finite

OTHER_PRIMARIES = 3
"""Reserved in H.273: primaries of a header without a number in H.273, such as ACES."""
_PRIMARIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""CIE xy of red, green and blue by H.273 number: BT.709, BT.2020, P3-D65."""
_NAMES = {("R", "G", "B"), ("r", "g", "b"), ("red", "green", "blue"), ("Red", "Green", "Blue")}
_PRINTED = threading.Lock()
"""Held while standard output is redirected, for the whole process."""

Channels = tuple[str, str, str]
_Find = Callable[[list[str]], Channels | None]


def read_exr(path: Path) -> StillImage:
    """Return R, G and B (or Y as gray) of the first part with these channels.

    The picture is cut, or filled with black, to the display window. Layers (`beauty.R`) count if
    there are no plain channels.

    Raises:
        ReadError: If no part has such channels, or the image is damaged or deep.
        MissingExtraError: If the library is not installed.
    """
    image = _read(path, _find_rgb)
    if image is None:
        raise _no_channels(path, "R, G and B, or Y")
    return image


def read_exr_planes(
    path: Path, *, layer: str | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return the colour (3, H, W) of an EXR image and its alpha (H, W) in 0..1, or None.

    Alpha is the A of the first part with one, plain or of a layer. It also stands for the colour if
    there is no other. Colour is as in the file, unbounded.

    Args:
        path: The image.
        layer: Only the channels of this layer (`layer.R`); None for the first ones.

    Raises:
        ReadError: If there are neither R, G and B nor Y nor A, or the image is damaged or deep.
        MissingExtraError: If the library is not installed.
    """
    alpha = _read(path, _in_layer(_find_alpha, layer))
    color = _read(path, _in_layer(_find_rgb, layer))
    picture = color or alpha
    if picture is None:
        raise _no_channels(path, "A, Y, or R, G and B")
    return picture.rgb, None if alpha is None else np.asarray(alpha.rgb[0].clip(0, 1))


def _read(path: Path, find: _Find) -> StillImage | None:
    """Return the image of the three channels chosen by `find`; None if no part has them."""
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingExtraError("EXR input", "exr") from error
    check_regular(path)
    # The declared sizes are checked before any memory is taken.
    try:
        for part in OpenEXR.File(str(path), header_only=True).parts:
            for window in ("dataWindow", "displayWindow"):
                check_size(path, *_size(part.header[window]))
        with _warnings() as printed:
            file = OpenEXR.File(str(path), separate_channels=True)
        with file:
            return _first_image(path, file, find, printed.getvalue())
    except ReadError:
        raise
    # All errors that the binding lets through; IndexError means a truncated file.
    except (RuntimeError, ValueError, KeyError, TypeError, MemoryError, IndexError) as error:
        raise _damaged(path, str(error)) from error


def _first_image(path: Path, file: Any, find: _Find, warning: str) -> StillImage | None:
    if warning:
        raise _damaged(path, warning)
    for part in file.parts:
        names = find(list(part.channels))
        if names is not None:
            return _image(path, part.header, [part.channels[name].pixels for name in names])
    return None


@contextmanager
def _warnings() -> Iterator[io.StringIO]:
    """Catch the warnings of damage printed on standard output by the binding.

    The binding prints them through Python and continues without the pixels. Standard output may be
    the JSON of a run.
    """
    with _PRINTED, redirect_stdout(io.StringIO()) as printed:
        yield printed


def _damaged(path: Path, reason: str) -> ReadError:
    line = " ".join(reason.split())
    return ReadError(f"{path}: is not an EXR image, or is damaged ({line}); render it again")


def _no_channels(path: Path, wanted: str) -> ReadError:
    return ReadError(
        f"{path}: has no part with the flat channels {wanted}; deep images have to be flattened"
    )


def _in_layer(find: _Find, layer: str | None) -> _Find:
    """Return a search that sees only the channels of one layer."""
    if layer is None:
        return find
    return lambda channels: find([name for name in channels if name.rpartition(".")[0] == layer])


def _find_alpha(channels: list[str]) -> Channels | None:
    alphas = [name for name in channels if name.rpartition(".")[2] == "A"]
    if not alphas:
        return None
    name = min(alphas, key=lambda name: ("." in name, name))  # plain ones first
    return name, name, name


def _find_rgb(channels: list[str]) -> Channels | None:
    """Return the names of red, green and blue: plain ones first, then those of the first layer."""
    for layer in sorted({name.rpartition(".")[0] for name in channels}):
        prefix = f"{layer}." if layer else ""
        for red, green, blue in sorted(_NAMES):
            names = (prefix + red, prefix + green, prefix + blue)
            if set(names) <= set(channels):
                return names
    # Y with RY and BY is luminance and chroma, at different sizes.
    is_gray = "Y" in channels and not {"RY", "BY"} & set(channels)
    return ("Y", "Y", "Y") if is_gray else None


def _image(
    path: Path, header: dict[str, Any], channels: list[npt.NDArray[np.generic]]
) -> StillImage:
    (left, top), _ = header["dataWindow"]
    (full_left, full_top), _ = header["displayWindow"]
    data_width, data_height = _size(header["dataWindow"])
    width, height = _size(header["displayWindow"])
    # Subsampled channels are smaller than the data window.
    is_whole = all(
        channel is not None and channel.shape == (data_height, data_width) for channel in channels
    )
    if not is_whole:
        raise ReadError(
            f"{path}: its channels are incomplete or subsampled; save it again with full channels"
        )
    rgb = np.zeros((3, height, width), np.float32)
    rows, from_rows = _overlap(int(top), data_height, int(full_top), height)
    columns, from_columns = _overlap(int(left), data_width, int(full_left), width)
    # Outside of the data window the picture is black, as OpenEXR defines it.
    for plane, channel in zip(rgb, channels, strict=True):
        plane[rows, columns] = channel[from_rows, from_columns].astype(np.float32)
    primaries, notes = _primaries(header.get("chromaticities"))
    rate = header.get("framesPerSecond")
    aspect = float(header.get("pixelAspectRatio", 1.0))
    has_aspect = 0.1 < aspect < 10
    return StillImage(
        finite(rgb),
        replace(LINEAR_STILL, primaries=primaries),
        8 * channels[0].dtype.itemsize,
        frame_rate=Fraction(rate) if rate and 0 < rate < 1000 else None,
        timecode=_timecode(header.get("timeCode")),
        sample_aspect_ratio=Fraction(aspect).limit_denominator(1000) if has_aspect else Fraction(1),
        notes=notes,
    )


def _size(window: Any) -> tuple[int, int]:
    """Return width and height of a window; both of its corners belong to it."""
    (left, top), (right, bottom) = window
    return int(right) - int(left) + 1, int(bottom) - int(top) + 1


def _overlap(start: int, length: int, full_start: int, full_length: int) -> tuple[slice, slice]:
    """Return the place of stored pixels in the display window, and the slice of those in it."""
    low = max(start, full_start)
    high = max(low, min(start + length, full_start + full_length))
    return slice(low - full_start, high - full_start), slice(low - start, high - start)


def _primaries(chromaticities: Any) -> tuple[int, tuple[str, ...]]:
    if chromaticities is None:
        return 1, ()
    for number, known in _PRIMARIES.items():
        # Headers hold floats of a few digits.
        if np.allclose(np.ravel(chromaticities)[:6], known, atol=2e-3):
            return number, ()
    return OTHER_PRIMARIES, (
        "the primaries of the EXR header have no number in ITU-T H.273: EXR outputs do not name "
        "them, other outputs say BT.709",
    )


def _timecode(code: Any) -> str | None:
    if code is None:
        return None
    separator = ";" if code.dropFrame else ":"
    return f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{separator}{code.frame:02}"
