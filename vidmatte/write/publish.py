"""Put complete files in place: all of them under their final names, or none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import WriteError
from vidmatte.write.identity import InputFiles
from vidmatte.write.partial import plain_name


class PlacementError(WriteError):
    """A complete output could not get its final name, and everything was put back.

    Rendering again would not help: the message names the place of the kept output.
    """


@dataclass(frozen=True)
class _Move:
    partial: Path
    final: Path
    """With symbolic links followed: the target of a link is replaced, not the link."""

    @property
    def backup(self) -> Path:
        """Place of the replaced file until all outputs are in place."""
        name = self.partial.name
        if not name.startswith("."):  # an image in its hidden folder, whose name may be a long one
            name = plain_name(self.partial)
        return self.partial.with_name(f"{name}.replaced.partial")


def publish(
    moves: Sequence[tuple[Path, Path]], *, overwrite: bool, inputs: InputFiles
) -> list[str]:
    """Rename every (partial, final) pair; after an error or an interrupt, all is put back.

    Args:
        moves: Pairs (from, to), each on one disk.
        overwrite: Replace existing files with a final name.
        inputs: Files never to be replaced.

    Returns:
        Backups of replaced files that could not be removed, one sentence each.

    Raises:
            PlacementError: If a final name is taken or refused. The partial files are complete and
                still there, and the message describes the files with final names.
    """
    if overwrite:
        inputs.read_again()  # one may have been replaced, or linked to, since the start
    begun: list[_Move] = []
    try:
        for partial, name in moves:
            if os.path.lexists(name):
                _refuse_existing(name, overwrite=overwrite, inputs=inputs)
            move = _Move(partial, Path(os.path.realpath(name)))
            # Noted before the rename: an interrupt between the two must be rolled back as well.
            begun.append(move)
            _put_in_place(move, overwrite=overwrite)
    except BaseException as error:
        outcome = _roll_back(begun)
        if isinstance(error, PlacementError):
            raise PlacementError(f"{error}; {outcome}") from error.__cause__
        if isinstance(error, FileExistsError):
            raise PlacementError(f"{begun[-1].final}: {_CREATED_MEANWHILE}; {outcome}") from error
        if isinstance(error, OSError):
            raise PlacementError(
                f"{begun[-1].final}: cannot be put in place ({error.strerror}); {outcome}"
            ) from error
        raise
    return _remove_backups(begun)


_CREATED_MEANWHILE = "was created by someone else meanwhile"


def _refuse_existing(name: Path, *, overwrite: bool, inputs: InputFiles) -> None:
    if not overwrite:
        raise PlacementError(f"{name}: {_CREATED_MEANWHILE}")
    replaced = inputs.find(name)
    if replaced is not None:
        raise PlacementError(f"{name}: is an input ({replaced}), which is never replaced")


def _put_in_place(move: _Move, *, overwrite: bool) -> None:
    """Rename one file. Raises OSError; FileExistsError if the name was just created."""
    # A folder is never replaced: `check_outputs` refused it.
    if move.final.is_file():
        _back_up(move)
    if not overwrite and move.partial.is_file() and _link(move.partial, move.final):
        # A link never replaces a file, so that one created at this moment is safe.
        move.partial.unlink()
    else:
        os.replace(move.partial, move.final)


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name; False if the file system has no links. Raises FileExistsError."""
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _back_up(move: _Move) -> None:
    if not _link(move.final, move.backup):
        # Renaming keeps the file too, but its name is free for a moment.
        os.replace(move.final, move.backup)


def _roll_back(begun: Sequence[_Move]) -> str:
    """Undo the renames, and describe the final names afterwards, as part of a sentence."""
    changed = []
    for move in reversed(begun):
        try:
            _restore(move)
        except OSError:
            changed.append(_describe_changed(move))
    return "; ".join(changed) or "what was there before is unchanged"


def _describe_changed(move: _Move) -> str:
    if os.path.lexists(move.backup):
        return f"what was {move.final} before lies at {move.backup}"
    if os.path.lexists(move.final):
        return f"{move.final} is the new file already"
    return f"nothing is at {move.final}"


def _restore(move: _Move) -> None:
    if not os.path.lexists(move.partial):
        # Only our own file can be under the final name, as the partial one is gone.
        os.replace(move.final, move.partial)
    elif _is_same(move.partial, move.final):
        move.final.unlink()  # linked, and the hidden name not removed yet
    if os.path.lexists(move.backup):
        if not _is_same(move.backup, move.final):
            os.replace(move.backup, move.final)
        move.backup.unlink(missing_ok=True)


def _is_same(one: Path, other: Path) -> bool:
    return os.path.lexists(other) and os.path.samefile(one, other)


def _remove_backups(done: Sequence[_Move]) -> list[str]:
    left = []
    for move in done:
        try:
            move.backup.unlink(missing_ok=True)
        except OSError as error:
            left.append(
                f"{move.backup}: the replaced file could not be removed ({error.strerror}); "
                f"delete it"
            )
    return left
