"""Summary of a run, for people and for scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidmatte.errors import worded
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.read.memory import IN_MEMORY
from vidmatte.write import WrittenFile

JSON_VERSION = 1
"""Of the object that `--json` prints; it rises when a key changes its meaning or goes."""
SUGGESTIONS = 3
"""Largest number of suggested references."""
SUGGESTED_BELOW = 0.72
"""Only frames with a lower confidence are suggested as further references.

On held-out clips of our own these are 73 % of the frames of `compact` with J under 0.8, and 5 % of
the others.
"""
_FRAMES_APART = 10


@dataclass(frozen=True)
class Summary:
    """Facts of a finished run."""

    input: str
    frames: int
    seconds: float
    model: str
    device: str
    precision: str
    outputs: tuple[WrittenFile, ...]
    confidence: tuple[float, ...]
    """Of each frame, 0..1."""
    first_frame: int
    """Number of the first matted frame: that of its file in an image sequence, counted from 0 in a
    movie."""
    reference_frames: tuple[int, ...]
    """Numbers of the marked frames."""
    notes: tuple[str, ...]
    """Sentences on how the source was read and the outputs were written."""
    is_set: bool = False
    """Whether the input is a set of independent images instead of a clip."""
    report: Path | None = None
    """The page of the report; None without one."""
    sidecars: tuple[Path, ...] = ()
    """Scripts for host programs, see `hosts.sidecars`."""
    truncated_at: int | None = None
    """Number of the first unreadable frame, of a truncated source."""
    objects: tuple[str, ...] = ()
    """Names of the objects of a prompt file; empty for marks without a name."""
    options: MatteOptions | None = None
    """The choices of the run."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each stage by its name: "model", "references" (encoding and adaptation), "frames".
    Empty for a run in segments, whose stages may have been done by several processes."""
    first_number: int = 0
    """Number of the first frame of the source."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(worded, self.notes)))

    @property
    def fps(self) -> float:
        """Frames per second, without loading the model and adaptation as far as known."""
        return self.frames / max(1e-9, self.stages.get("frames", self.seconds))

    @property
    def suggested_reference_frames(self) -> tuple[int, ...]:
        """The frames with the lowest confidence, some frames apart from all references.

        They are numbers, as `reference_frames`. One more reference would help most there.
        """
        confidence = dict(enumerate(self.confidence, self.first_frame))
        apart = suggested_apart(is_set=self.is_set)
        return tuple(
            sorted(least_sure(confidence, self.reference_frames, count=SUGGESTIONS, apart=apart))
        )

    def as_json(self) -> dict[str, Any]:
        """Return the object for `--json`."""
        from vidmatte import __version__
        from vidmatte.model.weights import weight_hashes

        options = self.options or MatteOptions()
        return {
            "schema_version": JSON_VERSION,
            "vidmatte": __version__,
            "input": _absolute(self.input),
            "frames": self.frames,
            "first_frame": self.first_frame,
            "reference_frames": list(self.reference_frames),
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "model": self.model,
            "weights": weight_hashes(options),
            "options": {name: _plain(value) for name, value in chosen_options(options).items()},
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.items()},
            "device": self.device,
            "precision": self.precision,
            "outputs": [
                {
                    "path": _absolute(output.path),
                    "kind": output.kind,
                    "codec": output.codec,
                    "pixel_format": output.pixel_format,
                    "frames": output.frames,
                    **({"object": output.object_name} if output.object_name else {}),
                }
                for output in self.outputs
            ],
            "confidence": {
                "mean": round(sum(self.confidence) / len(self.confidence), 4),
                "min": round(min(self.confidence), 4),
                "suggested_reference_frames": list(self.suggested_reference_frames),
                "frames": [round(value, 4) for value in self.confidence],
            },
            "truncated_at": self.truncated_at,
            "report": None if self.report is None else _absolute(self.report),
            "sidecars": [_absolute(path) for path in self.sidecars],
            "objects": list(self.objects),
            "notes": list(self.notes),
        }


def _absolute(path: str | Path) -> str:
    """Return an absolute path, and any other name of a source as it is."""
    return str(path) if str(path) == IN_MEMORY else os.path.abspath(path)


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)


def suggested_apart(*, is_set: bool) -> int:
    """Return the least useful distance in frames between references.

    Neighbours in a clip look alike; images of a set do not.
    """
    return 1 if is_set else _FRAMES_APART


def least_sure(
    confidence: Mapping[int, float], references: Sequence[int], *, count: int, apart: int
) -> list[int]:
    """Return at most `count` frames with a low confidence, the lowest first.

    Of equal ones the earlier comes first. They lie at least `apart` frames from each other and from
    the references.
    """
    chosen: list[int] = []
    # The number of the frame decides between equal confidences.
    for frame in sorted(confidence, key=lambda frame: (confidence[frame], frame)):
        if confidence[frame] >= SUGGESTED_BELOW or len(chosen) == count:
            break
        if all(abs(frame - other) >= apart for other in (*chosen, *references)):
            chosen.append(frame)
    return chosen
