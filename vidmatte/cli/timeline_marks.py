"""Which media of a timeline `vidmatte pick` opens, one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidmatte.cli.console import say
from vidmatte.edit.choose import EditOptions
from vidmatte.edit.shots import PROMPTS, EditShot, marks_of, read_edit
from vidmatte.errors import PromptError
from vidmatte.media.patterns import stem_of


@dataclass(frozen=True)
class MarkedMedia:
    """A media of a timeline that is to be marked."""

    path: Path
    shots: tuple[str, ...]
    first: int
    last: int
    """First and last frame that the timeline shows of it."""
    rate: Fraction | None
    """Frames per second of a sequence; movies have their own."""
    prompt_file: Path | None
    """Where its marks are kept; None for beside it."""

    def __str__(self) -> str:
        names = ", ".join(self.shots)
        return f"{self.path}, frames {self.first} to {self.last} ({names})"


def media_to_mark(path: Path, options: EditOptions, *, again: bool) -> list[MarkedMedia]:
    """Return the media of a timeline without marks, with `again` all, in order of first use.

    What is left out is said.

    Raises the errors of `read_edit`.
    """
    edit = read_edit(path, options)
    folder = path.absolute().parent
    found: dict[Path, list[EditShot]] = {}
    marked = 0
    for shot in edit.shots:
        if shot.media is None:
            say(f"Left out: {shot.name}: {shot.problem}")
        elif again or not _is_marked(shot, folder):
            found.setdefault(shot.media.path, []).append(shot)
        else:
            marked += 1
    if marked:
        say(f"{marked} of {len(edit.shots)} shots are marked; --again opens them too.")
    return [_to_mark(shots, folder) for shots in found.values()]


def _is_marked(shot: EditShot, folder: Path) -> bool:
    try:
        marks_of(shot, folder)
    except PromptError:
        return False
    return True


def _to_mark(shots: Sequence[EditShot], folder: Path) -> MarkedMedia:
    media = shots[0].media
    assert media is not None
    is_writable = os.access(media.path.parent, os.W_OK | os.X_OK)
    return MarkedMedia(
        media.path,
        tuple(shot.name for shot in shots),
        min(shot.first for shot in shots),
        max(shot.last for shot in shots),
        media.rate if media.is_sequence else None,
        # Rushes are often read-only: then beside the timeline, where a batch looks, too.
        None if is_writable else folder / f"{stem_of(media.path)}{PROMPTS}",
    )
