"""Store in a QuickTime file whether colour is straight or premultiplied; FFmpeg cannot.

(Layout of atoms: Apple, QuickTime File Format Specification, "Video media information header atoms"
and "Graphics modes".)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vidmatte.write.webp import RandomAccess

_STRAIGHT, _PREMULTIPLIED_ON_BLACK = 0x100, 0x102
_VIDEO_HEADER = (b"moov", b"trak", b"mdia", b"minf", b"vmhd")
_MODE_AT = 4
"""Offset of the graphics mode in a video header: after version and flags."""


def set_alpha_mode(file: RandomAccess, size: int, *, premultiplied: bool) -> None:
    """Store in the video header of a complete file whether colour is straight or premultiplied.

    Args:
        file: A QuickTime file of one video track.
        size: Its length in bytes.
        premultiplied: Whether colour was multiplied with alpha, over black.
    """
    mode = _PREMULTIPLIED_ON_BLACK if premultiplied else _STRAIGHT
    for content in _find(file, _VIDEO_HEADER, 0, size):
        # Atoms are big-endian.
        file.write_at(content + _MODE_AT, mode.to_bytes(2, "big"))


def _find(file: RandomAccess, path: Sequence[bytes], start: int, end: int) -> Iterator[int]:
    """Yield the position of the content of each atom at a path."""
    while start < end:
        header = file.read_at(start, 16)
        length = int.from_bytes(header[:4], "big")
        content = start + 8
        if length == 1:  # more than 4 GB, as the picture data may be: the length follows in 8 bytes
            length = int.from_bytes(header[8:16], "big")
            content = start + 16
        if header[4:8] == path[0]:
            if len(path) == 1:
                yield content
            else:
                yield from _find(file, path[1:], content, start + length)
        if length < 8:  # not an atom
            return
        start += length
