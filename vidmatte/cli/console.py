"""Shared by commands: ending with an error, and printing results."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidmatte.errors import OptionError, PromptError, VidmatteError

if TYPE_CHECKING:
    from vidmatte.report.summary import Summary

_log = logging.getLogger(__name__)
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


def has_display() -> bool:
    """Return whether a person sits before this program, on a machine that can show a browser."""
    # Over ssh, a browser would open on the other machine.
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line on standard error, if that can be written to and is not to be quiet; log it."""
    _log.info("%s", text)
    if quiet:
        return
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
def logged(path: Path | None) -> Iterator[None]:
    """Add what is said and what the library logs to a file, if one is given, within the block.

    Raises OptionError if the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OptionError(f"{path}: cannot be written ({error.strerror}); name another file") from (
            error
        )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("vidmatte")
    level, propagates = root.level, root.propagate
    # What is shown stays as it is: the file alone gets the level below.
    shown = logging.StreamHandler()
    shown.setLevel(level or logging.WARNING)
    root.addHandler(handler)
    root.addHandler(shown)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    except BaseException as error:
        # At a level below that of the terminal, where it is said elsewhere.
        _log.info("Stopped: %s", str(error) or type(error).__name__)
        raise
    finally:
        root.removeHandler(handler)
        root.removeHandler(shown)
        root.setLevel(level)
        root.propagate = propagates
        handler.close()


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
            # A traceback for those who look for a bug.
            raise
        code = USAGE if isinstance(error, OptionError | PromptError) else FAILED
        print_error(_message(error), kind=type(error).__name__, code=code, as_json=as_json)
        sys.exit(code)
    except KeyboardInterrupt:
        # A command without a message of its own leaves the interruption to its caller.
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


def print_summary(summary: Summary, *, verbose: bool = False, quiet: bool = False) -> None:
    """Say on standard error what a run did; `verbose` adds the time of each stage."""
    for text in _lines_of(summary, verbose=verbose):
        say(text, quiet=quiet)


def _lines_of(summary: Summary, *, verbose: bool) -> Iterator[str]:
    for output in summary.outputs:
        yield (
            f"{output.path}: {output.kind}, {output.codec} {output.pixel_format}, "
            f"{output.frames} frames"
        )
    for sidecar in summary.sidecars:
        yield f"{sidecar}: sidecar"
    if summary.report is not None:
        yield f"{summary.report}: report"
    for note in summary.notes:
        yield f"Note: {note}"
    confidence = summary.confidence
    if verbose and summary.stages:
        yield ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary.stages.items())
    yield (
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.fps:.2f} frames/s), "
        f"{summary.model} on {summary.device} in {summary.precision}; confidence "
        f"{sum(confidence) / summary.frames:.2f} on average, {min(confidence):.2f} at the least"
    )
    frames = summary.suggested_reference_frames
    if frames:
        yield (
            f"The least sure frames, where a further reference would help: "
            f"{', '.join(map(str, frames))}"
        )
