"""The outputs that the page offers, and the equivalent command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError
from vidmatte.media.patterns import stem_of
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.pipeline.outputs import outputs_of_objects
from vidmatte.prompts.objects import prompts_of_objects
from vidmatte.report import Invocation
from vidmatte.web.project import Project
from vidmatte.web.run import Job
from vidmatte.write import OutputSpec, parse_output, split_format_options

_OFFERED = (
    ("{stem}_matte.mov", False),
    ("{stem}_alpha.mov", True),
    ("{stem}_matte.webm", False),
    ("{stem}_alpha.mkv", True),
    ("{stem}_matte.%06d.png", False),
    ("{stem}_alpha.%06d.png", True),
    ("{stem}_matte.%06d.exr", False),
)
_BY_DEFAULT = 2
"""How many of these are chosen at first, as by the command line."""


@dataclass(frozen=True)
class OutputSelection:
    """The outputs of a run, and how they are made.

    A page chooses from those on offer: it names no paths.
    """

    outputs: tuple[tuple[str, bool], ...]
    """Offered paths, with `{object}` for the name of an object, and whether they are alpha-only."""
    chosen: tuple[int, ...]
    overwrite: bool
    smooth: float
    adapt_steps: int

    def with_page(self, asked: Mapping[str, Any]) -> OutputSelection:
        """Return the choices with the changes of a page. Raises OptionError if not on offer."""
        chosen = asked.get("outputs", list(self.chosen))
        if not isinstance(chosen, list) or not all(
            type(n) is int and 0 <= n < len(self.outputs) for n in chosen
        ):
            raise OptionError(f"outputs {chosen!r} are not valid: choose from those on offer")
        smooth, adapt_steps = (
            asked.get("smooth", self.smooth),
            asked.get("adapt_steps", self.adapt_steps),
        )
        if type(smooth) not in (int, float) or type(adapt_steps) is not int:
            raise OptionError(
                "the smoother is a strength from 0 to 1, the adaptation a number of steps"
            )
        changed = OutputSelection(
            self.outputs,
            tuple(sorted(set(chosen))),
            asked.get("overwrite", self.overwrite) is True,
            float(smooth),
            adapt_steps,
        )
        MatteOptions(smooth=changed.smooth, adapt_steps=adapt_steps)  # refuses what is out of range
        return changed


def default_outputs(
    source: Path, outputs: Sequence[str], alphas: Sequence[str], options: MatteOptions, folder: Path
) -> OutputSelection:
    """Return the choices at first: outputs of the command line, then files of each kind."""
    given = [*((path, False) for path in outputs), *((path, True) for path in alphas)]
    kinds = {(_suffix(path), alpha_only) for path, alpha_only in given}
    stem = stem_of(source)
    usual = [
        (str(_shown(folder) / pattern.format(stem=stem)), alpha_only)
        for pattern, alpha_only in _OFFERED
        if (Path(pattern).suffix, alpha_only) not in kinds
        # EXR is offered only if it can be written.
        and (not pattern.endswith(".exr") or find_spec("OpenEXR"))
    ]
    chosen = tuple(range(len(given))) if given else tuple(range(_BY_DEFAULT))
    return OutputSelection(
        (*given, *usual), chosen, options.overwrite, options.smooth, options.adapt_steps
    )


def output_path(path: str, objects: int) -> str:
    """Return the path of an output, with `{object}` added if there are several objects."""
    if objects < 2 or "{object}" in path or _suffix(path) == ".exr":
        return path
    name = Path(path).name
    stem, _, kind = name.rpartition("_")
    return str(Path(path).with_name(f"{stem}_{{object}}_{kind}" if stem else f"{{object}}_{name}"))


def describe(selection: OutputSelection, objects: int) -> list[dict[str, Any]]:
    """Return the outputs on offer, for the page."""
    return [
        {
            "path": output_path(path, objects),
            "kind": "alpha" if alpha_only else "colour",
            "format": parse_output(path, alpha_only=alpha_only).format.description,
            "chosen": n in selection.chosen,
        }
        for n, (path, alpha_only) in enumerate(selection.outputs)
    ]


def job_of(
    source: Path,
    prompt_file: Path,
    project: Project,
    selection: OutputSelection,
    options: MatteOptions,
    first_number: int = 0,
) -> Job:
    """Return the request for a run; `first_number` is that of the first frame of the clip."""
    paths = [
        (output_path(selection.outputs[n][0], len(project.prompts)), selection.outputs[n][1])
        for n in selection.chosen
    ]
    return Job(
        source,
        prompt_file,
        project.numbered(first_number),
        tuple(path for path, alpha_only in paths if not alpha_only),
        tuple(path for path, alpha_only in paths if alpha_only),
        replace(
            options,
            overwrite=selection.overwrite,
            smooth=selection.smooth,
            adapt_steps=selection.adapt_steps,
            start=None if project.start is None else str(project.start + first_number),
            end=None if project.end is None else str(project.end + first_number),
        ),
    )


def command_of(job: Job, project: Project) -> str:
    """Return the equivalent command line; empty if nothing is marked, or no output chosen."""
    if not project.prompts or not (job.outputs or job.alphas):
        return ""
    objects = prompts_of_objects(project.prompts)
    specs = [parse_output(path, alpha_only=False) for path in job.outputs]
    specs += [parse_output(path, alpha_only=True) for path in job.alphas]
    asked = Invocation([job.source], False, None, objects, specs, None, chosen_options(job.options))
    return asked.with_prompts(_shown(job.prompt_file), overwrite=job.options.overwrite)


def files_of(job: Job, project: Project) -> list[OutputSpec]:
    """Return the outputs for each object. Raises OptionError if a path does not fit them."""
    names = list(prompts_of_objects(project.prompts))
    specs = [
        spec for path in job.outputs for spec in outputs_of_objects(path, names, alpha_only=False)
    ]
    return specs + [
        spec for path in job.alphas for spec in outputs_of_objects(path, names, alpha_only=True)
    ]


def _suffix(path: str) -> str:
    return Path(split_format_options(path)[0]).suffix.lower()


def _shown(path: Path) -> Path:
    """Return a path as one would type it: relative if it is below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
