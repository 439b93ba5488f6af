"""What a run is asked for: its source, marks, targets and choices, opened and checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidmatte.errors import OptionError, ReadError
from vidmatte.model.external import fit_to_clip
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.prompts.objects import outputs_of_objects, prompts_of_objects
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.prompts.reference import make_references
from vidmatte.read import Video, open_video, parse_position
from vidmatte.read.mask import Mask, open_mask
from vidmatte.read.sequence import ImageSet
from vidmatte.report import Invocation, Report, create_report
from vidmatte.stages.finish import Finisher
from vidmatte.write import Outputs, OutputSpec, create_outputs, split_format_options

Paths = str | Path | Sequence[str | Path]
Prompts = Prompt | Sequence[Prompt] | Mapping[str, Prompt | Sequence[Prompt]]


@dataclass(frozen=True)
class Request:
    """What a run is asked for; see `pipeline.run.matte`."""

    source: tuple[str | Path, ...]
    objects: Mapping[str, Sequence[Prompt]]
    """The marks of each object; of one named "" where they have no name."""
    output: tuple[str | Path, ...]
    alpha: tuple[str | Path, ...]
    reference: str | Path | None
    images: bool
    report: str | Path | None
    options: MatteOptions

    @classmethod
    def of(
        cls,
        source: Paths,
        prompts: Prompts,
        *,
        output: Paths = (),
        alpha: Paths = (),
        reference: str | Path | None = None,
        images: bool = False,
        report: str | Path | None = None,
        options: MatteOptions | None = None,
    ) -> Request:
        """The request of what `pipeline.run.matte` takes. Raises OptionError for objects whose names do not fit."""
        return cls(
            source=tuple(as_list(source)),
            objects=prompts_of_objects(prompts),
            output=tuple(as_list(output)),
            alpha=tuple(as_list(alpha)),
            reference=reference,
            images=images,
            report=report,
            options=options or MatteOptions(),
        )

    def specs(self) -> list[OutputSpec]:
        """What is to be written, colour first. Raises OptionError for targets that do not fit the other choices."""
        return _output_specs(self.output, self.alpha, self.images, self.options, list(self.objects))

    def requested_outputs(self) -> list[OutputSpec]:
        """The outputs as they were asked for, `{object}` in their names."""
        return [
            OutputSpec(path, alpha_only, format_options=format_options)
            for paths, alpha_only in ((self.output, False), (self.alpha, True))
            for path, format_options in map(split_format_options, paths)
        ]

    def inputs(self) -> list[Path | str]:
        """All files, folders and patterns that are read, but for weights."""
        return _inputs(self.source, self.reference, self.objects, self.options)


@dataclass(frozen=True)
class Shot:
    """A request with its source opened and its frames marked."""

    request: Request
    specs: list[OutputSpec]
    video: Video
    finisher: Finisher
    start: int
    """First frame that is matted."""
    end: int | None
    """The one after the last; None for the end of the clip."""
    references: Mapping[str, tuple[Reference, ...]]
    """What the marks of each object make; nothing where mattes are given."""
    given: Mask | None
    """Mattes in the place of a model's."""
    trimaps: Mask | None
    """Trimaps of all frames, in the place of marks."""

    @property
    def options(self) -> MatteOptions:
        """Of the request."""
        return self.request.options

    @property
    def reference_frames(self) -> tuple[int, ...]:
        """The frames of the source that are marked."""
        return tuple(mark.frame for prompts in self.references.values() for mark in prompts if mark.frame is not None)

    @property
    def expected(self) -> int | None:
        """Number of frames to come, by the headers, which may be wrong; None where they do not say."""
        return expected_frames(self.video, self.start, self.end)

    def create_outputs(self, *, overwrite: bool) -> Outputs:
        """Its outputs, checked and not created yet; see `write.create_outputs`."""
        return create_outputs(
            self.specs,
            like=self.video.info,
            overwrite=overwrite,
            premultiplied=self.options.premultiplied,
            bit_depth=self.options.bit_depth,
            start=self._start_seconds,
            end=None if self.end is None else self.video.seconds_of(self.end),
            inputs=self.request.inputs(),
        )

    def create_report(self, *, overwrite: bool) -> Report | None:
        """Its report, checked and not created yet; None where none was asked for."""
        request = self.request
        if request.report is None:
            return None
        chosen = chosen_options(request.options)
        asked = Invocation(
            request.source,
            request.images,
            request.reference,
            request.objects,
            request.requested_outputs(),
            Path(request.report),
            chosen,
        )
        return create_report(
            asked,
            like=self.video.info,
            references=self.reference_frames,
            inputs=request.inputs(),
            start=self._start_seconds or Fraction(0),
            overwrite=overwrite,
        )

    @property
    def _start_seconds(self) -> Fraction | None:
        return None if self.options.start is None else self.video.seconds_of(self.start)


@contextmanager
def open_shot(request: Request) -> Iterator[Shot]:
    """Open the source, check outputs, range and masks, and draw the references. Raises what `matte` raises."""
    options = request.options
    specs = request.specs()
    with (
        _open_source(request.source, request.images, options) as video,
        Finisher(options.finish, like=video.info) as finisher,
        nullcontext() if options.matte is None else open_mask(options.matte) as given,
        nullcontext() if options.trimaps is None else open_mask(options.trimaps) as trimaps,
    ):
        start, end = _range(video, options)
        if options.finish.inside_mask or options.finish.outside_mask:
            finisher.check_length(min(video.count_frames(), end or video.count_frames()))
        references = _references(video, request)
        if trimaps is not None:
            fit_to_clip(trimaps, video, start=start, end=end)
        yield Shot(request, specs, video, finisher, start, end, references, given, trimaps)


def _references(video: Video, request: Request) -> dict[str, tuple[Reference, ...]]:
    """Of each object, what its marks make; nothing where mattes or trimaps are given."""
    mattes, trimaps = request.options.matte, request.options.trimaps
    if mattes is None and trimaps is None:
        return {name: make_references(video, prompts, request.reference) for name, prompts in request.objects.items()}
    if any(request.objects.values()) or request.reference is not None:
        given = f"mattes too ({mattes})" if trimaps is None else f"trimaps too ({trimaps})"
        raise OptionError(f"marks were given, and {given}: give one of them")
    return dict.fromkeys(request.objects, ())


def as_list(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """One path or several as a list."""
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _output_specs(
    output: str | Path | Sequence[str | Path],
    alpha: str | Path | Sequence[str | Path],
    images: bool,
    options: MatteOptions,
    objects: Sequence[str],
) -> list[OutputSpec]:
    if len(objects) > 1 and (options.finish.invert or options.finish.inside_mask):
        raise OptionError(
            f"{len(objects)} objects are marked, and an inverted matte or an inside mask would be that of each; "
            f"choose one of them (--object)"
        )
    specs = [spec for path in as_list(output) for spec in outputs_of_objects(path, objects, alpha_only=False)]
    if not specs and (options.premultiplied or options.foreground == "source" or options.despill):
        raise OptionError("a choice of colour was given, but only alpha is written; add an output with colour (-o)")
    specs += [spec for path in as_list(alpha) for spec in outputs_of_objects(path, objects, alpha_only=True)]
    for spec in specs:
        if images and (spec.format.is_movie or not spec.is_named):
            raise OptionError(f"{spec}: a set of images needs a file for each; use {{name}}, as in 'out/{{name}}.png'")
        if spec.is_named and not images:
            raise OptionError(
                f"{spec}: {{name}} stands for the names of an image set (--images); for a clip give the name of a "
                f"movie, or %06d.png"
            )
    return specs


def _open_source(source: str | Path | Sequence[str | Path], images: bool, options: MatteOptions) -> Video:
    paths = as_list(source)
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
    return open_clip(paths[0], options)


def open_clip(source: str | Path, options: MatteOptions) -> Video:
    """Open a movie or a sequence as the options ask for; see `open_video`."""
    return open_video(
        source,
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
    prompts = [path for prompts in objects.values() for prompt in prompts for path in (prompt.mask, prompt.scribbles)]
    given = [options.matte, options.trimaps, options.finish.inside_mask, options.finish.outside_mask]
    other = [reference, *prompts, *given]
    return [*as_list(source), *(path for path in other if path is not None)]


def expected_frames(video: Video, start: int, end: int | None) -> int | None:
    """Number of frames to come, for progress: by the headers, which may be wrong."""
    total = video.info.frames_in_header
    if total is None:
        return None if end is None else end - start
    return max(0, min(total, total if end is None else end) - start)
