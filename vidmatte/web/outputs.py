"""The outputs that the page offers, and the equivalent command line."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError
from vidmatte.media.patterns import matching_names, parse_pattern, stem_of
from vidmatte.options import MatteOptions, chosen_options
from vidmatte.pipeline.outputs import outputs_of_objects
from vidmatte.prompts.objects import prompts_of_objects
from vidmatte.report import Invocation
from vidmatte.web.project import Project
from vidmatte.web.run import Job
from vidmatte.write import OutputSpec, parse_output, split_format_options

_OFFERED = (
    ("_matte.mov", False),
    ("_alpha.mov", True),
    ("_matte.webm", False),
    ("_alpha.mkv", True),
    ("_matte.%06d.png", False),
    ("_alpha.%06d.png", True),
    ("_matte.%06d.exr", False),
    ("_alpha.mp4", True),
)
"""Endings of names, and whether the file holds alpha alone."""
_STEM = "{stem}"
_LONGEST_NAME = 100
_BY_DEFAULT = 2
"""How many of these are chosen at first, as by the command line."""


@dataclass(frozen=True)
class OutputSelection:
    """The outputs of a run: those of the command line, and others by folder and name.

    A page chooses among them by number, so that it names neither kinds of files nor, but for the
    folder and the stem of the names, paths.
    """

    given: tuple[tuple[str, bool], ...]
    """Paths of the command line, and whether they are alpha-only."""
    offered: tuple[tuple[str, bool], ...]
    """Endings of further names, as in `_matte.mov`, and whether they are alpha-only."""
    folder: Path
    """Of the further outputs."""
    name: str
    """What their names begin with; `{stem}` stands for that of the clip."""
    stem: str
    chosen: tuple[int, ...]
    overwrite: bool
    adapt_steps: int
    report: bool = False
    """Whether a page with the confidence of each frame is written, too."""

    @property
    def outputs(self) -> tuple[tuple[str, bool], ...]:
        """Paths on offer, and whether they are alpha-only."""
        begin = self.name.replace(_STEM, self.stem)
        return self.given + tuple(
            (str(_shown(self.folder) / f"{begin}{end}"), alpha_only)
            for end, alpha_only in self.offered
        )

    @property
    def report_folder(self) -> Path | None:
        """Folder of the report, None if there is none."""
        name = self.name.replace(_STEM, self.stem)
        return _shown(self.folder) / f"{name}_report" if self.report else None

    def with_page(self, asked: Mapping[str, Any]) -> OutputSelection:
        """Return the choices with the changes of a page. Raises OptionError if not on offer."""
        chosen = asked.get("outputs", list(self.chosen))
        if not isinstance(chosen, list) or not all(
            type(n) is int and 0 <= n < len(self.outputs) for n in chosen
        ):
            raise OptionError(f"outputs {chosen!r} are not valid: choose from those on offer")
        adapt_steps = asked.get("adapt_steps", self.adapt_steps)
        if type(adapt_steps) is not int:
            raise OptionError("the adaptation is a number of steps")
        MatteOptions(adapt_steps=adapt_steps)  # refuses what is out of range
        return replace(
            self,
            chosen=tuple(sorted(set(chosen))),
            overwrite=asked.get("overwrite", self.overwrite) is True,
            adapt_steps=adapt_steps,
            report=asked.get("report", self.report) is True,
            name=_checked_name(asked["name"], self.stem) if "name" in asked else self.name,
            folder=_checked_folder(asked["folder"]) if "folder" in asked else self.folder,
        )


def _checked_name(name: object, stem: str) -> str:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= _LONGEST_NAME:
        raise OptionError(f"a name of files needs 1 to {_LONGEST_NAME} letters")
    text = name.strip()
    plain = text.replace(_STEM, stem)
    is_odd = not text.isprintable() or re.search(r'[/\\:*?"<>|{}]', text.replace(_STEM, ""))
    if is_odd or plain.startswith(".") or parse_pattern(f"{plain}_") is not None:
        raise OptionError(
            f"name {text!r} is not valid: write letters and digits without a folder or a place for "
            f"the frame number, which is added; {{stem}} stands for {stem}"
        )
    return text


def _checked_folder(folder: object) -> Path:
    path = Path(folder.strip() or ".").expanduser() if isinstance(folder, str) else None
    try:
        if path is not None and path.is_dir():
            return path
    except (OSError, ValueError):  # a name too long, or with a zero byte
        pass
    raise OptionError(f"folder {folder!r} does not exist: make it first, or name another one")


def default_outputs(
    source: Path, outputs: Sequence[str], alphas: Sequence[str], options: MatteOptions, folder: Path
) -> OutputSelection:
    """Return the choices at first: outputs of the command line, then files of each kind."""
    given = [*((path, False) for path in outputs), *((path, True) for path in alphas)]
    # A kind that the command line named already is not offered a second time.
    kinds = {(_suffix(path), alpha_only) for path, alpha_only in given}
    offered = [
        (end, alpha_only)
        for end, alpha_only in _OFFERED
        if (Path(end).suffix, alpha_only) not in kinds
        # EXR is offered only if it can be written.
        and (not end.endswith(".exr") or find_spec("OpenEXR"))
    ]
    chosen = tuple(range(len(given))) if given else tuple(range(_BY_DEFAULT))
    return OutputSelection(
        tuple(given),
        tuple(offered),
        folder,
        _STEM,
        stem_of(source),
        chosen,
        options.overwrite,
        options.adapt_steps,
    )


def output_path(path: str, objects: int) -> str:
    """Return the path of an output, with `{object}` added if there are several objects."""
    # EXR holds several objects as layers of one file.
    if objects < 2 or "{object}" in path or _suffix(path) == ".exr":
        return path
    name = Path(path).name
    stem, _, kind = name.rpartition("_")
    return str(Path(path).with_name(f"{stem}_{{object}}_{kind}" if stem else f"{{object}}_{name}"))


def describe(selection: OutputSelection, objects: Sequence[str]) -> list[dict[str, Any]]:
    """Return the outputs on offer, for the page; `objects` are the names of those marked."""
    offers = []
    for n, (asked, alpha_only) in enumerate(selection.outputs):
        path = output_path(asked, len(objects))
        offers.append(
            {
                "path": path,
                "kind": "alpha" if alpha_only else "colour",
                "format": parse_output(path, alpha_only=alpha_only).format.description,
                "chosen": n in selection.chosen,
                "exists": any(
                    _exists(Path(split_format_options(path.replace("{object}", name))[0]))
                    for name in objects or [""]
                ),
            }
        )
    return offers


def describe_space(folder: Path, frames: int, frame_rate: float) -> str:
    """Return the length of what will be written, and the free space of its folder, in words."""
    minutes, seconds = divmod(frames / frame_rate, 60)
    length = f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return f"{frames} frames, {length}"
    return f"{frames} frames, {length}; {free / 1e9:.{0 if free > 1e10 else 1}f} GB free"


def _exists(path: Path) -> bool:
    """Tell whether an output, or a frame of it, exists already."""
    if parse_pattern(path) is None:
        return path.exists()
    try:
        return _has_frames(path, path.parent.stat().st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=64)
def _has_frames(path: Path, changed: int) -> bool:
    """Look through a folder, once for each time that it was changed."""
    names = matching_names(path)
    return any(names.fullmatch(name) for name in os.listdir(path.parent))


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
            adapt_steps=selection.adapt_steps,
            start=None if project.start is None else str(project.start + first_number),
            end=None if project.end is None else str(project.end + first_number),
        ),
        report=selection.report_folder,
    )


def command_of(job: Job, project: Project) -> str:
    """Return the equivalent command line; empty if nothing is marked, or no output chosen."""
    if not project.prompts or not (job.outputs or job.alphas):
        return ""
    objects = prompts_of_objects(project.prompts)
    specs = [parse_output(path, alpha_only=False) for path in job.outputs]
    specs += [parse_output(path, alpha_only=True) for path in job.alphas]
    options = chosen_options(job.options)
    asked = Invocation([job.source], False, None, objects, specs, job.report, options)
    return asked.with_prompts(_shown(job.prompt_file), overwrite=job.options.overwrite)


def set_command_of(job: Job, project: Project, folder: Path) -> str:
    """Return the command that mattes all images beside a marked one; empty if nothing is marked.

    Its mattes go to a new folder in `folder`.
    """
    if not project.prompts:
        return ""
    objects = prompts_of_objects(project.prompts)
    name = "{name}.png" if len(objects) == 1 else "{name}_{object}.png"
    spec = parse_output(str(_shown(folder / f"{job.source.stem}_set") / name), alpha_only=False)
    # What belongs to consecutive frames has no meaning for independent images.
    of_clips = ("start", "end", "smooth", "adapt_steps")
    options = {
        name: value for name, value in chosen_options(job.options).items() if name not in of_clips
    }
    asked = Invocation([job.source.parent], True, job.source, objects, [spec], None, options)
    return asked.with_prompts(_shown(job.prompt_file), overwrite=False)


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
