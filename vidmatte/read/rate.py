"""Frame rates as people write them."""

from __future__ import annotations

from fractions import Fraction

from vidmatte.errors import OptionError


def parse_rate(text: str) -> Fraction:
    """A frame rate such as 25, 23.976 (which means 24000/1001) or 24000/1001. Raises OptionError."""
    try:
        rate = Fraction(text).limit_denominator(1_000_000)
    except (ValueError, ZeroDivisionError) as error:
        raise OptionError(
            f"frame rate {text!r} is not valid: write 25, 23.976 or 24000/1001"
        ) from error
    if not 1 <= rate <= 1000:
        raise OptionError(f"frame rate {text} is not valid: it must be 1 to 1000 frames per second")
    if rate.denominator in (1, 1001):
        return rate
    # 23.976 and its kind mean n * 1000 / 1001.
    ntsc = Fraction(round(rate) * 1000, 1001)
    return ntsc if abs(rate - ntsc) < Fraction(1, 1000) else rate
