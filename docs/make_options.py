"""Write docs/options.md, the reference of the command line, from the commands: `make options`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from vidmatte.cli import cli
from vidmatte.option_table import options_as_markdown

PAGE = Path(__file__).with_name("options.md")
_HEAD = """# Command line

<!-- Written by docs/make_options.py (`make options`) from the commands; do not edit. -->

`vidmatte INPUT...` is short for `vidmatte matte INPUT...`. Each command prints this reference with
`-h` or `--help`. Exit codes are 0 (done), 1 (failed), 2 (wrong usage) and 130 (interrupted).
"""


_MATTE = """The options, except `--overwrite` and `--resume`, are also keys of [batch manifests](guides/batch.md), with
underscores or hyphens: `clip_black = 0.1`. In Python, they are the fields of `vidmatte.MatteOptions` and of its
`finish`; `--fps` is `frame_rate` there. A value in brackets may be left out. `--quiet` prints errors only, `--json`
one JSON object on standard output, and `--debug` the traceback of an error; `-v` (`--verbose`) says how long each
stage took, and `--log-file FILE` adds all messages with their times to a file. The variables `VIDMATTE_MODEL`, `_SD`,
`_WEIGHTS`, `_DEVICE`, `_PRECISION`, `_BATCH_SIZE`, `_THREADS` and `_WORKING_SIZE` set these options for a machine.
"""  # noqa: E501


def options_page() -> str:
    """Return the page: a section per command, each with its usage and a table of its options."""
    program = click.Context(cli, info_name="vidmatte", terminal_width=100, **cli.context_settings)
    sections = []
    for name in cli.list_commands(program):
        command = cli.get_command(program, name)
        assert command is not None
        sections += _sections(command, name, program)
    return "\n".join([_HEAD, *sections])


def _sections(command: click.Command, name: str, parent: click.Context) -> list[str]:
    """Return the section of a command, and those of its subcommands."""
    context = click.Context(command, info_name=name, parent=parent)
    title = f"## {context.command_path}"
    lines = [title, "", *_description(command), "", "```text", context.get_usage(), "```", ""]
    if name == "matte":
        lines += [_MATTE, options_as_markdown()]
    else:
        lines += _table(command, context)
    sections = ["\n".join(lines) + "\n"]
    if isinstance(command, click.Group):
        for name, subcommand in sorted(command.commands.items()):
            sections += _sections(subcommand, name, context)
    return sections


def _table(command: click.Command, context: click.Context) -> list[str]:
    """Return the table of a command's options, without `--help`."""
    lines = ["| option | meaning |", "| --- | --- |"]
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record is not None and "--help" not in option.opts:
            lines.append(f"| {_code(record[0])} | {_cell(record[1])} |")
    return lines


def _description(command: click.Command) -> list[str]:
    """Return the help text as Markdown; click marks preformatted paragraphs by a backspace."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            lines += ["```text", *paragraph.removeprefix("\b").strip("\n").splitlines(), "```", ""]
        else:
            lines += [_escape(" ".join(paragraph.split())), ""]
    return lines[:-1]


def _code(text: str) -> str:
    """Return code for a table cell; docs/hooks.py undoes the escaping of bars for MkDocs."""
    return f"`{text}`".replace("|", "\\|")


def _cell(text: str) -> str:
    """Return help text for a table cell, safe from being read as markup."""
    return _escape(" ".join(text.split())).replace("|", "\\|")


def _escape(text: str) -> str:
    return re.sub(r"([*_<>\[\]{}#])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8")
