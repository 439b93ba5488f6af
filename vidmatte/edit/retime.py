"""The speed of an item of a timeline: a constant one, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vidmatte.edit.times import simplest_fraction

_TIME_REMAP = "timeremap"
"""Identifier of the filter for speed in Final Cut Pro XML."""


@dataclass(frozen=True)
class Speed:
    """How an item runs through its media."""

    factor: Fraction = Fraction(1)
    """Frames of media for each frame of the timeline, above 0."""
    counts_retimed: bool = False
    """Whether the in point counts frames after the change of speed, from the start of the media."""
    problem: str = ""
    """Why its frames are not those of a constant speed; empty if they are."""


def speed_of(item: Any) -> Speed:
    """Return the speed of a clip or a nested sequence."""
    found = Speed()
    for effect in item.effects:
        one = _speed_of_effect(effect)
        if one.problem:
            return one
        counts_retimed = found.counts_retimed or one.counts_retimed
        found = Speed(found.factor * one.factor, counts_retimed)
    return found


def is_retime(effect: Any) -> bool:
    """Return whether an effect changes time."""
    import opentimelineio as otio

    return isinstance(effect, otio.schema.TimeEffect) or _is_time_remap(effect)


def _speed_of_effect(effect: Any) -> Speed:
    import opentimelineio as otio

    if _is_time_remap(effect):
        return _speed_of_time_remap(effect)
    if isinstance(effect, otio.schema.FreezeFrame):
        return Speed(problem="it is a freeze frame")
    if isinstance(effect, otio.schema.LinearTimeWarp):
        return _constant(effect.time_scalar, 1e-6)
    if isinstance(effect, otio.schema.TimeEffect):
        name = effect.effect_name or effect.name or type(effect).__name__
        return Speed(problem=f"its speed is not constant ({name})")
    return Speed()


def _constant(factor: float, tolerance: float) -> Speed:
    if factor < 0:
        return Speed(problem="it plays backwards")
    exact = simplest_fraction(factor, tolerance)
    if exact == 0:
        return Speed(problem="it is a freeze frame")
    return Speed(exact)


def _is_time_remap(effect: Any) -> bool:
    facts = effect.metadata.get("fcp_xml", {})
    return str(facts.get("effectid", "")).lower() == _TIME_REMAP


def _speed_of_time_remap(effect: Any) -> Speed:
    """Return the speed of a filter of Final Cut Pro XML, whose parameters are in its metadata."""
    values = dict(_parameters(effect.metadata["fcp_xml"]))
    if _is_on(values.get("variablespeed")):
        return Speed(problem="its speed is not constant (Time Remap)")
    if _is_on(values.get("reverse")):
        return Speed(problem="it plays backwards")
    try:
        percent = float(values.get("speed", "100"))
    except ValueError:
        return Speed(problem=f"its speed {values['speed']!r} is not a number")
    found = _constant(percent / 100, 1e-9)
    return Speed(found.factor, counts_retimed=found.factor != 1, problem=found.problem)


def _parameters(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = facts.get("parameter", ())
    for parameter in (given,) if isinstance(given, Mapping) else given:
        name = parameter.get("parameterid", parameter.get("name", ""))
        yield str(name).lower(), str(parameter.get("value", ""))


def _is_on(value: str | None) -> bool:
    return (value or "").strip().upper() in ("TRUE", "1")
