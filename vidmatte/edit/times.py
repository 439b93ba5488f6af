"""Times of timelines as exact fractions.

OpenTimelineIO holds a time as a number of frames and a rate, both floating point. Rates are taken
back to what they stand for (23.976 is 24000/1001), so that no frame is lost to rounding.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from vidmatte.media.timecode import nominal_rate

_FINEST = 1000
"""Largest denominator of a part of a frame: files give frames, or seconds of few digits."""


def exact_rate(rate: float) -> Fraction:
    """Return the frames per second that a rate of a timeline stands for."""
    given = Fraction(rate).limit_denominator(1_000_000)
    return nominal_rate(given) or given


def frames_at(time: Any, rate: Fraction) -> Fraction:
    """Return a RationalTime as frames at a rate.

    Times at 24 and 23.976 are the same frames: editors write both for one clip, and count frames.
    Other rates are converted by seconds.
    """
    value = Fraction(time.value).limit_denominator(_FINEST)
    own = exact_rate(time.rate)
    if round(own) == round(rate):
        return value
    return value / own * rate


def rational_time(frames: Fraction | int, rate: Fraction) -> Any:
    """Return frames at a rate as a RationalTime."""
    from opentimelineio.opentime import RationalTime

    return RationalTime(float(frames), float(rate))


def time_range(start: Fraction | int, length: Fraction | int, rate: Fraction) -> Any:
    """Return frames at a rate as a TimeRange."""
    from opentimelineio.opentime import TimeRange

    return TimeRange(rational_time(start, rate), rational_time(length, rate))


def simplest_fraction(value: float, tolerance: float) -> Fraction:
    """Return the fraction with the least denominator within a tolerance of a value."""
    exact = Fraction(value)
    for denominator in range(1, 1000):
        found = Fraction(round(exact * denominator), denominator)
        if abs(found - exact) <= tolerance:
            return found
    return exact.limit_denominator(10_000)
