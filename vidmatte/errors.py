"""The tree of errors.

    VidmatteError                       anything a user can cause; shown as one line
    |- OptionError      (ValueError)    an unknown option, or one that does not fit the others
    |- ReadError        (ValueError)    a source cannot be opened or decoded
    |- PromptError      (ValueError)    points, strokes, box or mask do not fit the reference frame
    |- ModelError       (RuntimeError)  an unknown model, or missing, damaged or other weights
    |- WriteError       (OSError)       an output cannot be created or completed
    |- MissingExtraError (ImportError)  the feature needs an optional dependency

A message says what was asked, what was found and what to do. Whatever else is raised is a bug.

Messages name options of the command line, which shows most of them. A program that uses the library
reads them in the words of Python, see `python_errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Wording = Callable[[str], str]
"""Puts a message for the command line in the words of its reader."""
_wordings: list[Wording] = [str]
"""The last one counts."""


def worded(text: str) -> str:
    """Return a message in the words of whoever reads it."""
    return _wordings[-1](text)


def use_wording(wording: Wording) -> None:
    """Word messages of this process in another way, except within `wording_for_options`."""
    _wordings[0] = wording


@contextmanager
def wording_for_options() -> Iterator[None]:
    """Leave messages as they are for the block: they are shown on a command line."""
    _wordings.append(str)
    try:
        yield
    finally:
        _wordings.pop()


class VidmatteError(Exception):
    """Base of all intended errors of vidmatte."""

    def __str__(self) -> str:
        return worded(super().__str__())


class OptionError(VidmatteError, ValueError):
    """An option has an invalid value, or contradicts another one."""


class ReadError(VidmatteError, ValueError):
    """A source cannot be opened or decoded, or lacks the requested content."""


class PromptError(VidmatteError, ValueError):
    """A prompt marks nothing, lies outside its frame, or has another size than its frame."""


class ModelError(VidmatteError, RuntimeError):
    """A model is unknown, or its weights cannot be used."""


class WriteError(VidmatteError, OSError):
    """An output cannot be created, written or put in place."""


class MissingExtraError(VidmatteError, ImportError):
    """A feature needs a package that is not installed; the message names the extra for it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional package: install it with pip install 'vidmatte[{extra}]'"
        )
