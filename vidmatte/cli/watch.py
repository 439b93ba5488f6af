"""`vidmatte watch`: render what is put into a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vidmatte.cli.console import (
    DONE,
    FAILED,
    one_line_errors,
    print_json,
    say,
    set_log_level,
)
from vidmatte.cli.parameters import output_switches
from vidmatte.config import load_config
from vidmatte.errors import OptionError
from vidmatte.process import loading


@click.command("watch")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output",
    multiple=True,
    metavar="PATH",
    help="Colour with alpha, in the clip's folder in done; {shot} is its name; repeatable.",
)
@click.option(
    "--alpha",
    "alpha",
    multiple=True,
    metavar="PATH",
    help="Alpha alone, likewise; repeatable.  [default: {shot}_matte.mov and {shot}_alpha.mov]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of vidmatte matte for all clips, as in smooth=0.5; repeatable.",
)
@click.option(
    "--device", metavar="DEVICE", help="The one device to use.  [default: every GPU, or the CPU]"
)
@click.option("--once", is_flag=True, help="Render what is there, and end.")
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Take a clip when its files have not changed for so long.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.05),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Retry after errors that may pass: reading, writing, memory.",
)
@output_switches
def watch_command(folder: Path, quiet: bool, as_json: bool, debug: bool, **given: Any) -> None:
    """Render what is put into FOLDER with its prompts, and move it on.

    A movie, or a folder of numbered images, is taken when its prompt file lies beside it
    (clip.prompts.json, as pick saves it) and nothing of both has changed for some seconds. Clip,
    prompts and outputs move to FOLDER/done/clip, or without outputs to FOLDER/failed/clip;
    result.json there says how it went. Several watchers may share a folder. Ctrl-C stops at once,
    and what was rendered of a long clip is used the next time. With --json one line is printed for
    each clip. Exit code 1 if --once had a clip that failed.
    """
    set_log_level(quiet=quiet)
    with one_line_errors(
        debug=debug,
        as_json=as_json,
        interrupted=lambda: "Stopped; clips that were not finished stay in the folder.",
    ):
        failed = _watch(folder, quiet=quiet, as_json=as_json, given=given)
    sys.exit(FAILED if failed else DONE)


def _watch(folder: Path, *, quiet: bool, as_json: bool, given: dict[str, Any]) -> bool:
    """Watch the folder; return whether a clip failed."""
    with loading():
        from vidmatte.service.render import device_names
        from vidmatte.service.watch import Ended, Watch

    def on_end(ended: Ended) -> None:
        if as_json:
            print_json({**ended.record, "folder": str(ended.folder)})
        if ended.is_done:
            frames, seconds = ended.record["frames"], ended.record["seconds"]
            say(f"{ended.name}: {frames} frames in {seconds:.1f} s, in {ended.folder}", quiet=quiet)
        else:
            say(f"Failed: {ended.name}: {ended.record.get('reason', '')} (see {ended.folder})")

    watch = Watch(
        folder,
        settings=_settings(given),
        devices=device_names() if given["device"] is None else (given["device"],),
        config=load_config(folder if folder.is_dir() else None),
        settle=given["settle"],
        interval=given["interval"],
        retries=given["retries"],
        on_begin=lambda marked: say(f"{marked.clip.name}: rendering", quiet=quiet),
        on_end=on_end,
        on_waiting=lambda clip: say(f"{clip.name}: waits for its prompts", quiet=quiet),
    )
    if not given["once"]:
        say(f"Watching {folder}; Ctrl-C ends it.", quiet=quiet)
    return not all(ended.is_done for ended in watch.run(once=given["once"]))


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a manifest that the options set. Raises OptionError."""
    found: dict[str, Any] = {}
    for setting in given["settings"]:
        key, sign, value = setting.partition("=")
        if not sign:
            raise OptionError(f"--set {setting!r} is not valid: write KEY=VALUE, as in smooth=0.5")
        found[key.strip().replace("-", "_")] = value.strip()
    taken = {"input", "name", "prompts", "output", "alpha", "device"} & set(found)
    if taken:
        raise OptionError(
            f"--set {min(taken)} is not for a watched folder: clips have their own names and "
            f"prompts, and the rest has options"
        )
    return {
        **found,
        **{name: list(given[name]) for name in ("output", "alpha") if given[name]},
    }
