"""Damage of movies: broken packets and frames, told from those that only look broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import av
from av import logging
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vidmatte.media.container import packets_of

OpenStream: TypeAlias = Callable[[], AbstractContextManager[tuple[InputContainer, VideoStream]]]
"""Opens the movie again, from its beginning."""
_GAP = 1.5
"""Gap in time between packets, in usual steps, from which one is missing."""
_CONCEALED = "conceal"
"""Word in messages of FFmpeg's decoders about invented parts of a picture."""


@dataclass(frozen=True)
class _Entry:
    """A packet, in the order of decoding."""

    dts: int | None
    pts: int | None
    is_key: bool
    is_flagged: bool


def decode_in_spite(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield all decodable frames, also behind packets with errors."""
    packets = packets_of(container, stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return  # the rest of the file cannot be read
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)


def lost_frames(open_stream: OpenStream, times: Sequence[int]) -> list[int]:
    """Return the times of the undecodable frames, by decoding the whole movie once.

    Args:
        open_stream: Opens the movie.
        times: Times of all its frames, rising.
    """
    with open_stream() as (container, stream):
        shown = {frame.pts for frame in decode_in_spite(container, stream)}
    shown -= damaged_packets(open_stream)
    return [time for time in times if time not in shown]


def damaged_packets(open_stream: OpenStream) -> frozenset[int | None]:
    """Return the times of packets without all their data, among those flagged by the container.

    Transport streams flag a packet if their counter jumps. At the seams of joined segments it jumps
    too, with nothing missing: a flagged packet is whole if there is no gap in time and its group of
    pictures decodes without a complaint.
    """
    entries: list[_Entry] = []
    with open_stream() as (container, stream), suppress(av.FFmpegError):
        # Behind an error nothing can be read, and nothing is flagged.
        for packet in packets_of(container, stream):
            if packet.size:
                flags = packet.is_keyframe, packet.is_corrupt
                entries.append(_Entry(packet.dts, packet.pts, *flags))
    flagged = [place for place, entry in enumerate(entries) if entry.is_flagged]
    # Each group of pictures is decoded once, however many of its packets are flagged.
    doubtful = {place: _group(entries, place) for place in flagged}
    bad = {place for place in flagged if _lacks_time(entries, place)}
    groups = set(doubtful.values())
    failed = {group for group in groups if _complains(open_stream, group)}
    bad |= {place for place, group in doubtful.items() if group in failed}
    return frozenset(entries[place].pts for place in bad)


def _group(entries: Sequence[_Entry], place: int) -> range:
    """Return the packets to decode to judge one: its group of pictures, and the one before it."""
    keys = [key for key, entry in enumerate(entries) if entry.is_key]
    # The first pictures of a group may refer to the one before it.
    before = [key for key in keys if key <= place][-2:]
    behind = next((key for key in keys if key > place), len(entries))
    return range(before[0] if before else 0, behind)


def _lacks_time(entries: Sequence[_Entry], place: int) -> bool:
    """Return whether the step in time before or behind a packet is longer than usual."""
    times = [entry.dts for entry in entries if entry.dts is not None]
    steps = [b - a for a, b in pairwise(times) if b > a]
    if not steps:
        return False
    around = [entry.dts for entry in entries[max(0, place - 1) : place + 2]]
    known = [time for time in around if time is not None]
    longest = max((b - a for a, b in pairwise(known)), default=0)
    return longest > _GAP * median(steps)


def _complains(open_stream: OpenStream, group: range) -> bool:
    """Return whether decoding some packets alone logs an error or an invented part of a picture."""
    level = logging.get_level()
    logging.set_level(logging.INFO)
    try:
        with open_stream() as (container, stream):
            # Messages are captured on the decoding thread only, so it must be this one.
            stream.thread_type = "NONE"
            packets = (packet for packet in packets_of(container, stream) if packet.size)
            with logging.Capture(local=True) as lines:
                for place, packet in enumerate(packets):
                    if place in group:
                        _decode(packet)
                    elif place >= group.stop:
                        break
                # None flushes the frames that the decoder still holds.
                list(stream.codec_context.decode(None))
    except av.FFmpegError:
        return True
    finally:
        logging.set_level(level)
    decoder = stream.codec_context.name
    return any(
        name == decoder and (number <= logging.WARNING or _CONCEALED in text)
        for number, name, text in lines
    )


def _decode(packet: Packet[VideoStream]) -> None:
    for _ in packet.decode():
        pass
