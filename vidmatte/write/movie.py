"""Write a movie: frames with their exact times, and the sound of the source."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from torch import Tensor

from vidmatte import __version__
from vidmatte.errors import WriteError
from vidmatte.frames import ColorTags, MatteBatch, VideoInfo
from vidmatte.imaging.display import for_output
from vidmatte.imaging.transfer import linear_to_video
from vidmatte.media.timecode import advance_timecode, nominal_rate
from vidmatte.threads import current
from vidmatte.write import matroska, mxf, quicktime, webp
from vidmatte.write.audio import Soundtrack, Span
from vidmatte.write.backdrop import make_backdrop
from vidmatte.write.fields import CODED_ORDER, FieldOrderFilter
from vidmatte.write.formats import Format
from vidmatte.write.part import EncodedPart
from vidmatte.write.planes import output_tags, premultiply, set_tags, video_frame, with_width
from vidmatte.write.specs import OutputSpec

_BUFFER = 1 << 20
# The track entries stand within the first 64 kB of a file.
_MATROSKA_HEADER = 1 << 16
_SLICED = 16
"""Smallest shorter side in pixels for which FFV1 keeps to the number of slices."""
_TRANSFER_OF_601_AND_2020 = (6, 14, 15)


class MovieWriter:
    """Encode batches into a partial file.

    Used from one thread; `discard` may be called from another one afterwards.
    """

    kind: Literal["colour", "alpha"]

    def __init__(
        self,
        spec: OutputSpec,
        partial: Path,
        *,
        like: VideoInfo,
        premultiplied: bool,
        start: Fraction | None,
        end: Fraction | None,
        audio: bool,
        command: str,
        weights: str = "",
    ) -> None:
        self.spec = spec
        self.kind = "alpha" if spec.alpha_only else "colour"
        self.format = spec.format
        self.notes: list[str] = []
        self.frames = 0
        self._partial = partial
        self._like = like
        self._premultiplied = premultiplied
        self._start = start
        self._end = end
        self._command, self._weights = command, weights
        self._packets_hash = hashlib.blake2b(digest_size=mxf.UMID_NUMBER_BYTES)
        self._with_audio = audio and like.audio_streams > 0 and bool(self.format.audio_codec)
        self._width = like.display_width if self.format.square_pixels else like.width
        self.pixel_format = self.format.pixel_format
        is_odd = self._width % 2 or like.height % 2
        if is_odd and self.format.odd_pixel_format:
            self.pixel_format = self.format.odd_pixel_format
        self._tags = _writable_tags(like.color, self.format, pixel_format=self.pixel_format)
        self._patches_aspect = self.format.container == "matroska" and like.sample_aspect_ratio != 1
        self._is_joined = False
        self._last_time: int | None = None
        self._container: OutputContainer | None = None
        self._soundtrack: Soundtrack | None = None
        self.ends_sound_with_picture = False
        """Whether to leave out the sound behind the last frame."""
        self._picture_end = Fraction(0)
        self._file: _PartialFile | None = None
        self._backdrop = (
            make_backdrop(spec.backdrop, like.height, self._width) if spec.backdrop else None
        )
        self._fields: FieldOrderFilter | None = None
        # One thread: frames have to reach the encoder in order.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix=f"codec {spec}")
        self._encoding: Future[None] | None = None
        self.notes += _losses(spec, like, audio=audio)

    def create(self) -> None:
        """Create the partial file. Raises OSError."""
        self._file = _PartialFile(self._partial)

    def write(self, mattes: Mapping[str, MatteBatch]) -> None:
        """Encode the frames of the output's object.

        Raises WriteError, or OSError or FFmpegError of the file.
        """
        batch = mattes[self.spec.object_name]
        source = batch.source
        if self._container is None:
            self._open(source.pts[0], source.frames[0])
        for index in range(len(batch)):
            color, alpha = self._picture(batch, index)
            hidden = self.format.zero_rgb_where_transparent
            frame = video_frame(
                color,
                alpha,
                pixel_format=self.pixel_format,
                tags=self._tags,
                zero_rgb_where_transparent=hidden,
            )
            self._set_time(frame, source.pts[index], source.durations[index])
            self._encode(self._with_fields(frame))
            self.frames += 1

    def append(self, part: EncodedPart) -> None:
        """Copy the packets of a part, made with the same options. Raises the errors of `write`."""
        if self._container is None:
            self._open(part.pts[0], part.first_frame)
        self._is_joined = True
        before = self.frames
        # The part is a finished file of its own: demuxed, and not decoded.
        with av.open(str(part.path)) as container:
            packets = _as_encoded(container)
            for packet, pts, duration in zip(packets, part.pts, part.durations, strict=False):
                packet.stream = self._stream
                self._set_time(packet, pts, duration)
                # FFmpeg refuses a file whose decoding times do not grow.
                packet.pts = self._after_last(packet.pts)
                packet.dts = self._last_time = packet.pts
                self._mux([packet])
                self.frames += 1
            # A part that was damaged on the disk must not become a gap in the output.
            if self.frames - before != len(part.pts) or next(packets, None) is not None:
                raise WriteError(
                    f"{part.path}: does not hold the {len(part.pts)} frames that were written; "
                    f"use --overwrite to start over"
                )

    def _after_last(self, pts: int | None) -> int | None:
        """Return a time after the last one, as a part may begin with a repeated time."""
        if self._last_time is None or pts is None:
            return pts
        return max(pts, self._last_time + 1)

    def finish(self) -> list[tuple[Path, Path]]:
        """Flush the encoder, complete the file and return its rename (from, to)."""
        assert self._container is not None
        assert self._file is not None
        self._wait()
        if not self._is_joined:
            # A joined file never had an encoder running.
            self._mux(self._stream.encode(None))
        if self._soundtrack is not None:
            self._soundtrack.finish(self._picture_end if self.ends_sound_with_picture else None)
        self._container.close()
        self._complete_container(self._file)
        self._file.complete()
        return [(self._partial, Path(self.spec.path))]

    def close(self) -> None:
        """Close the files, complete or not. Never raises."""
        self._encoder.shutdown()
        if self._soundtrack is not None:
            self._soundtrack.close()
        if self._file is not None:
            with contextlib.suppress(OSError):  # `complete` closed the file, and raised its error
                self._file.close()
        self._container = None

    def discard(self) -> None:
        """Remove the partial file."""
        self._partial.unlink(missing_ok=True)

    def failure(self, error: Exception) -> WriteError:
        """Return the error to raise for one of the file or of FFmpeg."""
        # FFmpeg reports a failed write as an error of its own, without the reason.
        in_file = None if self._file is None else self._file.error
        cause = in_file or error
        reason = getattr(cause, "strerror", None) or str(cause)
        return WriteError(
            f"{self.spec}: writing failed after {self.frames} frames ({reason}); "
            f"no output was written; check the free space and the rights of "
            f"{self.spec.folder.absolute()}"
        )

    def _open(self, first: int, first_frame: int) -> None:
        """Open the container and its streams.

        Args:
            first: Time of the first frame, in units of the source's time base.
            first_frame: Index of that frame in the source.
        """
        assert self._file is not None
        like = self._like
        # Players cut times before zero off, or the container moves them. Rounded down, as no stream
        # may begin before zero.
        self._first = first
        is_cut = self._start is not None or first < 0
        self._offset = first if is_cut else math.floor(like.start / like.time_base)
        # Nominal: 24000/1001 and not a measured 23.9759.
        rate = nominal_rate(like.frame_rate) or like.frame_rate
        self._rate = rate
        self._time_base = 1 / rate if self.format.constant_rate else like.time_base
        self._usual_duration = max(1, round(1 / (like.frame_rate * like.time_base)))
        # Without "bitexact" Matroska draws random identifiers, and two runs would differ.
        options = {"fflags": "+bitexact"}
        if self.format.container in ("mov", "mp4"):
            scale = str(like.time_base.denominator)
            # The edit list holds the start time, in units of the movie and not of the track.
            options |= {"video_track_timescale": scale, "movie_timescale": scale}
            if self.format.container == "mov":
                options |= {"movflags": "use_metadata_tags"}  # or only a few names would be written
        elif self.format.container == "webp":
            options |= {"loop": "0"}  # for ever
        self._container = av.open(
            self._file, "w", format=self.format.container, options=options, buffer_size=_BUFFER
        )
        if self.format.container == "mov":
            self._container.metadata.update(self._provenance())
        self._stream = self._add_video(self._container, rate)
        self._set_timecode(first_frame)
        if self._with_audio:
            self._soundtrack = Soundtrack(
                like.source, self._container, form=self.format, span=self._span(first)
            )
            self.notes += [f"{self.spec}: {note}" for note in self._soundtrack.notes]

    def _provenance(self) -> dict[str, str]:
        """Return metadata on what made the file; no date, or two runs would differ."""
        facts = {"com.apple.quicktime.software": f"vidmatte {__version__}"}
        if self._command:
            facts["com.apple.quicktime.comment"] = self._command
        if self._weights:
            facts["vidmatte.weights"] = self._weights
        return facts

    def _add_video(self, container: OutputContainer, rate: Fraction) -> VideoStream:
        stream = cast(
            VideoStream, container.add_stream(self.format.codec, rate, self._encoder_options())
        )
        context = stream.codec_context
        context.width = self._width
        context.height = self._like.height
        context.pix_fmt = self.pixel_format
        context.time_base = stream.time_base = self._time_base
        context.thread_count = current().codec
        if self.format.codec == "png":
            context.thread_type = (
                "AUTO"  # frames side by side, as the codec cannot share one among threads
            )
        context.flags |= Flags.frame_duration  # or the last frame gets the usual length
        if not self.format.square_pixels:
            context.sample_aspect_ratio = self._like.sample_aspect_ratio
        if self.format.container == "mov":
            stream.metadata["encoder"] = self.format.compressor_name
        if self._patches_aspect:
            stream.metadata["title"] = matroska.PLACEHOLDER
        set_tags(context, self._tags)
        return stream

    def _encoder_options(self) -> dict[str, str]:
        options = dict(self.format.options)
        if min(self._width, self._like.height) < _SLICED:
            options.pop("slices", None)  # the codec itself chooses fewer
        if self.format.stored_depth:
            options |= {"bits_per_coded_sample": self.format.stored_depth}
        order = self._like.field_order
        if order is None and self.format.container == "mov":
            options |= {"field_order": "progressive"}
        if order is not None and self.format.keeps_fields:
            options |= {
                "field_order": CODED_ORDER[order],
                "flags": options["flags"] + self.format.fields_flag,
            }
        return options

    def _with_fields(self, frame: av.VideoFrame) -> av.VideoFrame:
        order = self._like.field_order
        if order is None or not self.format.keeps_fields:
            return frame
        self._fields = self._fields or FieldOrderFilter(frame, order)
        return self._fields.mark(frame)

    def _set_time(
        self, frame: av.VideoFrame | Packet[VideoStream], pts: int, duration: int
    ) -> None:
        """Set the time of a frame in the output. Raises WriteError if the format cannot hold it."""
        frame.time_base = self._time_base
        if not self.format.constant_rate:
            frame.pts = pts - self._offset
            frame.duration = duration or self._usual_duration
            self._end_time = (frame.pts + frame.duration) * self._time_base
            return
        frame.pts = self.frames
        frame.duration = 1
        # In seconds; half a frame is the most that rounding of the source's times can make.
        late = (pts - self._first) * self._like.time_base - self.frames / self._rate
        if abs(late) > 1 / (2 * self._rate):
            raise WriteError(
                f"{self.spec}: frame {self.frames} comes {float(late):+.3f} s off a constant "
                f"rate of {float(self._rate):.3f} frames/s, and {self.format.extension} has no "
                f"other; write .mov, which keeps the times of all frames"
            )

    def _complete_container(self, file: _PartialFile) -> None:
        """Correct properties of the finished file for which FFmpeg's muxer has no option."""
        form = self.format
        if form.container == "matroska":
            self._complete_matroska(file)
        elif form.container == "webp":
            start = (self._first - self._offset) * self._time_base
            webp.set_end(file, round(1000 * self._end_time) - round(1000 * start))
        elif form.container == "mxf":
            aspect = Fraction(self._like.width, self._like.height) * self._like.sample_aspect_ratio
            # Equal pictures give an equal number, so that two runs write the same bytes.
            number = self._packets_hash.digest()
            mxf.complete(file, name=str(self.spec), aspect=aspect, umid_number=number)
        elif form.container == "mov" and form.bit_depth and not form.alpha_only:
            quicktime.set_alpha_mode(file, file.size(), premultiplied=self._premultiplied)

    def _complete_matroska(self, file: _PartialFile) -> None:
        """Write pixel aspect and codec delay; the muxer has no options for them."""
        like = self._like
        header = file.read_at(0, _MATROSKA_HEADER)
        if self._patches_aspect:
            aspect = Fraction(like.width, like.height) * like.sample_aspect_ratio
            patched = matroska.with_display_aspect(header, aspect)
            if patched is None:
                self.notes.append(
                    f"{self.spec}: pixel aspect {like.sample_aspect_ratio} could not be written"
                )
            header = patched or header
        if self._soundtrack is not None:
            header = self._soundtrack.complete_header(header)
        file.write_at(0, header)

    def _set_timecode(self, first_frame: int) -> None:
        if self._like.timecode is None:
            return
        timecode = advance_timecode(self._like.timecode, first_frame, self._like.frame_rate)
        if timecode is None:
            self.notes.append(
                f"{self.spec}: start timecode {self._like.timecode} not written: it does not fit "
                f"{float(self._like.frame_rate):.3f} frames/s"
            )
        else:
            self._stream.metadata["timecode"] = timecode

    def _span(self, first: int) -> Span:
        """Return the part of the sound that belongs to the written frames.

        `start` and `end` count from the first frame of the source, whose pts need not be 0.
        """
        time = first * self._like.time_base
        start = None if self._start is None else time
        end = None if self._end is None else time + self._end - (self._start or 0)
        return Span(start, end, shift=self._offset * self._like.time_base)

    def _picture(self, batch: MatteBatch, index: int) -> tuple[Tensor | None, Tensor]:
        alpha = batch.alpha[index]
        alpha = with_width(alpha, self._width)
        if self.spec.alpha_only:
            return None, alpha[0]
        holds: Literal["nothing", "tags"] = "tags"
        if self.format.container == "webp":
            holds = "nothing"
        color = for_output(batch.color[index], self._like.color, linear_to_video, holds=holds)
        color = with_width(color, self._width)
        if self._premultiplied or self.format.over_black:
            # Formats without alpha are rounded like 16 bits.
            color = premultiply(color, alpha, max_code=2 ** (self.format.bit_depth or 16) - 1)
            if self._backdrop is not None:
                color = color + self._backdrop * (1 - alpha)
        return color, alpha[0]

    def _encode(self, frame: av.VideoFrame) -> None:
        """Encode a frame while the caller prepares the next one.

        Raises the error of the frame before it.
        """
        self._wait()
        self._encoding = self._encoder.submit(lambda: self._mux(self._stream.encode(frame)))

    def _wait(self) -> None:
        if self._encoding is not None:
            self._encoding.result()
            self._encoding = None

    def _mux(self, packets: Iterable[Packet[VideoStream]]) -> None:
        assert self._container is not None
        for packet in packets:
            if self._soundtrack is not None and packet.dts is not None:
                # Sound and picture are interleaved by decoding time, as the muxer expects.
                self._soundtrack.advance(packet.dts * packet.time_base)
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._picture_end = max(self._picture_end, end)
            if self.format.container == "mxf":
                self._packets_hash.update(packet)
            self._container.mux(packet)


def _losses(spec: OutputSpec, like: VideoInfo, *, audio: bool) -> list[str]:
    """Return the losses of a format, one sentence each."""
    losses = []
    if audio and like.audio_streams and not spec.format.audio_codec:
        losses.append(
            f"{spec}: {spec.format.extension} holds no sound; that of the source is left out"
        )
    if like.field_order is not None and not spec.format.keeps_fields:
        losses.append(f"{spec}: cannot say that its frames are interlaced, {like.field_order}")
    return losses


def _writable_tags(color: ColorTags, form: Format, *, pixel_format: str) -> ColorTags:
    is_rgb = not form.alpha_only and not pixel_format.startswith("yuv")
    tags = output_tags(color, alpha_only=form.alpha_only, full_range=form.full_range, is_rgb=is_rgb)
    if form.container == "mov" and tags.transfer in _TRANSFER_OF_601_AND_2020:
        # The curve of BT.709 under other numbers, which ProRes cannot name and would leave out.
        tags = replace(tags, transfer=1)
    if form.container == "mov" and is_rgb:
        # Without a matrix the container would leave out all three; 0 is that of RGB.
        tags = replace(tags, matrix=0)
    return tags


_AS_ENCODED = {
    "h264": "h264_mp4toannexb,filter_units=remove_types=7-8",
    "hevc": "hevc_mp4toannexb,filter_units=remove_types=32-34",
}
"""Bitstream filters to undo the changes of the MP4 and MOV muxers to encoder packets."""


def _as_encoded(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    stream = container.streams.video[0]
    chain = _AS_ENCODED.get(stream.codec_context.name)
    # An empty packet marks the end of the stream.
    packets = (packet for packet in container.demux(stream) if packet.size)
    if chain is None:
        yield from packets
        return
    changed = BitStreamFilterContext(chain, stream)
    for packet in packets:
        yield from cast("list[Packet[VideoStream]]", changed.filter(packet))


class _PartialFile:
    """A new file behind FFmpeg, so that no failed write goes unnoticed.

    If FFmpeg opened the file itself, it would drop the error of its last write, on closing.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - closed by close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed; PyAV then does not complete an abandoned output."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        try:
            rest = memoryview(data)
            # An unbuffered write may take only part of the data.
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # FFmpeg replaces the reason by one of its own; the first error is kept for the message.
            self.error = self.error or error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def size(self) -> int:
        """Return the length of the file in bytes."""
        return self._file.seek(0, os.SEEK_END)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes of the file."""
        self._file.seek(offset)
        return self._file.read(size)

    def write_at(self, offset: int, data: bytes) -> None:
        """Replace bytes of the file."""
        self.seek(offset)
        self.write(data)

    def complete(self) -> None:
        """Flush the file to the disk and close it; raise the first error of any write."""
        if self.error is not None:
            raise self.error
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        self._file.close()
