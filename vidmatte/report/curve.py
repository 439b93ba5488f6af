"""Plot the confidence of a run over its frames, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidmatte.report.html import render
from vidmatte.report.summary import SUGGESTED_BELOW, Summary

_WIDTH = 1000
_HEIGHT = 240
# Margins of the plot, which hold its axes and labels.
_LEFT = 44
_RIGHT = 12
_TOP = 22
_BOTTOM = 34
_LEVELS = (0, 0.25, 0.5, 0.75, 1)
"""Confidences with a grid line."""
_TICKS = 12
_DOTS = 60
"""Up to this many frames, each has its dot."""


@dataclass(frozen=True)
class _Point:
    x: float
    y: float


@dataclass(frozen=True)
class _Line:
    kind: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class _Label:
    text: str
    x: float
    y: float
    kind: str = ""
    anchor: str = "middle"


def confidence_curve(summary: Summary) -> str:
    """Return an SVG plot with reference frames, suggested frames and the limit for suggestions."""
    first = summary.first_frame
    last = first + summary.frames - 1
    place = _scale(first, last)
    # A point for each pixel is as much as the picture can show.
    shown = extremes(summary.confidence, first, _WIDTH - _LEFT - _RIGHT)
    points = [_Point(place(frame), _y(confidence)) for frame, confidence in shown]
    suggested = [
        _Point(place(frame), _y(summary.confidence[frame - first]))
        for frame in summary.suggested_reference_frames
    ]
    # A reference outside of the matted range has no place on the axis.
    marked = [frame for frame in summary.reference_frames if first <= frame <= last]
    lines = [*_grid(first, last, place), *(_reference_line(place(frame)) for frame in marked)]
    labels = [
        *_axis_labels("image" if summary.is_set else "frame", first, last, place),
        *(_label(f"reference {frame}", place(frame), _TOP - 7, "reference") for frame in marked),
        *(
            _label(str(frame), point.x, point.y - 9, "suggested")
            for frame, point in zip(summary.suggested_reference_frames, suggested, strict=True)
        ),
    ]
    return render(
        "curve.svg",
        width=_WIDTH,
        height=_HEIGHT,
        lines=lines,
        labels=labels,
        points=points,
        # Dots of many frames would merge into a band.
        dots=points if summary.frames <= _DOTS else [],
        suggested=suggested,
    )


def _scale(first: int, last: int) -> Callable[[int], float]:
    """Return the mapping from frame numbers to x; a single frame is in the middle."""
    width = _WIDTH - _LEFT - _RIGHT
    if last == first:
        return lambda frame: _LEFT + width / 2
    return lambda frame: round(_LEFT + width * (frame - first) / (last - first), 1)


def _y(confidence: float) -> float:
    return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - confidence), 1)


def _grid(first: int, last: int, place: Callable[[int], float]) -> list[_Line]:
    right = _WIDTH - _RIGHT
    lines = [_Line("grid", _LEFT, _y(value), right, _y(value)) for value in _LEVELS]
    for frame in ticks(first, last):
        # Short ticks below the axis.
        lines.append(_Line("grid", place(frame), _y(0), place(frame), _y(0) + 4))
    lines.append(_Line("limit", _LEFT, _y(SUGGESTED_BELOW), right, _y(SUGGESTED_BELOW)))
    return lines


def _reference_line(x: float) -> _Line:
    return _Line("reference", x, _TOP, x, _y(0))


def _axis_labels(unit: str, first: int, last: int, place: Callable[[int], float]) -> list[_Label]:
    labels = [
        _Label(f"{value:g}", _LEFT - 6, round(_y(value) + 4, 1), anchor="end") for value in _LEVELS
    ]
    labels += [_label(str(frame), place(frame), _y(0) + 17) for frame in ticks(first, last)]
    # In the corner, where no frame number is.
    labels.append(_Label(unit, _WIDTH - _RIGHT, _HEIGHT - 4, anchor="end"))
    return labels


def _label(text: str, x: float, y: float, kind: str = "") -> _Label:
    """Return a label above its place, or beside it near an end, to stay inside the picture."""
    anchor = "middle"
    if x < _LEFT + 20:
        anchor = "start"
    elif x > _WIDTH - _RIGHT - 30:
        anchor = "end"
    return _Label(text, x, round(y, 1), kind, anchor)


def ticks(first: int, last: int) -> list[int]:
    """Return at most a dozen round frame numbers from `first` to `last`."""
    step = 1
    factors = (2, 2.5, 2)  # 1, 2, 5, 10, 20, 50 ...
    for n in range(60):
        if (last - first) / step < _TICKS:
            break
        step = round(step * factors[n % 3])
    # The first multiple of the step from `first` on.
    return list(range(-(-first // step) * step, last + 1, step))


def extremes(confidence: Sequence[float], first: int, most: int) -> list[tuple[int, float]]:
    """Return (frame, confidence) of every frame.

    A run of more than twice `most` frames is cut into `most` stretches, each of which gives its
    least and its most sure frame.
    """
    if len(confidence) <= 2 * most:
        return list(enumerate(confidence, first))
    points = []
    for n in range(most):
        stretch = range(n * len(confidence) // most, (n + 1) * len(confidence) // most)
        # One frame if all of a stretch are equal.
        ends = {min(stretch, key=confidence.__getitem__), max(stretch, key=confidence.__getitem__)}
        points += [(first + index, confidence[index]) for index in sorted(ends)]
    return points
