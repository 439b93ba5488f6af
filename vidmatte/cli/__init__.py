"""The command line: options into one call of the library, results and errors into text.

Commands are loaded when they are called, to keep `vidmatte --help` fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from vidmatte import __version__
from vidmatte.cli.console import INTERRUPTED, USAGE, print_json
from vidmatte.errors import wording_for_options
from vidmatte.process import loading

_COMMANDS = {
    "pick": "Mark, see, correct and finish CLIP in the browser.",
    "matte": "Matte a clip, a sequence of frames or a set of images (the default command).",
    "batch": "Matte many shots of a manifest or a folder.",
    "watch": "Render what is put into FOLDER with its prompts, and move it on.",
    "serve": "Take jobs over HTTP: clip and prompts in, mattes out.",
    "evaluate": "Measure a model on a data set.",
    "train": "Train a part of the embedded model or IconMatting's head.",
    "models": "List the models, or check a file of weights.",
    "demo": "Matte the sample clip that comes with vidmatte, and compare it with its exact alpha.",
    "hosts": "Copy the plug-in for Nuke or Blender to where the program finds it.",
    "schema": "Print a JSON schema (2020-12), for editors, scripts and checks.",
    "doctor": "Say what this installation can read, write and run on.",
}
"""What each command does; it is `NAME_command` in the module of its name."""


class _LazyGroup(click.Group):
    """A group with a default command: `vidmatte clip.mp4` is `vidmatte matte clip.mp4`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading its module."""
        if cmd_name not in _COMMANDS:
            return None
        with loading():
            module = import_module(f"vidmatte.cli.{cmd_name}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Pass words without a command to the default command."""
        if args[0] not in _COMMANDS:
            _refuse_typing_error(ctx, args[0])
        return super().resolve_command(ctx, args if args[0] in _COMMANDS else ["matte", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give options in front of the input to the default command."""
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["matte", *args]
        # Which options a command has is not known before it is loaded.
        ctx.meta["as_json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; usage errors are printed as JSON too with --json."""
        try:
            with wording_for_options():
                return super().invoke(ctx)
        except KeyboardInterrupt:  # at a moment that the command itself does not handle
            ctx.exit(INTERRUPTED)
        except click.UsageError as error:
            if ctx.meta["as_json"]:
                message = error.format_message()
                print_json(
                    {"error": {"type": "UsageError", "message": message, "exit_code": USAGE}}
                )
            raise


def _refuse_typing_error(ctx: click.Context, word: str) -> None:
    """Raise UsageError for a word that is no file and almost the name of a command."""
    from difflib import get_close_matches

    close = get_close_matches(word, _COMMANDS, n=1)
    if close and not os.path.lexists(word):
        raise click.UsageError(
            f"{word!r} is neither a command nor a file: did you mean 'vidmatte {close[0]}'?", ctx
        )


@click.group(
    cls=_LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="vidmatte")
def cli() -> None:
    """Mark an object once, get production mattes of every frame.

    \b
    vidmatte pick clip.mp4    mark it in the browser, see the matte, and write it
    vidmatte clip.mp4 --points "640,360 700,410 80,40,0" -o shot.mov
    vidmatte matte --help     all options of this, the default command
    vidmatte demo             try it on a sample clip
    """
