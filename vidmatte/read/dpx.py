"""DPX images (SMPTE ST 268-1), decoded by FFmpeg: 8 to 16 bits, code values as they are."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

import av

from vidmatte.errors import ReadError
from vidmatte.imaging import yuv
from vidmatte.media.limits import MAX_PIXELS, check_size
from vidmatte.read.still import STILL, StillImage

_HEADER = 2048
_GENERIC_HEADER = 1664
"""Bytes of the mandatory header; the film and television headers after it are optional."""
_PRINTING_DENSITY = 1
_LOGARITHMIC = (_PRINTING_DENSITY, 3)
"""Transfer characteristics of film scans, and of unspecified logarithms."""
_FILM = "Cineon"
"""Name of the colour space of film scans, see `imaging.ocio`."""
_UNDEFINED = 0xFFFFFFFF


def read_dpx(path: Path) -> StillImage:
    """Return a DPX image with rate, timecode and pixel aspect of its header.

    Raises ReadError if it cannot be decoded.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    order = {b"SDPX": ">", b"XPDS": "<"}.get(header[:4])
    if order is None or len(header) < _GENERIC_HEADER:
        raise ReadError(f"{path}: is not a DPX image, or is cut off; render it again")
    (picture_begins,) = struct.unpack_from(order + "I", header, 4)
    # A header that ends early leaves out what is optional.
    header = header[: max(_GENERIC_HEADER, picture_begins)]
    # Offsets of SMPTE ST 268-1: 772 width and height, 801 transfer, 1628 pixel aspect.
    check_size(path, *struct.unpack_from(order + "II", header, 772))
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": "dpx_pipe",
        "max_pixels": str(MAX_PIXELS),
    }
    try:
        with av.open(f"file:{path}", format="dpx_pipe", options=options) as container:
            frame = next(container.decode(video=0), None)
    except av.FFmpegError as error:
        raise ReadError(f"{path}: cannot be decoded ({error.strerror}); render it again") from error
    if frame is None:
        raise ReadError(f"{path}: holds no picture; render it again")
    tags = yuv.tags_of(frame)
    is_log = header[801] in _LOGARITHMIC
    return StillImage(
        yuv.to_rgb(frame, tags),
        STILL if frame.format.is_rgb else tags,
        max(component.bits for component in frame.format.components),
        frame_rate=_rate(header, order),
        timecode=_timecode(header, order),
        sample_aspect_ratio=_aspect(header, order),
        notes=(
            "the DPX images are logarithmic: without --input-space the model sees them as they are",
        )
        if is_log
        else (),
        declared_space=_FILM if header[801] == _PRINTING_DENSITY else "",
    )


def _rate(header: bytes, order: str) -> Fraction | None:
    for offset in (1940, 1724):  # of the television, and of the film header
        if len(header) < offset + 4:
            continue
        (rate,) = struct.unpack_from(order + "f", header, offset)
        if math.isfinite(rate) and 1 <= rate <= 1000:
            # 24000/1001 and its like are stored as rounded floats.
            ntsc = Fraction(round(rate) * 1000, 1001)
            return (
                ntsc
                if abs(rate - ntsc) < 1e-3 and rate != round(rate)
                else Fraction(rate).limit_denominator(1000)
            )
    return None


def _timecode(header: bytes, order: str) -> str | None:
    if len(header) < _HEADER:
        return None
    # BCD: each hexadecimal digit is a decimal digit of the timecode.
    (packed,) = struct.unpack_from(order + "I", header, 1920)
    text = f"{packed:08x}"
    if packed in (0, _UNDEFINED) or not text.isdecimal():
        return None
    return ":".join(text[i : i + 2] for i in (0, 2, 4, 6))


def _aspect(header: bytes, order: str) -> Fraction:
    horizontal, vertical = struct.unpack_from(order + "II", header, 1628)
    if 0 < horizontal < 1 << 16 and 0 < vertical < 1 << 16 and 0.1 < horizontal / vertical < 10:
        return Fraction(horizontal, vertical)
    return Fraction(1)
