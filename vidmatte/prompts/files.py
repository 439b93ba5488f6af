"""Read and write prompt files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidmatte.errors import PromptError, ReadError
from vidmatte.media.atomic import atomic_write
from vidmatte.media.limits import check_regular
from vidmatte.prompts.prompt import OBJECT, MarkedClip, Prompt, Stroke

JSON_VERSION = 2
"""Version 1 counted the frames of image sequences from 0, not by the numbers of their files."""
# Far more than any prompt file: refuses a movie given by mistake.
_MAX_BYTES = 64 << 20
"""Of a prompt file: a million corners of strokes take 20 MB."""


def load_prompts(path: str | Path) -> dict[str, tuple[Prompt, ...]]:
    """Return the prompts by object name of a file from `save_prompts` or the picker.

    Paths of masks and scribbles are relative to the file. If the file names the clip that the
    prompts were made on, the prompts name it too (`Prompt.made_on`).

    Raises PromptError with the mistake and its place.
    """
    path = Path(path)
    document = _load_json(path)
    try:
        version = document["version"]
        if version not in (1, JSON_VERSION):
            raise PromptError(
                f"{path}: is version {version} of the format; this vidmatte reads 1 and "
                f"{JSON_VERSION}"
            )
        made_on = _clip_from_json(document)
        objects = {
            str(item["name"]): tuple(
                _prompt_from_json(prompt, path.parent, made_on, version)
                for prompt in item["prompts"]
            )
            for item in document["objects"]
        }
    except PromptError as error:
        raise PromptError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise PromptError(
            f"{path}: does not have the layout of a prompt file ({type(error).__name__}: {error})"
        ) from error
    # A dictionary has silently kept the last of two.
    if len(objects) < len(document["objects"]):
        raise PromptError(f"{path}: two objects have the same name; give each its own")
    if not objects or not all(objects.values()):
        raise PromptError(f"{path}: holds no marks; add an object with at least one prompt")
    return objects


def load_clip(path: str | Path) -> MarkedClip | None:
    """Return the clip of the prompts in a file; None if the file does not name it.

    Raises PromptError if the file cannot be read.
    """
    try:
        return _clip_from_json(_load_json(Path(path)))
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None


def _load_json(path: Path) -> Any:
    try:
        check_regular(path)
        if path.stat().st_size > _MAX_BYTES:
            raise PromptError(f"{path}: is larger than a prompt file can be; check the path")
        # Editors on Windows put a byte order mark in front.
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ReadError as error:
        raise PromptError(str(error)) from error
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise PromptError(f"{path}: is nested too deeply to be a prompt file") from error
    except PromptError:
        raise
    except ValueError as error:
        raise PromptError(f"{path}: is not JSON ({error})") from error


def _clip_from_json(document: Mapping[str, Any]) -> MarkedClip | None:
    name = str(document.get("source") or "")
    facts = document.get("clip") or {}
    size = facts.get("size")
    length = facts.get("bytes")
    if not name:
        return None
    return MarkedClip(
        name,
        None if size is None else (int(size[0]), int(size[1])),
        None if length is None else int(length),
    )


_KEYS = {"frame", "points", "strokes", "box", "mask", "scribbles", "extent"}


def _prompt_from_json(
    item: Mapping[str, Any], folder: Path, made_on: MarkedClip | None, version: int
) -> Prompt:
    unknown = sorted(set(item) - _KEYS)
    if unknown:
        raise PromptError(
            f"prompt key {unknown[0]!r} is not known; the keys are {', '.join(sorted(_KEYS))}"
        )
    box = item.get("box")
    return Prompt(
        frame=_frame_from_json(item.get("frame"), version),
        points=tuple(
            # The label may be left out.
            (float(p[0]), float(p[1]), int(p[2]) if len(p) > 2 else OBJECT)
            for p in item.get("points", ())
        ),
        strokes=tuple(
            Stroke(
                tuple((float(x), float(y)) for x, y in s["points"]),
                float(s["width"]),
                int(s.get("label", OBJECT)),
            )
            for s in item.get("strokes", ())
        ),
        box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])) if box else None,
        mask=folder / item["mask"] if item.get("mask") else None,
        scribbles=folder / item["scribbles"] if item.get("scribbles") else None,
        extent=item.get("extent"),
        made_on=made_on,
    )


def _frame_from_json(value: Any, version: int) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    frame = int(value)
    return f"index:{frame}" if version == 1 and frame >= 0 else frame


def save_prompts(
    path: str | Path,
    objects: Mapping[str, Sequence[Prompt]],
    *,
    source: str | MarkedClip = "",
    picker: Mapping[str, Any] | None = None,
) -> None:
    """Write prompts by object name as JSON, whole or not at all.

    Args:
        path: the file; images are referred to by paths relative to it.
        objects: prompts by object name.
        source: the marked clip, or only its name.
        picker: the picker's own state; `load_prompts` ignores it.

    Raises:
        PromptError: a mask is in memory and not a file.
        OSError: the file cannot be written.
    """
    path = Path(path)
    clip = source if isinstance(source, MarkedClip) else MarkedClip(source)
    document: dict[str, Any] = {"version": JSON_VERSION, "source": clip.name}
    facts = {"size": clip.size and list(clip.size), "bytes": clip.bytes}
    if known := {name: value for name, value in facts.items() if value is not None}:
        document["clip"] = known
    document["objects"] = [
        {"name": name, "prompts": [_prompt_to_json(prompt, path.parent) for prompt in prompts]}
        for name, prompts in objects.items()
    ]
    if picker is not None:
        document["picker"] = dict(picker)
    atomic_write(path, json.dumps(document, indent=2) + "\n")


def _prompt_to_json(prompt: Prompt, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {} if prompt.frame is None else {"frame": prompt.frame}
    if prompt.points:
        item["points"] = [list(point) for point in prompt.points]
    if prompt.strokes:
        item["strokes"] = [
            {"points": [list(point) for point in s.points], "width": s.width, "label": s.label}
            for s in prompt.strokes
        ]
    if prompt.box:
        item["box"] = list(prompt.box)
    if prompt.extent:
        item["extent"] = prompt.extent
    for key in ("mask", "scribbles"):
        image = getattr(prompt, key)
        if image is not None and not isinstance(image, Path):
            raise PromptError(
                f"{prompt.where}: its {key} is in memory, and a prompt file names files: save it "
                f"as PNG, and give its path"
            )
        if image is not None:
            # Relative, so that the folder can be moved; forward slashes on all systems.
            item[key] = Path(os.path.relpath(image, folder)).as_posix()
    return item
