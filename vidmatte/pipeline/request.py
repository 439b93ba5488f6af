"""A run as given: its source, prompts, outputs and options, opened and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidmatte.errors import OptionError
from vidmatte.hosts.sidecars import Sidecars
from vidmatte.media.patterns import with_view
from vidmatte.model.external import fit_to_clip
from vidmatte.model.weights import weight_hashes
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.pipeline.color import config_file, output_space
from vidmatte.pipeline.outputs import OutputPlan
from vidmatte.pipeline.source import Inputs, Paths, Source, expected_frames, frame_range
from vidmatte.prompts.objects import ObjectPrompts, Prompts
from vidmatte.prompts.prompt import Reference
from vidmatte.read import Video
from vidmatte.read.labels import split_label
from vidmatte.read.mask import Mask, SourceAlphaMask, open_mask
from vidmatte.report import Invocation, Report, create_report
from vidmatte.stages.finish import Finisher
from vidmatte.write import Outputs, OutputSpec, create_outputs, image_of


@dataclass(frozen=True)
class Request:
    """A run as given; see `pipeline.run.matte`."""

    source: Source
    prompts: ObjectPrompts
    outputs: OutputPlan
    options: MatteOptions

    @classmethod
    def of(
        cls,
        source: Inputs,
        prompts: Prompts,
        *,
        output: Paths = (),
        alpha: Paths = (),
        reference: str | Path | None = None,
        images: bool = False,
        report: str | Path | None = None,
        sidecars: Sequence[str] = (),
        options: MatteOptions | None = None,
    ) -> Request:
        """Return the request of the arguments of `pipeline.run.matte`.

        Raises OptionError if the names of objects, the outputs and the options do not fit each
        other.
        """
        options = options or MatteOptions()
        chosen = Source.of(source, images=images)
        # Before the outputs, which are named after it if none are given.
        chosen.check_paths(options)
        marked = ObjectPrompts.of(prompts, reference)
        outputs = OutputPlan.resolve(
            output,
            alpha,
            objects=list(marked.objects),
            images=images,
            options=options,
            report=report,
            sidecars=sidecars,
        )
        return cls(chosen, marked, outputs, options)

    def with_outputs(self, requested: Sequence[OutputSpec]) -> Request:
        """Return the same request with other outputs; `{object}` may be in their names."""
        outputs = OutputPlan.resolve(
            [spec.argument for spec in requested if not spec.alpha_only],
            [spec.argument for spec in requested if spec.alpha_only],
            objects=list(self.prompts.objects),
            images=self.source.images,
            options=self.options,
            report=self.outputs.report,
            sidecars=self.outputs.sidecars,
        )
        return replace(self, outputs=outputs)

    def inputs(self) -> list[Path | str]:
        """Return all input files, folders and patterns, except weights."""
        options = self.options
        masks = (options.finish.inside_mask, options.finish.outside_mask)
        paths = [path for path in (options.matte, options.trimaps, *masks) if path is not None]
        given = [split_label(path)[0] for path in paths]
        backdrops = [image_of(spec.backdrop) for spec in self.outputs.specs]
        images = [path for path in backdrops if path is not None]
        sources = [with_view(path, options.view) for path in self.source.paths]
        # That of $OCIO is no input of the request, and may lie anywhere.
        config = config_file(options) if options.ocio is not None else None
        configs = [] if config is None else [config]
        return [*sources, *self.prompts.files, *given, *images, *configs]


@dataclass(frozen=True)
class Shot:
    """A request with its source opened and its references prepared."""

    request: Request
    video: Video
    finisher: Finisher
    start: int
    """First frame to matte."""
    end: int | None
    """End frame (exclusive); None means the end of the clip."""
    references: Mapping[str, tuple[Reference, ...]]
    """References of each object; empty tuples if external mattes or trimaps are given."""
    given: Mask | None
    """External mattes, used in place of a model."""
    trimaps: Mask | None
    """Trimaps of all frames, used in place of prompts."""

    @property
    def options(self) -> MatteOptions:
        """Return the options of the request."""
        return self.request.options

    @property
    def specs(self) -> tuple[OutputSpec, ...]:
        """Return the outputs, colour first."""
        return self.request.outputs.specs

    @property
    def reference_frames(self) -> tuple[int, ...]:
        """Return the numbers of the marked frames of the source."""
        marked = [mark.frame for marks in self.references.values() for mark in marks]
        return tuple(self.video.number_of(frame) for frame in marked if frame is not None)

    @property
    def expected(self) -> int | None:
        """Return the number of frames by the headers, not always right; None if unknown."""
        return expected_frames(self.video, self.start, self.end)

    def check_unchanged(self) -> None:
        """Raise ReadError if an input file was replaced or rewritten since it was opened."""
        self.video.check_unchanged()
        self.finisher.check_unchanged()
        for mask in (self.given, self.trimaps):
            if mask is not None:
                mask.check_unchanged()

    @property
    def truncated_at(self) -> tuple[int, str] | None:
        """Return the first unreadable frame in the range, and the reason; see `Video`."""
        found = self.video.truncated_at
        return found if found is not None and (self.end is None or found[0] < self.end) else None

    def create_outputs(
        self, *, overwrite: bool, specs: Sequence[OutputSpec] | None = None
    ) -> Outputs:
        """Check the outputs, or only those of `specs`; nothing is created yet.

        See `write.create_outputs`.
        """
        return create_outputs(
            self.specs if specs is None else specs,
            like=self.video.info,
            overwrite=overwrite,
            premultiplied=self.options.premultiplied,
            bit_depth=self.options.bit_depth,
            start=self._start_seconds,
            end=None if self.end is None else self.video.seconds_of(self.end),
            inputs=self.request.inputs(),
            command=self.invocation.recipe(),
            weights=self.weights,
            output_space=output_space(self.options),
        )

    @property
    def weights(self) -> str:
        """Names and hashes of the files of weights, as outputs keep them; empty without any."""
        hashes = weight_hashes(self.options)
        return ", ".join(f"{each['file']} sha256:{each['sha256']}" for each in hashes)

    @property
    def invocation(self) -> Invocation:
        """The command line of the request."""
        request = self.request
        return Invocation(
            request.source.paths,
            request.source.images,
            request.prompts.reference,
            request.prompts.objects,
            request.outputs.requested,
            request.outputs.report,
            chosen_options(request.options),
            request.outputs.sidecars,
        )

    def create_sidecars(self, *, overwrite: bool) -> Sidecars:
        """Check the sidecars; nothing is created yet. There may be none."""
        request = self.request
        paths = request.source.paths
        return Sidecars(
            request.outputs.sidecars,
            request.outputs.requested,
            self.specs,
            like=self.video.info,
            source=with_view(paths[0], self.options.view) if len(paths) == 1 else None,
            premultiplied=self.options.premultiplied,
            overwrite=overwrite,
            output_space=output_space(self.options),
        )

    def create_report(self, *, overwrite: bool) -> Report | None:
        """Check the report; nothing is created yet. Returns None without one."""
        request = self.request
        if request.outputs.report is None:
            return None
        return create_report(
            self.invocation,
            like=self.video.info,
            references=self.reference_frames,
            first_number=self.video.first_number,
            inputs=request.inputs(),
            start=self._start_seconds or Fraction(0),
            overwrite=overwrite,
        )

    @property
    def _start_seconds(self) -> Fraction | None:
        return None if self.options.start is None else self.video.seconds_of(self.start)


@contextmanager
def open_shot(request: Request) -> Iterator[Shot]:
    """Open the source and the masks, check them against each other, and prepare the references.

    Raises the errors of `matte`.
    """
    options = request.options
    with (
        request.source.open(options) as video,
        _finisher(video, options) as finisher,
        _given_mattes(video, options) as given,
        _open_if_given(options.trimaps, options) as trimaps,
    ):
        start, end = frame_range(video, options)
        if options.finish.inside_mask or options.finish.outside_mask:
            # Counting reads the whole file of some formats, so it is done for masks only.
            finisher.check_length(min(video.count_frames(), end or video.count_frames()))
        references = _references(video, request)
        if trimaps is not None:
            fit_to_clip(trimaps, video, start=start, end=end)
        yield Shot(request, video, finisher, start, end, references, given, trimaps)


def _finisher(video: Video, options: MatteOptions) -> Finisher:
    alpha = SourceAlphaMask(video) if options.source_alpha == "multiply" else None
    return Finisher(options.finish, like=video.info, source_alpha=alpha, mask_fit=options.mask_fit)


def _given_mattes(video: Video, options: MatteOptions) -> AbstractContextManager[Mask | None]:
    if options.source_alpha == "matte":
        return SourceAlphaMask(video)
    return _open_if_given(options.matte, options)


def _open_if_given(
    path: str | Path | None, options: MatteOptions
) -> AbstractContextManager[Mask | None]:
    return nullcontext() if path is None else open_mask(path, options.mask_fit)


def _references(video: Video, request: Request) -> Mapping[str, tuple[Reference, ...]]:
    """Draw the references of each object; none if mattes or trimaps are given."""
    mattes, trimaps = request.options.matte, request.options.trimaps
    if request.options.source_alpha == "matte":
        mattes = "those of the source"
    if mattes is None and trimaps is None:
        options = request.options
        return request.prompts.references(video, options.mask_edge, options.mask_fit)
    if any(request.prompts.objects.values()) or request.prompts.reference is not None:
        given = f"mattes too ({mattes})" if trimaps is None else f"trimaps too ({trimaps})"
        raise OptionError(f"marks were given, and {given}: give one of them")
    return dict.fromkeys(request.prompts.objects, ())
