"""A finished part of an output, to be joined with others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EncodedPart:
    """Consecutive frames of one output, encoded with the options of the whole."""

    path: Path
    """A movie, or the folder of images with their final names."""
    first_frame: int
    """Index of its first frame in the source."""
    pts: tuple[int, ...]
    """Time of each frame in units of the source's time base; the file's own times are ignored."""
    durations: tuple[int, ...]
    """Duration of each frame in the same unit; 0 if the source has none."""
    names: tuple[str, ...] = ()
    """File stem of each image of an image set; empty for a clip."""
