"""Read manifests (TOML, JSON, CSV), folders of clips with prompt files, and shots of timelines."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from vidmatte.batch.upload import STAGING, is_uri, local_path_of, stage_locally, uri_of
from vidmatte.config import Config
from vidmatte.edit.shots import Edit, entries_of
from vidmatte.errors import OptionError, PromptError, VidmatteError
from vidmatte.media.patterns import stem_of
from vidmatte.option_table import MANIFEST_KEYS, make_options
from vidmatte.options import MatteOptions
from vidmatte.pipeline.outputs import OutputPlan
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.source import Source
from vidmatte.prompts.files import load_prompts
from vidmatte.prompts.objects import ObjectPrompts, prompts_of_objects
from vidmatte.prompts.prompt import Prompt, parse_box, parse_points, with_extent

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHOT = "{shot}"
"""Stands for the name of the shot in paths."""
MOVIES = (".mp4", ".mov", ".mkv", ".webm", ".mxf", ".avi", ".m4v", ".mpg", ".ts")
"""Extensions of clips in a folder of shots."""
_PROMPT_FILE = ".prompts.json"
_OUTPUT = "{shot}_matte.mov"
_ALPHA = "{shot}_alpha.mov"
_PROMPTS = ("points", "box", "mask", "scribbles")
"""Keys for marking one object on one frame."""
_MARKS = {*_PROMPTS, "prompts", "matte", "trimaps", "source_alpha"}
"""Keys that mark a shot, or make marks needless."""
_LISTS = ("input", "output", "alpha", "object", "sidecar")
_PATHS = [
    key for key, each in MANIFEST_KEYS.items() if each.info.kind == "path" and key not in _LISTS
]
"""Keys of single paths, relative to the manifest."""
_NAMES_OR_PATHS = ("model", "ocio")
"""Keys of what may be a name as well as a file."""
_DELIMITERS = ",;\t"
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
"""Characters not allowed in names on some file system."""

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ShotRequest:
    """One shot of a batch."""

    name: str
    request: Request
    uris: Mapping[str, str] = field(default_factory=dict)
    """Addresses of outputs made in a staging folder and then sent, see `upload`."""
    problem: str = ""
    """Why its prompts or its media cannot be read: it fails, and the other shots are rendered."""
    problem_kind: type[VidmatteError] = PromptError


@dataclass(frozen=True)
class _Reading:
    """How the entries of one manifest are read."""

    path: Path
    folder: Path
    """Absolute: workers may have another working directory."""
    root: Path | None
    overwrite: bool
    resume: bool


def load_manifest(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    staging: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    config: Config | None = None,
) -> list[ShotRequest]:
    """Return the shots of a manifest, or of a folder of clips with `clip.prompts.json`.

    A manifest has `defaults` for all shots and `shots`, each with keys of `MANIFEST_KEYS`; in CSV
    each line is a shot, with commas, semicolons or tabs between its values. Paths are relative to
    the manifest, and `{shot}` in them stands for the shot's name. A shot whose prompt file cannot
    be read is among the result, with its problem.

    Args:
        path: The manifest, or the folder.
        changes: Keys to set for all shots.
        root: Refuse shots with paths outside of this folder, before anything is read.
        staging: Folder to make outputs in before they are sent to an address; by default one
            beside the manifest.
        overwrite: Let outputs be replaced.
        resume: Continue stopped runs.
        config: Defaults of a studio, for what neither the manifest nor the changes say.

    Raises:
        OptionError: For an unknown key, a value of the wrong kind, two shots with one name or one
            output, and paths outside of the root.
    """
    path = Path(path)
    folder = (path if path.is_dir() else path.parent).absolute()
    defaults, entries = _clips(path) if path.is_dir() else _read(path)
    _check_keys(defaults, f"{path}: the defaults")
    _check_keys(changes or {}, "--set")
    for number, entry in enumerate(entries, 1):
        _check_keys(entry, f"{path}: shot {entry.get('name', number)}")
    reading = _Reading(path, folder, None if root is None else Path(root), overwrite, resume)
    # Entries override the defaults, and --set overrides both.
    given = [_plain_keys({**defaults, **entry, **(changes or {})}) for entry in entries]
    merged = [({**_of_studio(config, each, folder), **each}, None) for each in given]
    return _shots(merged, reading, staging)


def load_edit(
    edit: Edit,
    *,
    changes: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
    staging: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    config: Config | None = None,
) -> list[ShotRequest]:
    """Return the shots of a timeline, see `vidmatte.edit.shots.read_edit`.

    Without outputs among the changes and the defaults of a studio, an alpha of each is written into
    a folder beside it. Marks are looked for as `marks_of` says, unless the changes mark all shots.
    Arguments and errors are those of `load_manifest`.
    """
    _check_keys(changes or {}, "--set")
    folder = edit.path.absolute().parent
    chosen = _plain_keys(changes or {})
    reading = _Reading(edit.path, folder, None if root is None else Path(root), overwrite, resume)
    known = {*chosen, *(config.values if config is not None else ())}
    if known.isdisjoint({"output", "alpha"}):
        chosen["alpha"] = [f"{edit.path.stem}_mattes/{SHOT}_alpha.mov"]
    entries = entries_of(edit, marked=not _MARKS.isdisjoint(chosen))
    given = [({**entry, **chosen}, problem) for entry, problem in entries]
    merged = [({**_of_studio(config, each, folder), **each}, problem) for each, problem in given]
    return _shots(merged, reading, staging)


def _shots(
    entries: Iterable[tuple[Entry, VidmatteError | None]],
    reading: _Reading,
    staging: str | Path | None,
) -> list[ShotRequest]:
    """Return the shots of entries, each with why it cannot be rendered, if it cannot."""
    path = reading.path
    shots = []
    for number, (entry, problem) in enumerate(entries, 1):
        shot = _shot(entry, number, reading, problem)
        staged_in = Path(staging or reading.folder / STAGING).absolute() / shot.name
        request, uris = stage_locally(shot.request, staged_in)
        if uris and request.outputs.sidecars:
            raise OptionError(
                f"{path}: shot {shot.name}: a sidecar names files by their paths, and "
                f"{next(iter(uris.values()))} is an address; leave sidecar out"
            )
        # Outputs with an address are rendered into the staging folder.
        shots.append(replace(shot, request=request, uris=uris))
    if not shots:
        raise OptionError(f"{path}: lists no shots; add at least one")
    _refuse_twice([shot.name for shot in shots], f"{path}: two shots are named")
    _refuse_same_outputs(shots, path)
    return shots


def read_shot(
    entry: Entry,
    *,
    where: Path,
    folder: Path,
    root: Path | None = None,
    overwrite: bool = False,
    config: Config | None = None,
) -> ShotRequest:
    """Return a shot of one entry, as a manifest would hold it.

    Args:
        entry: Its keys, of `MANIFEST_KEYS`.
        where: Named in errors.
        folder: Paths are relative to it.
        root: Refuse paths outside of this folder.
        overwrite: Let outputs be replaced.
        config: Defaults of a studio, for what the entry does not say.

    Raises:
        OptionError: For an unknown key, a value of the wrong kind, and paths outside of the root.
    """
    given = _plain_keys(entry)
    _check_keys(given, str(where))
    reading = _Reading(where, folder.absolute(), root, overwrite, resume=False)
    return _shot({**_of_studio(config, given, folder), **given}, 1, reading, None)


def _read(path: Path) -> tuple[Entry, list[Entry]]:
    """Return the defaults and the entries of a manifest."""
    try:
        text = _decode(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"{path}: cannot be read ({reason}); give a .toml, .json or .csv file in UTF-8 or "
            f"UTF-16, or a folder"
        ) from error
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return {}, _rows(text, path)
    try:
        if suffix == ".toml":
            return _tables(tomllib.loads(text), path)
        if suffix == ".json":
            return _tables(json.loads(text), path)
    except (ValueError, RecursionError) as error:
        if isinstance(error, VidmatteError):
            raise
        raise OptionError(f"{path}: is not {suffix[1:].upper()} ({error})") from error
    raise OptionError(
        f"{path}: is of no known kind; give a .toml, .json or .csv file, or a folder of clips"
    )


def _decode(data: bytes) -> str:
    """Return text in UTF-8 or UTF-16, with a byte-order mark as from spreadsheets."""
    # Excel writes UTF-16, or UTF-8 with a byte-order mark.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def _rows(text: str, path: Path) -> list[Entry]:
    """Return the lines of a CSV; the delimiter is the most frequent one in its first line."""
    header = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    # Quoted values may hold line breaks, which only a stream keeps together.
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, delimiter=delimiter)
    return [_filled(row, path) for row in rows]


def _filled(row: Mapping[Any, Any], path: Path) -> Entry:
    # More values than the header has columns are stored under None.
    if None in row:
        raise OptionError(
            f"{path}: a line has more values than there are columns; quote values that hold the "
            f"delimiter"
        )
    return {key.strip(): value for key, value in row.items() if value not in (None, "")}


def _tables(document: Any, path: Path) -> tuple[Entry, list[Entry]]:
    """Return the defaults and the shots of a TOML or JSON document."""
    if not isinstance(document, dict):
        raise OptionError(f"{path}: has (no table) at its top; {_LAYOUT}")
    unknown = sorted(set(document) - {"defaults", "shots"})
    if unknown:
        raise OptionError(f"{path}: has the key {unknown[0]!r} at its top; {_LAYOUT}")
    defaults = document.get("defaults", {})
    shots = document.get("shots", [])
    tables = [defaults, *shots] if isinstance(shots, list) else [shots]
    if not all(isinstance(table, dict) for table in tables) or not isinstance(shots, list):
        raise OptionError(f"{path}: has entries that are no tables at its top; {_LAYOUT}")
    return cast(Entry, defaults), cast("list[Entry]", shots)


_LAYOUT = "it holds [defaults] and a list [[shots]]"


def _clips(folder: Path) -> tuple[Entry, list[Entry]]:
    """Return an entry for each clip of a folder with a prompt file beside it."""
    clips = sorted(path for path in folder.iterdir() if path.suffix.lower() in MOVIES)
    marked = [clip for clip in clips if clip.with_name(clip.stem + _PROMPT_FILE).is_file()]
    if not marked:
        raise OptionError(
            f"{folder}: none of its {len(clips)} clips has a prompt file beside it; save the "
            f"prompts of clip.mp4 as clip{_PROMPT_FILE}"
        )
    return {}, [
        {"name": clip.stem, "input": clip.name, "prompts": clip.stem + _PROMPT_FILE}
        for clip in marked
    ]


def _check_keys(entry: Entry, where: str) -> None:
    for key, value in entry.items():
        clean = key.replace("-", "_")
        if clean not in MANIFEST_KEYS:
            near = difflib.get_close_matches(clean, MANIFEST_KEYS, 1)
            hint = f"the keys are {', '.join(sorted(MANIFEST_KEYS))}"
            if near:
                hint = f"did you mean {near[0]!r}?"
            raise OptionError(f"{where}: the key {key!r} is not known; {hint}")
        try:
            MANIFEST_KEYS[clean].read(value)
        except VidmatteError as error:
            raise OptionError(f"{where}: {key}: {error}") from error
        except ValueError as error:
            raise OptionError(f"{where}: {key} is {value!r}, which is not {error}") from error


def _plain_keys(entry: Entry) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in entry.items()}


def _texts_of(given: Entry, key: str) -> list[str]:
    return list(MANIFEST_KEYS[key].read(given[key])) if key in given else []


def _of_studio(config: Config | None, given: Entry, folder: Path) -> Entry:
    """Return the defaults of a studio for one shot."""
    if config is None:
        return {}
    found = config.for_clip(
        [folder / path for path in _texts_of(given, "input")],
        images=bool(MANIFEST_KEYS["images"].read(given.get("images", False))),
        outputs=_texts_of(given, "output"),
        alphas=_texts_of(given, "alpha"),
    )
    return {key: value for key, value in found.items() if key in MANIFEST_KEYS}


def _shot(given: Entry, number: int, reading: _Reading, found: VidmatteError | None) -> ShotRequest:
    """Return the shot of an entry; if it has a problem, its marks are not read.

    Raises OptionError.
    """
    values = {key: MANIFEST_KEYS[key].read(value) for key, value in given.items()}
    if not values.get("input"):
        raise OptionError(
            f"{reading.path}: shot {values.get('name', number)} has no input; add input = PATH"
        )
    name = values.get("name") or stem_of(reading.folder / values["input"][0])
    where = f"{reading.path}: shot {name}"
    if _NOT_IN_NAMES.search(name) or name in (".", ".."):
        raise OptionError(
            f"{where}: its name becomes part of file names, and cannot be there; give it another "
            f"one"
        )
    _place_all(values, name, reading.folder)
    try:
        # Before anything is opened: a path may be a named pipe or a device.
        if reading.root is not None:
            _refuse_outside(_paths_of(values), reading.root)
        objects, problem = _objects_or_problem(values, found)
        request = _request(values, objects, problem is not None, reading)
        if reading.root is not None:
            # Files that the prompts name.
            _refuse_outside(request.inputs(), reading.root)
    except VidmatteError as error:
        raise OptionError(f"{where}: {error}") from error
    if problem is None:
        return ShotRequest(name, request)
    return ShotRequest(name, request, problem=str(problem), problem_kind=type(problem))


def _place_all(values: dict[str, Any], name: str, folder: Path) -> None:
    """Make all paths absolute, and put the name of the shot into them."""

    def place(text: str) -> Path:
        return folder / text.replace(SHOT, name)

    def spec(text: str) -> Path | str:
        return text.replace(SHOT, name) if is_uri(text) else place(text)

    for key in (*_PATHS, *_NAMES_OR_PATHS):
        if key in values and (key in _PATHS or place(values[key]).is_file()):
            values[key] = place(values[key])
    values["input"] = [place(text) for text in values["input"]]
    if not values.get("output") and not values.get("alpha"):
        values["output"] = [_OUTPUT]
        values["alpha"] = [_ALPHA]
    for key in ("output", "alpha"):
        values[key] = [spec(text) for text in values.get(key, ())]


def _request(
    values: Mapping[str, Any],
    objects: Mapping[str, Sequence[Prompt]],
    has_problem: bool,
    reading: _Reading,
) -> Request:
    images = values.get("images", False)
    chosen = {**values, "overwrite": reading.overwrite, "resume": reading.resume}
    options = make_options(chosen)
    outputs = OutputPlan.resolve(
        # Outputs may be named after objects, which are not known if prompts cannot be read.
        () if has_problem else values["output"],
        () if has_problem else values["alpha"],
        objects=list(objects),
        images=images,
        options=MatteOptions() if has_problem else options,
        report=values.get("report"),
        sidecars=() if has_problem else values.get("sidecar", ()),
    )
    source = Source.of(values["input"], images=images)
    return Request(source, ObjectPrompts(objects, values.get("reference")), outputs, options)


def _objects_or_problem(
    values: Mapping[str, Any], problem: VidmatteError | None
) -> tuple[Mapping[str, Sequence[Prompt]], VidmatteError | None]:
    """Return the marks, none if there is a problem or they cannot be read, and the problem."""
    if problem is not None:
        return prompts_of_objects(()), problem
    try:
        return _objects(values), None
    except PromptError as error:
        return prompts_of_objects(()), error


def _objects(values: Mapping[str, Any]) -> Mapping[str, Sequence[Prompt]]:
    """Return the prompts of a prompt file by object, or those of the keys."""
    prompts = {key: values[key] for key in _PROMPTS if key in values}
    if "prompts" in values:
        if prompts or "ref_frame" in values:
            raise OptionError(
                f"prompts holds all prompts: leave out {', '.join([*prompts, 'ref_frame'])}"
            )
        by_name = _chosen(load_prompts(values["prompts"]), values.get("object", ()))
        extent = values.get("extent")
        meant = {name: with_extent(marks, extent) for name, marks in by_name.items()}
        return prompts_of_objects(meant)
    if "object" in values:
        raise OptionError("object chooses from a prompt file: give prompts too")
    if not prompts:
        own_alpha = values.get("source_alpha") == "matte"
        if own_alpha or "matte" in values or "trimaps" in values:
            return prompts_of_objects(())
        raise OptionError("nothing is marked: give prompts, points, box, mask or scribbles")
    prompt = Prompt(
        frame=_frame(values.get("ref_frame")),
        points=parse_points(prompts["points"]) if "points" in prompts else (),
        box=parse_box(prompts["box"]) if "box" in prompts else None,
        mask=prompts.get("mask"),
        scribbles=prompts.get("scribbles"),
    )
    return prompts_of_objects(with_extent((prompt,), values.get("extent")))


def _frame(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _chosen(
    objects: Mapping[str, Sequence[Prompt]], names: Sequence[str]
) -> Mapping[str, Sequence[Prompt]]:
    for name in names:
        if name not in objects:
            raise OptionError(
                f"object {name!r} is not valid: the prompt file marks {', '.join(objects)}"
            )
    return {name: objects[name] for name in names or objects}


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        # Ignoring case, as names become files.
        if name.casefold() in seen:
            raise OptionError(f"{what} {name!r}; give each its own name")
        seen.add(name.casefold())


def _refuse_same_outputs(shots: Sequence[ShotRequest], path: Path) -> None:
    owners: dict[str, str] = {}
    for shot in shots:
        if shot.problem:
            continue
        outputs = shot.request.outputs
        written = [(uri_of(spec, shot.uris), Path(spec.path)) for spec in outputs.specs]
        if outputs.report is not None:
            written.append((None, outputs.report))
        written += [(None, path) for path in outputs.sidecar_paths]
        for uri, output in written:
            # Two paths may name one file, through links or in another case.
            place = uri or str(output.parent.resolve() / output.name.casefold())
            if place in owners:
                raise OptionError(
                    f"{path}: shots {owners[place]!r} and {shot.name!r} would both write "
                    f"{uri or output}; put {SHOT} into the path, or give each its own"
                )
            owners[place] = shot.name


def _paths_of(values: Mapping[str, Any]) -> Iterator[str | Path]:
    """Return all inputs and outputs of an entry."""
    yield from (values[key] for key in _PATHS if key in values)
    for key in ("input", "output", "alpha"):
        yield from values[key]
    model = values.get("model")
    # What is no file and looks like a path is refused as well: it may become one.
    if isinstance(model, Path) or re.search(r"[/\\]", model or ""):
        yield cast("str | Path", model)


def _refuse_outside(paths: Iterable[str | Path], root: Path) -> None:
    """Raise OptionError for a path or an address outside of a folder."""
    root = root.resolve()
    for path in paths:
        local = local_path_of(str(path)) if is_uri(path) else Path(path)
        if local is None:
            raise OptionError(
                f"{path} is an address, and --root {root} allows only files inside that folder"
            )
        if not local.resolve().is_relative_to(root):
            raise OptionError(f"{path} is outside of --root {root}; choose a path inside of it")
