"""Movies: PyAV decodes; decord can, where it is right."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte import color
from vidmatte.errors import MissingExtraError, OptionError, ReadError
from vidmatte.frames import VideoInfo
from vidmatte.read.source import Frame, Video

_ONLY_FILES = {"protocol_whitelist": "file"}
"""A playlist or a concat script dressed as a movie must not reach the network."""


_MATROSKA = "matroska,webm"
_EARLY_SECONDS = Fraction(1, 2)
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", _MATROSKA)
"""Containers with a time on every packet. In others, such as program streams, times after a seek are guesses."""


@contextmanager
def _opened(source: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        container = av.open(f"file:{source}", options=_ONLY_FILES)
    except av.FFmpegError as error:
        raise ReadError(f"{source}: cannot be opened as a movie ({_reason(error)}); is it complete?") from error
    with container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
            raise ReadError(f"{source}: has no picture, only {kinds}; give a file with a video stream")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)


def _reason(error: av.FFmpegError) -> str:
    return str(error.strerror or error)


class MovieVideo(Video):
    """A movie read through PyAV. Frames are turned as their display rotation says; the pixel aspect is only noted."""

    def __init__(self, source: str | Path, *, allow_truncated: bool = False) -> None:
        super().__init__()
        self._source = str(source)
        self._allow_truncated = allow_truncated
        if Path(source).stat().st_size == 0:
            raise ReadError(f"{source}: is empty (0 bytes); copy or render it again")
        with _opened(self._source) as (container, stream):
            if not allow_truncated:
                self._refuse_truncated(stream)
            first = self._first_frame(container, stream)
            self._first_pts = first.pts or 0
            self._format_size = (first.width, first.height)
            self._turns = round((first.rotation or 0) / 90) % 4
            self._tags = color.tags_of(first)
            self._promised_end = _promised_end(container, stream)
            self._can_seek = container.format.name in _SEEKABLE
            self._time_base = Fraction(stream.time_base or 0) or Fraction(1, 1000)
            self.info = self._describe(container, stream, first)

    def _refuse_truncated(self, stream: VideoStream) -> None:
        """Raise when the index of the file points past its end (an interrupted copy of a file whose index is first)."""
        size = Path(self._source).stat().st_size
        times = [entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > size]
        if times:
            lost = bisect.bisect_left(sorted(entry.timestamp for entry in stream.index_entries), min(times))
            raise ReadError(self._truncated(lost, "the file ends before its data does"))

    def _truncated(self, index: int, why: str) -> str:
        return (
            f"{self._source}: is truncated or damaged at frame {index} ({why}); copy it again, or use "
            f"--allow-truncated to matte the frames before it"
        )

    def _first_frame(self, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
        try:
            for frame in container.decode(stream):
                return frame
        except av.FFmpegError as error:
            raise ReadError(f"{self._source}: its first frame cannot be decoded ({_reason(error)})") from error
        raise ReadError(f"{self._source}: holds a video stream but not a single frame")

    def _describe(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> VideoInfo:
        width, height = self._format_size
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if self._turns % 2:
            width, height, aspect = height, width, 1 / aspect
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate or 25
        return VideoInfo(
            source=self._source,
            width=width,
            height=height,
            frame_rate=Fraction(rate),
            time_base=self._time_base,
            frames_in_header=_frames_in_header(container, stream),
            sample_aspect_ratio=aspect,
            bit_depth=max(component.bits for component in first.format.components),
            color=self._tags,
            timecode=stream.metadata.get("timecode") or container.metadata.get("timecode"),
            audio_streams=len(container.streams.audio),
        )

    @functools.cached_property
    def _times(self) -> list[int]:
        """Sorted pts of all frames, read from the packets without decoding; empty where packets carry none."""
        with _opened(self._source) as (container, stream):
            try:
                packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
            except av.FFmpegError as error:
                if not self._allow_truncated:
                    raise ReadError(f"{self._source}: cannot be read to its end ({_reason(error)})") from error
                return []
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        is_complete = len(times) == len(packets) and all(a < b for a, b in pairwise(times))
        # A cut at an open group leaves frames in the file that nothing decodes: they lie before the first that does.
        return times[bisect.bisect_left(times, self._first_pts) :] if is_complete else []

    def count_frames(self) -> int:
        """The number of frames; counts packets, or decodes where packets carry no times."""
        return len(self._times) or sum(1 for _ in self._decode_from_start())

    def seconds_of(self, index: int) -> Fraction:
        """Presentation time of a frame, counted from the first one; past the end at the average rate."""
        times = self._times
        if not times:
            return index / self.info.frame_rate
        if index >= len(times):
            return (times[-1] - times[0]) * self._time_base + (index - len(times) + 1) / self.info.frame_rate
        return (times[index] - times[0]) * self._time_base

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Frames from `start` on; seeks to the key frame before it. Raises ReadError at a damaged frame."""
        previous: int | None = None
        index, duration = start, 0
        for index, raw in self._decode_from(start) if start else self._decode_from_start():
            pts = self._pts(raw, index)
            if previous is not None and pts <= previous:
                pts = previous + 1  # some writers repeat a time; players and encoders need them to rise
            previous, duration = pts, raw.duration or 0
            yield Frame(self._to_rgb(raw, index), index, pts, duration)
        if previous is not None and not self._allow_truncated:
            self._refuse_early_end(index + 1, previous, duration)

    def _refuse_early_end(self, frames: int, last_pts: int, last_duration: int) -> None:
        """Raise when frames stop long before the time that the header promises: how truncated Matroska files end."""
        end = last_pts * self._time_base + max(last_duration * self._time_base, 1 / self.info.frame_rate)
        if self._promised_end is not None and end + _EARLY_SECONDS < self._promised_end:
            raise ReadError(self._truncated(frames, f"{float(self._promised_end - end):.1f} s are missing at its end"))

    def _decode_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        index = 0
        with _opened(self._source) as (container, stream):
            try:
                for packet in container.demux(stream):
                    if packet.is_corrupt and not self._allow_truncated:
                        raise ReadError(self._truncated(index, "a packet is damaged"))
                    for frame in packet.decode():
                        yield index, frame
                        index += 1
            except av.FFmpegError as error:
                if not self._allow_truncated:
                    raise ReadError(self._truncated(index, _reason(error))) from error

    def _decode_from(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        if not self._can_seek or not self._times:
            yield from ((index, frame) for index, frame in self._decode_from_start() if index >= start)
            return
        times = self._times
        if start >= len(times):
            return
        with _opened(self._source) as (container, stream):
            try:
                for frame in _seek(container, stream, times[start], self._time_base):
                    # Leading frames of an open group that cannot be decoded are dropped by the decoder.
                    yield bisect.bisect_left(times, frame.pts or 0), frame
            except av.FFmpegError as error:
                if not self._allow_truncated:
                    raise ReadError(self._truncated(start, _reason(error))) from error

    def _pts(self, frame: av.VideoFrame, index: int) -> int:
        if frame.pts is not None:
            return int(frame.pts)
        return round(index / (self.info.frame_rate * self._time_base))

    def _to_rgb(self, frame: av.VideoFrame, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        if (frame.width, frame.height) != self._format_size:
            first = "x".join(map(str, self._format_size))
            raise ReadError(
                f"{self._source}: changes from {first} to {frame.width}x{frame.height} at frame {index}; "
                f"split it there, or scale it to one size"
            )
        rgb = color.to_rgb(frame, self._tags)
        return np.ascontiguousarray(np.rot90(rgb, self._turns, axes=(1, 2))) if self._turns else rgb


def _promised_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Time in seconds at which the picture ends by the header; None where the header only speaks of the whole file."""
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])
    if container.format.name == _MATROSKA and len(container.streams) == 1 and container.duration:
        return Fraction(container.duration, av.time_base)
    return None


def _frames_in_header(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.frames:
        return int(stream.frames)
    rate = stream.average_rate
    if container.duration and rate:
        return round(container.duration / av.time_base * rate)
    return None


def _seek(container: InputContainer, stream: VideoStream, pts: int, time_base: Fraction) -> Iterator[av.VideoFrame]:
    """Frames from the one at `pts` on. Seeks further back while the first frame decoded lies behind it (open GOPs)."""
    back = Fraction(0)
    while True:
        target = pts - int(back / time_base)
        container.seek(target, stream=stream, backward=True)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts <= pts:
            break
        if target < pts - int(3600 / time_base):
            raise ReadError(f"{container.name}: cannot seek to the frame at {float(pts * time_base):.3f} s")
        back = back * 2 or Fraction(1)
    if first.pts == pts:
        yield first
    for frame in frames:
        if frame.pts is not None and frame.pts >= pts:
            yield frame


class DecordVideo(MovieVideo):
    """A movie whose pictures come from decord: 8 bits, and as dark as swscale's default conversion makes them.

    Times, facts and the index are PyAV's, and every clip whose frames decord counts differently is refused.
    """

    def __init__(self, source: str | Path, *, allow_truncated: bool = False) -> None:
        super().__init__(source, allow_truncated=allow_truncated)
        import decord

        self._decord = decord
        if self.info.bit_depth > 8:
            raise OptionError(
                f"{source}: has {self.info.bit_depth}-bit colour, of which decord keeps 8 bits; use --reader pyav"
            )
        found, wanted = len(self._open()), self.count_frames()
        if found != wanted:
            raise ReadError(f"{source}: decord finds {found} frames where there are {wanted}; use --reader pyav")

    def _open(self) -> Any:
        try:
            return self._decord.VideoReader(self._source, num_threads=1)
        except (RuntimeError, self._decord.DECORDError) as error:
            raise ReadError(f"{self._source}: decord cannot open it; use --reader pyav") from error

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Frames from `start` on, through decord."""
        reader, times = self._open(), self._times
        count = len(reader)
        if start < count:
            reader.seek_accurate(start)
        for index in range(start, count):
            rgb = reader.next().asnumpy().transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            following = times[index + 1] if index + 1 < count else None
            duration = following - times[index] if following is not None else 0
            yield Frame(np.ascontiguousarray(rgb), index, times[index], duration)


def open_decord(source: str | Path, *, allow_truncated: bool) -> Video:
    """A DecordVideo, or MissingExtraError where decord is not installed."""
    try:
        import decord  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reader 'decord'", "decord") from error
    return DecordVideo(source, allow_truncated=allow_truncated)
