"""What is not complete yet: hidden names beside an output, held while somebody works on them, renamed when all is done.

A run that ends, in whatever way it can still act, removes its own. One that is killed cannot: the next run that writes
the same output does it, as nobody holds the file any more.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vidmatte.errors import WriteError

if sys.platform != "win32":
    import fcntl


def partial_path(final: Path) -> Path:
    """A hidden name beside an output, for what is not complete yet."""
    return final.parent / f".{plain_name(final)}.{secrets.token_hex(4)}.partial"


def lock(path: Path) -> int | None:
    """Mark a file or folder as being worked on, until what this returns is closed or the process ends.

    None where that is not possible: on Windows (where a file that is open cannot be removed anyway).
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks: what is left there is not removed later either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def clean_stale(final: Path) -> tuple[str, ...]:
    """Remove what killed runs left of an output, and return the names of it."""
    name = re.compile(rf"\.{re.escape(plain_name(final))}\.[0-9a-f]{{8}}\.partial")
    removed = []
    for entry in os.scandir(final.parent):
        if name.fullmatch(entry.name) and not entry.is_symlink() and _is_abandoned(entry.path):
            with suppress(OSError):  # of another user: it stays, and harms nobody
                _remove(Path(entry.path))
                removed.append(entry.name)
    return tuple(sorted(removed))


def remove_backups(final: Path) -> None:
    """Remove what a run that was killed while it put outputs in place kept of those that they replace.

    Only for whoever knows that no other run writes the output.
    """
    name = re.compile(rf"\.{re.escape(plain_name(final))}\.[0-9a-f]{{8}}\.partial\.replaced\.partial")
    for entry in list(os.scandir(final.parent)) if final.parent.is_dir() else []:
        if name.fullmatch(entry.name):
            _remove(Path(entry.path))


def plain_name(final: Path) -> str:
    """The name of an output as it stands in hidden names beside it."""
    return re.sub(r"[^\w.-]", "_", final.name)


def _is_abandoned(path: str) -> bool:
    if sys.platform == "win32":
        return os.path.isfile(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def publish(moves: Sequence[tuple[Path, Path]], *, overwrite: bool) -> None:
    """Rename every (partial, final) pair; where one fails or the user interrupts, all is put back.

    What a symbolic link leads to is replaced, not the link. Raises WriteError.
    """
    done: list[tuple[Path, Path, Path]] = []
    try:
        for partial, name in moves:
            if not overwrite and os.path.lexists(name):
                raise WriteError(f"{name}: was created by someone else meanwhile; choose another name")
            final = Path(os.path.realpath(name))
            backup = partial.with_name(f"{partial.name}.replaced.partial")
            done.append((partial, final, backup))
            if final.is_file():
                _link_backup(final, backup)
            os.replace(partial, final)
    except BaseException as error:
        outcome = _roll_back(done)
        if isinstance(error, OSError) and not isinstance(error, WriteError):
            raise WriteError(f"{done[-1][1]}: cannot be put in place ({error.strerror}); {outcome}") from error
        raise
    for _, _, backup in done:
        backup.unlink(missing_ok=True)


def _roll_back(done: Sequence[tuple[Path, Path, Path]]) -> str:
    """What to tell of it."""
    lost = []
    for partial, final, backup in reversed(done):
        try:
            _restore(partial, final, backup)
        except OSError:
            lost.append(f"{final} lies at {backup}" if os.path.lexists(backup) else f"{final} is the new one")
    return "; ".join(lost) or "nothing was changed"


def _link_backup(final: Path, backup: Path) -> None:
    try:
        os.link(final, backup)
    except OSError:  # a file system without links: renaming keeps the file too, but its name is free for a moment
        os.replace(final, backup)


def _restore(partial: Path, final: Path, backup: Path) -> None:
    if final.exists() and not partial.exists():
        os.replace(final, partial)
    if backup.exists():
        os.replace(backup, final)
        backup.unlink(missing_ok=True)  # renaming one name of a file to its other one leaves both
