"""What commands share: how an error ends one, and how a run is summed up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from vidmatte.errors import OptionError, VidmatteError
from vidmatte.report.summary import Summary


@contextmanager
def one_line_errors(
    *, debug: bool = False, interrupted: Callable[[], str] | None = None
) -> Iterator[None]:
    """End the program with one line where what is inside fails: 2 where the options are wrong, else 1.

    At Ctrl-C the line is what `interrupted` says, and the code 130. With `debug` errors keep their traceback.
    """
    try:
        yield
    except (VidmatteError, OSError) as error:
        if debug:
            raise
        if not isinstance(error, VidmatteError):
            # What the file system refuses at any other place: an unreadable folder, a name that is too long.
            error = VidmatteError(
                f"{error.filename or 'a file'}: {error.strerror or error}; check the path and its permissions"
            )
        click.echo(f"Error: {error}", err=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        click.echo(interrupted(), err=True)
        sys.exit(130)


def print_summary(summary: Summary) -> None:
    """Say on standard error what a run did."""
    for output in summary.outputs:
        click.echo(
            f"{output.path}: {output.kind}, {output.codec} {output.pixel_format}, {output.frames} frames",
            err=True,
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
            f"The least sure frames, where a further reference would help: {', '.join(map(str, frames))}",
            err=True,
        )
