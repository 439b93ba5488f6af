"""Write files that are complete as soon as they have their name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST_NAME = 255
"""Longest file name in bytes on the usual file systems."""


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a hidden path beside `path` to write to, and rename it to `path` at the end.

    A file that is there already is replaced; if `path` is a symbolic link, the file it
    leads to. If the block raises, or the rename fails, the hidden file is removed and `path`
    stays as it was.

    Args:
        path: The file to write. Its folder must exist.
        durable: Wait until the content has reached the disk before it gets its name, so that a
            power cut leaves the old file or the new one. False is for what can be made again.

    Raises:
        OSError: If the file cannot be written or renamed.
    """
    final = Path(os.path.realpath(path))
    hidden = _hidden_path(final)
    try:
        yield hidden
        if durable:
            _sync_file(hidden)
        os.replace(hidden, final)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            hidden.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(final.parent)


def atomic_write(path: str | Path, data: str | bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all; text as UTF-8. See `atomic_path`.

    Text may hold file names that are no valid Unicode (lone surrogates): they become "?".

    Raises:
        OSError: If the file cannot be written.
    """
    content = data.encode(errors="replace") if isinstance(data, str) else data
    with atomic_path(path, durable=durable) as hidden:
        hidden.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, if the system can."""
    with suppress(OSError):
        _sync(folder, os.O_RDONLY)


def _sync_file(path: Path) -> None:
    # Windows syncs only files open for writing.
    _sync(path, os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hidden_path(final: Path) -> Path:
    ending = f".{secrets.token_hex(4)}.partial"
    name = os.fsencode(final.name)[: _LONGEST_NAME - len(ending) - 1]
    # A character cut in the middle is dropped.
    return final.with_name(f".{name.decode(errors='ignore')}{ending}")
