"""CMX 3600 edit decision lists: what their adapter needs to be told, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte.edit.times import frames_at, simplest_fraction, time_range
from vidmatte.errors import ReadError
from vidmatte.media.timecode import advance_timecode, frames_from_midnight, nominal_rate

_EVENT = re.compile(r"^\s*\d+\s")
_TIME = re.compile(r"\b\d{2}:\d{2}:\d{2}[:;.]\d{2}\b")
_SPEED = re.compile(r"^\s*M2\s+\S+\s+(-?[\d.]+)")
_TO_CLIP = re.compile(r"^TO CLIP:\s*(.+)$")


def prepared_edl(text: str, rate: Fraction, path: Path) -> str:
    """Return an EDL that its adapter reads rightly.

    Times after `FCM: DROP FRAME` are written with a semicolon. Changes of speed are kept even if
    the source range of the event is as long as its place, which the adapter takes for no change.

    Raises:
        ReadError: For drop-frame times at a rate that has none, and times that are none.
    """
    lines: list[str] = []
    drop = False
    event: int | None = None
    for line in text.splitlines():
        mode = line.strip().upper()
        if mode.startswith("FCM"):
            drop = "NON" not in mode
            continue
        if _EVENT.match(line):
            line = _with_separators(line, drop, rate, path)
            event = len(lines)
        elif (found := _SPEED.match(line)) and event is not None:
            lines[event] = _with_speed(lines[event], float(found[1]), rate)
            # The adapter knows no semicolon here, and does not use the time.
            line = line.replace(";", ":")
        # Remarks ahead of the first event are an error to the adapter.
        if line.strip() and (event is not None or mode.startswith("TITLE")):
            lines.append(line)
    if event is None:
        raise ReadError(f"{path}: holds no event; give an EDL in the format CMX 3600")
    return "\n".join(lines) + "\n"


def _with_separators(line: str, drop: bool, rate: Fraction, path: Path) -> str:
    def corrected(found: re.Match[str]) -> str:
        time = found[0]
        is_drop = drop or time[8] != ":"
        text = f"{time[:8]}{';' if is_drop else ':'}{time[9:]}"
        if frames_from_midnight(text, rate) is None:
            raise ReadError(
                f"{path}: the time {text} does not exist at {float(rate):.3f} frames/s; give the "
                f"rate of the EDL with --fps"
            )
        return text

    return _TIME.sub(corrected, line)


def _with_speed(line: str, speed: float, rate: Fraction) -> str:
    """Return an event whose source range is as long as the speed makes it."""
    times = _TIME.findall(line)
    if len(times) != 4:
        return line
    source, _, record_in, record_out = (frames_from_midnight(time, rate) or 0 for time in times)
    length = record_out - record_in
    # Only a difference tells the adapter that there is a change of speed.
    shown = round(abs(speed) / float(rate) * length)
    if abs(speed - float(rate)) < 0.05 or shown == length:
        return line
    end = advance_timecode(times[0], shown, rate)
    head, _, rest = line.partition(times[0])
    assert end is not None
    assert source >= 0
    return f"{head}{times[0]}{rest.replace(times[1], end, 1)}"


def with_record_times(timeline: Any, rate: Fraction) -> Any:
    """Return the timeline of an EDL with its beginning as start time, and with the right media.

    The adapter keeps the record times of a track as a negative start, and gives both sides of a
    dissolve the media of the first.
    """
    import opentimelineio as otio

    begins = [_record_start(track, rate) for track in timeline.tracks]
    first = min(begins, default=Fraction(0))
    timeline.global_start_time = time_range(first, 0, rate).start_time
    for track, begin in zip(timeline.tracks, begins, strict=True):
        track.source_range = None
        for index, item in enumerate(track):
            _correct_speed(item, rate)
            if index and track[index - 1].schema_name() == "Transition":
                _correct_media(item)
        if begin > first:
            track.insert(0, otio.schema.Gap(source_range=time_range(0, begin - first, rate)))
    return timeline


def _record_start(track: Any, rate: Fraction) -> Fraction:
    if track.source_range is None:
        return Fraction(0)
    return -frames_at(track.source_range.start_time, rate)


def _correct_speed(item: Any, rate: Fraction) -> None:
    """Take the speed of an event back to what its one decimal stands for: 47.9 is 200 %."""
    import opentimelineio as otio

    for effect in getattr(item, "effects", ()):
        if isinstance(effect, otio.schema.LinearTimeWarp):
            exact = simplest_fraction(effect.time_scalar, 0.06 / float(rate))
            effect.time_scalar = float(exact)


def _correct_media(clip: Any) -> None:
    import opentimelineio as otio

    comments = clip.metadata.get("cmx_3600", {}).get("comments", ())
    named = [found[1] for text in comments if (found := _TO_CLIP.match(str(text)))]
    if named:
        clip.media_reference = otio.schema.ExternalReference(target_url=named[0])
    else:
        clip.media_reference = otio.schema.MissingReference()


@dataclass(frozen=True)
class Event:
    """One event of an EDL to be written."""

    name: str
    file: str
    """Path of its media."""
    source: tuple[str, str]
    """Timecode of the first frame, and of the one after the last."""
    record: tuple[int, int]
    """Frames from midnight on the timeline, the end exclusive."""
    dissolve: int = 0
    """Frames over which the event before goes over into this one."""
    speed: Fraction = Fraction(1)


def write_edl(title: str, events: Sequence[Event], rate: Fraction, *, drop: bool) -> str:
    """Return the text of an EDL with one video track."""
    lines = [f"TITLE: {title}", f"FCM: {'DROP FRAME' if drop else 'NON-DROP FRAME'}", ""]
    before: Event | None = None
    for number, event in enumerate(events, 1):
        lines += _lines_of(number, event, before, rate, drop)
        before = event
    return "\n".join(lines) + "\n"


def _lines_of(
    number: int, event: Event, before: Event | None, rate: Fraction, drop: bool
) -> Iterator[str]:
    record = [_timecode(frame, rate, drop) for frame in event.record]
    head = f"{number:03d}  AX       V    "
    if event.dissolve and before is not None:
        # The first line is the end of the event before, of no length.
        end = _timecode(before.record[1], rate, drop)
        yield f"{head} C        {before.source[1]} {before.source[1]} {end} {end}"
        kind = f" D    {event.dissolve:03d}"
        yield f"{head}{kind} {event.source[0]} {event.source[1]} {record[0]} {record[1]}"
        yield f"* FROM CLIP NAME: {before.name}"
        yield f"* TO CLIP NAME: {event.name}"
        yield f"* TO CLIP: {event.file}"
    else:
        yield f"{head} C        {event.source[0]} {event.source[1]} {record[0]} {record[1]}"
        yield f"* FROM CLIP NAME: {event.name}"
        yield f"* FROM CLIP: {event.file}"
    if event.speed != 1:
        yield f"M2   AX       {float(rate * event.speed):05.1f}                {event.source[0]}"


def _timecode(frame: int, rate: Fraction, drop: bool) -> str:
    zero = "00:00:00;00" if drop else "00:00:00:00"
    text = advance_timecode(zero, frame, rate)
    assert text is not None
    return text


def can_drop(rate: Fraction) -> bool:
    """Return whether a rate has drop-frame timecode: multiples of 29.97."""
    nominal = nominal_rate(rate)
    return nominal is not None and nominal.denominator == 1001 and round(nominal) % 30 == 0
