"""Locks to keep two runs from the same files; they end with the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vidmatte.errors import OptionError, WriteError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def exclusive(path: Path, reason: str) -> Iterator[None]:
    """Hold a lock beside a file during the block; the hidden lock file is removed after it.

    On a file system without locks nothing is held.

    Args:
        path: The protected path; it need not exist, but its folder must.
        reason: Beginning of the message if somebody else holds the lock.

    Raises:
        OptionError: If another process holds the lock.
        WriteError: If the lock file cannot be created.
    """
    place = path.with_name(f".{path.name}.lock")
    descriptor = _open(place)
    try:
        if _lock(descriptor) is False:
            raise OptionError(
                f"{path}: {reason} ({_holder(descriptor)}); wait for it, or stop it first"
            )
        with suppress(OSError):  # only for the message of the other run
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()}".encode())
        yield
        # Removed while it is held: whoever opened it meanwhile sees that it is another file.
        with suppress(OSError):
            place.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(place: Path) -> int:
    try:
        while True:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(place)):
                    return descriptor
            # Removed by a run that ended in this moment.
            os.close(descriptor)
    except OSError as error:
        raise WriteError(
            f"{place}: cannot be created ({error.strerror}); check the rights of its folder"
        ) from error


def flock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file or folder until its descriptor is closed or the process ends.

    Args:
        descriptor: File descriptor; reading suffices.
        wait: Wait until another process releases its lock.

    Returns:
        True if the lock is held now, False if another process holds it, None if there are no such
        locks: on Windows, and on some network file systems.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):  # NFS may report EACCES
        return False
    except OSError:
        return None
    return True


def _lock(descriptor: int) -> bool | None:
    """Lock a file as `flock` does, and on Windows its first byte."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return None
        return True
    return flock(descriptor)


def _holder(descriptor: int) -> str:
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, 100).decode(errors="replace") or "another process"
    return "another process"
