"""Options of commands that take a timeline of an editing program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from vidmatte.edit.choose import Choice, EditOptions
from vidmatte.edit.open import is_timeline
from vidmatte.errors import OptionError
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
