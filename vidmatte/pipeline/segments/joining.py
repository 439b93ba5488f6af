"""Join the rendered segments of a long shot to its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.errors import WriteError
from vidmatte.model.interface import Predictor
from vidmatte.pipeline.progress import Work
from vidmatte.pipeline.request import Shot
from vidmatte.pipeline.segments.journal import Journal, Record
from vidmatte.pipeline.segments.plan import Plan, Unit
from vidmatte.pipeline.segments.render import THUMBNAILS, load_thumbnails, part_folder, part_path
from vidmatte.pipeline.summary import build_summary
from vidmatte.report.summary import Summary
from vidmatte.write import EncodedPart, WrittenFile
from vidmatte.write.partial import remove_backups


def join(
    shot: Shot,
    plan: Plan,
    journal: Journal,
    *,
    predictor: Predictor | None,
    began: float,
    work: Work,
    on_joined: Callable[[], None] = lambda: None,
) -> Summary:
    """Join the segments to the outputs, put them in place, and remove the work folder.

    Args:
        shot: the shot, opened.
        plan: how it was cut; all of its segments are rendered.
        journal: its journal.
        predictor: for the report; None if there is no report.
        began: `time.monotonic()` at the beginning of the run.
        work: counts the joined segments.
        on_joined: called after the outputs are in place, while the segments are still there: if it
            raises, everything can be joined again.

    Raises:
        WriteError: an output cannot be written or put in place.
    """
    rendered = _rendered(plan, journal)
    # Files with the final names may come from an interrupted join: they may be replaced.
    joins = [record["joining"] for record in journal.records() if "joining" in record]
    overwrite = shot.options.overwrite or bool(joins and joins[-1])
    for spec in shot.specs:
        remove_backups(Path(spec.path))
    outputs = shot.create_outputs(overwrite=overwrite)
    reporting = shot.create_report(overwrite=overwrite)
    sidecars = shot.create_sidecars(overwrite=overwrite)
    journal.add({"joining": True})
    try:
        with reporting or nullcontext(), sidecars, outputs as out:
            if any("truncated_at" in record for record in rendered):
                out.end_sound_with_picture()
            for record in rendered:
                if record["frames"]:
                    out.append(_parts(shot, journal, record))
                if reporting is not None:
                    thumbnails = load_thumbnails(_folder(journal, record) / THUMBNAILS)
                    reporting.take(pts=record["pts"], names=record["names"], thumbnails=thumbnails)
                work.add("joining")
            work.begin("finishing")
            summary = _summary(shot, journal.header(), rendered, began)
            out.add_to_commit(sidecars.write(frames=summary.frames, index=shot.start))
            if reporting is not None and predictor is not None:
                written = reporting.write(summary, predictor=predictor, video=shot.video)
                out.add_to_commit(written)
    except BaseException:
        # The outputs were rolled back: a file with a final name is not from this join.
        with suppress(WriteError):
            journal.add({"joining": False})
        raise
    on_joined()
    notes = tuple(dict.fromkeys((*summary.notes, *outputs.notes)))
    # After this record, a crash can no longer make anybody render or join again.
    summary = replace(summary, outputs=outputs.files, notes=notes)
    journal.add({"joined": [_to_json(file) for file in outputs.files], "notes": list(notes)})
    return _removed(summary, journal, began)


def is_joined(journal: Journal) -> bool:
    """Return whether the outputs are in place, so that only the work folder has to be removed."""
    written = _joined(journal).get("joined", ())
    return bool(written) and all(_exists(Path(file["path"])) for file in written)


def finish_joined(shot: Shot, plan: Plan, journal: Journal, *, began: float) -> Summary:
    """Remove the work folder of a joined shot, and return the summary."""
    record = _joined(journal)
    summary = _summary(shot, journal.header(), _rendered(plan, journal), began)
    outputs = tuple(_from_json(file) for file in record["joined"])
    return _removed(replace(summary, outputs=outputs, notes=tuple(record["notes"])), journal, began)


def _removed(summary: Summary, journal: Journal, began: float) -> Summary:
    """Remove the work folder; a failure becomes a note, as the outputs are complete."""
    notes = summary.notes
    if reason := journal.remove(journal_last=True):
        notes = (
            *notes,
            f"the outputs are complete, but {journal.folder} could not be removed ({reason}); "
            f"delete it",
        )
    return replace(summary, seconds=time.monotonic() - began, notes=notes)


def _joined(journal: Journal) -> Record:
    return next((record for record in journal.records() if "joined" in record), {})


def _exists(path: Path) -> bool:
    """Return whether an output is there; of a pattern of images only its folder is looked at."""
    return path.exists() or (any(mark in path.name for mark in "%#@${") and path.parent.is_dir())


def _rendered(plan: Plan, journal: Journal) -> list[Record]:
    """Return the records of the rendered segments, in order.

    They end with the segment of a truncated source's end: decoders may find frames behind the
    damage, but the outputs must have no gap.
    """
    records = {str(record["unit"]): record for record in journal.records() if "unit" in record}
    rendered = []
    for segment in range(plan.segments):
        rendered.append(records[Unit("render", segment).name])
        if "truncated_at" in rendered[-1]:
            break
    return rendered


def _folder(journal: Journal, record: Record) -> Path:
    return part_folder(journal.folder, Unit.parse(record["unit"]).index)


def _parts(shot: Shot, journal: Journal, record: Record) -> Sequence[EncodedPart]:
    """Return the part of each output in one segment."""
    segment = Unit.parse(record["unit"]).index
    return [
        EncodedPart(
            part_path(journal.folder, segment, number, spec),
            int(record["first"]),
            tuple(record["pts"]),
            tuple(record["durations"]),
            tuple(record["names"]),
        )
        for number, spec in enumerate(shot.specs)
    ]


def _summary(shot: Shot, header: Record, rendered: Sequence[Record], began: float) -> Summary:
    # Every segment notes the same about the model: each note is kept once, in order.
    notes = dict.fromkeys(note for record in rendered for note in record["notes"])
    truncated = [record["truncated_at"] for record in rendered if "truncated_at" in record]
    return build_summary(
        shot,
        truncated_at=(truncated[0][0], truncated[0][1]) if truncated else None,
        model=header["model"],
        device=header["device"],
        precision=header["precision"],
        confidence=[value for record in rendered for value in record["confidence"]],
        notes=notes,
        seconds=time.monotonic() - began,
    )


def _to_json(file: WrittenFile) -> dict[str, Any]:
    return {
        "path": str(file.path),
        "kind": file.kind,
        "codec": file.codec,
        "pixel_format": file.pixel_format,
        "frames": file.frames,
        "object_name": file.object_name,
    }


def _from_json(document: Record) -> WrittenFile:
    return WrittenFile(**{**document, "path": Path(document["path"])})
