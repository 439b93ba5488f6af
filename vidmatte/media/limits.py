"""Bounds that hold before memory is taken for a file: its header is not to be believed."""

from __future__ import annotations

import struct
from pathlib import Path

from vidmatte.errors import ReadError

MAX_PIXELS = 1 << 27
"""Pixels of a frame: 16384 x 8192. As float RGB that is 1.6 GB."""
MAX_SIDE = 32768


def check_size(source: Path | str, width: int, height: int) -> None:
    """Raise ReadError for a declared size that no frame can have, or that is more than memory should be taken for."""
    if width < 1 or height < 1 or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ReadError(
            f"{source}: says that it has {width}x{height} pixels; frames can have 1 to {MAX_PIXELS:,}, and sides of up "
            f"to {MAX_SIDE}: the file is damaged, or has to be scaled or cut first"
        )


def header_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a PNG, JPEG, TIFF, BMP or WebP; None where it says none that can be found."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"\xff\xd8"):
            return _size_of_jpeg(data)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            return _size_of_tiff(data, "<" if data.startswith(b"II") else ">")
        elif data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _size_of_webp(data)
        else:
            return None
    except struct.error:
        return None
    return abs(width), abs(height)


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place] != 0xFF:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (
            0xC4,
            0xC8,
            0xCC,
        ):  # start of frame, of any coding
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        place += 1 if marker == 0xFF else 2 + length
    return None


def _size_of_tiff(data: bytes, order: str) -> tuple[int, int] | None:
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    found: dict[int, int] = {}
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return (found[256], found[257]) if len(found) == 2 else None


def _size_of_webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
