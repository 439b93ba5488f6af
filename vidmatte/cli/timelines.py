"""Options of commands that take a timeline of an editing program."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.run import ShotRun
from vidmatte.cli.console import say
from vidmatte.edit.choose import Choice
from vidmatte.edit.open import is_timeline
from vidmatte.edit.place import Leftovers, mattes_of
from vidmatte.edit.shots import PROMPTS, Edit, EditOptions, EditShot, marks_of, read_edit
from vidmatte.edit.write import NewTimelines
from vidmatte.errors import OptionError, PromptError
from vidmatte.media.patterns import stem_of
from vidmatte.options import parse_rate

Command = TypeVar("Command", bound=Callable[..., Any])
_NAMES = ("tracks", "marker", "media", "handles", "fps", "sequence")


def timeline_options(command: Command) -> Command:
    """Add the options that choose clips of a timeline and find their media."""
    options = (
        click.option(
            "--track",
            "tracks",
            multiple=True,
            metavar="NAME",
            help="Timeline: video track, by name or number (V2); repeatable.  [default: all]",
        ),
        click.option(
            "--marker",
            metavar="TEXT",
            help="Timeline: only clips with this text in a marker or note.",
        ),
        click.option(
            "--media",
            metavar="DIR",
            help="Timeline: folder to search for media that are not at their path, by file name, "
            "clip name or reel.",
        ),
        click.option(
            "--handles",
            type=click.IntRange(min=0),
            metavar="FRAMES",
            help="Timeline: frames to add before and after each clip.  [default: 0]",
        ),
        click.option(
            "--fps", metavar="RATE", help="Timeline: frame rate of an EDL, which does not say it."
        ),
        click.option("--sequence", metavar="NAME", help="Timeline: one of several sequences."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def edit_options(given: Mapping[str, Any], *, root: str | None = None) -> EditOptions:
    """Return the options of a timeline. Raises OptionError."""
    return EditOptions(
        rate=None if given["fps"] is None else parse_rate(given["fps"]),
        sequence=given["sequence"],
        choice=Choice(tuple(given["tracks"]), given["marker"]),
        media=None if given["media"] is None else Path(given["media"]),
        handles=given["handles"] or 0,
        root=None if root is None else Path(root),
    )


def refuse_without_timeline(path: str | Path | None, given: Mapping[str, Any], *more: str) -> None:
    """Raise OptionError for options of a timeline, and `more` of them, if it is another file."""
    if path is not None and is_timeline(path):
        return
    for name in (*_NAMES, *more):
        if given[name]:
            flag = "--track" if name == "tracks" else f"--{name.replace('_', '-')}"
            found = "no file was given" if path is None else f"{path} is none"
            raise OptionError(f"{flag} was given: it is for timelines, and {found}; leave it out")


def words_of(given: Mapping[str, Any]) -> list[str]:
    """Return the options of a timeline as words of a command line, with absolute paths."""
    words = [word for track in given["tracks"] for word in ("--track", track)]
    for name in ("marker", "fps", "sequence"):
        if given[name] is not None:
            words += [f"--{name}", given[name]]
    if given["media"] is not None:
        words += ["--media", str(Path(given["media"]).resolve())]
    if given["handles"]:
        words += ["--handles", str(given["handles"])]
    return words


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


def write_rendered(
    edit: Edit, made: NewTimelines, runs: Sequence[ShotRun], *, quiet: bool
) -> tuple[list[Path], list[str]]:
    """Write the new timelines with what a batch has rendered; see `write_timelines`.

    Nothing is written if the batch was stopped, or if nothing was rendered: the next run does it.
    """
    rendered = [run.shot for run in runs if run.state in ("done", "up to date")]
    if not rendered or any(run.state == "stopped" for run in runs):
        return [], []
    return write_timelines(edit, made, rendered, quiet=quiet)


def write_timelines(
    edit: Edit, made: NewTimelines, shots: Sequence[ShotRequest], *, quiet: bool
) -> tuple[list[Path], list[str]]:
    """Write the new timelines with the mattes of some shots, and say so.

    Returns:
        The files, and what could not be put into them, in sentences.
    """
    missing = Leftovers()
    for shot in shots:
        if shot.uris:
            missing.add(f"not in the new timeline: {shot.name}, whose mattes were sent elsewhere")
    specs = {shot.name: shot.request.outputs.specs for shot in shots if not shot.uris}
    files = mattes_of(edit, specs, missing)
    for text in missing.notes:
        say(f"Failed: {text}")
    if not files:
        return [], missing.notes
    paths, notes = made.write(edit, files)
    for note in notes:
        say(f"Note: {note}", quiet=quiet)
    for path in paths:
        say(f"{path}: timeline with the mattes", quiet=quiet)
    return paths, missing.notes
