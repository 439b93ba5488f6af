"""`vidmatte batch`: many shots in one command."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from vidmatte.batch.check import ShotPlan, check_shots, space_needed
from vidmatte.batch.engine import Engine
from vidmatte.batch.local import LocalEngine, default_threads
from vidmatte.batch.manifest import ShotRequest, load_edit, load_manifest
from vidmatte.batch.page import SHEETS, write_page
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun, ShotRun
from vidmatte.cli.board import Board
from vidmatte.cli.console import (
    DONE,
    FAILED,
    INTERRUPTED,
    one_line_errors,
    print_json,
    print_result,
    say,
    set_log_level,
)
from vidmatte.cli.parameters import output_switches
from vidmatte.cli.timeline_outputs import write_rendered, write_timelines
from vidmatte.cli.timelines import (
    edit_options,
    refuse_without_timeline,
    timeline_options,
    words_of,
)
from vidmatte.config import load_config
from vidmatte.edit.open import is_timeline
from vidmatte.edit.shots import Edit, read_edit
from vidmatte.edit.write import NewTimelines
from vidmatte.errors import OptionError, WriteError
from vidmatte.media.lock import exclusive
from vidmatte.model.memory import gigabytes
from vidmatte.option_table import manifest_schema

_ENGINES = ("local", "ray")


def _print_schema(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        print_result(json.dumps(manifest_schema(), indent=2))
        ctx.exit(DONE)


@click.command("batch")
@click.argument("manifest", metavar="MANIFEST|FOLDER|TIMELINE")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of manifests, for editors, and exit.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check every shot, print the plan, and render nothing."
)
@click.option(
    "--engine",
    type=click.Choice(_ENGINES),
    default="local",
    show_default=True,
    help="Processes of this machine, or actors of a Ray cluster (extra ray).",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Address of the Ray cluster.  [default: a new one on this machine]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Largest number of workers.  [default: one for each GPU, or as the cores allow]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processor threads of each worker's network; their number changes the last bits.  "
    "[default: cores less one, up to 4]",
)
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(0, min_open=False),
    metavar="SHARE",
    help="With Ray: 0.25 lets four workers share a GPU.  [default: 1 if there are GPUs]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key of the manifest for all shots, as in smooth=0.5; repeatable.",
)
@click.option(
    "--root", metavar="DIR", help="Refuse shots that read or write outside of this folder."
)
@click.option(
    "--staging",
    metavar="DIR",
    help="Shared folder where outputs with an address (s3://...) are made before they are sent.  "
    "[default: beside MANIFEST]",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Retry after errors that may pass: reading, writing, memory.",
)
@click.option(
    "--results",
    metavar="FILE",
    help="JSON lines with the outcome of each shot.  [default: beside MANIFEST]",
)
@click.option(
    "--report", metavar="DIR", help="Folder for a page with a contact sheet of every shot."
)
@click.option(
    "--export", nargs=2, metavar="openjd DIR", help="Write an Open Job Description job instead."
)
@click.option(
    "--task", "tasks", metavar="SHOT:UNIT", hidden=True, help="Do one task of an exported job."
)
@timeline_options
@click.option(
    "--new-timeline",
    metavar="PATH",
    help="Timeline: where the one with the mattes is written, as .otio and in the format of the "
    "given one.  [default: beside it, as NAME.mattes.otio]",
)
@click.option(
    "--assemble",
    is_flag=True,
    help="Timeline: render nothing, and write the new timeline with the mattes that are there.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--resume", is_flag=True, help="Continue runs of these shots that were stopped.")
@output_switches
def batch_command(manifest: str, quiet: bool, as_json: bool, debug: bool, **given: Any) -> None:
    """Matte many shots of a manifest, a folder or a timeline.

    MANIFEST is a .toml, .json or .csv file, or a folder of clips with clip.prompts.json. Shots that
    are up to date are skipped, a bad one does not stop the rest. Exit code 1 if any failed. Ctrl-C
    once finishes the segments that are being rendered, twice stops now; --resume continues.

    TIMELINE is an .otio, .xml (Final Cut Pro 7, Premiere, Resolve), .fcpxml, .edl or .aaf file
    (extra edit). Its clips are the shots; a new timeline has the mattes on tracks above.
    """
    set_log_level(quiet=quiet)
    with one_line_errors(
        debug=debug,
        as_json=as_json,
        interrupted=lambda: "Stopped; --resume continues from what is finished.",
    ):
        code = _batch(manifest, quiet, as_json, given)
    sys.exit(code)


def _batch(manifest: str, quiet: bool, as_json: bool, given: Mapping[str, Any]) -> int:
    """Run the batch with these options, and return the exit code."""
    refuse_without_timeline(manifest, given, "new_timeline", "assemble")
    choices = {
        "changes": _changes(given["settings"]),
        **{name: given[name] for name in ("root", "staging", "overwrite", "resume")},
        # That of the manifest, so that every worker of a farm finds the same.
        "config": load_config(folder_of(manifest)),
    }
    edit = _edit(manifest, given, quiet)
    shots = load_manifest(manifest, **choices) if edit is None else load_edit(edit, **choices)
    # Always a fixed number: results must not depend on the cores of a worker.
    threads = given["threads"] or default_threads()
    if given["export"]:
        return _export(manifest, shots, threads, given)
    if given["tasks"]:
        from vidmatte.batch.openjd import do_task

        do_task(shots, given["tasks"], threads=threads)
        return DONE
    results_file = _results_file(manifest, given["results"])
    if given["dry_run"]:
        return _dry_run(shots, Results(results_file), as_json)
    made = None
    if edit is not None:
        made = NewTimelines.of(edit, given["new_timeline"], overwrite=given["overwrite"])
        made.check(edit)
        if given["assemble"]:
            return _assemble(edit, made, shots, quiet, as_json)
    # Two runs would do all work twice, and one would find the outputs of the other.
    with exclusive(results_file, "another batch is writing these results"):
        results = Results(results_file)
        ended = _run(manifest, shots, results, threads, quiet, given)
        written: Sequence[Path] = ()
        missing: Sequence[str] = ()
        if edit is not None and made is not None:
            written, missing = write_rendered(edit, made, ended, quiet=quiet)
    return _end(ended, quiet, as_json, results, written, missing)


def _assemble(
    edit: Edit, made: NewTimelines, shots: Sequence[ShotRequest], quiet: bool, as_json: bool
) -> int:
    """Write the new timelines with the mattes that are there, and return the exit code."""
    good = [shot for shot in shots if not shot.problem]
    for shot in shots:
        if shot.problem:
            say(f"Failed: {shot.name}: {shot.problem}")
    written, missing = write_timelines(edit, made, good, quiet=quiet)
    if as_json:
        print_json({"timelines": [str(path.absolute()) for path in written]})
    return FAILED if missing or len(good) < len(shots) else DONE


def _edit(manifest: str, given: Mapping[str, Any], quiet: bool) -> Edit | None:
    """Return the edit of a timeline, and say what was decided about it; None for a manifest."""
    if not is_timeline(manifest):
        return None
    edit = read_edit(manifest, edit_options(given, root=given["root"]))
    for note in edit.notes:
        say(f"Note: {note}", quiet=quiet)
    return edit


def folder_of(manifest: str) -> Path:
    """Return the folder of a manifest, or the one that is given in its place."""
    path = Path(manifest)
    return path if path.is_dir() else path.parent


def _run(
    manifest: str,
    shots: Sequence[ShotRequest],
    results: Results,
    threads: int,
    quiet: bool,
    given: Mapping[str, Any],
) -> Sequence[ShotRun]:
    sheets = None if given["report"] is None else Path(given["report"]) / SHEETS
    with _engine(given, threads) as engine, Board(len(shots), quiet=quiet) as board:
        run = BatchRun(
            shots,
            engine,
            results,
            threads=threads,
            retries=given["retries"],
            sheets=sheets,
            watch=board.update,
            note=board.note,
        )
        # The board shows the same objects that the run updates.
        board.runs = run.shots
        with _interruptible(run):
            ended = run.run()
    # A page is written for a stopped run, too.
    if given["report"] is not None:
        page = write_page(Path(given["report"]), ended, f"vidmatte batch {manifest}")
        if not quiet:
            say(f"{page}: report")
    return ended


def _changes(settings: Sequence[str]) -> dict[str, str]:
    changes = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise OptionError(f"--set {setting!r} is not valid: write KEY=VALUE, as in smooth=0.5")
        changes[key.strip()] = value.strip()
    return changes


def _results_file(manifest: str, given: str | None) -> Path:
    # Resolved, since the name of "." is empty.
    listed = Path(manifest).resolve()
    beside = listed.with_name((listed.name if listed.is_dir() else listed.stem) + ".results.jsonl")
    path = beside if given is None else Path(given)
    if not path.parent.is_dir():
        raise WriteError(
            f"{path}: the folder {path.parent.absolute()} does not exist; create it first"
        )
    return path


def _engine(given: Mapping[str, Any], threads: int) -> Engine:
    if given["engine"] == "local":
        # Refused rather than ignored: the user expects a cluster.
        for name in ("address", "gpus_per_worker"):
            if given[name] is not None:
                raise OptionError(
                    f"--{name.replace('_', '-')} was given: it is for --engine ray; leave it out"
                )
        return LocalEngine(given["workers"], threads=threads)
    from vidmatte.batch.cluster import RayEngine

    return RayEngine(
        given["address"], given["workers"], threads=threads, gpus=given["gpus_per_worker"]
    )


def _export(
    manifest: str, shots: Sequence[ShotRequest], threads: int, given: Mapping[str, Any]
) -> int:
    from vidmatte.batch.openjd import export_openjd

    kind, folder = given["export"]
    if kind != "openjd":
        raise OptionError(f"--export {kind!r} is not valid: write --export openjd DIR")
    # Tasks of the job are commands of their own, so the choices are repeated there.
    options = [word for setting in given["settings"] for word in ("--set", setting)]
    options += words_of(given)
    for name in ("root", "staging"):
        if given[name] is not None:
            # A task may run in another working directory.
            options += [f"--{name}", str(Path(given[name]).resolve())]
    if given["overwrite"]:
        options.append("--overwrite")
    template = export_openjd(Path(manifest), shots, Path(folder), threads=threads, options=options)
    say(f"{template}: Open Job Description job; run it with 'openjd run {template}', or submit it")
    return DONE


def _dry_run(shots: Sequence[ShotRequest], results: Results, as_json: bool) -> int:
    plans = list(check_shots(shots, results))
    short = space_needed(plans)
    if as_json:
        print_json({"shots": [plan.as_json() for plan in plans], "short_of_space": short})
    else:
        _print_plans(plans)
    for sentence in short:
        # Missing space is no reason to hide the plan.
        say(f"Error: {sentence}")
    return FAILED if short or any(plan.state == "refused" for plan in plans) else DONE


def _print_plans(plans: Sequence[ShotPlan]) -> None:
    for plan in plans:
        say(f"{plan.name}: {_describe_plan(plan)}")
    # Shots that were begun are continued, so their frames count as work, too.
    ready = [plan for plan in plans if plan.state in ("ready", "goes on")]
    frames = sum(plan.frames for plan in ready)
    up_to_date = sum(plan.state == "up to date" for plan in plans)
    refused = sum(plan.state == "refused" for plan in plans)
    say(
        f"{len(plans)} shots: {len(ready)} to render, {frames} frames; {up_to_date} up to date, "
        f"{refused} refused"
    )


def _describe_plan(plan: ShotPlan) -> str:
    text = plan.state
    if plan.frames:
        width, height = plan.size
        text += f", {plan.frames} frames of {width}x{height} in {plan.segments} segments"
        if plan.finished:
            text += f" ({plan.finished} finished)"
        text += f", about {gigabytes(plan.needed)}: {', '.join(plan.specs)}"
    return f"{text}: {plan.reason}" if plan.reason else text


@contextmanager
def _interruptible(run: BatchRun) -> Iterator[None]:
    """Let the first Ctrl-C only stop giving out work; the next one interrupts.

    SIGTERM and SIGHUP interrupt at once.
    """

    def first(number: int, frame: FrameType | None) -> None:
        say("Finishing what is being rendered; Ctrl-C again stops now.")
        run.stop()
        # The next Ctrl-C interrupts as usual.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(
    runs: Sequence[ShotRun],
    quiet: bool,
    as_json: bool,
    results: Results,
    timelines: Sequence[Path],
    missing: Sequence[str],
) -> int:
    """Say how the shots ended, and return the exit code.

    Args:
        runs: The shots.
        quiet: Say only what failed.
        as_json: Print one JSON object on standard output.
        results: Where the outcomes are.
        timelines: New timelines that were written.
        missing: Mattes that could not be put into them.
    """
    states = ("done", "up to date", "failed", "stopped")
    counts = {state: sum(run.state == state for run in runs) for state in states}
    for run in runs:
        if run.state == "failed":
            say(f"Failed: {run.name}: {run.reason}")
    if not quiet:
        text = ", ".join(f"{count} {state}" for state, count in counts.items())
        say(f"{text}; {results.path}: results")
    if as_json:
        shots = []
        for run in runs:
            shot = {"shot": run.name, "state": run.state, "reason": run.reason}
            shots.append({**shot, **run.record})
        written = [str(path.absolute()) for path in timelines]
        more = {"timelines": written} if written else {}
        print_json({"shots": shots, "results": str(results.path), **more})
    # A stopped batch is not a failed one, even if some shots failed.
    if counts["stopped"]:
        return INTERRUPTED
    return FAILED if counts["failed"] or missing else DONE
