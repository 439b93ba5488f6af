"""The outputs of a run, resolved once from the given paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import OptionError
from vidmatte.hosts.sidecars import check_sidecars, sidecar_paths
from vidmatte.media.patterns import refuse_tiles, with_view
from vidmatte.options import MatteOptions
from vidmatte.pipeline.source import Paths, as_list
from vidmatte.write import OutputSpec, parse_output, split_format_options

_OBJECT = "{object}"
_LAYERED = ".exr"


@dataclass(frozen=True)
class OutputPlan:
    """The outputs and the report of a run."""

    requested: tuple[OutputSpec, ...] = ()
    """The outputs as given, colour first; `{object}` may be in their names."""
    specs: tuple[OutputSpec, ...] = ()
    """The outputs to write: one for each object if `{object}` is in the name."""
    report: Path | None = None
    """Folder of the report; None if there is none."""
    sidecars: tuple[str, ...] = ()
    """Hosts that get a script beside the first output, see `hosts.sidecars`."""

    @classmethod
    def resolve(
        cls,
        output: Paths,
        alpha: Paths,
        *,
        objects: Sequence[str],
        images: bool,
        options: MatteOptions,
        report: str | Path | None = None,
        sidecars: Sequence[str] = (),
    ) -> OutputPlan:
        """Parse the output paths, and check them against the objects and the options.

        Args:
            output: Paths of colour with alpha.
            alpha: Paths of alpha alone.
            objects: Names of the objects; [""] for one without a name.
            images: Whether the source is a set of independent images.
            options: All other choices of the run.
            report: Folder of the report.
            sidecars: Hosts that get a script beside the first output.

        Raises:
            OptionError: If a path, the objects and the options do not fit each other.
        """
        check_objects(objects, options)
        requested: list[OutputSpec] = []
        specs: list[OutputSpec] = []
        for paths, alpha_only in ((output, False), (alpha, True)):
            for given in as_list(paths):
                refuse_tiles(given)
                path = with_view(given, options.view)
                specs += outputs_of_objects(path, objects, alpha_only=alpha_only)
                requested.append(parse_output(path, alpha_only=alpha_only))
        _check_color(specs, options)
        _check_start_number(specs, options)
        for spec in specs:
            _check_names(spec, images)
        hosts = check_sidecars(sidecars, specs, images=images)
        folder = None if report is None else Path(report)
        return cls(tuple(requested), tuple(specs), folder, hosts)

    @property
    def sidecar_paths(self) -> tuple[Path, ...]:
        """The files of the sidecars."""
        return sidecar_paths(self.sidecars, self.requested)

    @property
    def with_color(self) -> bool:
        """Whether an output holds colour, so that foreground has to be estimated."""
        return any(not spec.alpha_only for spec in self.specs)


def outputs_of_objects(
    path: str | Path, objects: Sequence[str], *, alpha_only: bool
) -> list[OutputSpec]:
    """Return the outputs of one path: one for each object if it holds `{object}`, else one.

    Several objects share an EXR without `{object}` as its layers. Raises OptionError for any other
    path without `{object}`, and for `{object}` without named objects.
    """
    if _OBJECT in str(path):
        if list(objects) == [""]:
            raise OptionError(
                f"{path}: {_OBJECT} stands for the names of objects, which the marks of a prompt "
                f"file have"
            )
        return [
            parse_output(str(path).replace(_OBJECT, name), alpha_only=alpha_only, object_name=name)
            for name in objects
        ]
    # One object, named or not, needs no place for its name.
    if len(objects) == 1:
        return [parse_output(path, alpha_only=alpha_only, object_name=objects[0])]
    # Other formats hold one picture per frame.
    if Path(split_format_options(path)[0]).suffix.lower() == _LAYERED:
        return [parse_output(path, alpha_only=alpha_only, layers=tuple(objects))]
    raise OptionError(
        f"{path}: {len(objects)} objects are marked ({', '.join(objects)}); write {_OBJECT} into "
        "the name for a file each, give %06d.exr for a layer each, or choose one of them "
        "(--object)"
    )


def check_objects(objects: Sequence[str], options: MatteOptions) -> None:
    """Raise OptionError if several objects are marked, and an option is for one only."""
    if len(objects) > 1 and (options.finish.invert or options.finish.inside_mask):
        raise OptionError(
            f"{len(objects)} objects are marked, and an inverted matte or an inside mask would be "
            f"that of each; choose one of them (--object)"
        )


def _check_color(specs: Sequence[OutputSpec], options: MatteOptions) -> None:
    chosen = options.premultiplied or options.foreground == "source" or options.despill
    if chosen and all(spec.alpha_only for spec in specs):
        raise OptionError(
            "a choice of colour was given, but only alpha is written; add an output with colour "
            "(-o)"
        )
    if options.output_space and all(spec.alpha_only or not _is_exr(spec) for spec in specs):
        raise OptionError(
            f"output_space {options.output_space!r} is for EXR with colour, and none is written: "
            f"movies keep the code values of the source, PNG are made for displays; add an output "
            f"such as %06d.exr (-o)"
        )


def _is_exr(spec: OutputSpec) -> bool:
    return spec.format.codec == "exr"


def _check_start_number(specs: Sequence[OutputSpec], options: MatteOptions) -> None:
    if options.start_number is not None and all(spec.format.is_movie for spec in specs):
        raise OptionError(
            "start_number was given, but only movies are written; leave it out, or add an output "
            "of numbered images such as %04d.png"
        )


def _check_names(spec: OutputSpec, images: bool) -> None:
    """Check that images of a set get `{name}`, and frames of a clip do not."""
    if images and (spec.format.is_movie or not spec.is_named):
        raise OptionError(
            f"{spec}: a set of images needs a file for each; use {{name}}, as in 'out/{{name}}.png'"
        )
    if spec.is_named and not images:
        raise OptionError(
            f"{spec}: {{name}} stands for the names of an image set (--images); for a clip give "
            f"the name of a movie, or %06d.png"
        )
