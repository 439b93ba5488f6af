"""Write the pixel aspect and the codec delay of sound to Matroska, not settable through PyAV.

FFmpeg's muxer gets a track name of the right length in their place. When the file is complete, the
bytes of the name are replaced by these elements, and nothing behind them moves. (Element
numbers: RFC 9559, section 5.1.4.)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction

PLACEHOLDER = "alpha matte    "
"""Name of the video track before it is replaced by three elements of the same length."""

_SEGMENT, _TRACKS, _TRACK, _VIDEO, _CHECKSUM = (
    b"\x18\x53\x80\x67",
    b"\x16\x54\xae\x6b",
    b"\xae",
    b"\xe0",
    b"\xbf",
)
_DISPLAY_UNIT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT = b"\x54\xb2", b"\x54\xb0", b"\x54\xba"
# EBML: number of the element, length with the marker bit 0x80, content.
_NAME = b"\x53\x6e" + bytes([0x80 | len(PLACEHOLDER)]) + PLACEHOLDER.encode()
# Display unit 3: width and height are an aspect ratio, not pixels.
_AS_RATIO = b"\x81\x03"
_CODEC_DELAY = b"\x56\xaa"
_LONGEST_TITLE = 100
"""Bytes of a title whose length still fits into one byte with the placeholder before it."""


def delay_placeholder(track: int, title: str) -> str | None:
    """Return the name to give to an audio track, to be replaced by its codec delay and title.

    None for a title that is too long.
    """
    if len(title.encode()) > _LONGEST_TITLE:
        return None
    # Unique per track, as it is searched for, and as long as the elements: 7 bytes, or 4 without a
    # title.
    return f"delay{track % 100:02}{title}" if title else f"d{track % 1000:03}"


def with_codec_delay(
    header: bytes, placeholder: str, title: str, seconds: Fraction
) -> bytes | None:
    """Return the first bytes of a file with a codec delay and the title for the placeholder.

    The result has the same length. None if the tracks are not laid out as expected.
    """
    name = _named(placeholder)
    # Nanoseconds in 4 bytes: up to 4.3 seconds.
    delay = _CODEC_DELAY + b"\x84" + round(seconds * 1_000_000_000).to_bytes(4, "big")
    for tracks, end in _find(header, (_SEGMENT, _TRACKS)):
        # A title of the source may be the same text as the placeholder.
        if header.count(name) != 1 or not tracks <= header.index(name) < end:
            return None
        return _with_checksum(
            header.replace(name, delay + (_named(title) if title else b"")), tracks, end
        )
    return None


def _named(title: str) -> bytes:
    data = title.encode()
    return b"\x53\x6e" + bytes([0x80 | len(data)]) + data


def with_display_aspect(header: bytes, aspect: Fraction) -> bytes | None:
    """Return the first bytes of a file with a display aspect (width : height) for the placeholder.

    The result has the same length. None if the tracks are not laid out as expected.
    """
    if header.count(_NAME) != 1:
        return None
    name = header.index(_NAME)
    for tracks, tracks_end in _find(header, (_SEGMENT, _TRACKS)):
        for video, end in _find(header[:tracks_end], (_TRACK, _VIDEO), tracks):
            elements = b"".join(
                (
                    _DISPLAY_UNIT + _AS_RATIO,
                    _DISPLAY_WIDTH + b"\x84" + aspect.numerator.to_bytes(4, "big"),
                    _DISPLAY_HEIGHT + b"\x84" + aspect.denominator.to_bytes(4, "big"),
                )
            )
            size = end - video + len(elements)
            # The size of the video element has to stay one byte: 127 is reserved in it.
            has_short_size = header[video - 2 : video - 1] == _VIDEO and size <= 126
            if not has_short_size or not tracks <= name < video:
                return None
            pieces = (
                header[:name],
                header[name + len(_NAME) : video - 1],
                bytes([0x80 | size]),
                header[video:end],
                elements,
                header[end:],
            )
            return _with_checksum(b"".join(pieces), tracks, tracks_end)
    return None


def _with_checksum(data: bytes, start: int, end: int) -> bytes:
    """Return the data with the checksum of a master element renewed, if it has one."""
    # FFmpeg writes the checksum first in each master element.
    if data[start : start + 2] != _CHECKSUM + b"\x84":
        return data
    # The checksum covers all that follows it in the element.
    checksum = zlib.crc32(data[start + 6 : end]).to_bytes(4, "little")
    return data[: start + 2] + checksum + data[start + 6 :]


def _find(data: bytes, path: tuple[bytes, ...], position: int = 0) -> Iterator[tuple[int, int]]:
    """Yield start and end of the content of each element at a path of element numbers."""
    while position < len(data):
        number = data[position : position + _length(data[position])]
        position += len(number)
        # 9 is longer than any length: the data ends inside an element.
        length = _length(data[position]) if position < len(data) else 9
        if length > 8:
            return
        # The first set bit tells the number of bytes; the others are the size.
        size = int.from_bytes(data[position : position + length], "big") & ~(1 << 7 * length)
        position += length
        if number == path[0]:
            if len(path) == 1:
                yield position, position + size
            else:
                yield from _find(data[: position + size], path[1:], position)
        position += size


def _length(first: int) -> int:
    """Return the number of bytes of an element number or size, by its first byte."""
    return 9 - first.bit_length()
