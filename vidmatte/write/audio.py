"""Carry the sound of the source into an output, cut and shifted like the picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from vidmatte.errors import ReadError, WriteError
from vidmatte.media.container import open_container
from vidmatte.write import matroska
from vidmatte.write.formats import Format

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_QUICKTIME_LANGUAGES = {
    "deu": "ger",
    "nld": "dut",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "sqi": "alb",
    "mkd": "mac",
}
"""Languages in FFmpeg's QuickTime list only under their other ISO 639-2 name."""

_SEEK_MARGIN = 2
"""Seconds before the cut to start reading: sound may lie before its picture in the file."""


@dataclass(frozen=True)
class Span:
    """The part of the source in an output, in seconds on the clock of the source's pts."""

    start: Fraction | None
    """Earlier sound is left out; None for no cut."""
    end: Fraction | None
    shift: Fraction
    """Subtracted from every time."""


class Soundtrack:
    """Mux all audio streams of a source into a container, piece by piece as the picture advances.

    Copied streams are cut between packets. If the container can hide the start of a packet (mov,
    mp4, and AAC in Matroska), the packet across the first frame is kept; else it is left out, or it
    would push the picture back. Re-encoded streams are cut between samples.
    """

    def __init__(
        self, source: str, container: OutputContainer, *, form: Format, span: Span
    ) -> None:
        self.notes: list[str] = []
        self._source = source
        self._container = container
        self._span = span
        with self._reading():
            self._input = open_container(source)
        self._streams = [stream for stream in self._input.streams.audio if _is_known(stream)]
        if lost := len(self._input.streams.audio) - len(self._streams):
            self.notes.append(f"{lost} audio streams of unknown codecs left out")
        self._tracks: dict[int, _Track] = {
            stream.index: self._track(stream, form) for stream in self._streams
        }
        for stream in self._input.streams:
            if stream.index not in self._tracks:
                # Tells the demuxer to skip packets of picture and data, the bulk of the file.
                stream.discard = av.stream.Discard.all
        self._delayed = [
            track
            for track in self._tracks.values()
            if isinstance(track, _Copied) and track.is_delayed
        ]
        self._packets = self._demux()
        # One packet is read ahead, to know whether its time has come.
        self._next = next(self._packets, None)

    def advance(self, until: Fraction | None) -> None:
        """Mux the sound up to a time of the output in seconds, or to the end for None."""
        while self._next is not None and (until is None or self._time_of(self._next) < until):
            with self._reading():
                pieces = self._tracks[self._next.stream.index].feed(self._next)
            for piece in pieces:
                self._container.mux(piece)
            self._next = next(self._packets, None)
        if self._next is None:
            # Once only: afterwards there are no tracks left to flush.
            for track in self._tracks.values():
                for piece in track.flush():
                    self._container.mux(piece)
            self._tracks = {}

    def finish(self, until: Fraction | None) -> None:
        """Mux the rest of the sound, up to a time of the output in seconds; None = to the end."""
        self.advance(until)
        # Forget the packet read ahead: it lies behind the cut.
        self._next = None
        self.advance(None)

    def complete_header(self, header: bytes) -> bytes:
        """Return the first bytes of a Matroska file with the codec delays of its sound."""
        for track in self._delayed:
            header = track.complete_header(header)
        return header

    def close(self) -> None:
        """Close the source."""
        self._input.close()

    def _track(self, stream: AudioStream, form: Format) -> _Track:
        codec = stream.codec_context.codec.canonical_name
        track: _Track | None = None
        if _is_copied(codec, form):
            with contextlib.suppress(
                ValueError
            ):  # PyAV's word for a codec that the container does not know
                track = _Copied(stream, self._container, self._span.shift, form)
        if track is None:
            track = _Encoded(stream, self._container, self._span.shift, form.audio_codec)
            self.notes.append(
                f"sound converted from {codec} to {form.audio_codec}, "
                f"which {form.container} can hold"
            )
        track.set_title(stream.metadata.get("title", ""))
        if "language" in stream.metadata:
            language = stream.metadata["language"]
            names = _QUICKTIME_LANGUAGES if form.container == "mov" else {}
            track.output.metadata["language"] = names.get(language, language)
        return track

    def _demux(self) -> Iterator[Packet[AudioStream]]:
        with self._reading():
            start = self._span.start
            if start is not None and start > _SEEK_MARGIN:
                # A source that cannot seek is read from its beginning, with the same result.
                with contextlib.suppress(av.FFmpegError):
                    self._input.seek(int((start - _SEEK_MARGIN) * av.time_base))
            # Packets of the streams alternate, so reading ends when each has passed the end.
            ended: set[int] = set()
            # demux() without arguments would read all streams.
            packets = self._input.demux(*self._streams) if self._streams else iter(())
            for packet in cast("Iterator[Packet[AudioStream]]", packets):
                # Flushing packets and damaged ones have no times.
                if packet.dts is None or packet.pts is None or packet.is_corrupt:
                    continue
                if self._span.end is not None and packet.pts * packet.time_base >= self._span.end:
                    ended.add(packet.stream.index)
                    if len(ended) == len(self._streams):
                        return
                elif self._is_wanted(packet):
                    yield packet

    def _is_wanted(self, packet: Packet[AudioStream]) -> bool:
        assert packet.pts is not None
        start = packet.pts * packet.time_base
        track = self._tracks[packet.stream.index]
        # A packet across the cut is kept only if the container can hide its beginning.
        if not track.hides_start and start < self._span.shift:
            return False
        end = start + (packet.duration or 0) * packet.time_base
        return self._span.start is None or end > self._span.start - track.preroll

    def _time_of(self, packet: Packet[AudioStream]) -> Fraction:
        assert packet.dts is not None
        return packet.dts * packet.time_base - self._span.shift

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, ReadError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise WriteError(
                f"{self._source}: its sound cannot be read ({reason}); "
                f"repair the file, or remove its sound"
            ) from error


def _is_known(stream: AudioStream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _is_copied(codec: str, form: Format) -> bool:
    # Matroska takes every codec; `_track` finds out by trying.
    if form.copied_audio is None:
        return True
    return any(
        codec == known or (known.endswith("_") and codec.startswith(known))
        for known in form.copied_audio
    )


class _Copied:
    """Copies the packets of an audio stream.

    Matroska has no negative times: sound from before the picture is moved to 0, and the codec delay
    of the track holds the difference.
    """

    preroll = Fraction(0)

    def __init__(
        self, stream: AudioStream, container: OutputContainer, shift: Fraction, form: Format
    ) -> None:
        self.output = container.add_stream_from_template(stream)
        codec = stream.codec_context
        has_delay = form.container == "matroska" and codec.codec.canonical_name == "aac"
        # FFmpeg itself writes a delay that the source declares.
        self.is_delayed = has_delay and not codec.delay
        self.hides_start = has_delay or form.container in ("mov", "mp4")
        self._shift = shift
        self._delay: Fraction | None = None
        self._title = self._placeholder = ""
        self._last: int | None = None

    def set_title(self, title: str) -> None:
        """Name the output; called before anything is written."""
        self._title = title
        if self.is_delayed:
            placeholder = matroska.delay_placeholder(self.output.index, title)
            self.is_delayed = self.hides_start = placeholder is not None
            title = self._placeholder = placeholder or title
        if title:
            self.output.metadata["title"] = title

    def complete_header(self, header: bytes) -> bytes:
        """Return the header with the delay and the title for the placeholder."""
        completed = matroska.with_codec_delay(
            header, self._placeholder, self._title, self._delay or Fraction(0)
        )
        assert completed is not None, "FFmpeg laid the tracks out in another way"
        return completed

    def feed(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        assert packet.pts is not None
        assert packet.dts is not None
        if self._delay is None:
            # The first packet decides the delay of the track: by how much it begins before the
            # picture.
            before = self._shift - packet.pts * packet.time_base
            self._delay = max(Fraction(0), before) if self.is_delayed else Fraction(0)
        units = round((self._shift - self._delay) / packet.time_base)
        time = packet.pts - units
        if self._last is not None and time <= self._last:
            time = self._last + 1  # recordings with repeated times; containers refuse them
        self._last = packet.pts = packet.dts = time
        packet.stream = self.output
        return [packet]

    def flush(self) -> list[Packet[AudioStream]]:
        return []


class _Encoded:
    """Re-encodes an audio stream, from the sample at time 0 on."""

    hides_start = True
    preroll = Fraction(1, 5)
    """Seconds to decode before the cut: AAC and others need the previous packet to decode one."""

    def __init__(
        self, stream: AudioStream, container: OutputContainer, shift: Fraction, codec: str
    ) -> None:
        source = stream.codec_context
        layout = _LAYOUTS.get(source.channels, "stereo")
        # libopus takes 48 kHz (or fractions of it) only.
        rate = 48000 if codec == "libopus" else source.sample_rate
        self.output = cast(AudioStream, container.add_stream(codec, rate=rate))
        context = self.output.codec_context
        context.layout = layout
        context.time_base = Fraction(1, rate)
        # PCM has no bit rate to choose.
        if codec != "pcm_s24le":
            context.bit_rate = 96000 * source.channels
        context.open()
        self._resampler = av.AudioResampler(
            # PCM encoders take any number of samples and report a frame size of 0.
            context.format,
            layout,
            rate,
            context.frame_size or 1024,
        )
        self._shift = shift

    def feed(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        return [piece for frame in packet.decode() for piece in self._encode(frame)]

    def flush(self) -> list[Packet[AudioStream]]:
        # None flushes the resampler first, then the encoder.
        return [*self._encode(None), *self.output.encode(None)]

    def set_title(self, title: str) -> None:
        """Name the output; called before anything is written."""
        if title:
            self.output.metadata["title"] = title

    def _encode(self, frame: av.AudioFrame | None) -> list[Packet[AudioStream]]:
        if frame is not None and frame.pts is not None and frame.time_base:
            frame = _from_zero(frame, round(self._shift * frame.sample_rate))
            if frame is None:
                return []
        return [
            piece
            for resampled in self._resampler.resample(frame)
            for piece in self.output.encode(resampled)
        ]


def _from_zero(frame: av.AudioFrame, shift: int) -> av.AudioFrame | None:
    """Return a frame shifted back without its samples before 0, None if nothing is left."""
    assert frame.pts is not None
    assert frame.time_base is not None
    start = round(frame.pts * frame.time_base * frame.sample_rate) - shift
    if start + frame.samples <= 0:
        return None
    if start < 0:
        # Packed formats interleave the channels in one row.
        channels = 1 if frame.format.is_planar else frame.layout.nb_channels
        kept = cast(
            "npt.NDArray[np.float32]",
            np.ascontiguousarray(frame.to_ndarray()[:, -start * channels :]),
        )
        rate = frame.sample_rate
        frame = av.AudioFrame.from_ndarray(kept, format=frame.format.name, layout=frame.layout.name)
        frame.sample_rate, start = rate, 0
    frame.pts, frame.time_base = start, Fraction(1, frame.sample_rate)
    return frame


_Track: TypeAlias = _Copied | _Encoded
