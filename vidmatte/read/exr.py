"""EXR images, scene-linear, through the OpenEXR library (extra `exr`)."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.frames import Box, ColorTags, Windows
from vidmatte.imaging.primaries import LINEAR_IDS, OTHER_PRIMARIES, linear_id_of, number_of
from vidmatte.media.limits import check_regular, check_size
from vidmatte.read.exr_channels import (
    ExrChoice,
    Picture,
    chosen_picture,
    is_deep,
    notes_on,
    pictures_of,
)
from vidmatte.read.still import LINEAR_STILL, StillImage, finite

_PRINTED = threading.Lock()
"""Held while standard output is redirected, for the whole process."""
_MAIN = ExrChoice()


def read_exr(path: Path, choice: ExrChoice = _MAIN, *, raster: Box | None = None) -> StillImage:
    """Return R, G and B, or Y as gray, of a layer and a view.

    Args:
        path: The image.
        choice: The layer and the view; the main ones if it is left out: channels without a layer,
            then those called "rgba", "beauty" and the like.
        raster: Box of pixels to return; the picture is cut to it, or filled with black. None for
            the display window.

    Raises:
        ReadError: If there are no such channels, or the image is damaged or deep.
        MissingExtraError: If the library is not installed.
    """
    wanted = "R, G and B, or Y"
    with _opened(path, choice, wanted) as (headers, chosen):
        names = chosen.color
        if chosen.alpha is not None and choice.takes_alpha:
            names = names or (chosen.alpha,) * 3
        if names is None:
            raise _no_channels(path, headers, wanted)
        header = headers[chosen.part]
        planes = _planes(path, chosen, names, header, raster)
    notes = notes_on(pictures_of(headers), chosen, choice)
    return _image(header, planes, tuple(notes))


def read_exr_planes(
    path: Path, choice: ExrChoice = _MAIN, *, raster: Box | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return the colour (3, H, W) of an EXR image and its alpha (H, W) in 0..1, or None.

    Alpha stands for the colour if there is no other. Colour is as in the file, unbounded. For the
    arguments see `read_exr`.

    Raises:
        ReadError: If there are neither R, G and B nor Y nor A, or the image is damaged or deep.
        MissingExtraError: If the library is not installed.
    """
    with _opened(path, choice, "A, Y, or R, G and B") as (headers, chosen):
        header = headers[chosen.part]
        names = (*(chosen.color or ()), *filter(None, [chosen.alpha]))
        planes = finite(np.stack(_planes(path, chosen, names, header, raster)).astype(np.float32))
    color, alpha = planes[:3], None if chosen.alpha is None else planes[-1].clip(0, 1)
    return (color if chosen.color else np.repeat(planes, 3, axis=0)), alpha


def read_windows(path: Path) -> Windows:
    """Return where the pixels of an EXR lie, from its header alone; of the first flat part.

    Raises:
        ReadError: If the image is damaged.
        MissingExtraError: If the library is not installed.
    """
    with _translated(path):
        headers = _headers(path)
        flat = [header for header in headers if not is_deep(header)] or headers
        return _windows(flat[0])


def _library() -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingExtraError("EXR input", "exr") from error
    return OpenEXR


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except ReadError:
        raise
    # All errors that the binding lets through; IndexError means a truncated file.
    except (RuntimeError, ValueError, KeyError, TypeError, MemoryError, IndexError) as error:
        raise _damaged(path, str(error)) from error


@contextmanager
def _opened(
    path: Path, choice: ExrChoice, wanted: str
) -> Iterator[tuple[list[dict[str, Any]], Picture]]:
    """Give the headers of all parts, and the picture that is wanted."""
    with _translated(path):
        headers = _headers(path)
        chosen = chosen_picture(path, pictures_of(headers), choice)
        if chosen is None:
            raise _no_channels(path, headers, wanted)
        yield headers, chosen


def _headers(path: Path) -> list[dict[str, Any]]:
    """Return the headers; declared sizes are checked before any memory is taken."""
    library = _library()
    check_regular(path)
    headers = [part.header for part in library.File(str(path), header_only=True).parts]
    for header in headers:
        for window in ("dataWindow", "displayWindow"):
            left, top, right, bottom = _box(header[window])
            check_size(path, right - left, bottom - top)
    return headers


def _planes(
    path: Path,
    chosen: Picture,
    names: tuple[str, ...],
    header: dict[str, Any],
    raster: Box | None,
) -> list[npt.NDArray[np.generic]]:
    """Return channels (H, W) of a part, cut or filled to the raster."""
    with _warnings() as printed:
        file = _library().File(str(path), separate_channels=True)
    with file:
        if printed.getvalue():
            raise _damaged(path, printed.getvalue())
        channels = file.parts[chosen.part].channels
        pixels = [channels[name].pixels for name in names]
    windows = _windows(header)
    left, top, right, bottom = windows.data
    # Subsampled channels are smaller than the data window.
    size = (bottom - top, right - left)
    if not all(channel is not None and channel.shape == size for channel in pixels):
        raise ReadError(
            f"{path}: its channels are incomplete or subsampled; save it again with full channels"
        )
    box = raster or windows.display
    return [_placed(channel, windows.data, box) for channel in pixels]


def _placed(channel: npt.NDArray[np.generic], data: Box, raster: Box) -> npt.NDArray[np.generic]:
    """Return the pixels of a box; outside of the data window they are black, as OpenEXR says."""
    if data == raster:
        return channel
    left, top, right, bottom = raster
    placed = np.zeros((bottom - top, right - left), channel.dtype)
    columns, from_columns = _overlap(data[0], data[2], left, right)
    rows, from_rows = _overlap(data[1], data[3], top, bottom)
    placed[rows, columns] = channel[from_rows, from_columns]
    return placed


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


def _no_channels(path: Path, headers: list[dict[str, Any]], wanted: str) -> ReadError:
    if any(is_deep(header) for header in headers):
        return ReadError(
            f"{path}: is a deep image, which holds any number of samples for each pixel; flatten "
            f"it (DeepToImage in Nuke)"
        )
    found = [channel.name for header in headers for channel in header["channels"]]
    return ReadError(
        f"{path}: has no part with the flat channels {wanted}; its channels are "
        f"{', '.join(found)}; render the picture too"
    )


def _image(
    header: dict[str, Any],
    channels: list[npt.NDArray[np.generic]],
    notes: tuple[str, ...],
) -> StillImage:
    rgb = np.stack([channel.astype(np.float32) for channel in channels])
    found = _Colors.of(header)
    rate = header.get("framesPerSecond")
    aspect = float(header.get("pixelAspectRatio", 1.0))
    has_aspect = 0.1 < aspect < 10
    return StillImage(
        finite(rgb),
        found.tags,
        8 * channels[0].dtype.itemsize,
        frame_rate=Fraction(rate) if rate and 0 < rate < 1000 else None,
        timecode=_timecode(header.get("timeCode")),
        sample_aspect_ratio=Fraction(aspect).limit_denominator(1000) if has_aspect else Fraction(1),
        notes=(*notes, *found.notes),
        declared_space=found.name,
    )


def _box(window: Any) -> Box:
    """Return left, top, right and bottom; in EXR the last pixels belong to the window."""
    (left, top), (right, bottom) = window
    return int(left), int(top), int(right) + 1, int(bottom) + 1


def _windows(header: dict[str, Any]) -> Windows:
    return Windows(_box(header["dataWindow"]), _box(header["displayWindow"]))


def _overlap(start: int, end: int, full_start: int, full_end: int) -> tuple[slice, slice]:
    """Return the place of stored pixels in the raster, and the slice of those in it."""
    low = max(start, full_start)
    high = max(low, min(end, full_end))
    return slice(low - full_start, high - full_start), slice(low - start, high - start)


@dataclass(frozen=True)
class _Colors:
    """What a header says of colour."""

    tags: ColorTags
    name: str
    """Name of the colour space: the interop ID, or what other programs wrote."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: dict[str, Any]) -> _Colors:
        name = str(header.get("colorInteropID") or header.get("oiio:ColorSpace") or "")
        stored = header.get("chromaticities")
        # Headers of ACES files may have the name alone.
        points = LINEAR_IDS.get(name) if stored is None else tuple(map(float, np.ravel(stored)[:8]))
        if points is None:
            return cls(LINEAR_STILL, name, _unread(name))
        number = number_of(points)
        name = name or linear_id_of(points) or ""
        if number != OTHER_PRIMARIES:
            return cls(replace(LINEAR_STILL, primaries=number), name, _unread(name))
        tags = replace(LINEAR_STILL, primaries=number, chromaticities=points)
        return cls(tags, name, (_OTHER_NOTE, *_unread(name)))


_OTHER_NOTE = (
    "the primaries of the EXR header are neither those of BT.709, P3 nor BT.2020: EXR outputs keep "
    "them, all others are converted to BT.709"
)
_PLAIN_NAMES = ("", "linear", "scene_linear", "data", "unknown", "raw")


def _unread(name: str) -> tuple[str, ...]:
    """Return the note on a named space that is not known without a config."""
    if name in LINEAR_IDS or name.lower() in _PLAIN_NAMES or name.lower().startswith("lin_"):
        return ()
    return (
        f"the EXR header names the colour space {name!r}; --input-space auto reads the images so",
    )


def _timecode(code: Any) -> str | None:
    if code is None:
        return None
    separator = ";" if code.dropFrame else ":"
    return f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{separator}{code.frame:02}"
