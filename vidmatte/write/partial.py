"""Hidden names beside an output, for files that are not complete yet.

A partial file is locked as long as a run works on it, and renamed when all is done. A run removes
its own partial files at its end, failed or not. A killed run cannot: the next run that writes the
same output removes files without a holder.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vidmatte.media.lock import flock

_LONGEST_NAME = 100
"""Bytes of a file name in hidden names: most disks take names of 255 bytes, eCryptfs of 143."""
_SAFE_NAME = 40


def partial_path(final: Path) -> Path:
    """Return a new hidden name beside an output, for the incomplete file."""
    return final.parent / f".{plain_name(final)}.{secrets.token_hex(4)}.partial"


def plain_name(final: Path) -> str:
    """Return the name of an output for use in hidden names beside it.

    Characters refused by some disks are replaced, and a long name is cut, with a hash at its end.
    """
    name = re.sub(r"[^\w.-]", "_", final.name)
    data = name.encode(errors="surrogateescape")
    if len(data) <= _LONGEST_NAME:
        return name
    # Eight digits of the hash and a dash take 9 bytes.
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{data[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


def lock(path: Path) -> int | None:
    """Mark a file or folder as being worked on, until the returned descriptor is closed.

    Returns None on Windows, where an open file cannot be removed anyway. Raises OSError.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    flock(descriptor)  # without locks on the file system, later runs leave stale files alone
    return descriptor


@contextmanager
def guard(folder: Path) -> Iterator[None]:
    """Keep other runs from cleaning up in a folder until a new file there is locked.

    Between creating and locking, a partial file looks as if a killed run had left it. Does nothing
    if the system or the file system has no locks on folders.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def clean_stale(final: Path) -> tuple[str, ...]:
    """Remove files of an output left by killed runs, and return their names. Raises OSError."""
    name = re.compile(rf"\.{re.escape(plain_name(final))}\.[0-9a-f]{{8}}\.partial")
    removed = []
    for entry in os.scandir(final.parent):
        if not name.fullmatch(entry.name) or entry.is_symlink() or not _is_abandoned(entry.path):
            continue
        with suppress(OSError):  # of another user: it stays, and harms nobody
            _remove(Path(entry.path))
            removed.append(entry.name)
    return tuple(sorted(removed))


def remove_backups(final: Path) -> None:
    """Remove backups of replaced outputs, left by a run that was killed during `publish`.

    Only for a caller that is alone in writing the output. Raises OSError.
    """
    ending = r"\.[0-9a-f]{8}\.partial\.replaced\.partial"
    name = re.compile(rf"\.{re.escape(plain_name(final))}{ending}")
    # listdir in full: the folder changes while it is walked.
    for entry in list(os.scandir(final.parent)) if final.parent.is_dir() else []:
        if name.fullmatch(entry.name):
            _remove(Path(entry.path))


def keep(partial: Path, final: Path) -> Path | None:
    """Rename a complete output to a safe name beside its own, and return that name.

    If the folder takes no other name either, the output stays under its hidden name, with a mark in
    its rights so that no later run removes it (see `_is_kept`). Returns None if it is gone.
    """
    if not os.path.lexists(partial):
        return None
    is_folder = partial.is_dir()
    suffix = "" if is_folder else final.suffix
    stem = plain_name(Path(final.name.removesuffix(final.suffix))).encode()[:_SAFE_NAME]
    token = secrets.token_hex(4)
    # The first name says more; the second one has only characters that every disk takes.
    for name in (stem.decode(errors="ignore").strip("._") or "output", "output"):
        kept = partial.with_name(f"{name}.finished-{token}{suffix}")
        with suppress(OSError):
            os.rename(partial, kept)
            return kept
    with suppress(OSError):
        # Read-only, or sticky for a folder: the mark that `_is_kept` looks for.
        partial.chmod(0o1755 if is_folder else 0o444)
    return partial


def _is_abandoned(path: str) -> bool:
    """Return whether a partial file has no holder and no mark of `keep`."""
    if sys.platform == "win32":
        # No locks here: an open file is protected by the system, and a read-only one by its mark.
        return os.path.isfile(path) and os.access(path, os.W_OK)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # None, a file system without locks, does not show that nobody works on it.
        return flock(descriptor) is True and not _is_kept(os.fstat(descriptor).st_mode)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_kept(mode: int) -> bool:
    """Return whether `keep` marked a file (read-only) or a folder (sticky bit)."""
    return bool(mode & stat.S_ISVTX) if stat.S_ISDIR(mode) else not mode & stat.S_IWUSR


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
