"""Movies, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import bisect
import functools
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidmatte.errors import ReadError
from vidmatte.frames import FieldOrder, VideoInfo
from vidmatte.imaging import yuv
from vidmatte.media.container import (
    MATROSKA,
    chroma_location,
    describe_choice,
    describe_dropped_streams,
    error_message,
    open_container,
    packets_of,
    video_stream,
)
from vidmatte.media.unchanged import UnchangedFile
from vidmatte.options import Deinterlace, OnDamage
from vidmatte.read import header
from vidmatte.read.camera import declared_space
from vidmatte.read.damage import damaged_packets, decode_in_spite, lost_frames
from vidmatte.read.deinterlace import deinterlace
from vidmatte.read.index import PacketIndex
from vidmatte.read.orientation import UPRIGHT
from vidmatte.read.plane import is_gray_and_opaque
from vidmatte.read.seeking import decoded, seek
from vidmatte.read.video import Frame, Video, smaller
from vidmatte.threads import current

# Headers of containers round the length of a clip by less than this.
_EARLY_SECONDS = Fraction(1, 2)
_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", MATROSKA)
"""Containers with an index and a time on every packet: FFmpeg's own seeking is right."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_SCALED = ("yuv", "gray", "gbrp", "rgb", "bgr")
"""Beginnings of names of pixel formats with planes that can be shrunk as they are."""
_BOTTOM_FIRST = (3, 4)
"""FFmpeg's AV_FIELD_BB and AV_FIELD_TB: coded last or first, the bottom field is shown first."""


@contextmanager
def _opened(source: str, number: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_container(source) as container:
        stream = video_stream(source, container, number)
        stream.thread_type = "AUTO"
        stream.thread_count = current().codec
        yield container, stream


class MovieVideo(Video):
    """A movie read through PyAV.

    Frames are turned and mirrored by their display matrix; the pixel aspect is only noted.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        allow_truncated: bool = False,
        deinterlace: Deinterlace = "refuse",
        stream: int | None = None,
        on_damage: OnDamage = "refuse",
    ) -> None:
        super().__init__()
        self._on_damage = "stop" if allow_truncated and on_damage == "refuse" else on_damage
        allow_truncated = self._on_damage != "refuse"
        self._lost: frozenset[int] = frozenset()
        self._stream_number = stream
        self._source = str(source)
        self._allow_truncated = allow_truncated
        self._deinterlace = deinterlace
        self._size = Path(source).stat().st_size
        self._file = UnchangedFile(source)
        self._truncated_at: tuple[int, str] | None = None
        if self._size == 0:
            raise ReadError(f"{source}: is empty (0 bytes); copy or render it again")
        with self._open_stream() as (container, video):
            self._check_index(video)
            location = chroma_location(video)
            first = self._first_frame(container, video)
            self._is_interlaced = first.interlaced_frame
            self._refuse_interlaced(first, 0)
            self._first_pts = first.pts or 0
            self._format_size = (first.width, first.height)
            self._orientation = header.orientation(first)
            self._tags = replace(yuv.tags_of(first), chroma_location=location)
            self._promised_end = header.promised_end(container, video)
            has_alpha = video.metadata.get("alpha_mode") == "1"
            self._alpha_decoder = (
                _ALPHA_DECODERS.get(video.codec_context.name) if has_alpha else None
            )
            self._has_choice = describe_choice(container, video) is not None
            self._is_timed = container.format.name in _TIMED
            self._time_base = Fraction(video.time_base or 0) or Fraction(1, 1000)
            self.info = self._describe(container, video, first)
        if self._on_damage in ("skip", "hold"):
            self._find_damage()

    def _open_stream(self) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        self._file.check()
        return _opened(self._source, self._stream_number)

    def check_unchanged(self) -> None:
        """See `Video.check_unchanged`."""
        self._file.check()

    @property
    def truncated_at(self) -> tuple[int, str] | None:
        """See `Video.truncated_at`."""
        return self._truncated_at

    def _end_early(self, index: int, why: str) -> None:
        """Note that frame `index` is the first unreadable one; raise unless that is allowed."""
        if not self._allow_truncated:
            raise ReadError(self._truncated(index, why))
        if self._truncated_at is None or index < self._truncated_at[0]:
            self._truncated_at = (index, why)

    def _find_damage(self) -> None:
        """Look for undecodable frames, and note them. Raises ReadError without times."""
        if not self._times:
            raise ReadError(
                f"{self._source}: its frames carry no times, so that lost ones cannot be found; "
                f"use --on-damage stop, or convert it"
            )
        lost = lost_frames(self._open_stream, self._times)
        if not lost:
            return
        places = [bisect.bisect_left(self._times, time) for time in lost]
        done = "left out" if self._on_damage == "skip" else "replaced by the frame before them"
        note = (
            f"{len(lost)} damaged frames of the source were {done}: {_listed(places)}; "
            f"the frames behind each, up to the next key frame, may show traces"
        )
        self.info = replace(self.info, notes=(*self.info.notes, note))
        self._lost = frozenset(lost)
        if self._on_damage == "skip":
            # Replaces the cached property: the lost frames have no index from now on.
            self.__dict__["_times"] = [time for time in self._times if time not in self._lost]

    def _check_index(self, stream: VideoStream) -> None:
        """Check that the index of the file does not point past its end; see `_end_early`.

        It does in an interrupted copy of a file whose index is at its beginning.
        """
        size = Path(self._source).stat().st_size
        times = [entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > size]
        if times:
            lost = bisect.bisect_left(
                sorted(entry.timestamp for entry in stream.index_entries), min(times)
            )
            self._end_early(lost, "the file ends before its data does")

    def _truncated(self, index: int, why: str) -> str:
        return (
            f"{self._source}: is truncated or damaged at frame {index} ({why}); copy it again, or "
            f"use --on-damage: stop mattes the frames before it, skip and hold those behind it too"
        )

    def _first_frame(self, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
        try:
            decode = decode_in_spite if self._repairs else decoded
            for frame in decode(container, stream):
                return frame
        except av.FFmpegError as error:
            raise ReadError(
                f"{self._source}: its first frame cannot be decoded ({error_message(error)})"
            ) from error
        raise ReadError(f"{self._source}: holds a video stream but not a single frame")

    def _describe(
        self, container: InputContainer, stream: VideoStream, first: av.VideoFrame
    ) -> VideoInfo:
        width, height = self._format_size
        aspect = header.pixel_aspect(stream)
        if self._orientation.is_transposed:
            width, height, aspect = height, width, 1 / aspect
        return VideoInfo(
            source=self._source,
            width=width,
            height=height,
            frame_rate=header.frame_rate(stream),
            time_base=self._time_base,
            frames_in_header=header.frames_in_header(container, stream),
            sample_aspect_ratio=aspect,
            bit_depth=max(component.bits for component in first.format.components),
            color=self._tags,
            timecode=stream.metadata.get("timecode") or container.metadata.get("timecode"),
            audio_streams=len(container.streams.audio),
            start=header.earliest_start(container, self._first_pts * self._time_base),
            has_alpha=self._alpha_decoder is not None or yuv.has_alpha(first),
            field_order=self._field_order(stream),
            notes=(*describe_dropped_streams(container, stream), *self._interlace_notes()),
            declared_space=declared_space(
                Path(self._source), {**container.metadata, **stream.metadata}
            ),
        )

    def _refuse_interlaced(self, frame: av.VideoFrame, index: int) -> None:
        if frame.interlaced_frame and self._deinterlace == "refuse":
            raise ReadError(
                f"{self._source}: is interlaced (frame {index}): its frames hold two moments each; "
                f"use --deinterlace "
                f"to make whole ones, or --deinterlace keep where the pictures are whole in spite "
                f"of the flag"
            )

    def _field_order(self, stream: VideoStream) -> FieldOrder | None:
        """Return the field order of frames read without deinterlacing.

        Without a field order in the file, the top field counts as first.
        """
        if not self._is_interlaced or self._deinterlace != "keep":
            return None
        return "bottom first" if stream.codec_context.field_order in _BOTTOM_FIRST else "top first"

    def _interlace_notes(self) -> Iterator[str]:
        if self._deinterlace in ("bwdif", "yadif"):
            flagged = "interlaced" if self._is_interlaced else "not flagged as interlaced"
            yield (
                f"the source is {flagged}; "
                f"its frames were deinterlaced with {self._deinterlace}, one for one"
            )
        elif self._is_interlaced:
            yield "the source is interlaced and was read as it is"

    @property
    def _repairs(self) -> bool:
        """Whether damaged frames are dropped or replaced."""
        return self._on_damage in ("skip", "hold")

    @functools.cached_property
    def _damaged_packets(self) -> frozenset[int | None]:
        return damaged_packets(self._open_stream)

    @functools.cached_property
    def _index(self) -> PacketIndex | None:
        """Return the index of the packets; None if they carry no times."""
        with self._open_stream() as (container, stream):
            try:
                return PacketIndex.read(container, stream)
            except av.FFmpegError as error:
                if not self._allow_truncated:
                    raise ReadError(
                        f"{self._source}: cannot be read to its end ({error_message(error)})"
                    ) from error
                return None

    @functools.cached_property
    def _times(self) -> list[int]:
        """Return the sorted pts of all frames, from the packets; empty if those have none."""
        times = [] if self._index is None else self._index.times
        # A cut at an open group leaves undecodable frames in the file: they lie before
        # the first decodable one.
        return times[bisect.bisect_left(times, self._first_pts) :]

    def keyframe_before(self, index: int) -> int:
        """See `Video.keyframe_before`; the first frame if packets carry no times."""
        times = self._times
        if not times or self._index is None:
            return 0
        keys = self._index.pts[self._index.keys]
        entries = keys[keys <= times[min(index, len(times) - 1)]]
        return bisect.bisect_left(times, int(entries.max())) if len(entries) else 0

    def count_frames(self) -> int:
        """Return the number of frames; decodes only if packets carry no times."""
        return len(self._times) or sum(1 for _ in self._decode_from_start())

    def seconds_of(self, index: int) -> Fraction:
        """Return the presentation time of a frame, counted from the first one.

        Past the end it continues at the average rate.
        """
        times = self._times
        if not times:
            return index / self.info.frame_rate
        if index >= len(times):
            return (times[-1] - times[0]) * self._time_base + (
                index - len(times) + 1
            ) / self.info.frame_rate
        return (times[index] - times[0]) * self._time_base

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on, from the key frame before it.

        Raises ReadError at a damaged frame.
        """
        for raw, index, pts, duration in self._timed_frames(start):
            yield Frame(self._upright(yuv.to_rgb(raw, self._tags)), index, pts, duration)

    def opacity(self, start: int = 0) -> Generator[npt.NDArray[np.float32]]:
        """See `Video.opacity`."""
        uses_alpha = self.info.has_alpha and not self._has_idle_alpha
        for frame in self._frames_with_alpha(start):
            if uses_alpha or not self.info.has_alpha:
                yield self._upright(yuv.opacity(frame, self._tags))
            else:
                yield self._upright(yuv.to_rgb(frame, self._tags).max(axis=0).clip(0, 1))

    def alpha(self, start: int = 0) -> Generator[npt.NDArray[np.float32]]:
        """See `Video.alpha`."""
        if not self.info.has_alpha:
            yield from super().alpha(start)
            return
        for frame in self._frames_with_alpha(start):
            yield self._upright(yuv.opacity(frame, self._tags))

    def _frames_with_alpha(self, start: int) -> Iterator[av.VideoFrame]:
        if self._alpha_decoder:
            return islice(self._decode_with_alpha(), start, None)
        return (frame for frame, *_ in self._timed_frames(start))

    @functools.cached_property
    def _has_idle_alpha(self) -> bool:
        """Whether the movie is a matte by brightness: gray, and opaque everywhere.

        Judged by its first frame, the one in the middle and the last one.
        """
        frames = self.count_frames()
        for place in sorted({0, frames // 2, frames - 1}):
            frame = next(iter(self._frames_with_alpha(place)), None)
            if frame is None:
                continue
            color = yuv.to_rgb(frame, self._tags).transpose(1, 2, 0)
            if not is_gray_and_opaque(color.clip(0, 1), yuv.opacity(frame, self._tags)):
                return False
        return True

    def _timed_frames(self, start: int) -> Iterator[tuple[av.VideoFrame, int, int, int]]:
        """Yield frames from `start` on with their index, pts and duration."""
        previous: int | None = None
        index, duration = start, 0
        for index, raw in self._whole_frames(start):
            if raw.is_corrupt and not self._allow_truncated:
                raise ReadError(self._truncated(index, "its picture cannot be decoded whole"))
            pts = self._pts(raw, index)
            if previous is not None and pts <= previous:
                # Some writers repeat a time; players and encoders need them to rise.
                pts = previous + 1
            previous, duration = pts, raw.duration or 0
            self._refuse_other_size(raw, index)
            yield raw, index, pts, duration
        if previous is not None and not self._repairs:
            self._check_end(index + 1, previous, duration)

    def proxy_frames(self, longest: int, *, start: int = 0) -> Iterator[Frame]:
        """See `Video.proxy_frames`: shrunk before the conversion of colour."""
        for raw, index, pts, duration in self._timed_frames(start):
            size = smaller(raw.width, raw.height, longest)
            if size != self._format_size and raw.format.name.startswith(_SCALED):
                raw = _shrink(raw, size)
            yield Frame(self._upright(yuv.to_rgb(raw, self._tags)), index, pts, duration)

    def _whole_frames(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames from `start` on, deinterlaced if chosen."""
        if self._deinterlace in ("refuse", "keep"):
            for index, frame in self._decode_from(start) if start else self._decode_from_start():
                self._refuse_interlaced(frame, index)
                yield index, frame
            return
        # The filter also uses the fields of the frame before.
        before = max(0, start - 1)
        frames = self._decode_from(before) if before else self._decode_from_start()
        whole = deinterlace(
            frames, self._deinterlace, source=self._source, only_flagged=self._is_interlaced
        )
        yield from ((index, frame) for index, frame in whole if index >= start)

    def _check_end(self, frames: int, last_pts: int, last_duration: int) -> None:
        """Check that frames do not stop long before the end promised by the header.

        Truncated Matroska files end like that. A file that became shorter is refused, whatever its
        header says. Raises ReadError, see `_end_early`.
        """
        if os.path.exists(self._source) and os.path.getsize(self._source) < self._size:
            raise ReadError(self._truncated(frames, "the file was cut off while it was read"))
        end = last_pts * self._time_base + max(
            last_duration * self._time_base, 1 / self.info.frame_rate
        )
        if self._promised_end is not None and end + _EARLY_SECONDS < self._promised_end:
            missing = float(self._promised_end - end)
            self._end_early(frames, f"{missing:.1f} s are missing at its end")

    def _repaired(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield all frames, damaged ones left out or replaced by the frame before them."""
        times = self._times
        held: av.VideoFrame | None = None
        following = 0
        with self._open_stream() as (container, stream):
            for frame in decode_in_spite(container, stream):
                index = bisect.bisect_left(times, frame.pts or 0)
                is_shown = index < len(times) and times[index] == frame.pts
                if not is_shown or frame.pts in self._lost or index < following:
                    continue
                yield from self._replaced(held, following, index)
                yield index, frame
                held = frame
                following = index + 1
            yield from self._replaced(held, following, len(times))

    def _replaced(
        self, held: av.VideoFrame | None, start: int, end: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield a frame again for each index from `start` to `end`, exclusive."""
        if held is None:
            return
        for index in range(start, end):
            held.pts = self._times[index]
            yield index, held

    def _decode_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        if self._repairs:
            yield from self._repaired()
            return
        index = 0
        with self._open_stream() as (container, stream):
            try:
                for packet in packets_of(container, stream):
                    is_doubtful = packet.is_corrupt and not self._allow_truncated
                    if is_doubtful and packet.pts in self._damaged_packets:
                        raise ReadError(self._truncated(index, "a packet is damaged"))
                    for frame in packet.decode():
                        yield index, frame
                        index += 1
            except av.FFmpegError as error:
                self._end_early(index, error_message(error))

    def _decode_from(self, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
        times = self._times
        if times and start >= len(times):
            return
        if self._repairs:  # held frames depend on all earlier ones
            yield from ((index, frame) for index, frame in self._repaired() if index >= start)
            return
        following = start
        with self._open_stream() as (container, stream):
            try:
                found = self._found(container, stream, times[start]) if times else None
                for frame in found or ():
                    # Leading frames of an open group that cannot be decoded are dropped by the
                    # decoder.
                    index = bisect.bisect_left(times, frame.pts or 0)
                    yield index, frame
                    following = index + 1
            except av.FFmpegError as error:
                self._end_early(following, error_message(error))
        if found is None:
            yield from (
                (index, frame) for index, frame in self._decode_from_start() if index >= start
            )

    def _found(
        self, container: InputContainer, stream: VideoStream, pts: int
    ) -> Iterator[av.VideoFrame] | None:
        """Return frames from the one at `pts` on; None if only a full decode finds it."""
        if self._is_timed:
            return seek(container, stream, pts, self._time_base)
        assert self._index is not None  # there are times
        try:
            return self._index.decode_from(container, stream, pts)
        except av.FFmpegError:
            return None

    def _pts(self, frame: av.VideoFrame, index: int) -> int:
        if frame.pts is not None:
            return int(frame.pts)
        return round(index / (self.info.frame_rate * self._time_base))

    def _refuse_other_size(self, frame: av.VideoFrame, index: int) -> None:
        if (frame.width, frame.height) != self._format_size:
            first = "x".join(map(str, self._format_size))
            raise ReadError(
                f"{self._source}: changes from {first} to {frame.width}x{frame.height} at frame "
                f"{index}; "
                f"split it there, or scale it to one size"
            )

    def _upright(self, picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return a picture (..., H, W) in the display orientation of the source."""
        return picture if self._orientation == UPRIGHT else self._orientation.apply(picture)

    def _decode_with_alpha(self) -> Iterator[av.VideoFrame]:
        """Yield all frames through the decoder with support for their alpha.

        FFmpeg's own decoders of VP8 and VP9 ignore it.
        """
        assert self._alpha_decoder is not None
        with self._open_stream() as (container, stream):
            decoder = cast("VideoCodecContext", av.CodecContext.create(self._alpha_decoder, "r"))
            try:
                for index, packet in enumerate(packets_of(container, stream)):
                    for frame in decoder.decode(packet):
                        self._refuse_other_size(frame, index)
                        yield frame
            except av.FFmpegError as error:
                raise ReadError(self._truncated(index, error_message(error))) from error


def _listed(places: list[int]) -> str:
    """Return frame numbers, the first ten of them."""
    shown = ", ".join(map(str, places[:10]))
    return shown + (", ..." if len(places) > 10 else "")


def _shrink(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    # The code values are averaged as they are: the range and the matrix stay those of the source.
    small = frame.reformat(*size, format=frame.format.name, interpolation="AREA", threads=1)
    small.pts = frame.pts
    small.time_base = frame.time_base
    small.color_range = frame.color_range
    return small
