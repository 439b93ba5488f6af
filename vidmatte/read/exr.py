"""EXR images, scene-linear, through OpenImageIO (extra `exr`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.media.limits import check_regular, check_size
from vidmatte.read.still import LINEAR_STILL, StillImage, finite

if TYPE_CHECKING:
    from OpenImageIO import ImageInput, ImageSpec

OTHER_PRIMARIES = 3
"""Reserved in H.273: primaries that the header states but H.273 has no number for, such as ACES."""
_PRIMARIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""CIE xy of red, green and blue by H.273 number: BT.709, BT.2020, P3-D65."""
_NAMES = {("R", "G", "B"), ("r", "g", "b"), ("red", "green", "blue"), ("Red", "Green", "Blue")}
_DROP_FRAME = 1 << 6
"""Bit of a packed SMPTE 12M timecode."""

Channels = tuple[str, str, str]


def read_exr(path: Path) -> StillImage:
    """Return R, G and B (or Y as gray) of the first part that has them.

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


def read_exr_planes(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return the colour (3, H, W) of an EXR image and its alpha (H, W) in 0..1, None if it has none.

    Alpha is the A of the first part that has one, plain or of a layer. It also stands for the
    colour if there is no other. Colour is as in the file, unbounded.

    Raises:
        ReadError: If there are neither R, G and B nor Y nor A, or the image is damaged or deep.
        MissingExtraError: If the library is not installed.
    """
    alpha = _read(path, _find_alpha)
    color = _read(path, _find_rgb)
    picture = color or alpha
    if picture is None:
        raise _no_channels(path, "A, Y, or R, G and B")
    return picture.rgb, None if alpha is None else np.asarray(alpha.rgb[0].clip(0, 1))


def _read(path: Path, find: Callable[[list[str]], Channels | None]) -> StillImage | None:
    """Return the image of the three channels that `find` chooses; None if no part has them."""
    check_regular(path)
    with _opened(path) as file:
        part = 0
        # `seek_subimage` is false behind the last part.
        while file.seek_subimage(part, 0):
            spec = file.spec()
            check_size(path, spec.width, spec.height)
            check_size(path, spec.full_width, spec.full_height)
            names = None if spec.deep else find(list(spec.channelnames))
            if names is not None:
                return _image(path, file, part, names)
            part += 1
        if error := file.geterror():
            raise _damaged(path, error)
    return None


@contextmanager
def _opened(path: Path) -> Iterator[ImageInput]:
    try:
        import OpenImageIO
    except ImportError as error:
        raise MissingExtraError("EXR input", "exr") from error
    file = OpenImageIO.ImageInput.open(str(path))
    if file is None:
        raise _damaged(path, OpenImageIO.geterror())
    try:
        if file.format_name() != "openexr":
            raise _damaged(path, f"its content is {file.format_name()}")
        yield file
    finally:
        file.close()


def _damaged(path: Path, reason: str) -> ReadError:
    line = " ".join(reason.split())
    return ReadError(f"{path}: is not an EXR image, or is damaged ({line}); render it again")


def _no_channels(path: Path, wanted: str) -> ReadError:
    return ReadError(
        f"{path}: has no part with the flat channels {wanted}; deep images have to be flattened"
    )


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


def _image(path: Path, file: ImageInput, part: int, names: Channels) -> StillImage:
    spec = file.spec()
    places = [spec.channelnames.index(name) for name in names]
    first, behind = min(places), max(places) + 1
    pixels = file.read_image(part, 0, first, behind, "float")
    if pixels is None:
        raise _damaged(path, file.geterror())
    channels = pixels.reshape(spec.height, spec.width, behind - first)
    rgb = np.zeros((3, spec.full_height, spec.full_width), np.float32)
    rows, from_rows = _overlap(spec.y, spec.height, spec.full_y, spec.full_height)
    columns, from_columns = _overlap(spec.x, spec.width, spec.full_x, spec.full_width)
    for plane, place in zip(rgb, places, strict=True):
        plane[rows, columns] = channels[from_rows, from_columns, place - first]
    primaries, notes = _primaries(spec.get("chromaticities"))
    rate = spec.get("framesPerSecond")
    aspect = float(spec.get("PixelAspectRatio", 1.0))
    return StillImage(
        finite(rgb),
        replace(LINEAR_STILL, primaries=primaries),
        8 * _sample_size(spec, places[0]),
        frame_rate=Fraction(*rate) if rate and rate[1] and 0 < Fraction(*rate) < 1000 else None,
        timecode=_timecode(spec.get("smpte:TimeCode")),
        sample_aspect_ratio=Fraction(aspect).limit_denominator(1000)
        if 0.1 < aspect < 10
        else Fraction(1),
        notes=notes,
    )


def _overlap(start: int, length: int, full_start: int, full_length: int) -> tuple[slice, slice]:
    """Return where stored pixels lie in the display window, and which of them lie in it."""
    low = max(start, full_start)
    high = max(low, min(start + length, full_start + full_length))
    return slice(low - full_start, high - full_start), slice(low - start, high - start)


def _sample_size(spec: ImageSpec, channel: int) -> int:
    """Return the bytes of a sample; formats are listed only if they differ among channels."""
    formats = spec.channelformats
    return int((formats[channel] if formats else spec.format).size())


def _primaries(chromaticities: Any) -> tuple[int, tuple[str, ...]]:
    if chromaticities is None:
        return 1, ()
    for number, known in _PRIMARIES.items():
        if np.allclose(np.ravel(chromaticities)[:6], known, atol=2e-3):
            return number, ()
    return OTHER_PRIMARIES, (
        "the primaries of the EXR header have no number in ITU-T H.273: EXR outputs do not name "
        "them, other outputs say BT.709",
    )


def _timecode(packed: Any) -> str | None:
    """Return the text of a packed SMPTE 12M timecode, two digits of BCD for each field."""
    if packed is None:
        return None
    code = int(packed[0])
    hours, minutes, seconds = (code >> 24) & 0x3F, (code >> 16) & 0x7F, (code >> 8) & 0x7F
    frame = code & 0x3F
    separator = ";" if code & _DROP_FRAME else ":"
    return f"{hours:02x}:{minutes:02x}:{seconds:02x}{separator}{frame:02x}"
