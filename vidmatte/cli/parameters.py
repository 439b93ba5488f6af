"""Parameters of commands, made from the table of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from vidmatte.config import load_config
from vidmatte.option_table import GROUPS, OPTIONS, Option

STANDARD = "-"
"""Standard input or output in place of a path."""
Command = TypeVar("Command", bound=Callable[..., Any])
_TYPES = {"number": click.FLOAT, "whole": click.INT}


def table_options(*names: str, multiple: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Return a decorator to add options of the table to a command, in this order.

    Missing values are None (or empty, for repeatable options): their defaults
    and ranges are for the library to say, see `option_table.make_options`.

    Args:
        names: Options by name.
        multiple: The repeatable ones among them.
    """

    def decorate(command: Command) -> Command:
        # Decorators are applied from the bottom up.
        for name in reversed(names):
            each = OPTIONS[name]
            command = _parameter(each, multiple=each.is_list or name in multiple)(command)
        return command

    return decorate


class GroupedCommand(click.Command):
    """A command whose help has its options in the groups of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group under its title, and all others under "Run"."""
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Run"):
            formatter.write_dl(list(records.values()))


def _parameter(each: Option, *, multiple: bool) -> Callable[[Command], Command]:
    info = each.info
    flags = ["-o", each.flag] if each.name == "output" else [each.flag]
    if info.other_flag:
        flags.append(info.other_flag)
    default = f"  [default: {each.default_text}]" if each.default_text else ""
    help_text = info.help + default
    if info.kind == "switch":
        return click.option(*flags, each.name, is_flag=True, help=help_text)
    variable: dict[str, Any] = {}
    if each.variable:
        variable = {"envvar": each.variable, "show_envvar": True}
    choices: dict[str, Any] = {"type": _click_type(each), "metavar": info.metavar or None}
    if info.bare is not None:
        choices |= {"is_flag": False, "flag_value": info.bare}
    return click.option(*flags, each.name, multiple=multiple, help=help_text, **choices, **variable)


def _click_type(each: Option) -> Any:
    info = each.info
    if info.choices:
        return click.Choice(info.choices)
    if info.span is not None and not each.field:
        # No dataclass checks the range of these.
        return click.IntRange(min=int(info.span[0]))
    return _TYPES.get(info.kind, click.STRING)


def with_config(
    given: Mapping[str, Any], inputs: Sequence[str], *, folder: Path | None = None
) -> dict[str, Any]:
    """Return the options of a command, with those of `vidmatte.toml` where none were given.

    Args:
        given: Values by option name: None, empty or False if not given.
        inputs: What is matted.
        folder: Where the file is looked for; None for the working directory.

    Raises:
        OptionError: If the file is not right.
    """
    config = load_config(folder)
    if config.path is None:
        return dict(given)
    outputs, alphas = given.get("output") or (), given.get("alpha") or ()
    found = config.options_for(
        inputs, images=bool(given.get("images")), outputs=outputs, alphas=alphas
    )
    if STANDARD in (*outputs, *alphas):
        # A stream has no place for a file beside it.
        found.pop("sidecar", None)
    chosen = {name: value for name, value in given.items() if _is_given(value)}
    return {**given, **found, **chosen}


def _is_given(value: object) -> bool:
    # Not `in (None, False, ())`: the number 0 equals False, and means something.
    return value is not None and value is not False and value != ()


def output_switches(command: Command) -> Command:
    """Add --quiet, --json and --debug, as in all working commands."""
    switches = (
        click.option("--quiet", is_flag=True, help="Print errors only."),
        click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
        ),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    )
    for switch in reversed(switches):
        command = switch(command)
    return command
