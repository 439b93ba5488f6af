"""Set the duration of the last frame of an animated WebP.

FFmpeg's encoder takes the average of the other frames for it.

(Layout of chunks: RFC 9649, sections 2.3 and 2.7.)
"""

from __future__ import annotations

from typing import Protocol

_RIFF_HEADER = 12
_CHUNK_HEADER = 8
_DURATION_AT = 12
"""Bytes before the duration of a frame: its place and its size, 3 bytes each number."""
_DURATION_BYTES = 3


class RandomAccess(Protocol):
    """A file that can be read and written anywhere."""

    def read_at(self, offset: int, size: int) -> bytes: ...  # noqa: D102 - as its name says
    def write_at(self, offset: int, data: bytes) -> None: ...  # noqa: D102


def set_end(file: RandomAccess, milliseconds: int) -> None:
    """Set the duration of the last frame; a file of one still picture stays as it is.

    Args:
        file: A complete WebP file.
        milliseconds: Duration of the whole animation.
    """
    place = None
    before = 0  # the end of the last frame but one
    last = 0
    offset = _RIFF_HEADER
    while len(header := file.read_at(offset, _CHUNK_HEADER)) == _CHUNK_HEADER:
        if header[:4] == b"ANMF":
            place = offset + _CHUNK_HEADER + _DURATION_AT
            before += last
            last = int.from_bytes(file.read_at(place, _DURATION_BYTES), "little")
        size = int.from_bytes(header[4:], "little")
        offset += _CHUNK_HEADER + size + size % 2  # chunks begin at even bytes
    if place is not None:
        longest = (1 << 8 * _DURATION_BYTES) - 1
        duration = min(max(1, milliseconds - before), longest)
        file.write_at(place, duration.to_bytes(_DURATION_BYTES, "little"))
