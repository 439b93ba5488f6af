"""How a timeline becomes shots: which clips are chosen, by track, and by marker or note."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidmatte.edit.times import frames_at
from vidmatte.edit.uses import Use, rate_of_timeline, texts_of, video_tracks
from vidmatte.errors import OptionError


@dataclass(frozen=True)
class Choice:
    """Which clips of a timeline are rendered; by default all that are enabled."""

    tracks: tuple[str, ...] = ()
    """Names or numbers of video tracks, as in "V2", "2" or "Hero", the lowest being 1."""
    marker: str | None = None
    """Text in a marker or note of a clip, or in a marker of the timeline above it; in any case."""


@dataclass(frozen=True)
class EditOptions:
    """How a timeline becomes shots."""

    rate: Fraction | None = None
    """Frames per second of an EDL."""
    sequence: str | None = None
    choice: Choice = field(default_factory=Choice)
    media: Path | None = None
    """Folder to search for media."""
    handles: int = 0
    """Frames to render before and after each use, if the media has them."""
    root: Path | None = None
    """Refuse media outside of this folder."""


def chosen_uses(uses: Sequence[Use], timeline: Any, choice: Choice, path: Path) -> list[Use]:
    """Return the chosen uses that have media: no titles, colours and bars.

    Raises OptionError if there is none, or if a track does not exist.
    """
    lanes = _lanes(timeline, choice.tracks, path)
    found = [use for use in uses if use.lane[0] in lanes and _has_media(use)]
    if choice.marker is not None:
        marks = list(_timeline_marks(timeline))
        wanted = choice.marker.casefold()
        marked = [use for use in found if any(wanted in text for text in _texts(use, marks))]
        if not marked:
            texts = sorted({text for use in found for text in _texts(use, marks)})
            there = ", ".join(repr(text) for text in texts[:8]) or "none"
            raise OptionError(
                f"--marker {choice.marker!r}: no clip of {path} has it in a marker or note; there "
                f"are {there}"
            )
        found = marked
    if not found:
        raise OptionError(f"{path}: shows no clip with media there; choose other tracks")
    return found


def _has_media(use: Use) -> bool:
    return bool(use.item.media_reference.schema_name() != "GeneratorReference")


def _lanes(timeline: Any, names: Sequence[str], path: Path) -> set[int]:
    """Return the numbers of the tracks of these names, of all without names."""
    tracks = video_tracks(timeline)
    enabled = {number for number, track in enumerate(tracks) if track.enabled}
    if not names:
        return enabled
    chosen = set()
    for name in names:
        found = {
            number
            for number, track in enumerate(tracks)
            if name.casefold() in (track.name.casefold(), f"v{number + 1}", str(number + 1))
        }
        if not found:
            there = ", ".join(track.name or f"V{number}" for number, track in enumerate(tracks, 1))
            raise OptionError(f"--track {name!r} is not in {path}; its video tracks are {there}")
        chosen |= found
    return chosen


def _timeline_marks(timeline: Any) -> Iterator[tuple[Fraction, str]]:
    """Yield the frame and the text of each marker of the timeline or a track."""
    rate = rate_of_timeline(timeline)
    start = timeline.global_start_time
    zero = Fraction(0) if start is None else frames_at(start, rate)
    for owner in (timeline.tracks, *timeline.tracks):
        for marker in owner.markers:
            frame = frames_at(marker.marked_range.start_time, rate)
            # Some programs count from the start of the timeline, others write its timecode.
            at = frame - zero if frame >= zero else frame
            for text in _texts_of_marker(marker):
                yield at, text


def _texts(use: Use, marks: Sequence[tuple[Fraction, str]]) -> Iterator[str]:
    """Yield what is written on a use, in lower case."""
    for marker in use.item.markers:
        yield from _texts_of_marker(marker)
    for text in (*texts_of(use.item.metadata), *texts_of(use.item.media_reference.metadata)):
        yield text.casefold()
    for frame, text in marks:
        if use.span.start <= frame < use.span.end:
            yield text


def _texts_of_marker(marker: Any) -> Iterator[str]:
    yield marker.name.casefold()
    comment = getattr(marker, "comment", "")
    if comment:
        yield comment.casefold()
    for text in texts_of(marker.metadata):
        yield text.casefold()
