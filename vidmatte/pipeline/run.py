"""Run the whole flow: open, draw references, match, smooth, finish, colour, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from vidmatte.errors import WriteError, worded
from vidmatte.model.build import notes_of
from vidmatte.model.interface import Model, Predictor
from vidmatte.options import MatteOptions
from vidmatte.pipeline.models import (
    adapted,
    batch_size_of,
    model_from_options,
    model_of,
    predictor_of,
    share_cores,
)
from vidmatte.pipeline.progress import ProgressCallback, Work
from vidmatte.pipeline.request import Request, Shot, open_shot
from vidmatte.pipeline.segments.fingerprint import Fingerprint, fingerprint
from vidmatte.pipeline.segments.journal import Journal, Record
from vidmatte.pipeline.segments.long_render import (
    BesideRunner,
    LongRender,
    do_units,
    frames_if_segmented,
    may_be_segmented,
)
from vidmatte.pipeline.segments.plan import Unit
from vidmatte.pipeline.source import Inputs, Paths
from vidmatte.pipeline.summary import build_summary
from vidmatte.prompts.objects import Mattes, Prompts, lowest_confidence, together
from vidmatte.report.summary import Summary
from vidmatte.stages.chain import MattesCallback, matte_images, postprocess
from vidmatte.stages.passes import passes_of_object
from vidmatte.stages.propagate import matte_objects

_log = logging.getLogger(__name__)


def matte(
    source: Inputs,
    prompts: Prompts = (),
    *,
    output: Paths = (),
    alpha: Paths = (),
    reference: str | Path | None = None,
    images: bool = False,
    report: str | Path | None = None,
    sidecars: Sequence[str] = (),
    options: MatteOptions | None = None,
    progress: ProgressCallback | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Matte a clip, an image sequence or a set of independent images.

    Several objects are marked by a mapping from names to prompts, as `load_prompts` returns it. A
    path with `{object}` gives each object a file, an EXR without it each a layer; alpha of objects
    that overlap sums to 1 at most (see `prompts.objects.share_overlaps`). The confidence of a frame
    is the lowest of its objects.

    A long clip is rendered in segments, which are kept in a hidden folder beside its first output
    until all are done (see `pipeline.segments`); `options.resume` uses those of a stopped run.

    Args:
        source: a movie, a folder or pattern of frames, the images of a set, or frames in memory:
            arrays or Pillow images, see `read.memory.MemoryVideo`.
        prompts: marks on frames of `source`, or of `reference`; none with external mattes (model
            "none") or trimaps.
        output: files of colour with alpha. The extension chooses the format (see `write.FORMATS`),
            and format options follow a colon, as in "shot.mov:prores-4444-xq".
        alpha: files of alpha alone.
        reference: the image or clip that is marked; None for `source`.
        images: whether `source` is a set of independent images.
        report: folder for a page with the confidence of each frame, thumbnails, and frames that
            are worth marking too.
        sidecars: programs that get a script beside the first output, which opens the outputs
            there: "nuke", "fusion", "ae".
        options: all other choices.
        progress: called with a `pipeline.progress.Progress` at the beginning of each stage, and
            after each step of an adaptation, frame and segment.
        on_mattes: called with the mattes of each object that were just handed to the outputs.

    Returns:
        What was done, and what a user should know of it.

    Raises:
        VidmatteError: whatever a user can correct. Then, and after an interruption, nothing is left
            behind but the finished segments of a long clip.
    """
    request = Request.of(
        source,
        prompts,
        output=output,
        alpha=alpha,
        reference=reference,
        images=images,
        report=report,
        sidecars=sidecars,
        options=options,
    )
    return matte_request(request, progress=progress, on_mattes=on_mattes)


def matte_request(
    request: Request,
    *,
    progress: ProgressCallback | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Do what a request asks for; see `matte`."""
    work = Work(progress)
    work.begin("opening")
    with open_shot(request) as shot:
        if may_be_segmented(shot):
            # Reads all packets of a movie whose container has no index.
            work.begin("counting")
        frames = frames_if_segmented(shot)
        if frames is None:
            return matte_streaming(shot, model_from_options, work=work, on_mattes=on_mattes)
        work.begin("identifying")
        identity = fingerprint(request)
        return _matte_in_segments(shot, frames, identity, work, on_mattes)


def matte_streaming(
    shot: Shot,
    load_model: Callable[[MatteOptions], Model],
    *,
    threads: int | None = None,
    work: Work | None = None,
    on_mattes: MattesCallback | None = None,
) -> Summary:
    """Matte a shot in one stream from its first frame to its last.

    `load_model` gives the model of the options; `threads` are those of `share_cores`; `work` counts
    what is done. For `on_mattes` see `matte`.
    """
    began = time.monotonic()
    work = work or Work()
    confidence: list[float] = []
    options = shot.options
    with share_cores(options, threads):
        # Refused outputs are told before the model is loaded, which takes seconds.
        outputs = shot.create_outputs(overwrite=options.overwrite)
        reporting = shot.create_report(overwrite=options.overwrite)
        sidecars = shot.create_sidecars(overwrite=options.overwrite)
        # Before the outputs are opened: a missing model leaves nothing behind.
        work.begin("loading")
        model = model_of(shot, load_model)
        loaded = time.monotonic()
        with reporting or nullcontext(), sidecars, outputs as out:
            predictors = predictors_of(shot, model, work)
            adapted_at = time.monotonic()
            stages = streamed(
                shot,
                model,
                predictors,
                color=shot.request.outputs.with_color,
                work=work,
            )
            # Closed even on errors, so that its threads end before the outputs are removed.
            with closing(stages):
                for batches in stages:
                    of_objects = dict(zip(shot.references, batches, strict=True))
                    out.write(of_objects)
                    confidence += lowest_confidence(batches)
                    work.add("matting", len(batches[0]))
                    if on_mattes is not None:
                        on_mattes(of_objects)
                    if reporting is not None:
                        reporting.add(together(batches))
            work.begin("finishing")
            # A source replaced during the run would give mattes of two clips.
            shot.check_unchanged()
            if shot.truncated_at is not None:
                # Otherwise the sound would go on over the last picture.
                out.end_sound_with_picture()
            summary = build_summary(
                shot,
                model=model.name,
                device=str(model.device),
                precision=str(model.precision),
                confidence=confidence,
                notes=notes_of(model),
                seconds=time.monotonic() - began,
                truncated_at=shot.truncated_at,
            )
            # Sidecars and report are put in place with the outputs, or not at all.
            out.add_to_commit(sidecars.write(frames=summary.frames, index=shot.start))
            if reporting is not None:
                written = reporting.write(summary, predictor=predictors[0], video=shot.video)
                out.add_to_commit(written)
    # The files, and the notes on them, are known only after they are in place.
    notes = (*summary.notes, *outputs.notes)
    seconds = time.monotonic() - began
    times = {
        "model": loaded - began,
        "references": adapted_at - loaded,
        "frames": began + seconds - adapted_at,
    }
    return replace(summary, seconds=seconds, outputs=outputs.files, notes=notes, stages=times)


def predictors_of(shot: Shot, model: Model, work: Work) -> list[Predictor]:
    """Return the predictor of each object, adapted to its references."""
    work.begin("encoding")
    steps = shot.options.adapt_steps
    images = shot.request.source.images
    work.expect("matting", shot.expected)
    if steps:
        work.expect("adapting", steps * len(shot.references))
    return [
        adapted(predictor_of(shot, model, references), steps, images, work)
        for references in shot.references.values()
    ]


def streamed(
    shot: Shot,
    model: Model,
    predictors: Sequence[Predictor],
    *,
    color: bool,
    work: Work,
) -> Generator[Mattes]:
    """Return the finished mattes of all objects, frames in order.

    Args:
        shot: what is matted.
        model: its model.
        predictors: that of each object, see `predictors_of`.
        color: whether foreground colour is estimated.
        work: counts the propagated frames; those that come out are for the caller to count.
    """
    references = list(shot.references.values())
    work.expect("matting", shot.expected)
    if shot.request.source.images:
        work.begin("matting")
        mattes = matte_images(predictors, shot.video, references)
    else:
        if predictors[0].tracker() is not None:
            work.expect("propagating", _propagated_frames(shot))
        work.begin("matting")
        mattes = matte_objects(
            predictors,
            shot.video,
            references,
            start=shot.start,
            end=shot.end,
            batch_size=batch_size_of(shot.options, model.device),
            # Frames that come out at once are reported when they are written.
            on_propagated=lambda frames, comes_later: work.add(
                "propagating", frames, is_reported=comes_later
            ),
        )
    return postprocess(mattes, shot.options, shot.finisher, len(predictors), color, model.device)


def _propagated_frames(shot: Shot) -> int | None:
    """Return the number of frames of all passes of all objects; None if there is no end."""
    if shot.expected is None:
        return None
    end = shot.start + shot.expected
    objects = [[mark.frame for mark in marks] for marks in shot.references.values()]
    passes = [pass_ for frames in objects for pass_ in passes_of_object(frames, shot.start, end)]
    return sum(pass_.last - pass_.first + 1 for pass_ in passes)


def _matte_in_segments(
    shot: Shot,
    frames: int,
    identity: Fingerprint,
    work: Work,
    on_mattes: MattesCallback | None,
) -> Summary:
    """Matte a long shot segment by segment, or resume one that was stopped."""
    began = time.monotonic()
    render = LongRender(shot, model_from_options, on_mattes=on_mattes)
    work.begin("loading")
    with render.begin(frames, identity):
        try:
            render.expect(work)
            work.begin("encoding")

            # The renderer is asked for with a unit alone: joined outputs need none.
            def run(unit: Unit, work: Work) -> Record:
                return render.renderer.run(unit, work)

            with BesideRunner(run, work) as beside:
                do_units(render.plan, render.journal, lambda unit: run(unit, work), beside=beside)
            work.begin("joining")
            return render.join(began=began, work=work)
        except BaseException:
            _say_what_is_kept(render.journal)
            raise


def _say_what_is_kept(journal: Journal) -> None:
    """Log what a stopped run leaves; never hides the error that stopped it."""
    with suppress(WriteError):
        done = list(journal.done())
        # An adaptation alone is quickly repeated, and not worth a message.
        if any(not name.startswith("adapt:") for name in done):
            segments = sum(name.startswith("render:") for name in done)
            kept = f"{segments} finished segments are kept: --resume continues with them"
            if not segments:
                kept = "propagated frames are kept: --resume continues with them"
            _log.warning("%s", worded(kept))
