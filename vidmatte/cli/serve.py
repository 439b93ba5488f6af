"""`vidmatte serve`: an HTTP service with a queue."""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
from pathlib import Path
from typing import Any

import click

from vidmatte.cli.console import INTERRUPTED, one_line_errors, say
from vidmatte.config import load_config
from vidmatte.errors import OptionError
from vidmatte.process import loading

_TOKEN = "VIDMATTE_TOKEN"
_SHORTEST_TOKEN = 16
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@click.command("serve")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. Put a proxy with TLS in front of anything but this machine itself.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8750,
    show_default=True,
    metavar="N",
    help="Where to listen; 0 takes a free port.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("vidmatte-jobs"),
    show_default=True,
    metavar="DIR",
    help="Folder of the jobs; a restart finds them there.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the token that clients send.  [default: VIDMATTE_TOKEN, or a new one, printed]",
)
@click.option(
    "--device", metavar="DEVICE", help="The one device to use.  [default: every GPU, or the CPU]"
)
@click.option(
    "--max-upload",
    default="8G",
    show_default=True,
    metavar="BYTES",
    help="Largest clip that is taken: 500M, 8G.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Most jobs that are not finished; further ones are refused.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def serve_command(debug: bool, **given: Any) -> None:
    """Take jobs over HTTP: clip and prompts in, mattes out.

    Jobs wait in a queue, and each device renders one at a time. /openapi.json describes the
    interface. Ctrl-C ends the service; finished jobs are there after a restart, and those that
    were running begin again, from their last finished segment.
    """
    with one_line_errors(debug=debug):
        token = _token(given["token_file"])
        largest = _bytes(given["max_upload"])
        with loading():
            from vidmatte.service.render import device_names
            from vidmatte.service.server import Service

        service = Service(
            given["data"],
            token=token,
            devices=device_names() if given["device"] is None else (given["device"],),
            host=given["host"],
            port=given["port"],
            largest_clip=largest,
            limit=given["max_jobs"],
            config=load_config(),
        )
        try:
            with service:
                say(f"Serving at {service.address}, jobs in {given['data']}; Ctrl-C ends it.")
                if not os.environ.get(_TOKEN) and given["token_file"] is None:
                    say(f"Token: {token}")
                _wait()
        except KeyboardInterrupt:
            say("Ended; the jobs are kept.")
            sys.exit(INTERRUPTED)


def _wait() -> None:
    """Wait until interrupted."""
    # On Windows a wait without a limit cannot be interrupted.
    while not threading.Event().wait(0.5):
        pass


def _token(path: Path | None) -> str:
    """Return the token of a file or of the variable, or a new one. Raises OptionError."""
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OptionError(f"{path}: cannot be read ({reason}); name another file") from error
        return _checked(token, str(path))
    named = os.environ.get(_TOKEN)
    return _checked(named, _TOKEN) if named else secrets.token_urlsafe(32)


def _checked(token: str, where: str) -> str:
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or re.search(r"\s", token):
        raise OptionError(
            f"{where}: the token needs at least {_SHORTEST_TOKEN} characters of ASCII without "
            f"spaces"
        )
    return token


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)B?", text.strip().upper())
    if found is None or int(found[1]) == 0:
        raise OptionError(f"--max-upload {text!r} is not valid: write 500M or 8G")
    return int(found[1]) * _UNITS[found[2]]
