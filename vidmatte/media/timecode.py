"""SMPTE timecode arithmetic."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def advance_timecode(timecode: str, frames: int, frame_rate: Fraction) -> str | None:
    """Return the timecode some frames later, wrapping at 24 hours; None if it is not exact.

    `hh:mm:ss:ff`, and `hh:mm:ss;ff` for drop-frame counting, in which numbers 0 and 1 (0 to 3 at
    59.94) are left out in every minute that is not a multiple of ten (SMPTE ST 12-1).

    Args:
        timecode: Text of the first frame.
        frames: Frames to go on.
        frame_rate: Frames per second; near a whole number or 1000/1001 of one.

    Returns:
        The text. None for another notation, a frame number beyond the rate, another rate, and
        drop-frame counting at rates other than multiples of 29.97.
    """
    counted = _count(timecode, frame_rate)
    if counted is None:
        return None
    count, per_second, dropped = counted
    return _text(count + frames, per_second, dropped)


def frames_from_midnight(timecode: str, frame_rate: Fraction) -> int | None:
    """Return the number of frames from 00:00:00:00 to a timecode.

    None as for `advance_timecode`.
    """
    counted = _count(timecode, frame_rate)
    return None if counted is None else counted[0]


def _count(timecode: str, frame_rate: Fraction) -> tuple[int, int, int] | None:
    """Return frames from midnight, frame numbers in a second, and numbers dropped in a minute."""
    found = _TIMECODE.fullmatch(timecode.strip())
    nominal = nominal_rate(frame_rate)
    if found is None or nominal is None:
        return None
    hours, minutes, seconds, number = (int(found[group]) for group in (1, 2, 3, 5))
    drop = found[4] != ":"
    per_second = round(nominal)
    if number >= per_second or (drop and (nominal.denominator == 1 or per_second % 30)):
        return None
    dropped = per_second // 15 if drop else 0
    total_minutes = 60 * hours + minutes
    count = (
        (60 * total_minutes + seconds) * per_second
        + number
        - dropped * (total_minutes - total_minutes // 10)
    )
    return count, per_second, dropped


def _text(count: int, per_second: int, dropped: int) -> str:
    """Return the timecode of a frame count from midnight."""
    per_minute = 60 * per_second - dropped
    per_ten = 10 * per_minute + dropped
    tens, rest = divmod(count % (144 * per_ten), per_ten)
    if (
        rest >= per_minute + dropped
    ):  # past the first minute of the ten, which is the one that drops no numbers
        rest += dropped * ((rest - dropped) // per_minute)
    whole_seconds, number = divmod(rest, per_second)
    minutes, seconds = divmod(whole_seconds, 60)
    hours, minutes = divmod(10 * tens + minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if dropped else ':'}{number:02}"


def nominal_rate(frame_rate: Fraction) -> Fraction | None:
    """Return the nominal rate of a measured one: a whole number, or 1000/1001 of one.

    2997/100 stands for 30000/1001. None if it is near neither.
    """
    for rate in (
        Fraction(round(frame_rate)),
        Fraction(round(frame_rate * Fraction(1001, 1000)) * 1000, 1001),
    ):
        if rate and abs(frame_rate / rate - 1) < Fraction(1, 5000):
            return rate
    return None
