"""Parse positions in a clip: frame number, index, seconds, time or timecode."""

from __future__ import annotations

import re
from fractions import Fraction

from vidmatte.errors import OptionError
from vidmatte.media.timecode import frames_from_midnight
from vidmatte.read.video import Video

_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


_INDEX = re.compile(r"index:(\d+)")


def parse_position(position: int | str, video: Video) -> int:
    """Return the frame index of a position.

    A position is a frame number (`120`; that of the file in a sequence), an index from the first
    frame (`index:0`), seconds (`5s`, `5.25`), a time (`00:00:05.5`) or a timecode (`00:00:05:12`).
    Times count from the first frame and select the first frame shown at or after
    them. Timecode is that of the clip, or counts from 00:00:00:00 at the first frame if it has
    none.

    Raises:
        OptionError: If the text is none of these, or it lies before the clip or does not fit its
            rate.
    """
    text = str(position).strip()
    clock = _CLOCK.fullmatch(text)
    if text.isdecimal():
        if int(text) < video.first_number:
            raise video.no_frame(int(text))
        return int(text) - video.first_number
    if index := _INDEX.fullmatch(text):
        return int(index[1])
    if clock:
        return _first_frame_at(
            int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3]), video
        )
    if re.fullmatch(r"\d+(\.\d+)?s?", text):
        return _first_frame_at(Fraction(text.removesuffix("s")), video)
    count = frames_from_midnight(text, video.info.frame_rate)
    if count is None:
        raise OptionError(
            f"position {text!r} is not valid: give a frame (120), an index from the first frame "
            f"(index:0), seconds (5.0 or 5s), a time (00:00:05.5) or timecode at the clip's rate "
            f"(00:00:05:12)"
        )
    start = frames_from_midnight(video.info.timecode or "00:00:00:00", video.info.frame_rate) or 0
    if count < start:
        raise OptionError(
            f"position {text} is before the clip: its timecode begins at {video.info.timecode}"
        )
    return count - start


def _first_frame_at(time: Fraction, video: Video) -> int:
    # Binary search: times rise with the index.
    low = 0
    high = video.count_frames()
    while low < high:
        middle = (low + high) // 2
        if video.seconds_of(middle) < time:
            low = middle + 1
        else:
            high = middle
    return low
