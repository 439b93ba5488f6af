"""Notice that a file is replaced or rewritten while it is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import ReadError


@dataclass(frozen=True)
class _Stamp:
    """Properties that change with a replaced or rewritten file."""

    size: int
    changed: int
    """Time of change in nanoseconds."""
    inode: int


class UnchangedFile:
    """Remembers the state of a file at the beginning of reading.

    Frames of two versions of a file must not be mixed: `check` is called whenever the file is
    opened again, and after all of it was read.
    """

    def __init__(self, path: Path | str) -> None:
        """Look at the file. Raises OSError if there is none."""
        self._path = path
        self._stamp = _stamp_of(path)

    def check(self) -> None:
        """Raise ReadError if the file has changed."""
        try:
            now = _stamp_of(self._path)
        except OSError as error:
            raise ReadError(
                f"{self._path}: was there when reading began, and is not any more "
                f"({error.strerror}); put it back, and run again"
            ) from error
        if now != self._stamp:
            raise ReadError(
                f"{self._path}: was {_describe(self._stamp, now)} while it was read; frames of "
                f"both versions would be mixed: run again when it is complete"
            )


class UnchangedFiles:
    """Remembers the state of each of many files when it was first read."""

    def __init__(self) -> None:
        self._files: dict[Path, UnchangedFile] = {}

    def add(self, path: Path) -> None:
        """Note that a file is read now. Raises ReadError if it was read before and has changed."""
        known = self._files.get(path)
        if known is not None:
            known.check()
            return
        try:
            self._files[path] = UnchangedFile(path)
        except OSError as error:
            raise ReadError(f"{path}: cannot be read ({error.strerror})") from error

    def check(self) -> None:
        """Raise ReadError if one of the files has changed."""
        for file in list(self._files.values()):
            file.check()


def _stamp_of(path: Path | str) -> _Stamp:
    facts = os.stat(path)
    return _Stamp(facts.st_size, facts.st_mtime_ns, facts.st_ino)


def _describe(before: _Stamp, now: _Stamp) -> str:
    if now.inode != before.inode:
        return "replaced by another file"
    if now.size != before.size:
        return f"changed from {before.size} to {now.size} bytes"
    return "written to"
