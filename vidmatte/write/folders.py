"""Try folders of outputs before any work, create them, and remove them if they stay empty."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vidmatte.errors import WriteError
from vidmatte.write.partial import guard, lock, partial_path


def nearest_folder(folder: Path) -> Path:
    """Return the folder if it exists, else the nearest existing one above it."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def check_folder(folder: Path, *, asked: object) -> None:
    """Raise WriteError if a folder cannot be written, or created if it is missing.

    Args:
        folder: Folder of the output.
        asked: Path as given by the user, for the message.
    """
    place = nearest_folder(folder)
    if not place.is_dir():
        raise WriteError(f"{asked}: {place} is not a folder; choose another path")
    if not os.access(place, os.W_OK | os.X_OK):
        what = "" if place == folder.absolute() else f", and {folder.name} is to be created in it"
        raise WriteError(f"{asked}: the folder {place} is not writable{what}; choose another one")


def create_folders(folder: Path) -> list[Path]:
    """Create a folder and missing ones above it; return the new ones, outermost first.

    Raises OSError. Folders that were created before the error are removed again.
    """
    missing: list[Path] = []
    place = folder
    while not place.exists():
        missing.insert(0, place)
        place = place.parent
    new: list[Path] = []
    try:
        for path in missing:
            with suppress(FileExistsError):  # another run was faster: it is theirs
                path.mkdir()
                new.append(path)
    except OSError:
        remove_folders(new)
        raise
    return new


def remove_folders(new: Sequence[Path]) -> None:
    """Remove the folders that `create_folders` returned, if they are empty."""
    # Innermost first.
    for path in reversed(new):
        with suppress(OSError):  # something else was put there meanwhile
            path.rmdir()


@contextmanager
def trial_folder(final: Path) -> Iterator[Path]:
    """Create a hidden folder to try the name of an output in, and remove it at the end.

    It lies in the folder of the output, or in the nearest existing one above. Raises OSError.
    """
    trial = partial_path(nearest_folder(final.parent) / final.name)
    with guard(trial.parent):
        trial.mkdir()
        held = lock(trial)  # or another run would remove it as stale
    try:
        yield trial
    finally:
        if held is not None:
            os.close(held)
        shutil.rmtree(trial, ignore_errors=True)


def try_name(trial: Path, final: Path) -> Path:
    """Create an empty file with the name of an output in its trial folder, and return its path.

    Missing folders of the output are tried with it. Raises OSError if the disk refuses a name, for
    its length or its characters.
    """
    path = trial / final.absolute().relative_to(nearest_folder(final.parent))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def check_name(final: Path, *, asked: object) -> None:
    """Raise WriteError if the disk refuses the name of a file, or of one of its missing folders.

    Args:
        final: The path of a file.
        asked: Path as given by the user, for the message.
    """
    try:
        with trial_folder(final) as trial:
            try_name(trial, final)
    except OSError as error:
        raise name_refused(final, error, asked=asked) from error


def name_refused(final: Path, error: OSError, *, asked: object) -> WriteError:
    """Return the error to raise if `trial_folder` or `try_name` fails."""
    # The error names the very file or folder that was refused.
    refused = Path(error.filename or final)
    if (
        refused.suffix == ".partial"
    ):  # the trial folder itself, which has a name that any disk takes
        return WriteError(
            f"{asked}: the folder {refused.parent} cannot be written ({error.strerror}); "
            f"check its free space and rights"
        )
    return WriteError(
        f"{asked}: the disk does not take the name {refused.name} ({error.strerror}); "
        f"choose another one"
    )


def replaceable(final: Path) -> bool:
    """Return whether this user may replace a file, by the rights of its folder.

    In a folder with the sticky bit, such as /tmp, only the owner of a file or of the folder may.
    """
    if sys.platform == "win32":
        return True
    folder = os.stat(final.parent)
    user = os.geteuid()
    if user == 0 or not folder.st_mode & stat.S_ISVTX:
        return True
    return user in (folder.st_uid, os.lstat(final).st_uid)
