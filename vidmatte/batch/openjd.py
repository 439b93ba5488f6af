"""Export batches as Open Job Description jobs, for farms with a queue of their own.

A job has three steps. `Prepare` has a task for each shot: short shots are rendered whole, through
long ones the object is propagated. `Render` has a task for each segment of the long shots; segments
do not depend on each other. `Join` has a task for each long shot. All tasks work on shared storage,
and can be repeated.
(Specification: https://github.com/OpenJobDescription/openjd-specifications, "jobtemplate-2023-09".)
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.batch.manifest import ShotRequest
from vidmatte.batch.task import BEGIN, Outcome, Task
from vidmatte.batch.worker import Worker
from vidmatte.errors import OptionError, VidmatteError, WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.pipeline.request import open_shot
from vidmatte.pipeline.segments.long_render import do_units, frames_if_segmented, journal_of
from vidmatte.pipeline.segments.plan import JOIN, Plan

TEMPLATE, TASKS = "template.json", "tasks.json"
_PREPARE, _RENDER, _JOIN = "Prepare", "Render", "Join"
_LONGEST_NAME = 128


def export_openjd(
    manifest: Path,
    shots: Sequence[ShotRequest],
    folder: Path,
    *,
    threads: int,
    options: Sequence[str] = (),
) -> Path:
    """Write the job of a batch into a folder, and return the path of its template.

    `options` are words for its commands.

    Every clip is opened to know its segments. Raises the errors of opening them, and WriteError.
    """
    steps: dict[str, list[Any]] = {_PREPARE: [], _RENDER: [], _JOIN: []}
    for shot in shots:
        if shot.problem:
            raise OptionError(f"shot {shot.name!r}: {shot.problem}")
        steps[_PREPARE].append([shot.name, BEGIN])
        segments = _segments(shot)
        # Short shots are rendered as a whole by their first task.
        if segments > 1:
            steps[_RENDER] += [[shot.name, f"render:{segment}"] for segment in range(segments)]
            steps[_JOIN].append([shot.name, JOIN.name])
    template = _template(manifest, folder, steps, threads, options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in ((TASKS, steps), (TEMPLATE, template)):
            atomic_write(folder / name, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    return folder / TEMPLATE


def _segments(shot: ShotRequest) -> int:
    with open_shot(shot.request) as opened:
        frames = frames_if_segmented(opened)
    return 1 if frames is None else -(-frames // shot.request.options.segment_frames)


def _template(
    manifest: Path,
    folder: Path,
    steps: Mapping[str, Sequence[Any]],
    threads: int,
    options: Sequence[str],
) -> dict[str, Any]:
    words = ["batch", str(manifest.resolve()), *options, "--threads", str(threads)]
    documents = []
    before = None
    for name, tasks in steps.items():
        if not tasks:
            continue
        # Ranges are inclusive.
        number = {"name": "Number", "type": "INT", "range": f"0-{len(tasks) - 1}"}
        task = f"{(folder / TASKS).resolve()}:{name}:{{{{Task.Param.Number}}}}"
        run = {"command": "{{Param.Vidmatte}}", "args": [*words, "--task", task]}
        document: dict[str, Any] = {
            "name": name,
            "parameterSpace": {"taskParameterDefinitions": [number]},
            "script": {"actions": {"onRun": run}},
        }
        if before is not None:
            document["dependencies"] = [{"dependsOn": before}]
        documents.append(document)
        before = name
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "name": re.sub(r"[\x00-\x1f]", " ", f"vidmatte {manifest.name}")[:_LONGEST_NAME],
        "description": f"Mattes of {len(steps[_PREPARE])} shots. The same on one machine: "
        + shlex.join(["vidmatte", "batch", str(manifest.resolve()), *options]),
        "parameterDefinitions": [
            {
                "name": "Vidmatte",
                "type": "STRING",
                "default": "vidmatte",
                "description": "The command on the workers.",
            }
        ],
        "steps": documents,
    }


def do_task(shots: Sequence[ShotRequest], place: str, *, threads: int) -> None:
    """Do one task of an exported job, FILE:STEP:NUMBER. Raises VidmatteError if it fails."""
    # FILE:STEP:NUMBER from the right, as FILE may contain colons.
    file, _, rest = place.rpartition(":")[0].rpartition(":")
    try:
        step = rest
        number = int(place.rpartition(":")[2])
        name, unit = json.loads(Path(file).read_text(encoding="utf-8"))[step][number]
        shot = next(shot for shot in shots if shot.name == name)
    except (OSError, ValueError, KeyError, IndexError, StopIteration) as error:
        raise OptionError(
            f"task {place!r} is not valid: it is none of this batch ({error}); export it again"
        ) from error
    request = shot.request
    # A task that is done again goes on with what there is.
    request = replace(request, options=replace(request.options, resume=True))
    done = Path(file).with_name(f"{name}.done.json")
    task = Task(name, unit, request, threads=threads, finished=_read(done), uris=shot.uris)
    worker = Worker()
    try:
        _do(worker, task, done)
    finally:
        worker.close()


def _do(worker: Worker, task: Task, done: Path) -> None:
    journal = journal_of(task.request)
    if task.unit == BEGIN:
        outcome = _sure(worker.run(task))
        if outcome.kind == "planned" and outcome.plan is not None:
            planned = replace(task, plan=outcome.plan, threads=int(outcome.record["threads"]))
            # Segments are tasks of their own; everything before them is done here.
            do_units(
                outcome.plan,
                journal,
                lambda unit: _sure(worker.run(replace(planned, unit=unit.name))).record,
                before="render",
            )
        _keep(done, outcome)
        return
    # Written by the Prepare step.
    header = journal.header()
    if not header and (task.unit == JOIN.name or done.is_file()):
        return  # it was joined before
    if not header:
        raise WriteError(
            f"{journal.folder}: holds no render; do the tasks of the step {_PREPARE} first"
        )
    # The scheduler runs a task again if it lost its answer.
    if task.unit in set(journal.done()):
        return
    plan = Plan.from_json(header["plan"])
    outcome = _sure(
        worker.run(replace(task, plan=plan, threads=int(header["threads"]), key=header["key"]))
    )
    if outcome.kind == "done":
        journal.add(outcome.record)
    _keep(done, outcome)


def _sure(outcome: Outcome) -> Outcome:
    if outcome.kind == "failed":
        raise VidmatteError(outcome.reason)
    return outcome


def _read(done: Path) -> Any:
    return json.loads(done.read_text(encoding="utf-8")) if done.is_file() else None


def _keep(done: Path, outcome: Outcome) -> None:
    if outcome.kind == "completed":
        atomic_write(done, json.dumps({**outcome.record, "key": outcome.key}))
