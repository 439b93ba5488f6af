"""Movie files, opened so that only the file itself is read and its header is not trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
from av import logging
from av.bitstream import BitStreamFilterContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vidmatte.errors import ReadError
from vidmatte.media.limits import MAX_PIXELS, check_size

_SELF_CONTAINED = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mxf,flv,asf,ogg,nut,ivf,gxf,dv,wtv,rm,"
    "swf,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,dnxhd,dirac,avs2,avs3,cavsvideo,"
    "yuv4mpegpipe,gif,apng,cine"
)
"""FFmpeg's names of the supported containers.

Playlists, concat scripts, session descriptions and manifests name other files or addresses to read
from, whatever their own file name is; they are not among them."""
MATROSKA = "matroska,webm"
"""FFmpeg's name of the container of .mkv and .webm."""
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _SELF_CONTAINED,
    "max_pixels": str(MAX_PIXELS),
}
_OPEN_SECONDS = 60.0
_CENTER = 2
_CENTERED = ("mjpeg", "mpeg1video")
"""Codecs with chroma between the samples of luma; the pixel format does not tell."""
_TRACED = ("h264", "hevc", "vvc", "av1")
_DECLARED = re.compile(
    r"(?P<name>chroma_sample_loc_type_top_field|chroma_sample_position)\s.*= (?P<value>\d+)"
)
_AV1_COLOCATED, _AV1_TOP_LEFT = 2, 3
"""chroma_sample_position of AV1 (6.4.2), and the AVChromaLocation of it."""


def open_container(source: str | Path, hardware: HWAccel | None = None) -> InputContainer:
    """Open a movie, to be decoded by `hardware` if there is some.

    Raises ReadError if it is none, would read other files, or the hardware refuses it.
    """
    if not Path(source).is_file():
        raise ReadError(
            f"{source}: is no regular file (a pipe or a device?); copy it to a file first"
        )
    try:
        return av.open(
            f"file:{source}", options=_OPTIONS, timeout=(_OPEN_SECONDS, None), hwaccel=hardware
        )
    except av.ArgumentError as error:
        # Refused by the whitelist.
        raise ReadError(
            f"{source}: is not a supported movie: it is a playlist, script or manifest, which "
            f"would read other files, or of an unusual kind; give the movie itself, as .mov, .mp4, "
            f".mkv, .mxf, .avi or .ts"
        ) from error
    except (av.ExitError, TimeoutError) as error:
        raise ReadError(
            f"{source}: could not be opened within {_OPEN_SECONDS:.0f} s; is the disk there?"
        ) from error
    except av.FFmpegError as error:
        raise ReadError(
            f"{source}: cannot be opened as a movie ({error_message(error)}); is it complete?"
        ) from error
    except (
        UnicodeDecodeError,
        ValueError,
        OverflowError,
    ) as error:  # PyAV on names and numbers of damaged headers
        raise ReadError(f"{source}: has a damaged header ({error}); copy it again") from error


def video_stream(
    source: str | Path, container: InputContainer, number: int | None = None
) -> VideoStream:
    """Return the stream with the moving pictures, its declared sizes checked.

    It is the default one, or the largest if none or several are; a stream of a single frame is
    a thumbnail if there are others. Attached pictures do not count.

    Args:
        source: Path, for messages.
        container: The opened movie.
        number: Number of the stream, counted from 0 among all streams of the file; None chooses.

    Raises:
        ReadError: If there is no such stream, or it cannot be decoded.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
        raise ReadError(f"{source}: has no picture, only {kinds}; give a file with a video stream")
    stream = _main_stream(streams) if number is None else _numbered(source, streams, number)
    if stream.codec_context is None:
        raise ReadError(
            f"{source}: its video has a codec that this FFmpeg cannot decode; "
            f"convert it, to ProRes say"
        )
    if stream.width or stream.height:  # 0x0 is a stream whose header lies among its packets
        check_size(source, stream.width, stream.height)
    size = Path(source).stat().st_size
    if stream.frames > size:
        raise ReadError(
            f"{source}: says that it has {stream.frames:,} frames in {size:,} bytes; it is damaged"
        )
    stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MAX_PIXELS)}
    return stream


def _main_stream(streams: list[VideoStream]) -> VideoStream:
    moving = [stream for stream in streams if stream.frames != 1] or streams
    default = [stream for stream in moving if stream.disposition & stream.disposition.default]
    # `max` returns the first of those of equal size.
    return max(default or moving, key=_pixels)


def _pixels(stream: VideoStream) -> int:
    return int(getattr(stream, "width", 0) * getattr(stream, "height", 0))


def _numbered(source: str | Path, streams: list[VideoStream], number: int) -> VideoStream:
    for stream in streams:
        if stream.index == number:
            return stream
    found = ", ".join(_described(stream) for stream in streams)
    raise ReadError(f"{source}: has no video stream {number}; its video streams are {found}")


def _described(stream: VideoStream) -> str:
    # PyAV has no sizes of streams with a codec unknown to FFmpeg.
    width = getattr(stream, "width", 0)
    height = getattr(stream, "height", 0)
    return f"{stream.index} ({width}x{height})" if width else f"{stream.index} (unknown codec)"


def describe_choice(container: InputContainer, chosen: VideoStream) -> str | None:
    """Return a note on the chosen one of several video streams, None if there is one."""
    others = [
        stream
        for stream in container.streams.video
        if stream.index != chosen.index and not _is_cover(stream)
    ]
    if not others:
        return None
    found = ", ".join(_described(stream) for stream in others)
    return (
        f"the source has several video streams: {_described(chosen)} is read, not {found}; "
        f"--stream chooses"
    )


def chroma_location(stream: VideoStream) -> int:
    """Return the position of chroma by the codec and the headers of a stream, as AVChromaLocation.

    0 if they have none, or the usual one: left. Call it before packets are read.
    """
    codec = stream.codec_context.codec.canonical_name
    if codec in _CENTERED:
        return _CENTER
    if codec not in _TRACED:
        return 0
    # PyAV does not hand out the field of the frame; FFmpeg's parser tells it in its log.
    level = logging.get_level()
    logging.set_level(logging.INFO)
    try:
        with logging.Capture(local=True) as lines:
            BitStreamFilterContext("trace_headers", stream)
    except (av.FFmpegError, ValueError):
        return 0  # a damaged header: the decoder will report it
    finally:
        logging.set_level(level)
    for _, _, line in lines:
        found = _DECLARED.search(line)
        if found is None:
            continue
        value = int(found["value"])
        if found["name"] == "chroma_sample_position":
            return _AV1_TOP_LEFT if value == _AV1_COLOCATED else 0
        return value + 1 if 0 < value < 6 else 0
    return 0


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of a stream to the end of the file, and an empty one behind them.

    In containers without a header, streams may begin anywhere. PyAV fails at packets of streams
    that were not there when the file was opened, and continues behind them if it is called again.
    """
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            continue
        return


def describe_dropped_streams(container: InputContainer, chosen: VideoStream) -> tuple[str, ...]:
    """Return a sentence for each kind of stream missing in all outputs.

    Sound and timecode are kept; for other pictures see `describe_choice`.
    """
    counts: dict[str, int] = {}
    for stream in container.streams:
        is_kept = stream.type in ("audio", "video") or "timecode" in stream.metadata
        if not is_kept:
            counts[stream.type] = counts.get(stream.type, 0) + 1
    choice = describe_choice(container, chosen)
    dropped = []
    for kind, count in sorted(counts.items()):
        streams, are = ("streams", "are") if count > 1 else ("stream", "is")
        dropped.append(f"{count} {kind} {streams} of the source {are} not carried over")
    return (*dropped,) if choice is None else (choice, *dropped)


def error_message(error: av.FFmpegError) -> str:
    """Return the message of an FFmpeg error."""
    return str(error.strerror or error)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & stream.disposition.attached_pic)
