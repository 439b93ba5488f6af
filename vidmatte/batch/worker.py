"""Do tasks; keep models loaded and shots open from one task to the next."""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.batch.task import BEGIN, Outcome, Progress, Task
from vidmatte.batch.upload import (
    clear,
    is_uri,
    refuse_existing,
    remove_staged,
    remove_staging_folders,
    stamp_at,
    upload,
    uri_of,
)
from vidmatte.errors import ModelError, ReadError, VidmatteError, WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.model.interface import Model
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import model_from_options, share_cores
from vidmatte.pipeline.progress import Progress as StageProgress
from vidmatte.pipeline.progress import Stage, Work
from vidmatte.pipeline.request import Request, Shot, open_shot
from vidmatte.pipeline.run import matte_streaming
from vidmatte.pipeline.segments.fingerprint import FileFingerprint, Fingerprint, fingerprint
from vidmatte.pipeline.segments.long_render import LongRender, frames_if_segmented
from vidmatte.pipeline.segments.plan import Unit
from vidmatte.pipeline.segments.render import load_all_thumbnails
from vidmatte.prompts.objects import together
from vidmatte.report import Thumbnails
from vidmatte.report.sheets import contact_sheet, to_jpeg
from vidmatte.report.summary import Summary, suggested_apart
from vidmatte.report.thumbnails import Thumbnail, for_sheet
from vidmatte.write import OutputSpec, PlacementError

_OPEN_SHOTS, _LOADED_MODELS = 2, 2
_LOWEST = 8
"""Number of least sure frames in a result."""
_SECONDS_BETWEEN_REPORTS = 0.5


class Worker:
    """Does tasks one after the other."""

    def __init__(
        self, device: str = "auto", report: Callable[[Progress], None] | None = None
    ) -> None:
        """`device` is for shots without one; `report` is called as frames are done."""
        self._device = device
        self._report = report or (lambda frames: None)
        self._models: OrderedDict[tuple[object, ...], Model] = OrderedDict()
        self._shots: OrderedDict[str, _OpenShot] = OrderedDict()

    def run(self, task: Task) -> Outcome:
        """Do a task, and return its outcome; every error except an interruption is one."""
        began = time.monotonic()
        try:
            outcome = self._run(self._placed(task), task.request)
        except VidmatteError as error:
            may_pass = isinstance(error, ReadError | WriteError | ModelError)
            # Outputs that are complete were kept: another try would only leave them once more.
            retryable = may_pass and not isinstance(error, PlacementError)
            outcome = _failure(error, str(error), retryable=retryable)
        except OSError as error:
            outcome = _failure(
                error, f"{error.filename or 'a file'}: {error.strerror or error}", retryable=True
            )
        except Exception as error:  # noqa: BLE001 - one bad shot never stops the rest
            trace = traceback.format_exc()
            reason = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
            outcome = replace(_failure(error, reason, retryable=False), trace=trace)
        if outcome.kind == "failed":
            self._forget(task.shot)
            remove_staging_folders(task.uris)
        return replace(outcome, seconds=time.monotonic() - began)

    def close(self) -> None:
        """Close all shots."""
        for shot in list(self._shots):
            self._forget(shot)

    def _placed(self, task: Task) -> Task:
        options = task.request.options
        if options.device != "auto":
            return task
        return replace(
            task, request=replace(task.request, options=replace(options, device=self._device))
        )

    def _run(self, task: Task, asked: Request) -> Outcome:
        if task.unit == BEGIN:
            return self._begin(task, asked)
        assert task.plan is not None  # every other unit is part of a plan
        opened = self._open(task)
        with share_cores(task.request.options, task.threads):
            if task.unit == "join":
                return self._join(task, opened)
            frames = _Reporter(task.shot, self._report)
            renderer = opened.render(task, self._load).renderer
            record = renderer.run(Unit.parse(task.unit), Work(frames.take))
            frames.flush()
            return Outcome("done", record)

    def _begin(self, task: Task, asked: Request) -> Outcome:
        request = task.request
        self._forget(task.shot)  # the options may have changed since it was opened
        for spec in request.outputs.specs:
            spec.folder.mkdir(parents=True, exist_ok=True)
        if request.outputs.report is not None:
            request.outputs.report.parent.mkdir(parents=True, exist_ok=True)
        # Not as it was placed: the GPU of this worker is no choice of the shot.
        identity = fingerprint_sent(asked, task.uris, task.file_fingerprints)
        if is_up_to_date(task.finished, identity, request):
            return Outcome(
                "up to date", key=identity.key, file_fingerprints=identity.file_fingerprints
            )
        refuse_existing(request, task.uris)
        clear(request, task.uris)
        shot = self._open(task).shot
        frames = frames_if_segmented(shot)
        if frames is None:
            return self._whole(task, shot, identity)
        render = LongRender(shot, self._load)
        with render.begin(frames, identity, threads=task.threads):
            header = render.journal.header()
            return Outcome("planned", header, render.plan, identity.key, identity.file_fingerprints)

    def _whole(self, task: Task, shot: Shot, identity: Fingerprint) -> Outcome:
        """Render a shot without segments."""
        counter = _Reporter(task.shot, self._report)
        apart = suggested_apart(is_set=task.request.source.images)
        aspect = shot.video.info.sample_aspect_ratio
        thumbnails = Thumbnails(
            pixel_aspect=aspect,
            references=shot.reference_frames,
            apart=apart,
            first_number=shot.video.first_number,
        )
        summary = matte_streaming(
            shot,
            self._load,
            threads=task.threads,
            work=Work(counter.take),
            on_mattes=lambda mattes: thumbnails.add(together(tuple(mattes.values()))),
        )
        counter.flush()
        self._forget(task.shot)
        upload(task.request, task.uris)
        write_sheet(task.sheet, thumbnails.sheet(summary.suggested_reference_frames), summary)
        return Outcome(
            "completed",
            _completed(task, summary),
            key=identity.key,
            file_fingerprints=identity.file_fingerprints,
        )

    def _join(self, task: Task, opened: _OpenShot) -> Outcome:
        assert task.plan is not None
        render = opened.render(task, self._load)
        thumbnails = load_all_thumbnails(render.journal.folder, task.plan)
        summary = render.join(on_joined=lambda: upload(task.request, task.uris))
        self._forget(task.shot)
        write_sheet(task.sheet, for_sheet(thumbnails, summary.suggested_reference_frames), summary)
        return Outcome("completed", _completed(task, summary), key=task.key)

    def _open(self, task: Task) -> _OpenShot:
        if task.shot not in self._shots:
            while len(self._shots) >= _OPEN_SHOTS:
                self._shots.popitem(last=False)[1].close()
            self._shots[task.shot] = _OpenShot(task)
        self._shots.move_to_end(task.shot)
        return self._shots[task.shot]

    def _forget(self, shot: str) -> None:
        if shot in self._shots:
            self._shots.pop(shot).close()

    def _load(self, options: MatteOptions) -> Model:
        key = (
            str(options.model),
            options.sd,
            options.weights,
            options.settings,
            options.device,
            options.precision,
            options.working_size,
            options.quality,
            options.prompt_model,
            options.prompt_weights,
        )
        if key not in self._models:
            while len(self._models) >= _LOADED_MODELS:
                self._models.popitem(last=False)
            self._models[key] = model_from_options(options)
        self._models.move_to_end(key)
        return self._models[key]


class _OpenShot:
    """A shot kept open between its units."""

    def __init__(self, task: Task) -> None:
        self._stack = ExitStack()
        self.shot = self._stack.enter_context(open_shot(task.request))
        self._render: LongRender | None = None

    def render(self, task: Task, load_model: Callable[[MatteOptions], Model]) -> LongRender:
        """Return the render of the shot, possibly begun by another process."""
        if self._render is None:
            self._render = LongRender(self.shot, load_model, plan=task.plan)
        return self._render

    def close(self) -> None:
        self._stack.close()


class _Reporter:
    """Reports propagated and written frames, at most every half second."""

    def __init__(self, shot: str, report: Callable[[Progress], None]) -> None:
        self._shot = shot
        self._report = report
        self._done: dict[Stage, int] = {"propagating": 0, "matting": 0}
        self._waiting = 0
        self._last = time.monotonic()

    def take(self, now: StageProgress) -> None:
        if now.stage not in self._done:
            return
        self._waiting += now.done - self._done[now.stage]
        self._done[now.stage] = now.done
        if time.monotonic() - self._last > _SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._report(Progress(self._shot, self._waiting))
        self._waiting, self._last = 0, time.monotonic()


def fingerprint_sent(
    request: Request, uris: Mapping[str, str], known: Mapping[str, FileFingerprint]
) -> Fingerprint:
    """Return the fingerprint of a request with outputs sent to addresses."""
    identity = fingerprint(request, known)
    return replace(identity, key=" ".join([identity.key, *sorted(uris.values())]))


def is_up_to_date(finished: Any, identity: Fingerprint, request: Request) -> bool:
    """Return whether a shot was completed from the same inputs, and its outputs are unchanged."""
    if not finished or finished.get("key") != identity.key:
        return False
    pairs = zip(finished["outputs"], request.outputs.specs, strict=True)
    return all(_stamp(output["path"], spec) == output["stamp"] for output, spec in pairs)


def _stamp(uri: str, spec: OutputSpec) -> list[Any]:
    """Return a stamp of an output, different after a replacement.

    The number of its files, their bytes in all, and the time of the last change in nanoseconds, or
    for an address a digest.
    """
    if is_uri(uri):
        return stamp_at(uri, spec)
    folder, names = spec.folder, spec.file_names
    files = (
        [file for file in folder.iterdir() if names.fullmatch(file.name)] if folder.is_dir() else []
    )
    facts = [file.stat() for file in files]
    return [
        len(facts),
        sum(each.st_size for each in facts),
        max((each.st_mtime_ns for each in facts), default=0),
    ]


def _completed(task: Task, summary: Summary) -> dict[str, Any]:
    """Return the result of a shot with outputs in place; remove their staged copies."""
    remove_staged(task.request, task.uris)
    confidence = summary.confidence
    lowest = sorted(range(len(confidence)), key=confidence.__getitem__)[:_LOWEST]
    document = summary.as_json()
    del document["confidence"]["frames"]  # one line of the results per shot, however long it is
    for spec, output in zip(task.request.outputs.specs, document["outputs"], strict=True):
        output["path"] = uri_of(spec, task.uris) or output["path"]
        output["stamp"] = _stamp(output["path"], spec)
    return {
        **document,
        "lowest": [[summary.first_frame + n, round(confidence[n], 4)] for n in lowest],
    }


def write_sheet(path: str | None, thumbnails: list[Thumbnail], summary: Summary) -> None:
    """Write the contact sheet of a shot, the least sure frames first."""
    if path is None or not thumbnails:
        return
    ordered = sorted(thumbnails, key=lambda shown: (shown.confidence, shown.frame))
    suggested = summary.suggested_reference_frames
    data = to_jpeg(contact_sheet(ordered, references=summary.reference_frames, suggested=suggested))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data)


def _failure(error: Exception, reason: str, *, retryable: bool) -> Outcome:
    return Outcome("failed", reason=reason, error=type(error).__name__, retryable=retryable)
