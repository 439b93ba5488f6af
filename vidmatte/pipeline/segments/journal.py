"""The journal of a long render: one JSON object a line, in a hidden folder beside the first output.

The first line is the header: the request and its plan. Every other line records a finished unit. It
is written after the unit's files have their final names, in one write that is synced to the disk,
so a complete line is always true. A last line without a line feed was cut off by a crash and does
not count.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vidmatte.errors import OptionError, WriteError
from vidmatte.media.atomic import sync_folder
from vidmatte.media.lock import flock
from vidmatte.write.folders import create_folders, remove_folders
from vidmatte.write.partial import plain_name

Record = Mapping[str, Any]

JOURNAL = "journal.jsonl"
_LOCK_TRIES = 100  # each failed one means that another run ended at this very moment
_log = logging.getLogger(__name__)


def work_folder(output: Path | str) -> Path:
    """Return the hidden folder of a render, by the path of its first output."""
    path = Path(output)
    return path.parent / f".{plain_name(path)}.vidmatte"


class Journal:
    """The work folder of one render, and the list of what is done in it.

    Any process may add lines; only the holder of `lock` begins, cleans or removes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / JOURNAL
        # Beside the folder and not in it: network file systems and FUSE keep a removed file under
        # another name while it is open, so that its folder could not be removed.
        self._lock_path = folder.with_name(f"{folder.name}.lock")

    @property
    def exists(self) -> bool:
        """Whether a render was begun here."""
        return self._path.is_file()

    def header(self) -> Record:
        """Return the first line; empty if there is none. Raises WriteError if it is unreadable."""
        return next(self.records(), {})

    def records(self) -> Iterator[Record]:
        """Yield all lines in the order of writing. Raises WriteError if one is unreadable."""
        try:
            with open(self._path, encoding="utf-8") as file:
                for line in file:
                    # Only the last line can be incomplete: every line is one write under a lock.
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
                f"{self._path}: is damaged ({error}); delete the folder {self.folder} to start over"
            ) from error

    def done(self) -> Iterator[str]:
        """Yield the names of the finished units."""
        return (str(record["unit"]) for record in self.records() if "unit" in record)

    def begin(self, header: Record) -> None:
        """Clear the folder and write the header. The journal must be locked. Raises WriteError."""
        try:
            # The journal goes first: the rest of an interrupted removal must not pass for a render.
            self._path.unlink(missing_ok=True)
            for path in list(self.folder.iterdir()):
                _remove(path)
        except OSError as error:
            raise WriteError(
                f"{self.folder}: what an earlier run left there cannot be removed "
                f"({error.strerror}); delete the folder"
            ) from error
        self.add(header)

    def add(self, record: Record) -> None:
        """Append a line, and return when it is on the disk. Raises WriteError."""
        line = json.dumps(record, separators=(",", ":")) + "\n"
        try:
            with open(self._path, "ab+") as file:
                flock(file.fileno(), wait=True)  # released when the file is closed
                _end_line(file)
                # One write: readers never see half a line, and neither do two writers mix theirs.
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            # The fsync covers the content; a new file's name is in the folder.
            sync_folder(self.folder)
        except OSError as error:
            raise WriteError(
                f"{self._path}: cannot be written ({error.strerror}); free some space"
            ) from error

    def remove_stale(self) -> None:
        """Remove the partial files and folders of killed runs. The journal must be locked.

        Files still held by a process stay, and so do those that cannot be removed.
        """
        if not self.folder.is_dir():
            return
        # Partial files are in the folder itself (adapted weights) and in its subfolders.
        for parent in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
            for path in list(parent.iterdir()):
                if path.name.startswith(".") and path.name.endswith(".partial"):
                    with suppress(OSError):
                        if not _is_held(path):
                            _remove(path)

    def remove(self, *, journal_last: bool = False) -> str:
        """Remove the folder; return why something could not be removed, or an empty text.

        The journal goes first, so that an interrupted removal does not look like a render. With
        `journal_last` it goes last: for a render whose journal records that its outputs are in
            place.
        Never raises OSError: leftovers must not spoil a finished run.
        """
        failures: list[str] = []
        if not self.folder.is_dir():
            return ""
        if not journal_last:
            _try_to_remove(self._path, failures)
        for path in list(self.folder.iterdir()):
            if path != self._path:
                _try_to_remove(path, failures)
        _try_to_remove(self._path, failures)
        try:
            self.folder.rmdir()
        except OSError as error:
            failures.append(error.strerror or str(error))
        return failures[0] if failures else ""

    def remove_if_empty(self) -> None:
        """Remove the folder if no more than adaptation is done; log it if that fails."""
        if all(name.startswith("adapt:") for name in self.done()) and (reason := self.remove()):
            _log.warning("%s: could not be removed (%s); delete the folder", self.folder, reason)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from rendering to the same outputs; create the folder if needed.

        Raises OptionError if another process holds the lock, WriteError if it cannot be created.
        """
        new_folders: list[Path] = []
        try:
            file = _locked_file(self._lock_path, new_folders)
        except OSError as error:
            raise self._not_writable(error) from error
        if file is None:
            raise OptionError(
                f"{self.folder}: another run is writing these outputs; wait for it, or stop it "
                "first"
            )
        with file:
            try:
                self._create_folder()
                yield
            finally:
                with suppress(OSError):  # it is not empty, or gone
                    self.folder.rmdir()
                # Removed while it is locked: a run that opened it meanwhile sees that it is gone.
                with suppress(OSError):
                    self._lock_path.unlink(missing_ok=True)
                # Only folders that are empty again: those of a run that wrote nothing.
                remove_folders(new_folders)

    def _create_folder(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> WriteError:
        return WriteError(
            f"{self.folder}: cannot be written ({error.strerror}); segments of a long clip are "
            f"kept there until all are done"
        )


def _locked_file(path: Path, new_folders: list[Path]) -> IO[bytes] | None:
    """Create and lock a file; None if another process holds it. Raises OSError.

    Folders that are created for it are added to `new_folders`.
    """
    # Bounded, for file systems that number one file differently each time.
    for tries_left in reversed(range(_LOCK_TRIES)):
        new_folders += create_folders(path.parent)
        try:
            file = open(path, "ab")  # noqa: SIM115 - returned open: it holds the lock
        except FileNotFoundError:
            # Another run that has just ended removed the folder again.
            if path.parent.is_dir() or not tries_left:
                raise
            continue
        try:
            if flock(file.fileno()) is False:
                file.close()
                return None
            # A process that has just ended may have removed the file after it was opened here.
            if not tries_left or os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()
    return None


def _is_held(path: Path) -> bool:
    """Return whether a process has locked a file or folder, see `write.partial.lock`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return flock(descriptor) is False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_to_remove(path: Path, failures: list[str]) -> None:
    try:
        _remove(path)
    except OSError as error:
        failures.append(error.strerror or str(error))


def _end_line(file: IO[bytes]) -> None:
    """Cut off a line that a crash left unfinished."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        # Rare and short: an entry of a journal is a few kilobytes at most.
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
