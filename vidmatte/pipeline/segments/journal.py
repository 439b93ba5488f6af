"""The journal of a long render: one JSON object a line, in a hidden folder beside the first output.

The first line says of what it is; each other one that a unit is done, and what is known of it. A line is written when
the files that it speaks of are complete and renamed, in one piece and brought to the disk, so that a line that is there
is true. A last line that was cut off by a crash is no line.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vidmatte.errors import OptionError, WriteError
from vidmatte.media.atomic import sync_folder
from vidmatte.write.folders import create_folders, remove_folders
from vidmatte.write.partial import plain_name

Record = Mapping[str, Any]

JOURNAL, _LOCK = "journal.jsonl", "lock"


def work_folder(output: Path | str) -> Path:
    """The hidden folder of a render, by the path of its first output."""
    path = Path(output)
    return path.parent / f".{plain_name(path)}.vidmatte"


class Journal:
    """What is done of one render. Lines are added by whichever process did the work, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / JOURNAL
        self._new_folders: list[Path] = []

    @property
    def exists(self) -> bool:
        """Whether a render was begun here."""
        return self._path.is_file()

    def header(self) -> Record:
        """The first line; empty where there is none. Raises WriteError where it cannot be read."""
        return next(self.records(), {})

    def records(self) -> Iterator[Record]:
        """All lines in the order in which they were written. Raises WriteError where it cannot be read."""
        try:
            with open(self._path, encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n"):
                        yield json.loads(line)
        except FileNotFoundError:
            return
        except OSError as error:
            raise WriteError(
                f"{self._path}: cannot be read ({error.strerror}); check its rights"
            ) from error
        except ValueError as error:
            raise WriteError(
                f"{self._path}: is damaged ({error}); delete the folder {self.folder} to begin anew"
            ) from error

    def done(self) -> Iterator[str]:
        """Names of the units that are done."""
        return (str(record["unit"]) for record in self.records() if "unit" in record)

    def begin(self, header: Record) -> None:
        """Write the first line, in place of all that was there. The journal has to be held."""
        # The journal goes first: what is left of a removal that is cut short is not taken for a render.
        self._path.unlink(missing_ok=True)
        for path in list(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()
        self.add(header)

    def add(self, record: Record) -> None:
        """Append a line, and return when it is on the disk. Raises WriteError."""
        line = json.dumps(record, separators=(",", ":")) + "\n"
        try:
            with open(self._path, "ab+") as file, _exclusive(file.fileno()):
                _end_line(file)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.folder)
        except OSError as error:
            raise WriteError(
                f"{self._path}: cannot be written ({error.strerror}); free some space"
            ) from error

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        if self.folder.exists():
            self._path.unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    def remove_if_empty(self) -> None:
        """Remove the folder where no more than adaptation is done."""
        if all(name.startswith("adapt:") for name in self.done()):
            self.remove()
            remove_folders(self._new_folders)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from rendering to the same outputs, and create the folder where there is none.

        Raises OptionError where another process holds it.
        """
        try:
            self._new_folders = create_folders(self.folder.parent)
            self.folder.mkdir(exist_ok=True)
            file = open(self.folder / _LOCK, "ab")  # noqa: SIM115 - closed below
        except OSError as error:
            raise WriteError(
                f"{self.folder}: cannot be written ({error.strerror}); segments of a long clip are kept there "
                f"until all are done"
            ) from error
        with file:
            if not _lock(file.fileno(), wait=False):
                raise OptionError(
                    f"{self.folder}: another run is writing these outputs; wait for it, or stop it first"
                )
            yield


def _end_line(file: IO[bytes]) -> None:
    """Cut off a line that a crash left unfinished."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


@contextmanager
def _exclusive(descriptor: int) -> Iterator[None]:
    _lock(descriptor, wait=True)
    yield  # closing the file lets go of it


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock a file until it is closed or the process ends; whether it could be done."""
    try:
        import fcntl
    except ImportError:  # Windows, where two runs on one output are not kept apart
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
