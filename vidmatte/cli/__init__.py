"""The command line: options into one call of the library, results and errors into text."""

from __future__ import annotations

from typing import Any

import click

from vidmatte import __version__
from vidmatte.cli.batch import batch_command
from vidmatte.cli.doctor import doctor_command
from vidmatte.cli.evaluate import evaluate_command
from vidmatte.cli.matte import matte_command
from vidmatte.cli.models import models_command
from vidmatte.cli.pick import pick_command
from vidmatte.cli.train import train_command

_INTERRUPTED = 130


class _DefaultCommand(click.Group):
    """A group whose first word need not be a command: `vidmatte clip.mp4` is `vidmatte matte clip.mp4`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["matte", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Options before the input belong to the default command, but for those of the group itself.
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["matte", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # at a moment that the command itself has nothing to say of
            ctx.exit(_INTERRUPTED)


@click.group(
    cls=_DefaultCommand,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="vidmatte")
def cli() -> None:
    """Mark an object once, get production mattes of every frame.

    \b
    vidmatte clip.mp4 --ref-frame 0 --points "640,360 700,410 80,40,0" -o shot.mov
    vidmatte pick clip.mp4   mark it in the browser
    vidmatte matte --help    all options of this, the default command
    """


cli.add_command(doctor_command)
cli.add_command(matte_command)
cli.add_command(batch_command)
cli.add_command(pick_command)
cli.add_command(evaluate_command)
cli.add_command(models_command)
cli.add_command(train_command)
