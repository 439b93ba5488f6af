"""Read and write prompt files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidmatte.errors import PromptError
from vidmatte.media.atomic import atomic_write
from vidmatte.prompts.prompt import OBJECT, Prompt, Stroke

JSON_VERSION = 1


def load_prompts(path: str | Path) -> dict[str, tuple[Prompt, ...]]:
    """Prompts by object name, from a file that `save_prompts` or the picker wrote.

    Paths of masks and scribbles are relative to the file. Raises PromptError, naming what is wrong and where.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise PromptError(f"{path}: is not JSON ({error})") from error
    try:
        if document["version"] != JSON_VERSION:
            raise PromptError(
                f"{path}: is version {document['version']} of the format; this vidmatte reads {JSON_VERSION}"
            )
        objects = {
            str(item["name"]): tuple(
                _prompt_from_json(prompt, path.parent) for prompt in item["prompts"]
            )
            for item in document["objects"]
        }
    except PromptError as error:
        raise PromptError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise PromptError(
            f"{path}: does not have the layout of a prompt file ({type(error).__name__}: {error})"
        ) from error
    if len(objects) < len(document["objects"]):
        raise PromptError(f"{path}: two objects have the same name; give each its own")
    if not objects or not all(objects.values()):
        raise PromptError(f"{path}: holds no marks; add an object with at least one prompt")
    return objects


_KEYS = {"frame", "points", "strokes", "box", "mask", "scribbles"}


def _prompt_from_json(item: Mapping[str, Any], folder: Path) -> Prompt:
    unknown = sorted(set(item) - _KEYS)
    if unknown:
        raise PromptError(
            f"prompt key {unknown[0]!r} is not known; the keys are {', '.join(sorted(_KEYS))}"
        )
    box = item.get("box")
    return Prompt(
        frame=int(item.get("frame", 0)),
        points=tuple(
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
    )


def save_prompts(
    path: str | Path,
    objects: Mapping[str, Sequence[Prompt]],
    *,
    source: str = "",
    picker: Mapping[str, Any] | None = None,
) -> None:
    """Write prompts by object name as JSON, whole or not at all; images are referred to by paths relative to the file.

    `picker` is what the picker remembers beside the marks; `load_prompts` passes over it. Raises OSError.
    """
    path = Path(path)
    document: dict[str, Any] = {
        "version": JSON_VERSION,
        "source": source,
        "objects": [
            {"name": name, "prompts": [_prompt_to_json(prompt, path.parent) for prompt in prompts]}
            for name, prompts in objects.items()
        ],
    }
    if picker is not None:
        document["picker"] = dict(picker)
    atomic_write(path, json.dumps(document, indent=2) + "\n")


def _prompt_to_json(prompt: Prompt, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {"frame": prompt.frame}
    if prompt.points:
        item["points"] = [list(point) for point in prompt.points]
    if prompt.strokes:
        item["strokes"] = [
            {"points": [list(point) for point in s.points], "width": s.width, "label": s.label}
            for s in prompt.strokes
        ]
    if prompt.box:
        item["box"] = list(prompt.box)
    for key in ("mask", "scribbles"):
        image = getattr(prompt, key)
        if image is not None:
            item[key] = Path(os.path.relpath(image, folder)).as_posix()
    return item
