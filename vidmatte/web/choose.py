"""The page before the picker: the clips of a folder, one of which is opened."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidmatte.batch.manifest import MOVIES
from vidmatte.errors import OptionError, ReadError
from vidmatte.read.sequence import SequenceVideo

_MOST = 500
"""Clips that are listed."""


@dataclass(frozen=True)
class _Clip:
    name: str
    detail: str
    size: int


class Chooser:
    """The clips of a folder, and the one that the page chose. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = ""
        """Why the chosen clip could not be opened."""
        self._chosen: Path | None = None
        self._is_chosen = threading.Event()
        self.ended = threading.Event()

    def clips(self) -> list[_Clip]:
        """Return movies, and folders of numbered images, by name."""
        found = []
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name.casefold())[:_MOST]:
            # Cards and network drives hold hidden copies with the names of movies.
            if path.name.startswith("."):
                continue
            if path.suffix.lower() in MOVIES and path.is_file():
                size = path.stat().st_size
                found.append(_Clip(path.name, f"{size / 1e6:.1f} MB", size))
            elif path.is_dir() and (frames := _frames_of(path)):
                found.append(_Clip(path.name, f"folder of {frames} images", 0))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "folder": str(self.folder.resolve()),
            "clips": [vars(clip) for clip in self.clips()],
            "error": self.error,
            "opening": self._is_chosen.is_set(),
        }

    def choose(self, name: object) -> None:
        """Choose a clip by its name. Raises OptionError if it is not on the list."""
        # The page names a file of the list, and never a path.
        if name not in [clip.name for clip in self.clips()]:
            raise OptionError(f"{name!r} is not in {self.folder}: choose a clip of the list")
        self.error = ""
        self._chosen = self.folder / str(name)
        self._is_chosen.set()

    def refuse(self, why: str) -> None:
        """Tell the page that the chosen clip cannot be opened, and let it choose again."""
        self.error = why
        self._is_chosen.clear()

    def wait(self, seconds: float) -> Path | None:
        """Wait for a choice; None if there is none yet."""
        return self._chosen if self._is_chosen.wait(seconds) else None


def _frames_of(folder: Path) -> int:
    try:
        return SequenceVideo(folder).count_frames()
    except (ReadError, OptionError, OSError):
        return 0
