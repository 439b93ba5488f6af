"""Write the new timelines of a batch, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.run import ShotRun
from vidmatte.cli.console import say
from vidmatte.edit.place import Leftovers, mattes_of
from vidmatte.edit.shots import Edit
from vidmatte.edit.write import NewTimelines


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
