"""Tips of the page that the user has read, remembered between clips."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from vidmatte.media.atomic import atomic_write

_MOST = 50


def tips_file() -> Path:
    """Return the file in the user's folder for settings."""
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "vidmatte" / "picker.json"


class Tips:
    """The tips that were read. A file that cannot be read or written only means more tips."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        """None to remember nothing."""
        self.read: tuple[str, ...] = () if path is None else _load(path)

    def add(self, tip: str) -> None:
        """Remember a tip, for good."""
        if tip in self.read or len(self.read) >= _MOST or not tip.isidentifier():
            return
        self.read = (*self.read, tip[:_MOST])
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._path, json.dumps({"tips": self.read}).encode())
        except OSError:
            return  # a home that is read-only: the tip comes again next time


def _load(path: Path) -> tuple[str, ...]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["tips"]
        return tuple(tip for tip in known if isinstance(tip, str))[:_MOST]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
