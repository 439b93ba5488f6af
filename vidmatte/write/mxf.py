"""Correct FFmpeg's header of an MXF file of DNxHR 444.

FFmpeg calls the picture RGB although it is Y'CbCr, takes every frame for 16:9, and writes
the same package identifier (UMID) to all files: editing suites and archives know media by it.

(Keys, local tags and items: SMPTE ST 377-1, annexes F and G; UMID: SMPTE ST 330.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from vidmatte.errors import WriteError
from vidmatte.write.webp import RandomAccess

UMID_NUMBER_BYTES = 15
"""Bytes of the material number in a UMID; the 16th distinguishes the packages of a file."""
_HEADER_BYTES = 1 << 14
"""More bytes than the header at the beginning of a file has."""
_LONGEST_KEY_AND_LENGTH = 16 + 9

_UMID = re.compile(
    rb"(\x06\x0a\x2b\x34\x01\x01\x01\x05\x01\x01\x0d\x00\x13...)\0{15}", flags=re.DOTALL
)
"""Label and instance number of a UMID, then the empty material number."""

# Keys of SMPTE universal labels; the last two bytes choose the set.
_SETS = b"\x06\x0e\x2b\x34\x02\x53\x01\x01\x0d\x01\x01\x01\x01\x01"
_RGB_DESCRIPTOR = _SETS + b"\x29\x00"
_YCBCR_DESCRIPTOR = _SETS + b"\x28\x00"
_FRAME_METADATA = b"\x06\x0e\x2b\x34\x02\x43\x01\x01\x0d\x01\x03\x01\x04\x01\x02\x01"
_FILL = b"\x06\x0e\x2b\x34\x01\x01\x01\x02\x03\x01\x02\x10\x01\x00\x00\x00"

_ASPECT_RATIO = 0x320E
_ONLY_OF_RGB = (0x3401, 0x3406, 0x3407)
"""Pixel layout, and the codes of black and white of each component."""
_OFFSETS = (0x3206, 0x3207, 0x320A, 0x320B)
"""Of the sampled and the displayed picture: optional, and 0."""
_LIMITED_10_BITS = (
    (0x3301, (10).to_bytes(4, "big")),  # component depth
    (0x3302, (1).to_bytes(4, "big")),  # chroma is as wide
    (0x3308, (1).to_bytes(4, "big")),  # and as high as luma
    (0x3303, b"\0"),  # and lies where luma lies
    (0x3304, (64).to_bytes(4, "big")),  # black
    (0x3305, (940).to_bytes(4, "big")),  # white
    (0x3306, (897).to_bytes(4, "big")),  # levels of chroma
)


def complete(file: RandomAccess, *, name: str, aspect: Fraction, umid_number: bytes) -> None:
    """Give a complete MXF file a true description of its picture, and a UMID of its own.

    Nothing in the file moves: the description grows into the filler behind it.

    Args:
        file: A complete file written by FFmpeg.
        name: The output as the user named it, for messages.
        aspect: Width of the displayed picture over its height.
        umid_number: 15 bytes, different for each file.

    Raises:
        WriteError: If the header is not laid out like those of FFmpeg 7 and 8.
    """
    header = _with_description(file.read_at(0, _HEADER_BYTES), aspect, name)
    header, changed = _UMID.subn(lambda found: found[1] + umid_number, header)
    if not changed:
        raise _unknown_layout(name)
    file.write_at(0, header)
    # Each frame repeats the UMID, in a small element before its picture.
    place = 0
    # Every element is read by its key and length only; the pictures are skipped.
    while len(start := file.read_at(place, _LONGEST_KEY_AND_LENGTH)) > 16:
        content, length = _content_of(start, 0)
        if start[:16] == _FRAME_METADATA:
            metadata = file.read_at(place + content, length)
            metadata = _UMID.sub(lambda found: found[1] + umid_number, metadata)
            file.write_at(place + content, metadata)
        place += content + length


def _with_description(header: bytes, aspect: Fraction, name: str) -> bytes:
    """Return the header, as long as it was, with the picture described as Y'CbCr."""
    elements = list(_elements(header))
    place = next((n for n, element in enumerate(elements) if element.key == _RGB_DESCRIPTOR), None)
    fillers = [n for n, element in enumerate(elements) if element.key == _FILL]
    filler = next((n for n in fillers if place is not None and n > place), None)
    if place is None or filler is None:
        raise _unknown_layout(name)
    descriptor = _element(_YCBCR_DESCRIPTOR, _described(elements[place].content, aspect))
    between = header[elements[place].end : elements[filler].start]
    start, end = elements[place].start, elements[filler].end
    # The filler gives or takes the difference in length.
    room = end - start - len(descriptor) - len(between)
    fill = _element(_FILL, bytes(room - len(_element(_FILL, b""))))
    return header[:start] + descriptor + between + fill + header[end:]


def _unknown_layout(name: str) -> WriteError:
    return WriteError(
        f"{name}: the FFmpeg of this PyAV lays out MXF in an unknown way; "
        f"choose .mov, or another version of PyAV"
    )


@dataclass(frozen=True)
class _Element:
    """A key, a length and a content, as they follow each other in the file."""

    key: bytes
    start: int
    end: int
    content: bytes


def _elements(header: bytes) -> Iterator[_Element]:
    """Yield the elements completely contained in the bytes."""
    start = 0
    while start + 17 <= len(header):
        content, length = _content_of(header, start)
        end = content + length
        if end > len(header):
            return
        yield _Element(header[start : start + 16], start, end, header[content:end])
        start = end


def _content_of(data: bytes, start: int) -> tuple[int, int]:
    """Return the position of an element's content, and its length in bytes."""
    content = start + 17
    length = data[start + 16]
    if length & 0x80:  # BER long form: the number of bytes of the length
        content += length & 0x7F
        length = int.from_bytes(data[start + 17 : content], "big")
    return content, length


def _element(key: bytes, content: bytes) -> bytes:
    """Return an element with its length in four bytes, as FFmpeg writes it."""
    return key + b"\x83" + len(content).to_bytes(3, "big") + content


def _described(content: bytes, aspect: Fraction) -> bytes:
    """Return the items of a description in RGB, rewritten for Y'CbCr."""
    items = dict(_items(content))
    for tag in (*_ONLY_OF_RGB, *_OFFSETS):
        items.pop(tag, None)
    items.update(_LIMITED_10_BITS)
    items[_ASPECT_RATIO] = aspect.numerator.to_bytes(4, "big") + aspect.denominator.to_bytes(
        4, "big"
    )
    return b"".join(
        tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        for tag, value in items.items()
    )


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(content):
        tag = int.from_bytes(content[start : start + 2], "big")
        end = start + 4 + int.from_bytes(content[start + 2 : start + 4], "big")
        yield tag, content[start + 4 : end]
        start = end
