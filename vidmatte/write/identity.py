"""Recognise the input files of a run by device and inode, not by the text of their paths.

One file can have many paths: hard and symbolic links, a folder mounted twice, names on a
disk that ignores case. An output must not replace an input under any of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vidmatte.media.patterns import matching_names

FileId = tuple[int, int]
"""Device and inode (on Windows volume and file index)."""


def file_id(path: Path | str) -> FileId | None:
    """Return device and inode of the file at a path; None if there is none, or no inode."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    # Some network disks report inode 0 for every file.
    return (facts.st_dev, facts.st_ino) if facts.st_ino else None


class InputFiles:
    """The input files of a run, with their device and inode at its start."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._by_path = {os.path.realpath(path): path for path in self.paths}
        self._by_id: dict[FileId, Path] = {}
        self._read_ids()

    @classmethod
    def of(cls, inputs: Sequence[Path | str]) -> InputFiles:
        """Return the files of inputs: files, folders (all files in them) and patterns of frames."""
        return cls(_files(inputs))

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the files."""
        return tuple(dict.fromkeys(path.parent for path in self.paths))

    @property
    def stems(self) -> frozenset[str]:
        """Names of the files without their extension."""
        return frozenset(path.stem for path in self.paths)

    def find(self, path: Path | str) -> Path | None:
        """Return the input at a path; None if no input is there."""
        found = file_id(path)
        if found is not None and found in self._by_id:
            return self._by_id[found]
        # A disk without inodes: compare the path, with its links followed.
        return self._by_path.get(os.path.realpath(path))

    def read_again(self) -> None:
        """Add the files now found at the paths of the inputs to those of the start."""
        self._read_ids()

    def _read_ids(self) -> None:
        for path in self.paths:
            found = file_id(path)
            if found is not None:
                # The files of the start stay known, even if their paths lead elsewhere now.
                self._by_id.setdefault(found, path)


def _files(inputs: Sequence[Path | str]) -> Iterator[Path]:
    for source in map(Path, inputs):
        if source.is_dir():
            yield from (path for path in source.iterdir() if path.is_file())
        elif not source.exists() and source.parent.is_dir():
            yield from _matching(source)
        yield source


def _matching(pattern: Path) -> Iterator[Path]:
    """Yield the files of a pattern such as shot.%04d.png, with numbers of any width."""
    name = matching_names(pattern)
    yield from (path for path in pattern.parent.iterdir() if name.fullmatch(path.name))
