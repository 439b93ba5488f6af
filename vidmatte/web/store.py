"""The files with the marks of a clip: a prompt file beside it, and masks loaded in the page."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError, PromptError, WriteError
from vidmatte.media.atomic import atomic_write
from vidmatte.media.patterns import stem_of
from vidmatte.prompts.files import load_clip, load_prompts, save_prompts
from vidmatte.prompts.prompt import MarkedClip, Prompt
from vidmatte.read import Video, parse_position
from vidmatte.web.project import COLORS, ClipInfo, Project, PromptedObject, index_of


def prompt_file_of(source: Path, otherwise: Path) -> Path:
    """Return the prompt file beside a clip, or in `otherwise` if its folder is not writable.

    Cards of one camera hold clips with the same name: a file that was made on another clip is left
    alone, and the next free number is put into the name.
    """
    is_beside = os.access(source.parent, os.W_OK | os.X_OK)
    folder = source.parent if is_beside else otherwise
    for number in count(1):
        path = folder / f"{stem_of(source)}{'' if number == 1 else f'-{number}'}.prompts.json"
        clip = _clip_of(path)
        # Beside the clip, its name tells; it may have been rendered again with other bytes.
        if clip is None or (clip.name == source.name if is_beside else clip.is_file(source)):
            return path
    raise AssertionError  # the numbers do not end


def masks_of(prompt_file: Path) -> Path:
    """Return the folder of the masks that a prompt file refers to."""
    name = prompt_file.name.removesuffix(".json").removesuffix(".prompts")
    return prompt_file.with_name(f"{name}.masks")


def _clip_of(path: Path) -> MarkedClip | None:
    """Return the clip that a prompt file was made on; None if there is no file, or no such word."""
    if not path.is_file():
        return None
    try:
        return load_clip(path)
    except PromptError:
        return None  # whoever reads the file says what is wrong with it


class Store:
    """Reads and writes the project of one clip."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self._source = source
        self._clip_info: ClipInfo | None = None
        self._masks = masks_of(path)
        self._loaded: set[Path] = set()

    def load(self, clip_info: ClipInfo, video: Video) -> Project:
        """Return the saved project, or a new one. Raises PromptError for any other file."""
        self._clip_info = clip_info
        if not self.path.exists():
            return Project()
        try:
            document = json.loads(self.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise PromptError(
                f"{self.path}: cannot be read as a prompt file ({error}); move it away"
            ) from error
        notes = document.get("picker") if isinstance(document, dict) else None
        # Without marks, the file holds what the page remembers, and nothing else that could be
        # read.
        is_empty = isinstance(notes, dict) and document.get("objects") == []
        by_name = {} if is_empty else self._with_indices(load_prompts(self.path), video)
        self._check(by_name, clip_info)
        known = notes if isinstance(notes, dict) else {}
        return _project(by_name, known, clip_info)

    def _with_indices(
        self, by_name: Mapping[str, Sequence[Prompt]], video: Video
    ) -> dict[str, tuple[Prompt, ...]]:
        """Return the prompts with the indices of their frames."""
        try:
            return {
                name: tuple(
                    replace(
                        prompt,
                        frame=0 if prompt.frame is None else parse_position(prompt.frame, video),
                    )
                    for prompt in prompts
                )
                for name, prompts in by_name.items()
            }
        except OptionError as error:
            raise PromptError(
                f"{self.path}: {error}; or it belongs to another clip: move it away, or name "
                f"another file (--prompts)"
            ) from error

    def _check(self, by_name: Mapping[str, Any], clip_info: ClipInfo) -> None:
        size = (clip_info.width, clip_info.height)
        for name, prompts in by_name.items():
            made_on = prompts[0].made_on
            if made_on is not None and made_on.size not in (None, size):
                raise PromptError(
                    f"{self.path}: was made on {made_on}, and this clip has {size[0]}x{size[1]}; "
                    f"move it away, or name another file (--prompts)"
                )
            frames = [index_of(prompt) for prompt in prompts]
            if max(frames) >= clip_info.frames:
                number = max(frames) + clip_info.first_number
                raise PromptError(
                    f"{self.path}: marks frame {number} of {name}, but the clip has "
                    f"{clip_info.frames}; it belongs to another clip: move it away, or name "
                    "another file (--prompts)"
                )
            if len(set(frames)) < len(frames):
                raise PromptError(
                    f"{self.path}: marks a frame of {name} twice; put its marks into one prompt"
                )

    def save(self, project: Project) -> None:
        """Write the prompt file. Raises WriteError."""
        picker = {
            "objects": [{"name": obj.name, "color": obj.color} for obj in project.objects],
            "start": project.start,
            "end": project.end,
        }
        first = 0 if self._clip_info is None else self._clip_info.first_number
        prompts = project.numbered(first)
        try:
            save_prompts(self.path, prompts, source=self._marked_clip(), picker=picker)
        except OSError as error:
            raise WriteError(
                f"{self.path}: the marks cannot be saved ({error.strerror}); check the free space "
                f"and the rights of {self.path.parent.absolute()}"
            ) from error

    def _marked_clip(self) -> MarkedClip:
        info = self._clip_info
        return MarkedClip(
            self._source.name,
            None if info is None else (info.width, info.height),
            self._source.stat().st_size if self._source.is_file() else None,
        )

    def put_mask(self, png: bytes, number: int, frame: int) -> Path:
        """Save a mask beside the prompt file, and return its path. Raises WriteError."""
        path = self._masks / f"{number}_{frame:06d}_{hashlib.sha256(png).hexdigest()[:12]}.png"
        # Whoever may write beside the clip could lead the mask to any file of the user.
        if self._masks.is_symlink():
            raise WriteError(
                f"{self._masks}: is a link to another folder, so no mask is saved there; remove it"
            )
        try:
            self._masks.mkdir(exist_ok=True)
            atomic_write(path, png)
        except OSError as error:
            raise WriteError(
                f"{path}: the mask cannot be saved ({error.strerror}); check the free space"
            ) from error
        self._loaded.add(path)
        return path

    def tidy(self, projects: Iterable[Project]) -> None:
        """Remove masks that were loaded here and are in none of these projects."""
        used = {
            prompt.mask
            for project in projects
            for obj in project.objects
            for prompt in obj.prompts.values()
        }
        for path in self._loaded - used:
            path.unlink(missing_ok=True)
        if self._loaded and self._masks.is_dir() and not any(self._masks.iterdir()):
            self._masks.rmdir()


def _project(by_name: Mapping[str, Any], notes: Mapping[str, Any], clip_info: ClipInfo) -> Project:
    """Return the marks by object, in the order and colours that the page remembers, if any."""
    listed = notes.get("objects")
    remembered = (
        [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    )
    colors = {str(item.get("name")): str(item.get("color")) for item in remembered}
    # Names that are remembered without marks are those of empty objects.
    names = [*dict.fromkeys([*colors, *by_name])] or ["object"]
    objects = []
    for n, name in enumerate(names):
        color = colors.get(name, "")
        color = color if re.fullmatch("#[0-9a-f]{6}", color) else COLORS[n % len(COLORS)]
        objects.append(
            PromptedObject(
                n + 1, name, color, {index_of(prompt): prompt for prompt in by_name.get(name, ())}
            )
        )
    start, end = (_frame(notes.get(key), clip_info) for key in ("start", "end"))
    project = Project(tuple(objects), start, end)
    return (
        project
        if start is None or end is None or start <= end
        else replace(project, start=None, end=None)
    )


def _frame(value: object, clip_info: ClipInfo) -> int | None:
    return value if type(value) is int and 0 <= value < clip_info.frames else None
