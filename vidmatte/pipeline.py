"""The whole flow: open, mark, match, smooth, finish, colour, write."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import torch

from vidmatte.despill import despill
from vidmatte.errors import OptionError, ReadError
from vidmatte.finish import Finisher
from vidmatte.follow import matte_objects
from vidmatte.foreground import estimate_foreground
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.mark import mark_references
from vidmatte.model.build import choose_device, load_model, notes_of, parse_settings
from vidmatte.model.compact.matter import CompactMatter
from vidmatte.model.given import given_mattes
from vidmatte.model.interface import Matter, Model
from vidmatte.model.viewer import show_to
from vidmatte.objects import (
    Mattes,
    for_each_object,
    prompts_of_objects,
    share_overlaps,
    targets_of_objects,
    together,
)
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.prompt import Prompt, Reference
from vidmatte.read import Video, open_video, parse_position
from vidmatte.read.mask import Mask, open_mask
from vidmatte.read.sequence import ImageSet
from vidmatte.report import PAGE, Invocation, create_report
from vidmatte.smoothing import smooth
from vidmatte.stream import map_behind
from vidmatte.summary import Summary
from vidmatte.train.rehearse import DEFAULT_STEPS, STEPS_A_FRAME, rehearse
from vidmatte.view import describe_view
from vidmatte.write import Target, create_outputs, split_choices

_VIDEO_PEAK = 1.25
"""No code value of video stands for more; light of scene-linear sources goes far beyond."""
ProgressCallback = Callable[[int, "int | None"], None]


def matte(
    source: str | Path | Sequence[str | Path],
    prompts: Prompt | Sequence[Prompt] | Mapping[str, Prompt | Sequence[Prompt]] = (),
    *,
    output: str | Path | Sequence[str | Path] = (),
    alpha: str | Path | Sequence[str | Path] = (),
    reference: str | Path | None = None,
    images: bool = False,
    report: str | Path | None = None,
    options: MatteOptions | None = None,
    progress: ProgressCallback | None = None,
    on_rehearsal: Callable[[int, int], None] | None = None,
) -> Summary:
    """Matte a clip, an image sequence or (with `images`) a set of independent images.

    `prompts` mark frames of `source`, or of `reference` (an image or a clip) where one is given; there are none where
    `options` give the mattes themselves (model "none"). `output` are files of colour with alpha, `alpha` files of alpha
    alone; the extension chooses the format (see `write.FORMATS`), and words behind a colon what it offers, as in
    "shot.mov:prores-4444-xq" (see `write.split_choices`). `report` is a folder for a page with the confidence of each
    frame, small pictures and frames worth marking too.

    Several objects are marked by a mapping from names to prompts, as `load_prompts` returns it. A path with `{object}`
    gives each a file, an EXR without it each a layer; where their mattes overlap, alpha sums to 1 at most (see
    `objects.share_overlaps`). The confidence of a frame is that of its least sure object.

    `progress` is called with the number of frames done and, where known, of all frames; `on_rehearsal` with the steps
    of practice done and of all steps.

    Raises a VidmatteError for everything a user can mend; then, and when it is interrupted, nothing is left behind.
    """
    options = options or MatteOptions()
    objects = prompts_of_objects(prompts)
    targets = _targets(output, alpha, images, options, list(objects))
    inputs = _inputs(source, reference, objects, options)
    began = time.monotonic()
    with (
        _open_source(source, images, options) as video,
        Finisher(options.finish, like=video.info) as finisher,
        nullcontext() if options.matte is None else open_mask(options.matte) as given,
        share_cores(options.device),
    ):
        start, end = _range(video, options)
        start_seconds = None if options.start is None else video.seconds_of(start)
        if options.finish.inside_mask or options.finish.outside_mask:
            finisher.check_length(min(video.count_frames(), end or video.count_frames()))
        references = _references(video, objects, reference, options)
        marked = tuple(mark.frame for marks in references.values() for mark in marks if mark.frame is not None)
        outputs = create_outputs(
            targets,
            like=video.info,
            overwrite=options.overwrite,
            premultiplied=options.premultiplied,
            bit_depth=options.bit_depth,
            start=start_seconds,
            end=None if end is None else video.seconds_of(end),
            inputs=inputs,
        )
        reporting = None
        if report is not None:
            asked = Invocation(
                _as_list(source),
                images,
                reference,
                objects,
                _asked(output, alpha),
                Path(report),
                chosen_options(options),
            )
            reporting = create_report(
                asked,
                like=video.info,
                references=marked,
                inputs=inputs,
                start=start_seconds or Fraction(0),
                overwrite=options.overwrite,
            )
        model = _load(options) if given is None else _given(given, video, start, end, options)
        with reporting or nullcontext(), outputs as out:
            counter = _Counter(progress, _expected(video, start, end))
            matters = [
                _rehearse(model.with_reference(marks), options.rehearsal, counter.expected, images, on_rehearsal)
                for marks in references.values()
            ]
            batch_size = options.batch_size or (4 if model.device.type == "cuda" else 1)
            marks = list(references.values())
            mattes = (
                _matte_set(matters, video)
                if images
                else matte_objects(
                    matters, video, marks, start=start, end=end, batch_size=batch_size, on_backward=counter.more
                )
            )
            with_color = any(not target.alpha_only for target in targets)
            with closing(_stages(mattes, options, finisher, len(matters), with_color, model.device)) as finished:
                for batches in finished:
                    out.write(dict(zip(objects, batches, strict=True)))
                    counter.add(batches)
                    if reporting is not None:
                        reporting.add(together(batches))
            _refuse_nothing(video, counter, start)
            summary = Summary(
                input=str(video.info.source),
                frames=len(counter.confidence),
                seconds=time.monotonic() - began,
                model=model.name,
                device=str(model.device),
                precision=str(model.precision).removeprefix("torch."),
                outputs=(),
                confidence=tuple(counter.confidence),
                first_frame=start,
                reference_frames=marked,
                notes=(*_notes(video.info), *notes_of(model)),
                is_set=images,
                report=None if report is None else Path(report) / PAGE,
                objects=tuple(filter(None, objects)),
            )
            if reporting is not None:
                out.put_beside(reporting.write(summary, matter=matters[0], video=video))
    # The outputs, and what there is to say of them, are known when they are in place.
    return replace(
        summary, seconds=time.monotonic() - began, outputs=outputs.files, notes=(*summary.notes, *outputs.notes)
    )


def _load(options: MatteOptions) -> Model:
    return load_model(
        options.model,
        device=options.device,
        precision=options.precision,
        working_size=options.working_size,
        sd=options.sd,
        weights=options.weights,
        settings=parse_settings(options.settings),
    )


def _given(mattes: Mask, video: Video, start: int, end: int | None, options: MatteOptions) -> Model:
    unused = [
        name
        for name in ("sd", "weights", "settings", "working_size", "precision")
        if getattr(options, name) != getattr(MatteOptions, name)
    ]
    if unused:
        raise OptionError(f"{unused[0].replace('_', ' ')} was given: it has no meaning where mattes are; leave it out")
    return given_mattes(mattes, video, start=start, end=end, device=choose_device(options.device))


def _references(
    video: Video, objects: Mapping[str, Sequence[Prompt]], reference: str | Path | None, options: MatteOptions
) -> dict[str, tuple[Reference, ...]]:
    """Of each object, what its marks make; nothing where mattes are given."""
    if options.matte is None:
        return {name: mark_references(video, marks, reference) for name, marks in objects.items()}
    if any(objects.values()) or reference is not None:
        raise OptionError(f"marks were given, and mattes too ({options.matte}): give one of them")
    return dict.fromkeys(objects, ())


def _matte_set(matters: Sequence[Matter], video: Video) -> Generator[Mattes]:
    """Mattes of independent images, one of each matter for each."""
    shown = [show_to(matter, video.info.color) for matter in matters]
    return (tuple(matter(batch) for matter in shown) for batch in video.batches(1))


def _rehearse(
    matter: Matter, asked: int | None, frames: int | None, images: bool, on_step: Callable[[int, int], None] | None
) -> Matter:
    """The matter after its practice, where it is one that can."""
    if images or not isinstance(matter, CompactMatter):
        if asked:
            what = "a set of images" if images else "this model"
            raise OptionError(f"a rehearsal of {asked} steps was asked for, but {what} has none; leave it out")
        return matter
    steps = DEFAULT_STEPS if frames is None else min(DEFAULT_STEPS, STEPS_A_FRAME * frames)
    steps = steps if asked is None else asked
    if not steps:
        return matter
    return rehearse(matter, steps=steps, on_step=lambda done: on_step(done, steps) if on_step else None)


def _stages(
    mattes: Generator[Mattes],
    options: MatteOptions,
    finisher: Finisher,
    objects: int,
    with_color: bool,
    device: torch.device,
) -> Generator[Mattes]:
    """Smooth, finish, share what overlaps, and estimate colour where an output wants it."""

    def complete(batches: Mattes) -> Mattes:
        done = share_overlaps(tuple(map(finisher, batches)))
        if not with_color:
            return done
        edges = done
        if options.finish.feather and options.foreground == "estimate":
            edges = share_overlaps(tuple(finisher(batch, feathered=False) for batch in batches))
        return tuple(_with_color(batch, edge, options, device) for batch, edge in zip(done, edges, strict=True))

    with ExitStack() as stages:
        # The last stage is closed first, so that none is closed while another still draws from it.
        stages.enter_context(closing(mattes))
        if options.smooth:
            smoothed = for_each_object(lambda batches: smooth(batches, options.smooth), mattes, objects)
            mattes = stages.enter_context(closing(smoothed))
        if with_color or options.finish or objects > 1:
            mattes = stages.enter_context(closing(map_behind(complete, mattes, 1)))
        yield from mattes


def _with_color(batch: MatteBatch, edge: MatteBatch, options: MatteOptions, device: torch.device) -> MatteBatch:
    """The batch with its colour; `edge` is the matte that says how much of a pixel's colour is the object's."""
    if options.foreground == "estimate":
        batch = replace(batch, foreground=with_foreground(edge, device).foreground)
    return batch if options.despill is None else replace(batch, foreground=despill(batch.color, options.despill))


def with_foreground(batch: MatteBatch, device: torch.device | str = "cpu") -> MatteBatch:
    """The batch with the straight foreground colour of its soft pixels estimated, computed on `device`."""
    rgb, alpha = batch.source.rgb, batch.alpha
    # Light above diffuse white is brought into 0..1 for it, by a power of two: that changes no bit of the fraction.
    peak = float(rgb.max())
    if peak <= _VIDEO_PEAK:
        return replace(batch, foreground=estimate_foreground(rgb.to(device), alpha.to(device)).to(rgb.device))
    peak = 2.0 ** math.ceil(math.log2(peak))
    color = estimate_foreground((rgb / peak).to(device), alpha.to(device)).to(rgb.device)
    return replace(batch, foreground=color * peak)


def _as_list(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _asked(output: str | Path | Sequence[str | Path], alpha: str | Path | Sequence[str | Path]) -> list[Target]:
    """The outputs as they were asked for, `{object}` in their names."""
    return [
        Target(path, alpha_only, choices=choices)
        for paths, alpha_only in ((output, False), (alpha, True))
        for path, choices in map(split_choices, _as_list(paths))
    ]


def _targets(
    output: str | Path | Sequence[str | Path],
    alpha: str | Path | Sequence[str | Path],
    images: bool,
    options: MatteOptions,
    objects: Sequence[str],
) -> list[Target]:
    if len(objects) > 1 and (options.finish.invert or options.finish.inside_mask):
        raise OptionError(
            f"{len(objects)} objects are marked, and an inverted matte or an inside mask would be that of each; "
            f"choose one of them (--object)"
        )
    targets = [target for path in _as_list(output) for target in targets_of_objects(path, objects, alpha_only=False)]
    if not targets and (options.premultiplied or options.foreground == "source" or options.despill):
        raise OptionError("a choice of colour was given, but only alpha is written; add an output with colour (-o)")
    targets += [target for path in _as_list(alpha) for target in targets_of_objects(path, objects, alpha_only=True)]
    for target in targets:
        if images and (target.format.is_movie or not target.is_named):
            raise OptionError(
                f"{target}: a set of images needs a file for each; use {{name}}, as in 'out/{{name}}.png'"
            )
        if target.is_named and not images:
            raise OptionError(
                f"{target}: {{name}} stands for the names of an image set (--images); for a clip give the name of a "
                f"movie, or %06d.png"
            )
    return targets


@contextmanager
def share_cores(device: str) -> Iterator[None]:
    """Leave one core to decoding and encoding while the network runs on the processor.

    The threads of torch and OpenCV wait for each other by spinning: when they share their cores with the codecs, a
    frame takes several times as long as with one thread less.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    if device in ("auto", "cpu"):
        spare = max(1, (os.cpu_count() or 2) - 1)
        torch.set_num_threads(min(before[0], spare))
        cv2.setNumThreads(min(before[1], spare))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _open_source(source: str | Path | Sequence[str | Path], images: bool, options: MatteOptions) -> Video:
    paths = _as_list(source)
    if "" in map(str, paths):
        raise ReadError("an empty path was given; name a movie, a folder or a pattern of frames")
    if images:
        unused = [
            name
            for name, value in (
                ("frame_rate", options.frame_rate),
                ("batch_size", options.batch_size),
                ("allow_truncated", options.allow_truncated),
                ("deinterlace", options.deinterlace != "refuse"),
            )
            if value
        ]
        if unused:
            raise OptionError(f"{unused[0]} was given: it has no meaning for images of a set; leave it out")
        if options.smooth or options.start or options.end:
            raise OptionError(
                "images of a set have no order in time: they cannot be smoothed, or cut with start and end"
            )
        return ImageSet(paths)
    if len(paths) != 1:
        raise OptionError(
            f"{len(paths)} inputs given: several files are an image set, which has to be asked for (--images)"
        )
    return open_video(
        paths[0],
        reader=options.reader,
        frame_rate=options.frame_rate,
        allow_truncated=options.allow_truncated,
        deinterlace=options.deinterlace,
    )


def _range(video: Video, options: MatteOptions) -> tuple[int, int | None]:
    """First frame and the one after the last; None is the end of the clip."""
    start = parse_position(options.start, video) if options.start is not None else 0
    end = parse_position(options.end, video) + 1 if options.end is not None else None
    if end is not None and end <= start:
        raise OptionError(f"out point {options.end} lies before in point {options.start or 0}: swap them")
    if start and start >= video.count_frames():
        raise ReadError(
            f"{video.info.source}: in point {options.start} asked for, but there are {video.count_frames()} frames"
        )
    return start, end


def _inputs(
    source: str | Path | Sequence[str | Path],
    reference: str | Path | None,
    objects: Mapping[str, Iterable[Prompt]],
    options: MatteOptions,
) -> list[Path | str]:
    marks = [path for prompts in objects.values() for prompt in prompts for path in (prompt.mask, prompt.scribbles)]
    other = [reference, *marks, options.matte, options.finish.inside_mask, options.finish.outside_mask]
    return [*_as_list(source), *(path for path in other if path is not None)]


def _expected(video: Video, start: int, end: int | None) -> int | None:
    """Number of frames to come, for progress: by the headers, which may be wrong."""
    total = video.info.frames_in_header
    if total is None:
        return None if end is None else end - start
    return max(0, min(total, total if end is None else end) - start)


class _Counter:
    """Counts frames for the progress callback and keeps their confidence."""

    def __init__(self, progress: ProgressCallback | None, expected: int | None) -> None:
        self.confidence: list[float] = []
        self.expected = expected
        self._progress, self._backward = progress, 0

    def add(self, mattes: Mattes) -> None:
        self.confidence.extend(map(min, *(batch.confidence for batch in mattes), mattes[0].confidence))
        self._report()

    def more(self, frames: int) -> None:
        """Frames were followed backward: work that is done before these frames come out."""
        self._backward += frames
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            expected = None if self.expected is None else self.expected + self._backward
            self._progress(len(self.confidence) + self._backward, expected)


def _refuse_nothing(video: Video, counter: _Counter, start: int) -> None:
    if not counter.confidence:
        raise ReadError(f"{video.info.source}: has no frame from {start} on that can be read")


def _notes(info: VideoInfo) -> Iterator[str]:
    yield from info.notes
    if view := describe_view(info.color):
        yield view
    if info.color.assumed:
        name = "BT.709" if info.color.matrix == 1 else "BT.601"
        yield f"the source does not say its colour matrix; {name} was assumed from its size"
