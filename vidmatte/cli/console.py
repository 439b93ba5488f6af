"""Shared by commands: ending with an error, and printing results."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vidmatte.errors import OptionError, PromptError, VidmatteError

if TYPE_CHECKING:
    from vidmatte.report.summary import Summary

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


def say(text: str) -> None:
    """Print a line on standard error, if that can be written to."""
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):
        # `process.protect_streams` sees to this for the command; this is for callers of its parts.
        return


def print_result(text: str) -> None:
    """Print text on standard output. Exits with 1, and one line, if it cannot be written."""
    try:
        click.echo(text)
    except OSError as error:
        # Python would try to write the rest at its end, and complain.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if error.errno != errno.EPIPE:  # `| head` has read enough
            say(
                f"Error: standard output cannot be written ({error.strerror}); what was to be "
                f"printed is lost, outputs are not touched: free some space"
            )
        sys.exit(FAILED)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, on one line."""
    print_result(json.dumps(value))


def print_error(message: str, *, kind: str, code: int, as_json: bool) -> None:
    """Print an error on standard error, and with `as_json` on standard output too."""
    say(f"Error: {message}")
    if as_json:
        print_json({"error": {"type": kind, "message": message, "exit_code": code}})


def set_log_level(*, quiet: bool) -> None:
    """Show the library's log on standard error: downloads and losses."""
    logging.getLogger("vidmatte").setLevel(logging.ERROR if quiet else logging.WARNING)


@contextmanager
def one_line_errors(
    *,
    debug: bool = False,
    as_json: bool = False,
    interrupted: Callable[[], str] | None = None,
) -> Iterator[None]:
    """End the program with one line if the block raises an error caused by a user.

    The exit code is 2 for invalid options and prompts, 1 for everything else, 130 at
    Ctrl-C.

    Args:
        debug: Let errors through, for Python's traceback.
        as_json: Print the error as a JSON object on standard output too.
        interrupted: Makes the line for Ctrl-C; None lets KeyboardInterrupt through.
    """
    try:
        yield
    except (VidmatteError, OSError) as error:
        if debug:
            raise
        code = USAGE if isinstance(error, OptionError | PromptError) else FAILED
        print_error(_message(error), kind=type(error).__name__, code=code, as_json=as_json)
        sys.exit(code)
    except KeyboardInterrupt:
        if interrupted is None:
            raise
        print_interrupted(interrupted(), as_json=as_json)
        sys.exit(INTERRUPTED)


def print_interrupted(message: str, *, as_json: bool) -> None:
    """Print the state after an interruption."""
    say(message)
    if as_json:
        error = {"type": "Interrupted", "message": message, "exit_code": INTERRUPTED}
        print_json({"error": error})


def _message(error: VidmatteError | OSError) -> str:
    if isinstance(error, VidmatteError):
        return str(error)
    # What the file system refuses at any other place: an unreadable folder, a name too long.
    place = error.filename or "a file"
    return f"{place}: {error.strerror or error}; check the path and its permissions"


def print_summary(summary: Summary) -> None:
    """Print the summary of a run on standard error."""
    for output in summary.outputs:
        say(
            f"{output.path}: {output.kind}, {output.codec} {output.pixel_format}, "
            f"{output.frames} frames"
        )
    if summary.report is not None:
        say(f"{summary.report}: report")
    for note in summary.notes:
        say(f"Note: {note}")
    confidence = summary.confidence
    say(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.2f} frames/s), "
        f"{summary.model} on {summary.device} in {summary.precision}; confidence "
        f"{sum(confidence) / summary.frames:.2f} on average, {min(confidence):.2f} at the least"
    )
    frames = summary.suggested_reference_frames
    if frames:
        say(
            f"The least sure frames, where a further reference would help: "
            f"{', '.join(map(str, frames))}"
        )
