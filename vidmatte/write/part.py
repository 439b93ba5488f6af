"""A part of an output that was completed before, to be joined with others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EncodedPart:
    """Consecutive frames of one target, encoded with the choices of the whole."""

    path: Path
    """A movie, or the folder of images with their final names."""
    first_frame: int
    """Index in the source of its first frame."""
    pts: tuple[int, ...]
    """Time of each frame in units of the source's time base; those in the file itself do not count."""
    durations: tuple[int, ...]
    """0 where the source does not say."""
    names: tuple[str, ...] = ()
    """File stem of each image of an image set; empty for a clip."""
