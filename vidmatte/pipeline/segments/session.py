"""One long shot from its first unit to its last: what is planned, what the journal holds, how the parts are joined."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch

from vidmatte import __version__
from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.imaging.display import describe_source
from vidmatte.model.interface import Model, Predictor
from vidmatte.pipeline.models import adaptation_steps, predictor_of
from vidmatte.pipeline.request import Request, Shot
from vidmatte.pipeline.segments.fingerprint import Fingerprint
from vidmatte.pipeline.segments.journal import Journal, Record, work_folder
from vidmatte.pipeline.segments.plan import Plan, Unit
from vidmatte.pipeline.segments.render import (
    THUMBNAILS,
    chunk_file,
    load_thumbnails,
    part_folder,
    part_path,
)
from vidmatte.report import PAGE
from vidmatte.report.summary import Summary
from vidmatte.stages.propagate import Pass, plan_passes
from vidmatte.write import EncodedPart
from vidmatte.write.partial import remove_backups

_SMOOTHED_OVER = 1
"""Frames that the smoother looks ahead and back."""


def frames_if_segmented(shot: Shot) -> int | None:
    """How many frames a shot has, where they are more than one segment, and its outputs can be joined; else None."""
    length, expected = shot.options.segment_frames, shot.expected
    if (expected is not None and expected <= length) or not all(
        spec.format.concatenable for spec in shot.specs
    ):
        return None
    counted = shot.video.count_frames()
    frames = max(0, min(counted, counted if shot.end is None else shot.end) - shot.start)
    return frames if frames > length else None


def make_plan(shot: Shot, model: Model, frames: int) -> Plan:
    """How a shot of so many frames is cut, for what a model needs."""
    references = list(shot.references.values())
    predictor = predictor_of(shot, model, references[0])
    end, images = shot.start + frames, shot.request.source.images
    steps = adaptation_steps(predictor, shot.options.adapt_steps, frames, images)
    passes: tuple[tuple[Pass, ...], ...] = ()
    if not images and predictor.tracker() is not None:
        passes = tuple(
            _passes([mark.frame for mark in marks], shot.start, end) for marks in references
        )
    return Plan(
        first=shot.start,
        end=end,
        length=shot.options.segment_frames,
        adapted=tuple(range(len(references))) if steps else (),
        passes=passes,
        overlap=_SMOOTHED_OVER if shot.options.smooth else 0,
    )


def _passes(frames: Sequence[int | None], start: int, end: int) -> tuple[Pass, ...]:
    marked = [frame for frame in frames if frame is not None]
    return tuple(plan_passes(marked, start, end)) if marked else (Pass(start, start, end - 1),)


def journal_of(request: Request) -> Journal:
    """The journal of a request, by its first output."""
    return Journal(work_folder(request.outputs.specs[0].path))


def can_resume(journal: Journal, request: Request, identity: Fingerprint) -> bool:
    """Whether a journal holds segments that the request may go on with.

    Raises OptionError where one was left that the request neither asks to go on with nor to begin anew, or that is of
    something else.
    """
    header = journal.header()
    if next(journal.done(), None) is None or (
        request.options.overwrite and not request.options.resume
    ):
        return False
    done = sum(name.startswith("render:") for name in journal.done())
    found = (
        f"{request.outputs.specs[0]}: a run that was stopped left its work "
        f"({done} finished segments) in {journal.folder}"
    )
    if not request.options.resume:
        raise OptionError(f"{found}; use --resume to go on, or --overwrite to begin anew")
    if header.get("key") != identity.key:
        raise OptionError(
            f"{found}, of another input, other marks, choices or weights, or by another version "
            f"({header.get('version')}); ask for what it was of, or use --overwrite without --resume to begin anew"
        )
    return True


def check_outputs(shot: Shot) -> None:
    """Raise what `join` would at its end: for outputs that exist already or cannot be written, and the like."""
    shot.create_outputs(overwrite=shot.options.overwrite)
    shot.create_report(overwrite=shot.options.overwrite)


def header_of(identity: Fingerprint, model: Model, plan: Plan, threads: int) -> Record:
    """The first line of a journal: what is rendered, and all on which its last bits depend."""
    return {
        "version": __version__,
        "key": identity.key,
        "model": model.name,
        "device": str(model.device),
        "precision": str(model.precision).removeprefix("torch."),
        "threads": threads,
        "torch": torch.__version__,
        "plan": plan.as_json(),
    }


def check_environment(journal: Journal, model: Model) -> None:
    """Raises OptionError where the segments that are there were computed by another torch, device or precision."""
    header = journal.header()
    if header["torch"] != torch.__version__:
        raise OptionError(
            f"{journal.folder}: its segments were computed with torch {header['torch']}, and this is "
            f"{torch.__version__}; install that version, or use --overwrite without --resume to begin anew"
        )
    was = (str(header["device"]).partition(":")[0], header["precision"])
    now = (model.device.type, str(model.precision).removeprefix("torch."))
    if was != now:
        raise OptionError(
            f"{journal.folder}: its segments were computed on {was[0]} in {was[1]}, and the rest would be on {now[0]} "
            f"in {now[1]}; give --device {was[0]} --precision {was[1]}, or --overwrite without --resume to begin anew"
        )


def delete_chunks(plan: Plan, folder: Path, unit: Unit, done: Set[str]) -> None:
    """Remove the followed chunks that nothing needs any more, now that a unit is done; `done` are names of units."""
    near = set(plan.dependencies(unit.index)) if unit.kind == "render" else {unit}
    predecessor = plan.predecessor(unit) if unit.kind == "propagate" else None
    for chunk in near | ({predecessor} if predecessor is not None else set()):
        chunks = plan.chunks(plan.passes[chunk.object][chunk.pass_index])
        after = chunks.index(chunk.index) + 1
        handed_on = (
            after == len(chunks)
            or Unit("propagate", chunks[after], chunk.object, chunk.pass_index).name in done
        )
        if handed_on and all(
            Unit("render", segment).name in done for segment in plan.dependents(chunk)
        ):
            chunk_file(folder, chunk).unlink(missing_ok=True)


def join(
    shot: Shot,
    plan: Plan,
    journal: Journal,
    *,
    predictor: Predictor | None,
    began: float,
    on_joined: Callable[[], None] = lambda: None,
) -> Summary:
    """Join the parts of a shot to its outputs, put them in place, and remove the journal.

    `predictor` is for the report, which is written where one was asked for. `on_joined` is called while the parts are
    still there: where it fails, all can be joined again. Raises WriteError.
    """
    records = {str(record["unit"]): record for record in journal.records() if "unit" in record}
    rendered = [records[Unit("render", segment).name] for segment in range(plan.segments)]
    header = journal.header()
    # What stands under the final names may be of a join that was cut short.
    concatenable = [record["joining"] for record in journal.records() if "joining" in record]
    overwrite = shot.options.overwrite or bool(concatenable and concatenable[-1])
    for spec in shot.specs:
        remove_backups(Path(spec.path))
    outputs = shot.create_outputs(overwrite=overwrite)
    reporting = shot.create_report(overwrite=overwrite)
    journal.add({"joining": True})
    try:
        with reporting or nullcontext(), outputs as out:
            for segment, record in enumerate(rendered):
                if record["frames"]:
                    out.append(
                        [
                            _part(shot, journal.folder, record, number)
                            for number in range(len(shot.specs))
                        ]
                    )
                if reporting is not None:
                    thumbnails = load_thumbnails(part_folder(journal.folder, segment) / THUMBNAILS)
                    reporting.take(pts=record["pts"], names=record["names"], thumbnails=thumbnails)
            summary = _summary(shot, header, rendered, began)
            if reporting is not None and predictor is not None:
                out.add_to_commit(reporting.write(summary, predictor=predictor, video=shot.video))
    except BaseException:
        # All was put back: what stands under a final name now is not of this join.
        with suppress(WriteError):
            journal.add({"joining": False})
        raise
    on_joined()
    journal.remove()
    return replace(
        summary,
        seconds=time.monotonic() - began,
        outputs=outputs.files,
        notes=tuple(dict.fromkeys((*summary.notes, *outputs.notes))),
    )


def _part(shot: Shot, folder: Path, record: Record, number: int) -> EncodedPart:
    segment = Unit.parse(record["unit"]).index
    return EncodedPart(
        part_path(folder, segment, number, shot.specs[number]),
        int(record["first"]),
        tuple(record["pts"]),
        tuple(record["durations"]),
        tuple(record["names"]),
    )


def _summary(shot: Shot, header: Record, rendered: Sequence[Record], began: float) -> Summary:
    confidence = tuple(value for record in rendered for value in record["confidence"])
    if not confidence:
        raise ReadError(
            f"{shot.video.info.source}: has no frame from {shot.start} on that can be read"
        )
    notes = dict.fromkeys(note for record in rendered for note in record["notes"])
    return Summary(
        input=str(shot.video.info.source),
        frames=len(confidence),
        seconds=time.monotonic() - began,
        model=header["model"],
        device=header["device"],
        precision=header["precision"],
        outputs=(),
        confidence=confidence,
        first_frame=shot.start,
        reference_frames=shot.reference_frames,
        notes=(*describe_source(shot.video.info), *notes),
        is_set=shot.request.source.images,
        report=None if shot.request.outputs.report is None else shot.request.outputs.report / PAGE,
        objects=tuple(filter(None, shot.references)),
    )
