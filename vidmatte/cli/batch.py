"""`vidmatte batch`: many shots in one command."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from vidmatte.batch.check import ShotPlan, check_shots, space_needed
from vidmatte.batch.engine import Engine
from vidmatte.batch.local import LocalEngine, default_threads
from vidmatte.batch.manifest import ShotRequest, load_manifest
from vidmatte.batch.page import SHEETS, write_page
from vidmatte.batch.results import Results
from vidmatte.batch.run import BatchRun, ShotRun
from vidmatte.cli.console import one_line_errors
from vidmatte.errors import OptionError, WriteError
from vidmatte.model.memory import gigabytes

_ENGINES = ("local", "ray")
_ROWS = 30
"""Shots that the table shows at most: those that are running, then failed, then waiting ones."""
_SECONDS_BETWEEN_LINES = 5.0


@click.command("batch")
@click.argument("manifest", metavar="MANIFEST|FOLDER")
@click.option(
    "--dry-run", is_flag=True, help="Check every shot, print the plan, and render nothing."
)
@click.option("--engine", type=click.Choice(_ENGINES), default="local", show_default=True,
              help="Processes of this machine, or actors of a Ray cluster (extra ray).")  # fmt: skip
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Of the Ray cluster.  [default: a new one of this machine]",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N",
              help="At most so many at a time.  [default: one a GPU, or what the cores are enough for]")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), metavar="N",
              help="Of the processor, for each worker's network; their number changes the last bits.  "
              "[default: cores less one, up to 4]")  # fmt: skip
@click.option("--gpus-per-worker", type=click.FloatRange(0, min_open=False), metavar="SHARE",
              help="With Ray: 0.25 lets four workers share a GPU.  [default: 1 where there are GPUs]")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="A key of the manifest for all shots, as in smooth=0.5; repeatable.")  # fmt: skip
@click.option(
    "--root", metavar="DIR", help="Refuse shots that read or write outside of this folder."
)
@click.option("--staging", metavar="DIR", help="Shared folder where outputs with an address (s3://...) are made "
              "before they are sent.  [default: beside MANIFEST]")  # fmt: skip
@click.option("--retries", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="Try again what may pass: reading, writing, memory.")  # fmt: skip
@click.option(
    "--results",
    metavar="FILE",
    help="JSON lines of what became of each shot.  [default: beside MANIFEST]",
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
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option(
    "--resume", is_flag=True, help="Go on with what runs that were stopped left of these shots."
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output when done."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def batch_command(manifest: str, quiet: bool, as_json: bool, debug: bool, **given: Any) -> None:
    """Matte many shots: MANIFEST is a .toml, .json or .csv file, or a folder of clips with clip.prompts.json.

    Shots that are up to date are skipped, a bad one does not stop the rest. Exit code 1 when any failed. Ctrl-C once
    finishes the segments that are being rendered, twice stops now; --resume goes on.
    """
    logging.getLogger("vidmatte").setLevel(logging.ERROR if quiet else logging.WARNING)
    with one_line_errors(
        debug=debug, interrupted=lambda: "Stopped; --resume goes on with what is finished."
    ):
        code = _batch(manifest, quiet, as_json, given)
    sys.exit(code)


def _batch(manifest: str, quiet: bool, as_json: bool, given: Mapping[str, Any]) -> int:
    shots = load_manifest(
        manifest,
        changes=_changes(given["settings"]),
        root=given["root"],
        staging=given["staging"],
        overwrite=given["overwrite"],
        resume=given["resume"],
    )
    threads = given["threads"] or default_threads()
    if given["export"]:
        return _export(manifest, shots, threads, given)
    if given["tasks"]:
        from vidmatte.batch.openjd import do_task

        do_task(shots, given["tasks"], threads=threads)
        return 0
    results = Results(_results_file(manifest, given["results"]))
    if given["dry_run"]:
        return _dry_run(shots, results, as_json)
    sheets = None if given["report"] is None else Path(given["report"]) / SHEETS
    with _engine(given, threads) as engine, _Board(quiet, len(shots)) as board:
        run = BatchRun(
            shots,
            engine,
            results,
            threads=threads,
            retries=given["retries"],
            sheets=sheets,
            watch=board.update,
        )
        board.runs = run.shots
        with _interruptible(run):
            ended = run.run()
    if given["report"] is not None:
        page = write_page(Path(given["report"]), ended, f"vidmatte batch {manifest}")
        if not quiet:
            click.echo(f"{page}: report", err=True)
    return _end(ended, quiet, as_json, results)


def _changes(settings: Sequence[str]) -> dict[str, str]:
    changes = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise OptionError(f"--set {setting!r} is not valid: write KEY=VALUE, as in smooth=0.5")
        changes[key.strip()] = value.strip()
    return changes


def _results_file(manifest: str, given: str | None) -> Path:
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
        raise OptionError(f"--export {kind!r} is not valid: openjd is what there is")
    options = [word for setting in given["settings"] for word in ("--set", setting)]
    for name in ("root", "staging"):
        options += [] if given[name] is None else [f"--{name}", str(Path(given[name]).resolve())]
    options += ["--overwrite"] if given["overwrite"] else []
    template = export_openjd(Path(manifest), shots, Path(folder), threads=threads, options=options)
    click.echo(
        f"{template}: Open Job Description job; run it with 'openjd run {template}', or submit it",
        err=True,
    )
    return 0


def _dry_run(shots: Sequence[ShotRequest], results: Results, as_json: bool) -> int:
    plans = list(check_shots(shots, results))
    short = space_needed(plans)
    if as_json:
        click.echo(
            json.dumps({"shots": [plan.as_json() for plan in plans], "short_of_space": short})
        )
    else:
        _print_plans(plans)
    for sentence in short:
        click.echo(f"Error: {sentence}", err=True)
    return 1 if short or any(plan.state == "refused" for plan in plans) else 0


def _print_plans(plans: Sequence[ShotPlan]) -> None:
    for plan in plans:
        facts = plan.state
        if plan.frames:
            width, height = plan.size
            facts += f", {plan.frames} frames of {width}x{height} in {plan.segments} segments"
            facts += f" ({plan.finished} finished)" * bool(plan.finished)
            facts += f", about {gigabytes(plan.needed)}: {', '.join(plan.specs)}"
        click.echo(f"{plan.name}: {facts}" + (f": {plan.reason}" if plan.reason else ""), err=True)
    ready = [plan for plan in plans if plan.state in ("ready", "goes on")]
    click.echo(
        f"{len(plans)} shots: {len(ready)} to render, {sum(plan.frames for plan in ready)} frames; "
        f"{sum(plan.state == 'up to date' for plan in plans)} up to date, "
        f"{sum(plan.state == 'refused' for plan in plans)} refused",
        err=True,
    )


@contextmanager
def _interruptible(run: BatchRun) -> Iterator[None]:
    """Ctrl-C once stops giving out work; another one interrupts. SIGTERM and SIGHUP interrupt at once."""

    def first(number: int, frame: FrameType | None) -> None:
        click.echo("Finishing what is being rendered; Ctrl-C again stops now.", err=True)
        run.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(runs: Sequence[ShotRun], quiet: bool, as_json: bool, results: Results) -> int:
    counts = {
        state: sum(run.state == state for run in runs)
        for state in ("done", "up to date", "failed", "stopped")
    }
    for run in runs:
        if run.state == "failed":
            click.echo(f"Failed: {run.name}: {run.reason}", err=True)
    if not quiet:
        click.echo(
            f"{counts['done']} done, {counts['up to date']} up to date, {counts['failed']} failed, "
            f"{counts['stopped']} stopped; {results.path}: results",
            err=True,
        )
    if as_json:
        shots = [
            {"shot": run.name, "state": run.state, "reason": run.reason, **run.record}
            for run in runs
        ]
        click.echo(json.dumps({"shots": shots, "results": str(results.path)}))
    return 130 if counts["stopped"] else int(counts["failed"] > 0)


class _Board:
    """A table of shots on a terminal; a line now and then elsewhere."""

    def __init__(self, quiet: bool, count: int) -> None:
        self.runs: Sequence[ShotRun] = ()
        self._quiet, self._count = quiet, count
        self._began = self._last = time.monotonic()
        console = Console(stderr=True)
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._table
        )
        self._shown = not quiet and console.is_terminal

    def __enter__(self) -> _Board:
        if self._shown:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._live.stop()

    def update(self, run: ShotRun) -> None:
        """A shot changed."""
        if self._quiet or self._shown:
            return
        if run.state in ("done", "up to date") and not run.running:
            rate = (
                f", {run.record['frames'] / run.seconds:.2f} frames/s"
                if run.state == "done"
                else ""
            )
            click.echo(
                f"{run.name}: {run.state}, {run.record.get('frames', 0)} frames{rate}", err=True
            )
        elif run.state == "failed":
            click.echo(f"{run.name}: failed: {run.reason}", err=True)
        elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            ended = sum(each.is_over for each in self.runs)
            click.echo(f"{ended} of {self._count} shots, {run.name} at {_share(run)}", err=True)

    def _table(self) -> Table:
        table = Table("shot", "state", "frames", "frames/s", "left", box=None)
        order = {"running": 0, "failed": 1, "waiting": 2}
        for run in sorted(self.runs, key=lambda run: order.get(run.state, 3))[:_ROWS]:
            spent = max(1e-6, (run.seconds or time.monotonic() - run.began) if run.began else 1e-6)
            rate = run.frames / spent if run.frames else 0.0
            left = (
                f"{(run.total - run.frames) / rate:.0f} s"
                if run.total and rate and not run.is_over
                else ""
            )
            table.add_row(
                run.name, run.reason or run.state, _share(run), f"{rate:.2f}" if rate else "", left
            )
        ended = sum(run.is_over for run in self.runs)
        table.caption = f"{ended} of {self._count} shots, {time.monotonic() - self._began:.0f} s"
        return table


def _share(run: ShotRun) -> str:
    return f"{run.frames} of {run.total}" if run.total else str(run.frames)
