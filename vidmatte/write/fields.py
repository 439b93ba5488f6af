"""Interlaced frames that say which of their fields is shown first. PyAV can set that through a filter only."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph

from vidmatte.frames import FieldOrder

CODED_ORDER: dict[FieldOrder, str] = {"top first": "tt", "bottom first": "bb"}
"""Values of the encoder's option `field_order`, which reaches the header of the container."""
_PARITY: dict[FieldOrder, str] = {"top first": "tff", "bottom first": "bff"}


class FieldOrderFilter:
    """Marks frames of one size and pixel format; nothing is copied."""

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
        """The same picture, times and tags, as an interlaced frame."""
        self._graph.push(frame)
        return self._graph.vpull()
