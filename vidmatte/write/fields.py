"""Mark interlaced frames with their field order, which PyAV can only do through a filter."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph

from vidmatte.frames import FieldOrder

CODED_ORDER: dict[FieldOrder, str] = {"top first": "tt", "bottom first": "bb"}
"""Values of the encoder's option `field_order`, which reaches the header of the container."""
_PARITY: dict[FieldOrder, str] = {"top first": "tff", "bottom first": "bff"}


class FieldOrderFilter:
    """Marks frames of one size and pixel format, without copying them."""

    def __init__(self, like: av.VideoFrame, order: FieldOrder) -> None:
        self._graph = Graph()
        buffer = self._graph.add_buffer(
            width=like.width,
            height=like.height,
            format=like.format,
            time_base=Fraction(like.time_base or 1),
        )
        marking = self._graph.add("setfield", f"mode={_PARITY[order]}")
        sink = self._graph.add("buffersink")
        buffer.link_to(marking)
        marking.link_to(sink)
        self._graph.configure()

    def mark(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the frame with the same picture, times and tags, marked as interlaced."""
        self._graph.push(frame)
        return self._graph.vpull()
