"""What the headers of a movie say, where it is plausible."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.media.container import MATROSKA
from vidmatte.read.orientation import UPRIGHT, Orientation, from_display_matrix

if TYPE_CHECKING:
    from typing_extensions import Buffer

_RATES = (Fraction(1, 1000), Fraction(1000))
_ASPECTS = (Fraction(1, 10), Fraction(10))


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the frames per second of a stream; 25 if its headers hold 0 or nonsense."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and _RATES[0] <= rate <= _RATES[1]:
            return Fraction(rate)
    return Fraction(25)


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return the width of a stream's pixels over their height; 1 if its headers hold nonsense."""
    aspect = stream.sample_aspect_ratio
    if aspect is not None and _ASPECTS[0] <= aspect <= _ASPECTS[1]:
        return Fraction(aspect)
    return Fraction(1)


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return how a decoded frame is to be turned, by its display matrix."""
    # Typed as text by PyAV, but a buffer.
    matrix = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
    return UPRIGHT if matrix is None else from_display_matrix(bytes(matrix))


def earliest_start(container: InputContainer, picture: Fraction) -> Fraction:
    """Return the start in seconds of picture or sound, the earlier one, never below 0.

    Players count from there. Sound from before zero is the priming of its codec, hidden by
    containers themselves.
    """
    starts = [picture]
    for stream in container.streams.audio:
        if stream.start_time is not None and stream.time_base:
            starts.append(stream.start_time * stream.time_base)
    return max(Fraction(0), min(starts))


def promised_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the end of the picture in seconds by the header.

    None if the header has only a time for the whole file.
    """
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])
    # With one stream, the end of the file is that of the picture.
    if container.format.name == MATROSKA and len(container.streams) == 1 and container.duration:
        return Fraction(container.duration, av.time_base)
    return None


def frames_in_header(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the number of frames by the header, or by its duration; None if it has neither."""
    if stream.frames:
        return int(stream.frames)
    rate = stream.average_rate
    if container.duration and rate:
        return round(container.duration / av.time_base * rate)
    return None
