"""What goes to a worker and comes back: small, and the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vidmatte.pipeline.request import Request
from vidmatte.pipeline.segments.fingerprint import FileFingerprint
from vidmatte.pipeline.segments.plan import Plan

BEGIN, JOIN = "begin", "join"


@dataclass(frozen=True)
class Task:
    """One unit of one shot."""

    shot: str
    unit: str
    """"begin", "whole" or the name of a unit of the plan, see `pipeline.segments.plan.Unit`."""
    request: Request
    plan: Plan | None = None
    threads: int = 1
    """Of the processor, that the network computes with."""
    key: str = ""
    """Identity of the shot as it was begun."""
    file_fingerprints: Mapping[str, FileFingerprint] = field(default_factory=dict)
    """Of files whose content is known."""
    finished: Mapping[str, Any] | None = None
    """The record of the last time that the shot was completed."""
    uris: Mapping[str, str] = field(default_factory=dict)
    """Where outputs are sent that are made in a staging folder, see `upload`."""
    sheet: str | None = None
    """Where to write the contact sheet of the shot, when it is completed."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    kind: Literal["planned", "done", "completed", "up to date", "failed"]
    record: Mapping[str, Any] = field(default_factory=dict)
    """For the journal of the shot where a unit is done, of the results where the shot is completed."""
    plan: Plan | None = None
    key: str = ""
    file_fingerprints: Mapping[str, FileFingerprint] = field(default_factory=dict)
    reason: str = ""
    """Why it failed, in one line."""
    error: str = ""
    """Name of the error."""
    retryable: bool = False
    """Whether it may go well another time."""
    trace: str = ""
    """Where an error came up that is none of the user's."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """A task went so many frames further."""

    shot: str
    count: int
