"""Tasks and their outcomes: small values, the same for every engine."""

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
    """Processor threads of the network."""
    key: str = ""
    """Fingerprint of the shot when it was begun."""
    file_fingerprints: Mapping[str, FileFingerprint] = field(default_factory=dict)
    """Fingerprints of known files."""
    finished: Mapping[str, Any] | None = None
    """The record of the shot's last completion."""
    uris: Mapping[str, str] = field(default_factory=dict)
    """Addresses of outputs made in a staging folder, see `upload`."""
    sheet: str | None = None
    """Path of the contact sheet, written after the shot."""


@dataclass(frozen=True)
class Outcome:
    """The result of a task."""

    kind: Literal["planned", "done", "completed", "up to date", "failed"]
    record: Mapping[str, Any] = field(default_factory=dict)
    """Entry for the journal if a unit is done, for the results if the shot is complete."""
    plan: Plan | None = None
    key: str = ""
    file_fingerprints: Mapping[str, FileFingerprint] = field(default_factory=dict)
    reason: str = ""
    """Reason of a failure, in one line."""
    error: str = ""
    """Name of the exception."""
    retryable: bool = False
    """Whether a retry may succeed."""
    trace: str = ""
    """Traceback of an unexpected error, a bug."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """A task has gone through some more frames."""

    shot: str
    count: int
