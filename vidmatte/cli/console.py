"""What commands share: how an error ends one, and how a run is summed up."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from vidmatte.errors import OptionError, VidmatteError
from vidmatte.summary import Summary


def fail(error: VidmatteError) -> NoReturn:
    """Print the error as one line and leave: with 2 where the options are wrong, else 1."""
    click.echo(f"Error: {error}", err=True)
    sys.exit(2 if isinstance(error, OptionError) else 1)


def print_summary(summary: Summary) -> None:
    """Say on standard error what a run did."""
    for output in summary.outputs:
        click.echo(
            f"{output.path}: {output.kind}, {output.codec} {output.pixel_format}, {output.frames} frames", err=True
        )
    if summary.report is not None:
        click.echo(f"{summary.report}: report", err=True)
    for note in summary.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.2f} frames/s), {summary.model} on "
        f"{summary.device} in {summary.precision}; confidence {sum(summary.confidence) / summary.frames:.2f} on "
        f"average, {min(summary.confidence):.2f} at the least",
        err=True,
    )
    frames = summary.suggested_reference_frames
    if frames:
        click.echo(
            f"The least sure frames, where a further reference would help: {', '.join(map(str, frames))}", err=True
        )
