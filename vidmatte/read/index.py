"""The place of each frame in a movie: one pass over its packets, without decoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import TypeAlias, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vidmatte.media.container import packets_of

_BY_BYTE = ("mpegts", "mpeg")
"""Containers without an index: reading may begin at any byte."""
_COMPARED = 8
"""Packets that must agree with the index to prove the place after a seek."""
_UNSURE = 6
"""Packets after a seek that may be fragments of earlier ones."""
_UNKNOWN = -1
_INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"
_Row: TypeAlias = tuple[int, int, int, bool]
"""Time, position and size of a packet, and whether it is a key frame."""


@dataclass(frozen=True)
class PacketIndex:
    """Times, places and sizes of the packets of a stream, in the order of decoding.

    Unknown positions are -1.
    """

    pts: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    keys: npt.NDArray[np.bool_]
    has_discarded: bool
    """Whether an edit list hides packets."""

    @classmethod
    def read(cls, container: InputContainer, stream: VideoStream) -> PacketIndex | None:
        """Return the index of all shown packets; None if one of them has no time.

        Takes the index of the container if it is complete, instead of reading the file.
        """
        known = _from_container(container, stream)
        if known is not None:
            return known
        rows: list[_Row] = []
        has_discarded = is_complete = False
        for packet in packets_of(container, stream):
            if not packet.size or packet.is_discard:
                has_discarded |= packet.is_discard
                continue
            if packet.pts is None:
                return None
            position = _UNKNOWN if packet.pos is None else packet.pos
            rows.append((packet.pts, position, packet.size, packet.is_keyframe))
            is_complete = True
        if not is_complete:
            return None
        return cls._of(rows, has_discarded)

    @classmethod
    def _of(cls, rows: Sequence[_Row], has_discarded: bool) -> PacketIndex:
        pts, positions, sizes, keys = (np.array(column) for column in zip(*rows, strict=True))
        return cls(pts, positions, sizes, keys, has_discarded)

    @property
    def times(self) -> list[int]:
        """Sorted presentation times of the frames; empty if two are the same."""
        times = cast("list[int]", np.sort(self.pts).tolist())
        return times if all(a < b for a, b in pairwise(times)) else []

    @property
    def has_open_groups(self) -> bool:
        """Whether frames are shown before the key frame in front of them in the file."""
        groups = np.cumsum(self.keys)
        first = self.pts[self.keys]
        shown_after = first[np.clip(groups - 1, 0, None)] if len(first) else self.pts
        return bool((self.pts < shown_after).any())

    def decode_from(
        self, container: InputContainer, stream: VideoStream, pts: int
    ) -> Iterator[av.VideoFrame] | None:
        """Return frames from the one at `pts` on; None if it cannot be found for sure.

        Decoding begins at the last key frame before it. Times after a seek are guesses in some
        containers, so packets are recognised by their sizes and places, and get the times found by
        the pass over the whole file.
        """
        keys = np.flatnonzero(self.keys & (self.pts <= pts))
        if not len(keys):
            return None
        key = int(keys[-1])
        if not self._seek(container, stream, key):
            return None
        found = self._recognise(packet for packet in packets_of(container, stream) if packet.size)
        if found is None or found[0] > key:
            return None
        frames = _shown(self._with_times(*found, key), pts)
        first = next(frames, None)
        return chain([first], frames) if first is not None and first.pts == pts else None

    def _seek(self, container: InputContainer, stream: VideoStream, key: int) -> bool:
        try:
            if container.format.name not in _BY_BYTE:
                container.seek(int(self.pts[key]), stream=stream)
                return True
            placed = np.flatnonzero(self.positions[: key + 1] != _UNKNOWN)
            if not len(placed):
                return False
            container.seek(int(self.positions[placed[-1]]), unsupported_byte_offset=True)
        except (av.FFmpegError, OverflowError):
            return False
        return True

    def _recognise(
        self, packets: Iterator[Packet[VideoStream]]
    ) -> tuple[int, Iterator[Packet[VideoStream]]] | None:
        """Return the index of the first packet with a certain place, and the packets from it on."""
        # Two packets may have equal sizes by chance, eight in a row hardly.
        ahead = list(islice(packets, _COMPARED + _UNSURE))
        for skipped in range(min(_UNSURE, len(ahead))):
            places = self._places_of(ahead[skipped : skipped + _COMPARED])
            if len(places) == 1:
                return int(places[0]), chain(ahead[skipped:], packets)
        return None

    def _places_of(self, packets: list[Packet[VideoStream]]) -> npt.NDArray[np.intp]:
        """Return the places in the index where packets of these sizes and positions follow."""
        places = np.arange(len(self.sizes) - len(packets) + 1)
        for n, packet in enumerate(packets):
            places = places[self.sizes[places + n] == packet.size]
            if packet.pos is not None:
                known = self.positions[places + n]
                places = places[(known == packet.pos) | (known == _UNKNOWN)]
        return places

    def _with_times(
        self, index: int, packets: Iterator[Packet[VideoStream]], key: int
    ) -> Iterator[Packet[VideoStream]]:
        for place, packet in enumerate(packets, index):
            if place >= len(self.pts):
                return
            packet.pts = int(self.pts[place])
            if place >= key:
                yield packet


def _from_container(container: InputContainer, stream: VideoStream) -> PacketIndex | None:
    """Return the index at the beginning or end of a MOV or MP4; None if it may be wrong.

    Its times are those of decoding, so they are right only for codecs without reordering of frames.
    The first packets and the last one have to agree with it.
    """
    codec = stream.codec_context
    if container.format.name != _INDEXED or codec is None or codec.has_b_frames:
        return None
    entries = list(stream.index_entries)
    if len(entries) <= _COMPARED or len(entries) != stream.frames:
        return None
    if any(entry.is_discard or entry.size == 0 for entry in entries):
        return None
    rows = [
        (int(entry.timestamp), int(entry.pos), int(entry.size), bool(entry.is_keyframe))
        for entry in entries
    ]
    try:
        first = list(islice(packets_of(container, stream), _COMPARED))
        container.seek(rows[-1][0], stream=stream)
        last = deque((packet for packet in packets_of(container, stream) if packet.size), maxlen=1)
    except av.FFmpegError:
        return None
    if [_row_of(packet) for packet in (*first, *last)] != [*rows[: len(first)], rows[-1]]:
        return None
    return PacketIndex._of(rows, False)


def _row_of(packet: Packet[VideoStream]) -> tuple[int | None, int | None, int, bool]:
    return (packet.pts, packet.pos, packet.size, packet.is_keyframe)


def _shown(packets: Iterator[Packet[VideoStream]], pts: int) -> Iterator[av.VideoFrame]:
    """Yield decoded frames from `pts` on."""
    stream = None
    for packet in packets:
        stream = packet.stream
        for frame in packet.decode():
            if frame.pts is not None and frame.pts >= pts:
                yield frame
    # Flushes the frames that the decoder still holds.
    if stream is not None:
        for frame in stream.codec_context.decode(None):
            if frame.pts is not None and frame.pts >= pts:
                yield frame
