"""What all commands share: how an error ends one."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from vidmatte.errors import OptionError, VidmatteError


def fail(error: VidmatteError) -> NoReturn:
    """Print the error as one line and leave: with 2 where the options are wrong, else 1."""
    click.echo(f"Error: {error}", err=True)
    sys.exit(2 if isinstance(error, OptionError) else 1)
