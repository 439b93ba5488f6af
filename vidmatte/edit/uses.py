"""What a timeline uses: each clip of its video tracks, with its place there and in its media."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

from vidmatte.edit.retime import Speed, speed_of
from vidmatte.edit.times import exact_rate, frames_at

Lane = tuple[int, ...]
"""Number of a video track from the bottom, and of those in nested sequences below it."""


@dataclass(frozen=True)
class Span:
    """A part of a timeline in its frames; the end is exclusive."""

    start: Fraction
    end: Fraction

    def cut_to(self, other: Span) -> Span:
        """Return the common part; it may be empty."""
        return Span(max(self.start, other.start), min(self.end, other.end))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.end <= self.start


@dataclass(frozen=True)
class Use:
    """One use of a clip. Nested sequences are flattened: a use is part of the outer timeline."""

    item: Any
    """The clip of OpenTimelineIO."""
    lane: Lane
    track: str
    """Name of the outer track."""
    span: Span
    """Where the outer timeline shows it, without its transitions."""
    source: Fraction
    """First frame that is shown, in frames of `rate`, on the clock of the media reference."""
    rate: Fraction
    """Frames per second of the clip's times."""
    speed: Speed
    timeline_rate: Fraction
    before: Fraction = Fraction(0)
    """Frames of the timeline that a transition shows ahead of the span."""
    after: Fraction = Fraction(0)
    """Frames of the timeline that a transition shows after the span."""
    problem: str = ""
    """Why it cannot be rendered, e.g. a nested sequence with a change of speed."""

    @property
    def name(self) -> str:
        """The clip's name."""
        return str(self.item.name or "clip")

    @property
    def first_frame(self) -> int:
        """First frame of the outer timeline, without transitions."""
        return round(self.span.start)

    @property
    def length(self) -> int:
        """Frames of the outer timeline, without transitions."""
        return round(self.span.end) - round(self.span.start)

    def frames_from(self, first: Fraction, rate: Fraction) -> tuple[int, int]:
        """Return the first and last frame that is needed of a media.

        Transitions are included.

        Args:
            first: The time of the media's first frame, in frames at `rate`.
            rate: Frames per second of the media.
        """
        step = self.speed.factor * self._media_step(rate)
        start = self.at(rate) - first
        end = start + step * (self.span.end - self.span.start)
        return floor(start - step * self.before), ceil(end + step * self.after) - 1

    def at(self, rate: Fraction) -> Fraction:
        """Return the time of the first frame shown, in frames at a rate."""
        same = round(self.rate) == round(rate)
        return self.source if same else self.source / self.rate * rate

    def _media_step(self, rate: Fraction) -> Fraction:
        """Return the frames of the media that pass in one of the timeline at normal speed."""
        same = round(self.timeline_rate) == round(rate)
        return Fraction(1) if same else rate / self.timeline_rate


@dataclass(frozen=True)
class Joint:
    """A transition between two items of a lane."""

    item: Any
    lane: Lane
    cut: int
    """Frame of the outer timeline at which the second item would begin without it."""


def rate_of_timeline(timeline: Any) -> Fraction:
    """Return the frames per second of a timeline."""
    if timeline.global_start_time is not None:
        return exact_rate(timeline.global_start_time.rate)
    # A sequence of Final Cut Pro XML without timecode.
    given = timeline.metadata.get("fcp_xml", {}).get("rate", {})
    if hasattr(given, "get") and str(given.get("timebase", "")).isdecimal():
        is_ntsc = str(given.get("ntsc", "")).upper() == "TRUE"
        return Fraction(int(given["timebase"])) * (Fraction(1000, 1001) if is_ntsc else 1)
    # Lengths are in frames of the timeline, also of clips at other rates.
    lengths = [item.duration() for track in video_tracks(timeline) for item in track]
    return exact_rate(next(iter(lengths), timeline.duration()).rate)


def video_tracks(timeline: Any) -> list[Any]:
    """Return the tracks with pictures, the lowest first."""
    return [track for track in timeline.tracks if track.kind == "Video"]


def uses_of(timeline: Any) -> tuple[list[Use], list[Joint]]:
    """Return the uses of clips, and the transitions, of all video tracks in order of time."""
    walk = _Walk(rate_of_timeline(timeline))
    for number, track in enumerate(video_tracks(timeline)):
        everything = Span(Fraction(0), Fraction(10**12))
        walk.track(track, Fraction(0), everything, (number,), name=track.name)
    return sorted(walk.uses, key=lambda use: (use.span.start, use.lane)), walk.joints


class _Walk:
    """Goes through tracks, and through the tracks of nested sequences."""

    def __init__(self, rate: Fraction) -> None:
        self.rate = rate
        self.uses: list[Use] = []
        self.joints: list[Joint] = []

    def track(
        self, track: Any, zero: Fraction, window: Span, lane: Lane, *, name: str, problem: str = ""
    ) -> None:
        """Add what a track shows within a window; `zero` is where its own time begins."""
        if track.source_range is not None:
            start = frames_at(track.source_range.start_time, self.rate)
            length = frames_at(track.source_range.duration, self.rate)
            window = window.cut_to(Span(zero, zero + length))
            zero -= start
        children = list(track)
        at = zero
        for index, child in enumerate(children):
            if _is_transition(child):
                if window.start < at < window.end:
                    self.joints.append(Joint(child, lane, round(at)))
                continue
            length = frames_at(child.trimmed_range().duration, self.rate)
            whole = Span(at, at + length)
            at += length
            shown = whole.cut_to(window)
            if shown.is_empty or _is_gap(child) or not child.enabled:
                continue
            if _is_clip(child):
                use = self._use(child, whole, shown, lane, name, problem)
                before, after = self._transitions(children, index, whole, shown)
                self.uses.append(replace(use, before=before, after=after))
            else:
                # What a transition shows of a nested sequence is part of what is shown of it.
                before, after = self._transitions(children, index, whole, shown)
                shown = Span(shown.start - before, shown.end + after)
                self._nested(child, whole, shown, lane, name, problem)

    def _use(self, clip: Any, whole: Span, shown: Span, lane: Lane, name: str, problem: str) -> Use:
        speed = speed_of(clip)
        begin = clip.trimmed_range().start_time
        rate = exact_rate(begin.rate)
        source = frames_at(begin, rate)
        if speed.counts_retimed:
            media = _start_of_media(clip, rate)
            source = media + (source - media) * speed.factor
        step = speed.factor * (1 if round(rate) == round(self.rate) else rate / self.rate)
        source += (shown.start - whole.start) * step
        found = problem or speed.problem
        return Use(clip, lane, name, shown, source, rate, speed, self.rate, problem=found)

    def _transitions(
        self, children: Sequence[Any], index: int, whole: Span, shown: Span
    ) -> tuple[Fraction, Fraction]:
        """Return how many frames transitions show of an item before and after its span."""
        head: Any = children[index - 1] if index else None
        tail: Any = children[index + 1] if index + 1 < len(children) else None
        has_head = _is_transition(head) and shown.start == whole.start
        has_tail = _is_transition(tail) and shown.end == whole.end
        return (
            frames_at(head.in_offset, self.rate) if has_head else Fraction(0),
            frames_at(tail.out_offset, self.rate) if has_tail else Fraction(0),
        )

    def _nested(
        self, nested: Any, whole: Span, shown: Span, lane: Lane, name: str, problem: str
    ) -> None:
        speed = speed_of(nested)
        what = f"it is in the nested sequence {nested.name!r}"
        if speed.problem:
            problem = problem or f"{what}, and {speed.problem}"
        elif speed.factor != 1:
            problem = problem or f"{what}, whose speed is changed; change that of its clips"
        zero = whole.start - frames_at(nested.trimmed_range().start_time, self.rate)
        if nested.schema_name() == "Track":
            # Its own trim is that of the place.
            self.track(nested, whole.start, shown, (*lane, 0), name=name, problem=problem)
            return
        for number, track in enumerate(each for each in nested if _has_pictures(each)):
            inner = (*lane, number)
            if track.schema_name() == "Track":
                self.track(track, zero, shown, inner, name=name, problem=problem)
            else:
                self._single(track, zero, shown, inner, name, problem)

    def _single(
        self, item: Any, zero: Fraction, window: Span, lane: Lane, name: str, problem: str
    ) -> None:
        """Add an item that lies in a stack without a track."""
        length = frames_at(item.trimmed_range().duration, self.rate)
        whole = Span(zero, zero + length)
        shown = whole.cut_to(window)
        if shown.is_empty or _is_gap(item) or not item.enabled:
            return
        if _is_clip(item):
            self.uses.append(self._use(item, whole, shown, lane, name, problem))
        else:
            self._nested(item, whole, shown, lane, name, problem)


def _start_of_media(clip: Any, rate: Fraction) -> Fraction:
    available = clip.media_reference.available_range
    return Fraction(0) if available is None else frames_at(available.start_time, rate)


def _is_transition(item: Any) -> bool:
    return bool(item is not None and item.schema_name() == "Transition")


def _is_gap(item: Any) -> bool:
    return bool(item.schema_name() == "Gap")


def _is_clip(item: Any) -> bool:
    return bool(item.schema_name() == "Clip")


def _has_pictures(item: Any) -> bool:
    return bool(item.schema_name() != "Track" or item.kind == "Video")


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts of metadata that are notes or comments."""
    yield from _notes(value, is_note=False)


def _notes(value: Any, *, is_note: bool) -> Iterator[str]:
    if isinstance(value, str):
        if is_note:
            yield value
    elif hasattr(value, "items"):
        for key, each in value.items():
            inside = is_note or any(word in key.lower() for word in ("note", "comment"))
            yield from _notes(each, is_note=inside)
    elif hasattr(value, "__iter__"):
        for each in value:
            yield from _notes(each, is_note=is_note)
