"""Damage of movies: which packets and frames are broken, and which only look so."""

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
"""Opens the movie anew."""
_GAP = 1.5
"""Usual steps in time between packets from which one is missing between them."""
_CONCEALED = "conceal"
"""In messages of FFmpeg's decoders about parts of a picture that were made up."""


@dataclass(frozen=True)
class _Entry:
    """A packet, in the order of decoding."""

    dts: int | None
    pts: int | None
    is_key: bool
    is_flagged: bool


def decode_in_spite(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield all frames that decode, also behind packets that do not."""
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
    """Return the times of the frames that cannot be shown, by decoding the whole movie once.

    Args:
        open_stream: Opens the movie.
        times: Times of all its frames, rising.
    """
    with open_stream() as (container, stream):
        shown = {frame.pts for frame in decode_in_spite(container, stream)}
    shown -= damaged_packets(open_stream)
    return [time for time in times if time not in shown]


def damaged_packets(open_stream: OpenStream) -> frozenset[int | None]:
    """Return the times of packets that lack data, of those that the container flags.

    Transport streams flag a packet if their counter jumps. That it does at the seams of joined
    segments, too, where nothing is missing: a flagged packet is whole if no time is missing there
    and its group of pictures decodes without a complaint.
    """
    entries: list[_Entry] = []
    with open_stream() as (container, stream), suppress(av.FFmpegError):
        # Behind an error nothing can be read, and nothing is flagged.
        for packet in packets_of(container, stream):
            if packet.size:
                flags = packet.is_keyframe, packet.is_corrupt
                entries.append(_Entry(packet.dts, packet.pts, *flags))
    flagged = [place for place, entry in enumerate(entries) if entry.is_flagged]
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
    """Return whether decoding some packets by themselves logs an error or something made up."""
    level = logging.get_level()
    logging.set_level(logging.INFO)
    try:
        with open_stream() as (container, stream):
            # Messages come on the thread that decodes.
            stream.thread_type = "NONE"
            packets = (packet for packet in packets_of(container, stream) if packet.size)
            with logging.Capture(local=True) as lines:
                for place, packet in enumerate(packets):
                    if place in group:
                        _decode(packet)
                    elif place >= group.stop:
                        break
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
