"""Lists of shots: TOML, JSON or CSV, or a folder of clips with prompt files, to one request for each shot."""

from __future__ import annotations

import csv
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from vidmatte.batch.upload import STAGING, is_uri, stage_locally, uri_of
from vidmatte.errors import OptionError, PromptError, VidmatteError
from vidmatte.media.patterns import stem_of
from vidmatte.options import FinishOptions, MatteOptions, parse_despill, parse_region
from vidmatte.pipeline.outputs import OutputPlan
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.source import Source
from vidmatte.prompts.files import load_prompts
from vidmatte.prompts.objects import ObjectPrompts, prompts_of_objects
from vidmatte.prompts.prompt import Prompt, parse_box, parse_points
from vidmatte.read.rate import parse_rate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHOT = "{shot}"
"""Stands for the name of the shot in paths."""
MOVIES = (".mp4", ".mov", ".mkv", ".webm", ".mxf", ".avi", ".m4v", ".mpg", ".ts")
"""What is a clip in a folder of shots."""
_PROMPTS = ".prompts.json"
_OUTPUT, _ALPHA = "{shot}_matte.mov", "{shot}_alpha.mov"

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ShotRequest:
    """One shot of a batch."""

    name: str
    request: Request
    uris: Mapping[str, str] = field(default_factory=dict)
    """Of outputs that are made in a staging folder and sent, see `upload`."""
    problem: str = ""
    """Why its marks cannot be read: it fails, and the other shots are rendered."""


def _text(value: Any) -> str:
    if isinstance(value, dict | list | bool) or value is None:
        raise ValueError("text")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("a number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError("a whole number")
    return int(float(value))


def _switch(value: Any) -> bool:
    known = {
        "true": True,
        "yes": True,
        "1": True,
        "false": False,
        "no": False,
        "0": False,
        "": False,
    }
    if str(value).lower() not in known:
        raise ValueError("true or false")
    return known[str(value).lower()]


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return [item.strip() for item in _text(value).split(";") if item.strip()]


_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "model": _text, "matte": _text, "sd": _text, "weights": _text, "settings": _text, "device": _text,
    "precision": _text, "batch_size": _whole, "working_size": _whole, "adapt_steps": _whole, "smooth": _number,
    "foreground": _text, "despill": lambda value: parse_despill(_text(value)), "premultiplied": _switch,
    "bit_depth": _whole, "start": _text, "end": _text, "reader": _text, "allow_truncated": _switch,
    "stream": _whole, "on_damage": _text, "source_alpha": _text,
    "deinterlace": _text, "segment_frames": _whole, "fps": lambda value: parse_rate(_text(value)),
}  # fmt: skip
_FINISH: Mapping[str, Callable[[Any], Any]] = {
    "clip_black": _number, "clip_white": _number, "grow": _number, "feather": _number, "invert": _switch,
    "inside_mask": _text, "outside_mask": _text, "region": lambda value: parse_region(_text(value)),
}  # fmt: skip
_MARKS: Mapping[str, Callable[[Any], Any]] = {
    "prompts": _text, "object": _texts, "ref_frame": _whole, "points": _text, "box": _text, "mask": _text,
    "scribbles": _text, "reference": _text,
}  # fmt: skip
_PLACES: Mapping[str, Callable[[Any], Any]] = {
    "name": _text, "input": _texts, "images": _switch, "output": _texts, "alpha": _texts, "report": _text,
}  # fmt: skip
KEYS: Mapping[str, Callable[[Any], Any]] = {**_PLACES, **_MARKS, **_OPTIONS, **_FINISH}
"""What an entry may say, by the names of the options of `vidmatte matte`."""
_PATHS = (
    "matte",
    "sd",
    "weights",
    "inside_mask",
    "outside_mask",
    "prompts",
    "mask",
    "scribbles",
    "reference",
    "report",
)


def load_manifest(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    staging: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> list[ShotRequest]:
    """The shots of a manifest, or of a folder of clips that have `clip.prompts.json` beside them.

    A manifest has `defaults` for all shots and `shots`, each with keys of `KEYS`; of CSV each line is a shot. Paths are
    relative to the manifest, `{shot}` in them stands for the shot's name. Outputs may be addresses of fsspec: they are
    made in `staging` (by default beside the manifest). `changes` are set for all shots. With `root` all that is read
    and written has to lie in there.

    A shot whose prompt file cannot be read is among them, with its problem. Raises OptionError for an unknown key, a
    value of the wrong kind, two shots with one name or one output, and paths outside of the root.
    """
    path = Path(path)
    # Workers may have another working directory.
    folder = (path if path.is_dir() else path.parent).absolute()
    defaults, entries = _clips(path) if path.is_dir() else _read(path)
    _check_keys(defaults, f"{path}: the defaults")
    _check_keys(changes or {}, "--set")
    shots = []
    for number, entry in enumerate(entries, 1):
        _check_keys(entry, f"{path}: shot {entry.get('name', number)}")
        shot = _shot(
            {**defaults, **entry, **(changes or {})}, number, folder, path, overwrite, resume
        )
        if root is not None:
            _refuse_outside(shot, Path(root))
        request, uris = stage_locally(
            shot.request, Path(staging or folder / STAGING).absolute() / shot.name
        )
        shots.append(replace(shot, request=request, uris=uris))
    if not shots:
        raise OptionError(f"{path}: lists no shots; add at least one")
    _refuse_twice([shot.name for shot in shots], f"{path}: two shots are named")
    _refuse_same_outputs(shots, path)
    return shots


def _read(path: Path) -> tuple[Entry, list[Entry]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"{path}: cannot be read ({reason}); give a .toml, .json or .csv file, or a folder"
        ) from error
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
        return {}, [_filled(row, path) for row in rows]
    try:
        if suffix == ".toml":
            document: Any = tomllib.loads(text)
        elif suffix == ".json":
            document = json.loads(text)
        else:
            raise OptionError(
                f"{path}: is of no known kind; give a .toml, .json or .csv file, or a folder of clips"
            )
    except ValueError as error:
        if isinstance(error, VidmatteError):
            raise
        raise OptionError(f"{path}: is not {suffix[1:].upper()} ({error})") from error
    unknown = (
        sorted(set(document) - {"defaults", "shots"})
        if isinstance(document, dict)
        else ["(no table)"]
    )
    shots = document.get("shots", []) if isinstance(document, dict) else []
    tables = (
        [document.get("defaults", {}), *shots]
        if isinstance(document, dict) and isinstance(shots, list)
        else [0]
    )
    if unknown or not all(isinstance(table, dict) for table in tables):
        found = f"the key {unknown[0]!r}" if unknown else "entries that are no tables"
        raise OptionError(
            f"{path}: has {found} at its top; it holds [defaults] and a list [[shots]]"
        )
    return cast(Entry, tables[0]), cast("list[Entry]", tables[1:])


def _filled(row: Mapping[Any, Any], path: Path) -> Entry:
    if None in row:
        raise OptionError(
            f"{path}: a line has more values than there are columns; quote values with commas"
        )
    return {key.strip(): value for key, value in row.items() if value not in (None, "")}


def _clips(folder: Path) -> tuple[Entry, list[Entry]]:
    clips = sorted(path for path in folder.iterdir() if path.suffix.lower() in MOVIES)
    marked = [clip for clip in clips if clip.with_name(clip.stem + _PROMPTS).is_file()]
    if not marked:
        raise OptionError(
            f"{folder}: none of its {len(clips)} clips has a prompt file beside it; save the marks of clip.mp4 as "
            f"clip{_PROMPTS}"
        )
    return {}, [
        {"name": clip.stem, "input": clip.name, "prompts": clip.stem + _PROMPTS} for clip in marked
    ]


def _check_keys(entry: Entry, where: str) -> None:
    for key, value in entry.items():
        clean = key.replace("-", "_")
        if clean not in KEYS:
            near = difflib.get_close_matches(clean, KEYS, 1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(sorted(KEYS))}"
            )
            raise OptionError(f"{where}: the key {key!r} is not known; {hint}")
        try:
            KEYS[clean](value)
        except (ValueError, TypeError) as error:
            if isinstance(error, VidmatteError):
                raise OptionError(f"{where}: {key}: {error}") from error
            raise OptionError(
                f"{where}: {key} is {value!r}, which is not {_kind(KEYS[clean])}"
            ) from error


def _kind(parse: Callable[[Any], Any]) -> str:
    names: dict[Callable[[Any], Any], str] = {
        _number: "a number",
        _whole: "a whole number",
        _switch: "true or false",
        _texts: "text or a list of it",
    }
    return names.get(parse, "text")


def _shot(
    given: Entry, number: int, folder: Path, path: Path, overwrite: bool, resume: bool
) -> ShotRequest:
    values = {
        key.replace("-", "_"): KEYS[key.replace("-", "_")](value) for key, value in given.items()
    }
    if not values.get("input"):
        raise OptionError(
            f"{path}: shot {values.get('name', number)} has no input; add input = PATH"
        )
    name = values.get("name") or stem_of(folder / values["input"][0])
    where = f"{path}: shot {name}"
    if re.search(r'[\\/:*?"<>|\x00-\x1f]', name) or name in (".", ".."):
        raise OptionError(
            f"{where}: its name becomes part of file names, and cannot be there; give it another one"
        )

    def place(text: str) -> Path:
        return folder / text.replace(SHOT, name)

    def spec(text: str) -> Path | str:
        return text.replace(SHOT, name) if is_uri(text) else place(text)

    _place_all(values, place)
    chosen = any(values.get(key) for key in ("output", "alpha"))
    output, alpha = (
        (values.get("output", ()), values.get("alpha", ())) if chosen else ([_OUTPUT], [_ALPHA])
    )
    try:
        objects, problem = _objects_or_problem(values)
        images, options = values.get("images", False), _options(values, overwrite, resume)
        outputs = OutputPlan.resolve(
            # Outputs may be named after objects, which are not known if their prompts cannot be read.
            () if problem else [spec(text) for text in output],
            () if problem else [spec(text) for text in alpha],
            objects=list(objects),
            images=images,
            options=MatteOptions() if problem else options,
            report=values.get("report"),
        )
        source = Source.of([place(text) for text in values["input"]], images=images)
        request = Request(source, ObjectPrompts(objects, values.get("reference")), outputs, options)
    except VidmatteError as error:
        raise OptionError(f"{where}: {error}") from error
    return ShotRequest(name, request, problem=problem)


def _objects_or_problem(values: Mapping[str, Any]) -> tuple[Mapping[str, Sequence[Prompt]], str]:
    try:
        return _objects(values), ""
    except PromptError as error:
        return prompts_of_objects(()), str(error)


def _place_all(values: dict[str, Any], place: Callable[[str], Path]) -> None:
    for key in _PATHS:
        if key in values:
            values[key] = place(values[key])
    if "model" in values and place(values["model"]).is_file():
        values["model"] = place(values["model"])


def _objects(values: Mapping[str, Any]) -> Mapping[str, Sequence[Prompt]]:
    marks = {key: values[key] for key in ("points", "box", "mask", "scribbles") if key in values}
    if "prompts" in values:
        if marks or "ref_frame" in values:
            raise OptionError(
                f"prompts holds all marks: leave out {', '.join([*marks, 'ref_frame'])}"
            )
        return prompts_of_objects(
            _chosen(load_prompts(values["prompts"]), values.get("object", ()))
        )
    if "object" in values:
        raise OptionError("object chooses from a prompt file: give prompts too")
    if not marks and ("matte" in values or values.get("source_alpha") == "matte"):
        return prompts_of_objects(())
    if not marks:
        raise OptionError("nothing is marked: give prompts, points, box, mask or scribbles")
    prompt = Prompt(
        frame=values.get("ref_frame", 0),
        points=parse_points(marks["points"]) if "points" in marks else (),
        box=parse_box(marks["box"]) if "box" in marks else None,
        mask=marks.get("mask"),
        scribbles=marks.get("scribbles"),
    )
    return prompts_of_objects(prompt)


def _chosen(
    objects: Mapping[str, Sequence[Prompt]], names: Sequence[str]
) -> Mapping[str, Sequence[Prompt]]:
    for name in names:
        if name not in objects:
            raise OptionError(f"the prompt file marks {', '.join(objects)}; {name!r} was asked for")
    return {name: objects[name] for name in names or objects}


def _options(values: Mapping[str, Any], overwrite: bool, resume: bool) -> MatteOptions:
    finish = FinishOptions(**{key: values[key] for key in _FINISH if key in values})
    chosen = {key: values[key] for key in _OPTIONS if key in values and key != "fps"}
    rate: Fraction | None = values.get("fps")
    return replace(
        MatteOptions(**chosen), finish=finish, frame_rate=rate, overwrite=overwrite, resume=resume
    )


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise OptionError(f"{what} {name!r}; give each its own name")
        seen.add(name.casefold())


def _refuse_same_outputs(shots: Sequence[ShotRequest], path: Path) -> None:
    owners: dict[str, str] = {}
    for shot in shots:
        if shot.problem:
            continue
        specs = [(uri_of(spec, shot.uris), Path(spec.path)) for spec in shot.request.outputs.specs]
        specs += [] if shot.request.outputs.report is None else [(None, shot.request.outputs.report)]
        for uri, output in specs:
            place = uri or str(output.parent.resolve() / output.name.casefold())
            if place in owners:
                raise OptionError(
                    f"{path}: shots {owners[place]!r} and {shot.name!r} would both write {uri or output}; "
                    f"put {SHOT} into the path, or give each its own"
                )
            owners[place] = shot.name


def _refuse_outside(shot: ShotRequest, root: Path) -> None:
    root = root.resolve()
    request = shot.request
    read = [*request.inputs(), request.options.sd, request.options.weights]
    written = [spec.path for spec in request.outputs.requested]
    for path in [*read, *written, request.outputs.report]:
        if path is not None and not Path(path).resolve().is_relative_to(root):
            raise OptionError(
                f"shot {shot.name!r}: {path} lies outside of {root}, where all has to be (--root)"
            )
