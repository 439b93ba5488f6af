"""The whole flow: open, mark, match, smooth, finish, colour, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from vidmatte.errors import ReadError
from vidmatte.imaging.display import describe_source
from vidmatte.model.build import notes_of
from vidmatte.model.interface import Model
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import (
    StepCallback,
    adapted,
    batch_size_of,
    model_from_options,
    model_of,
    predictor_of,
    share_cores,
    sub_progress,
)
from vidmatte.pipeline.request import Request, Shot, open_shot
from vidmatte.pipeline.segments.fingerprint import fingerprint
from vidmatte.pipeline.segments.journal import Journal
from vidmatte.pipeline.segments.plan import JOIN, Plan, Schedule, Unit
from vidmatte.pipeline.segments.render import Renderer
from vidmatte.pipeline.segments.session import (
    can_resume,
    check_environment,
    check_outputs,
    delete_chunks,
    frames_if_segmented,
    header_of,
    join,
    journal_of,
    make_plan,
)
from vidmatte.pipeline.source import Paths
from vidmatte.prompts.objects import Mattes, Prompts, together
from vidmatte.report import PAGE
from vidmatte.report.summary import Summary
from vidmatte.stages.chain import MattesCallback, matte_images, postprocess
from vidmatte.stages.propagate import matte_objects

_log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, "int | None"], None]


def matte(
    source: Paths,
    prompts: Prompts = (),
    *,
    output: Paths = (),
    alpha: Paths = (),
    reference: str | Path | None = None,
    images: bool = False,
    report: str | Path | None = None,
    options: MatteOptions | None = None,
    progress: ProgressCallback | None = None,
    on_adapt: StepCallback | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Matte a clip, an image sequence or (with `images`) a set of independent images.

    `prompts` mark frames of `source`, or of `reference` (an image or a clip) where one is given; there are none where
    `options` give the mattes themselves (model "none"). `output` are files of colour with alpha, `alpha` files of alpha
    alone; the extension chooses the format (see `write.FORMATS`), and format options follow a colon, as in
    "shot.mov:prores-4444-xq" (see `write.split_format_options`). `report` is a folder for a page with the confidence of
    each frame, small pictures and frames worth marking too.

    Several objects are marked by a mapping from names to prompts, as `load_prompts` returns it. A path with `{object}`
    gives each a file, an EXR without it each a layer; where their mattes overlap, alpha sums to 1 at most (see
    `prompts.objects.share_overlaps`). The confidence of a frame is that of its least sure object.

    A long clip is rendered in segments, kept in a hidden folder beside its first output until all are there (see
    `segments`): `options.resume` goes on with those of a run that was stopped.

    `progress` is called with the number of frames done and, where known, of all frames; `on_adapt` with the steps
    of adaptation done and of all steps; `on_mattes` with the mattes of each object that were just handed to the
    outputs.

    Raises a VidmatteError for everything a user can mend; then, and when it is interrupted, nothing is left behind but
    the finished segments of a long clip.
    """
    request = Request.of(
        source,
        prompts,
        output=output,
        alpha=alpha,
        reference=reference,
        images=images,
        report=report,
        options=options,
    )
    return matte_request(request, progress=progress, on_adapt=on_adapt, on_mattes=on_mattes)


def matte_request(
    request: Request,
    *,
    progress: ProgressCallback | None = None,
    on_adapt: StepCallback | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Do what is asked for; see `matte`."""
    with open_shot(request) as shot:
        frames = frames_if_segmented(shot)
        if frames is None:
            return matte_streaming(
                shot, model_from_options, progress=progress, on_adapt=on_adapt, on_mattes=on_mattes
            )
        return _matte_in_segments(shot, frames, progress, on_adapt, on_mattes)


def matte_streaming(
    shot: Shot,
    load_model: Callable[[MatteOptions], Model],
    *,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    on_adapt: StepCallback | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Matte a shot in one stream from its first frame to its last; `threads` are those of `share_cores`."""
    began = time.monotonic()
    options, video, request = shot.options, shot.video, shot.request
    with share_cores(options.device, threads):
        outputs = shot.create_outputs(overwrite=options.overwrite)
        reporting = shot.create_report(overwrite=options.overwrite)
        model = model_of(shot, load_model)
        with reporting or nullcontext(), outputs as out:
            counter = _Counter(progress, shot.expected)
            reference_sets = list(shot.references.values())
            predictors = [
                adapted(
                    predictor_of(shot, model, references),
                    options.adapt_steps,
                    counter.expected,
                    request.source.images,
                    sub_progress(on_adapt, number, len(reference_sets)),
                )
                for number, references in enumerate(reference_sets)
            ]
            mattes = (
                matte_images(predictors, video)
                if request.source.images
                else matte_objects(
                    predictors,
                    video,
                    reference_sets,
                    start=shot.start,
                    end=shot.end,
                    batch_size=batch_size_of(options, model.device),
                    on_backward=counter.add_backward,
                )
            )
            with_color = request.outputs.with_color
            stages = postprocess(
                mattes, options, shot.finisher, len(predictors), with_color, model.device
            )
            with closing(stages):
                for batches in stages:
                    of_objects = dict(zip(shot.references, batches, strict=True))
                    out.write(of_objects)
                    counter.add(batches)
                    if on_mattes is not None:
                        on_mattes(of_objects)
                    if reporting is not None:
                        reporting.add(together(batches))
            _check_not_empty(shot, counter)
            summary = Summary(
                input=str(video.info.source),
                frames=len(counter.confidence),
                seconds=time.monotonic() - began,
                model=model.name,
                device=str(model.device),
                precision=str(model.precision).removeprefix("torch."),
                outputs=(),
                confidence=tuple(counter.confidence),
                first_frame=shot.start,
                reference_frames=shot.reference_frames,
                notes=(*describe_source(video.info), *notes_of(model)),
                is_set=request.source.images,
                report=None if request.outputs.report is None else request.outputs.report / PAGE,
                objects=tuple(filter(None, shot.references)),
            )
            if reporting is not None:
                out.add_to_commit(reporting.write(summary, predictor=predictors[0], video=video))
    # The outputs, and what there is to say of them, are known when they are in place.
    return replace(
        summary,
        seconds=time.monotonic() - began,
        outputs=outputs.files,
        notes=(*summary.notes, *outputs.notes),
    )


def _matte_in_segments(
    shot: Shot,
    frames: int,
    progress: ProgressCallback | None,
    on_adapt: StepCallback | None,
    on_mattes: MattesCallback | None,
) -> Summary:
    """Matte a long shot segment by segment, and go on with what a run that was stopped left."""
    began = time.monotonic()
    journal = journal_of(shot.request)
    identity = fingerprint(shot.request)
    resuming = can_resume(journal, shot.request, identity)
    if not (resuming and any("joining" in record for record in journal.records())):
        check_outputs(shot)  # now, and not when all is rendered
    threads = int(journal.header()["threads"]) if resuming else None
    with journal.lock(), share_cores(shot.options.device, threads):
        try:
            model = model_of(shot, model_from_options)
            plan = make_plan(shot, model, frames)
            if resuming:
                check_environment(journal, model)
            else:
                journal.begin(header_of(identity, model, plan, torch.get_num_threads()))
            renderer = Renderer(shot, plan, journal.folder, model, on_mattes=on_mattes)
            _do_units(plan, journal, renderer, progress, on_adapt)
            predictor = None if shot.request.outputs.report is None else renderer.predictor(0)
            return join(shot, plan, journal, predictor=predictor, began=began)
        except BaseException:
            done = list(journal.done())
            if any(not name.startswith("adapt:") for name in done):
                segments = sum(name.startswith("render:") for name in done)
                _log.warning(
                    "%d finished segments, and what was followed, are kept: --resume goes on",
                    segments,
                )
            raise
        finally:
            journal.remove_if_empty()


def _do_units(
    plan: Plan,
    journal: Journal,
    renderer: Renderer,
    progress: ProgressCallback | None,
    on_adapt: StepCallback | None,
) -> None:
    done = set(journal.done())
    schedule, counter = Schedule(plan, done), _UnitCounter(plan, done, progress)
    while (unit := schedule.take()) is not None and unit != JOIN:
        journal.add(renderer.run(unit, on_frame=counter.add, on_step=on_adapt))
        done.add(unit.name)
        schedule.finish(unit)
        delete_chunks(plan, journal.folder, unit, done)


class _UnitCounter:
    """Progress of a long shot: frames that are followed and rendered count one half each."""

    def __init__(self, plan: Plan, done: Set[str], progress: ProgressCallback | None) -> None:
        self._frames, self._progress = plan.frames, progress
        self._work = plan.frames + sum(
            pass_.last - pass_.first + 1 for passes in plan.passes for pass_ in passes
        )
        self._done = sum(plan.size(unit) for unit in map(Unit.parse, done))

    def add(self, frames: int) -> None:
        self._done += frames
        if self._progress is not None:
            self._progress(self._done * self._frames // self._work, self._frames)


class _Counter:
    """Counts frames for the progress callback and keeps their confidence."""

    def __init__(self, progress: ProgressCallback | None, expected: int | None) -> None:
        self.confidence: list[float] = []
        self.expected = expected
        self._progress, self._backward = progress, 0

    def add(self, mattes: Mattes) -> None:
        self.confidence.extend(
            map(min, *(batch.confidence for batch in mattes), mattes[0].confidence)
        )
        self._report()

    def add_backward(self, frames: int) -> None:
        """Frames were followed backward: work that is done before these frames come out."""
        self._backward += frames
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            expected = None if self.expected is None else self.expected + self._backward
            self._progress(len(self.confidence) + self._backward, expected)


def _check_not_empty(shot: Shot, counter: _Counter) -> None:
    if not counter.confidence:
        raise ReadError(
            f"{shot.video.info.source}: has no frame from {shot.start} on that can be read"
        )
