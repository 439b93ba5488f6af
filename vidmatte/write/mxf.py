"""Correct the header that FFmpeg writes to an MXF file of DNxHR 444.

FFmpeg calls the picture RGB although it is Y'CbCr, takes every frame for 16:9, and gives all files
the same package identifier (UMID), by which editing suites and archives know their media.

(Keys, local tags and items: SMPTE ST 377-1, annexes F and G; UMID: SMPTE ST 330.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from vidmatte.errors import WriteError

UMID_NUMBER_BYTES = 15
"""Of the material number in a UMID; FFmpeg sets its 16th byte, different for each package of a file."""
_UMID = re.compile(
    rb"(\x06\x0a\x2b\x34\x01\x01\x01\x05\x01\x01\x0d\x00\x13...)\0{15}", flags=re.DOTALL
)
"""Label and instance number of a UMID, then the empty material number."""

_SETS = b"\x06\x0e\x2b\x34\x02\x53\x01\x01\x0d\x01\x01\x01\x01\x01"
_RGB_DESCRIPTOR = _SETS + b"\x29\x00"
_YCBCR_DESCRIPTOR = _SETS + b"\x28\x00"
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


def complete_header(header: bytes, *, aspect: Fraction, umid_number: bytes) -> bytes:
    """Return the first bytes of an MXF file with a true description of the picture.

    The result has the same length: what the description needs comes from the filler behind it.

    Args:
        header: At least the whole header partition.
        aspect: Width of the displayed picture over its height.
        umid_number: 15 bytes that tell this file from all others.

    Raises:
        WriteError: the header is not laid out as FFmpeg 7 and 8 write it.
    """
    elements = list(_elements(header))
    place = next((n for n, element in enumerate(elements) if element.key == _RGB_DESCRIPTOR), None)
    fillers = [n for n, element in enumerate(elements) if element.key == _FILL]
    filler = next((n for n in fillers if place is not None and n > place), None)
    if place is None or filler is None or not _UMID.search(header):
        raise WriteError(
            "the FFmpeg of this PyAV lays out MXF in an unknown way; choose .mov, or another version"
        )
    descriptor = _element(_YCBCR_DESCRIPTOR, _described(elements[place].content, aspect))
    between = header[elements[place].end : elements[filler].start]
    room = elements[filler].end - elements[place].start - len(descriptor) - len(between)
    fill = _element(_FILL, bytes(room - len(_element(_FILL, b""))))
    start, end = elements[place].start, elements[filler].end
    completed = header[:start] + descriptor + between + fill + header[end:]
    return _UMID.sub(lambda found: found[1] + umid_number, completed)


@dataclass(frozen=True)
class _Element:
    """A key, a length and a content, as they follow each other in the file."""

    key: bytes
    start: int
    end: int
    content: bytes


def _elements(header: bytes) -> Iterator[_Element]:
    """Yield the elements that lie in the bytes with their whole length."""
    start = 0
    while start + 17 <= len(header):
        content = start + 17
        length = header[start + 16]
        if length & 0x80:  # the number of bytes that hold the length
            content += length & 0x7F
            length = int.from_bytes(header[start + 17 : content], "big")
        end = content + length
        if end > len(header):
            return
        yield _Element(header[start : start + 16], start, end, header[content:end])
        start = end


def _element(key: bytes, content: bytes) -> bytes:
    """Return an element with its length in four bytes, as FFmpeg writes it."""
    return key + b"\x83" + len(content).to_bytes(3, "big") + content


def _described(content: bytes, aspect: Fraction) -> bytes:
    """Return the items of a description in RGB as those of one in Y'CbCr."""
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
