"""New timelines as OpenTimelineIO: the given one with tracks of mattes on top."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from vidmatte.edit.place import MatteTrack, Placed
from vidmatte.edit.retime import is_retime
from vidmatte.edit.times import rational_time, time_range
from vidmatte.edit.uses import Joint, rate_of_timeline
from vidmatte.media.patterns import parse_pattern

OURS = "vidmatte"
"""Key of our metadata."""


def with_mattes(timeline: Any, tracks: Sequence[MatteTrack]) -> Any:
    """Return a copy of a timeline with tracks of mattes above its video tracks."""
    made = timeline.deepcopy()
    rate = rate_of_timeline(timeline)
    above = 1 + max(
        (number for number, track in enumerate(made.tracks) if track.kind == "Video"), default=-1
    )
    for number, track in enumerate(tracks):
        made.tracks.insert(above + number, _track(track, rate))
    made.metadata[OURS] = {"fingerprint": fingerprint(made)}
    return made


def fingerprint(timeline: Any) -> str:
    """Return a hash of the tracks of a timeline, which tells whether they were changed."""
    return hashlib.sha256(timeline.tracks.to_json_string().encode()).hexdigest()


def _track(track: MatteTrack, rate: Fraction) -> Any:
    import opentimelineio as otio

    made = otio.schema.Track(name=track.name, kind=otio.schema.TrackKind.Video)
    for part in track.parts():
        if isinstance(part, Placed):
            made.append(_clip(part))
        elif isinstance(part, Joint):
            made.append(part.item.deepcopy())
        else:
            made.append(otio.schema.Gap(source_range=time_range(0, part[1], rate)))
    return made


def _clip(placed: Placed) -> Any:
    import opentimelineio as otio

    file, use = placed.file, placed.use
    same = round(placed.rate) == round(file.rate)
    length = use.span.end - use.span.start
    # The clip keeps the rate of the one below, so that hosts treat both alike.
    per_frame = Fraction(1) if round(placed.rate) == round(use.timeline_rate) else None
    shown = length * (per_frame or placed.rate / use.timeline_rate)
    begin = Fraction(file.start) if same else file.start / file.rate * placed.rate
    clip = otio.schema.Clip(
        name=placed.name,
        media_reference=_reference(placed),
        source_range=time_range(begin + placed.offset, shown, placed.rate),
    )
    if use.speed.counts_retimed:
        # The speed of Final Cut Pro XML is metadata, which other programs do not read.
        warp = otio.schema.LinearTimeWarp(time_scalar=float(use.speed.factor))
        clip.effects.append(warp)
    else:
        clip.effects.extend(each.deepcopy() for each in use.item.effects if is_retime(each))
    return clip


def _reference(placed: Placed) -> Any:
    import opentimelineio as otio

    file = placed.file
    # Nominal rates as the clip has them: 24 for 23.976 if the timeline counts so.
    rate = placed.rate if round(placed.rate) == round(file.rate) else file.rate
    available = time_range(file.start, file.frames, rate)
    pattern = parse_pattern(file.path) if file.is_sequence else None
    if pattern is None:
        reference = otio.schema.ExternalReference(file.url, available)
    else:
        folder = file.path.absolute().parent.as_uri()
        reference = otio.schema.ImageSequenceReference(
            target_url_base=f"{folder}/",
            name_prefix=pattern.before,
            name_suffix=pattern.after,
            start_frame=file.first_number,
            frame_step=1,
            rate=float(rate),
            frame_zero_padding=pattern.digits,
            available_range=available,
        )
    reference.name = file.first_file.name
    return reference


def start_of(timeline: Any) -> Any:
    """Return the start time of a timeline; zero if it has none."""
    rate = rate_of_timeline(timeline)
    given = timeline.global_start_time
    return rational_time(0, rate) if given is None else given
