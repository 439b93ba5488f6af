"""Decode a movie from a frame on, by the seeking of its container."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.errors import ReadError
from vidmatte.media.container import packets_of


def seek(
    container: InputContainer, stream: VideoStream, pts: int, time_base: Fraction
) -> Iterator[av.VideoFrame] | None:
    """Return frames from the one at `pts` on; None if the container cannot seek there.

    Seeks further back as long as the first decoded frame lies behind `pts`, as with open groups.
    Matroska cannot seek to times around zero.
    """
    back = Fraction(0)
    while True:
        target = pts - int(back / time_base)
        try:
            container.seek(target, stream=stream, backward=True)
        except av.FFmpegError:
            return None
        frames = _decoded_up_to(container, stream, pts)
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts <= pts:
            break
        # An hour back and still too late: the index is wrong.
        if target < pts - int(3600 / time_base):
            raise ReadError(
                f"{container.name}: cannot seek to the frame at {float(pts * time_base):.3f} s"
            )
        # One second, then twice as far each time.
        back = back * 2 or Fraction(1)
    return (frame for frame in chain([first], frames) if frame.pts is not None and frame.pts >= pts)


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stream from where its container stands."""
    for packet in packets_of(container, stream):
        yield from packet.decode()


def _decoded_up_to(
    container: InputContainer, stream: VideoStream, pts: int
) -> Iterator[av.VideoFrame]:
    """Yield decoded frames; before `pts` only reference frames of H.264.

    That is up to twice as fast.
    """
    codec = stream.codec_context
    for packet in packets_of(container, stream):
        if codec.name == "h264":
            is_passed = packet.pts is not None and packet.pts < pts
            codec.skip_frame = "NONREF" if is_passed else "DEFAULT"
        yield from packet.decode()
