"""What the user marked: objects, their marks, in and out point.

Every edit makes a new project, so that undo is a list of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from vidmatte.errors import PromptError
from vidmatte.prompts.objects import clean_name
from vidmatte.prompts.prompt import Prompt, Stroke

COLORS = ("#35d07f", "#ffb020", "#4aa8ff", "#ff6b81", "#b58cff", "#2ed3c6", "#f2e35c", "#ff8a4c")
"""Of objects, in order: far from each other for most kinds of colour vision."""
MAX_OBJECTS = 16
MAX_PROMPTS = 500
"""Points and strokes of an object on one frame."""
MAX_CORNERS = 4000
"""Points of one stroke."""
MAX_NAME = 60
"""Characters of the name of an object."""
_UNDONE = 500
"""Edits that can be undone."""

Edit = Mapping[str, Any]


class RemovedObjectError(PromptError):
    """An object is asked for that was removed, or never was there."""


@dataclass(frozen=True)
class PromptedObject:
    """One object with its marks."""

    id: int
    name: str
    color: str
    """For the page, "#rrggbb"."""
    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    """By index of their frame; frames without marks are left out."""


@dataclass(frozen=True)
class Project:
    """All marks on one clip."""

    objects: tuple[PromptedObject, ...] = (PromptedObject(1, "object", COLORS[0]),)
    start: int | None = None
    """In point, the index of a frame; None for the first one."""
    end: int | None = None
    """Out point, inclusive; None for the last frame."""

    @property
    def prompts(self) -> dict[str, tuple[Prompt, ...]]:
        """Prompts by object name, in frame order; objects without any are left out."""
        return {
            obj.name: tuple(obj.prompts[n] for n in sorted(obj.prompts))
            for obj in self.objects
            if obj.prompts
        }

    def numbered(self, first_number: int) -> dict[str, tuple[Prompt, ...]]:
        """Return `prompts` with frame numbers, as files, runs and commands take them."""
        return {
            obj.name: tuple(
                replace(obj.prompts[n], frame=n + first_number) for n in sorted(obj.prompts)
            )
            for obj in self.objects
            if obj.prompts
        }

    def object(self, number: int) -> PromptedObject:
        """Return the object with this id. Raises RemovedObjectError."""
        for obj in self.objects:
            if obj.id == number:
                return obj
        raise RemovedObjectError(
            f"object {number} is not valid: it was removed; choose another one"
        )

    def with_object(self, changed: PromptedObject) -> Project:
        """Return the project with one object replaced, found by its id."""
        return replace(
            self, objects=tuple(changed if obj.id == changed.id else obj for obj in self.objects)
        )


@dataclass(frozen=True)
class ClipInfo:
    """The size and length that marks must fit."""

    frames: int
    width: int
    """Of the displayed frame, in square pixels."""
    height: int
    first_number: int = 0
    """Number of the first frame, which the page shows; all else here counts from 0."""


def index_of(prompt: Prompt) -> int:
    """Return the index of the frame that a prompt of a project marks."""
    assert isinstance(prompt.frame, int)  # positions are resolved when a file is loaded
    return prompt.frame


class History:
    """The project with its earlier states, and those that were undone."""

    def __init__(self, project: Project) -> None:
        self._states = [project]
        self._at = 0

    @property
    def project(self) -> Project:
        """The present state."""
        return self._states[self._at]

    @property
    def all(self) -> Sequence[Project]:
        """All states that undo and redo can reach."""
        return self._states

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to redo."""
        return self._at + 1 < len(self._states)

    def push(self, project: Project) -> None:
        """Add a state; undone states are dropped."""
        if project != self.project:
            self._states = [*self._states[: self._at + 1], project][-_UNDONE:]
            self._at = len(self._states) - 1

    def step(self, by: int) -> None:
        """Undo (-1) or redo (1), as far as there is anything."""
        self._at = min(max(self._at + by, 0), len(self._states) - 1)


def edited(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    """Return the project after an edit: a mapping with "op" and the values it needs.

    Raises PromptError for an unknown edit, or one that does not fit the clip.
    """
    operation = _OPERATIONS.get(str(edit.get("op")))
    if operation is None:
        raise PromptError(
            f"edit {edit.get('op')!r} is not valid: there are {', '.join(_OPERATIONS)}"
        )
    return operation(project, edit, clip_info)


def with_mask(project: Project, number: int, frame: int, mask: Path | None) -> Project:
    """Return the project with the mask of a frame replaced, or removed."""
    return _with_prompts(project, project.object(number), frame, mask=mask)


def with_prompt(project: Project, number: int, prompt: Prompt) -> Project:
    """Return the project with the marks of an object on one frame replaced."""
    obj = project.object(number)
    return project.with_object(replace(obj, prompts={**obj.prompts, index_of(prompt): prompt}))


def changed_marks(before: Project, after: Project) -> tuple[int, int] | None:
    """Return the object and frame of the first marks that differ; None if none do."""
    earlier = {obj.id: obj.prompts for obj in before.objects}
    for obj in after.objects:
        known = earlier.get(obj.id, {})
        for frame in sorted({*known, *obj.prompts}):
            if known.get(frame) != obj.prompts.get(frame):
                return obj.id, frame
    return None


def frame_of(edit: Edit, clip_info: ClipInfo, key: str = "frame") -> int:
    """Return the frame index of an edit. Raises PromptError if the clip has no such frame."""
    frame = edit.get(key)
    if type(frame) is not int or not 0 <= frame < clip_info.frames:
        raise PromptError(f"frame {frame!r} is not valid: there are 0 to {clip_info.frames - 1}")
    return frame


def _add_object(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    if len(project.objects) >= MAX_OBJECTS:
        raise PromptError(f"there are {MAX_OBJECTS} objects already, the most allowed; remove one")
    number = 1 + max((obj.id for obj in project.objects), default=0)
    used = {obj.color for obj in project.objects}
    color = next((color for color in COLORS if color not in used), COLORS[number % len(COLORS)])
    names = {obj.name for obj in project.objects}
    name = edit.get("name") or next(
        name for n in range(1, 99) if (name := f"object {n}") not in names
    )
    added = PromptedObject(number, _name(project, number, name), color)
    return replace(project, objects=(*project.objects, added))


def _change_object(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj = project.object(object_of(edit))
    if "name" in edit:
        obj = replace(obj, name=_name(project, obj.id, edit["name"]))
    if "color" in edit:
        if not isinstance(edit["color"], str) or not re.fullmatch("#[0-9a-f]{6}", edit["color"]):
            raise PromptError(f"colour {edit['color']!r} is not valid: write #rrggbb")
        obj = replace(obj, color=edit["color"])
    return project.with_object(obj)


def _remove_object(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    gone = project.object(object_of(edit))
    left = tuple(obj for obj in project.objects if obj.id != gone.id)
    return replace(project, objects=left or (PromptedObject(gone.id + 1, "object", COLORS[0]),))


def _add_point(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    x, y = _place((edit.get("x"), edit.get("y")), clip_info)
    label = _label(edit)
    near = _number(edit.get("near", 0), "distance")
    # A click beside the opposite mark takes it back: it was meant for the same place.
    points = tuple(
        point
        for point in (obj.prompts[frame].points if frame in obj.prompts else ())
        if point[2] == label or math.hypot(point[0] - x, point[1] - y) > near
    )
    return _with_prompts(project, obj, frame, points=(*points, (x, y, label)))


def _move_point(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    points = list(obj.prompts[frame].points) if frame in obj.prompts else []
    index = _index(edit, points)
    points[index] = (*_place((edit.get("x"), edit.get("y")), clip_info), points[index][2])
    return _with_prompts(project, obj, frame, points=tuple(points))


def _corners(edit: Edit, clip_info: ClipInfo) -> tuple[tuple[float, float], ...]:
    corners = edit.get("points")
    if not isinstance(corners, list) or not 0 < len(corners) <= MAX_CORNERS:
        raise PromptError(f"a stroke needs 1 to {MAX_CORNERS} points")
    return tuple(_place(corner, clip_info) for corner in corners)


def _move_stroke(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    strokes = list(obj.prompts[frame].strokes) if frame in obj.prompts else []
    index = _index(edit, strokes)
    strokes[index] = replace(strokes[index], points=_corners(edit, clip_info))
    return _with_prompts(project, obj, frame, strokes=tuple(strokes))


def _add_stroke(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    places = _corners(edit, clip_info)
    width = min(
        _number(edit.get("width"), "width of a stroke"),
        2.0 * max(clip_info.width, clip_info.height),
    )
    strokes = obj.prompts[frame].strokes if frame in obj.prompts else ()
    return _with_prompts(
        project, obj, frame, strokes=(*strokes, Stroke(places, width, _label(edit)))
    )


def _set_box(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    corners = edit.get("box")
    if corners is None:
        return _with_prompts(project, obj, frame, box=None)
    if not isinstance(corners, list) or len(corners) != 4:
        raise PromptError("a box needs x0, y0, x1, y1")
    x0, y0, x1, y1 = (_number(value, "corner of a box") for value in corners)
    left, right = sorted((min(max(x0, 0.0), clip_info.width), min(max(x1, 0.0), clip_info.width)))
    top, bottom = sorted((min(max(y0, 0.0), clip_info.height), min(max(y1, 0.0), clip_info.height)))
    if right - left < 1 or bottom - top < 1:
        raise PromptError("the box is empty: drag it over the object")
    return _with_prompts(project, obj, frame, box=(left, top, right, bottom))


def _remove_prompt(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    prompt = obj.prompts.get(frame)
    kind = edit.get("kind")
    if prompt is None:
        raise PromptError(f"frame {frame} has no marks of {obj.name}")
    if kind in ("box", "mask", "scribbles"):
        return _with_prompts(project, obj, frame, **{kind: None})
    if kind not in ("points", "strokes"):
        raise PromptError(
            f"mark {kind!r} is not valid: there are points, strokes, box, mask and scribbles"
        )
    prompts = list(getattr(prompt, kind))
    del prompts[_index(edit, prompts)]
    return _with_prompts(project, obj, frame, **{kind: tuple(prompts)})


def _set_extent(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    if frame not in obj.prompts:
        raise PromptError(f"frame {frame} has no marks of {obj.name}")
    return _with_prompts(project, obj, frame, extent=edit.get("extent"))


def _clear_frame(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    obj, frame = project.object(object_of(edit)), frame_of(edit, clip_info)
    return project.with_object(
        replace(obj, prompts={n: prompts for n, prompts in obj.prompts.items() if n != frame})
    )


def _set_range(project: Project, edit: Edit, clip_info: ClipInfo) -> Project:
    start, end = (
        None if edit.get(key) is None else frame_of(edit, clip_info, key)
        for key in ("start", "end")
    )
    if (start or 0) > (clip_info.frames - 1 if end is None else end):
        raise PromptError(f"in point {start} is after out point {end}; swap them")
    # The whole clip is stored as no range.
    return replace(project, start=start or None, end=None if end == clip_info.frames - 1 else end)


_OPERATIONS: Mapping[str, Callable[[Project, Edit, ClipInfo], Project]] = {
    "add_object": _add_object,
    "change_object": _change_object,
    "remove_object": _remove_object,
    "add_point": _add_point,
    "move_point": _move_point,
    "add_stroke": _add_stroke,
    "move_stroke": _move_stroke,
    "set_box": _set_box,
    "remove_prompt": _remove_prompt,
    "set_extent": _set_extent,
    "clear_frame": _clear_frame,
    "set_range": _set_range,
}


def _with_prompts(project: Project, obj: PromptedObject, frame: int, **prompts: Any) -> Project:
    """Return the project with some kinds of marks of one frame replaced.

    A frame without any marks is no longer a reference.
    """
    prompt = obj.prompts.get(frame)
    kinds = ("points", "strokes", "box", "mask", "scribbles")
    extent = prompts.pop("extent", None if prompt is None else prompt.extent)
    values = {kind: getattr(prompt, kind) for kind in kinds if prompt is not None} | prompts
    if sum(len(values.get(kind) or ()) for kind in ("points", "strokes")) > MAX_PROMPTS:
        raise PromptError(
            f"this frame has {MAX_PROMPTS} marks already, the most allowed; remove one"
        )
    others = {n: kept for n, kept in obj.prompts.items() if n != frame}
    if any(values.values()):
        # A box or a mask says how large the object is.
        is_open = not (values.get("mask") or values.get("box"))
        others[frame] = Prompt(frame, **values, extent=extent if is_open else None)
    return project.with_object(replace(obj, prompts=others))


def object_of(edit: Edit) -> int:
    """Return the id of the object of an edit. Raises PromptError if there is none."""
    number = edit.get("object")
    if type(number) is not int:
        raise PromptError(f"object {number!r} is not valid: give the number of one")
    return number


def _name(project: Project, number: int, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise PromptError(f"a name needs 1 to {MAX_NAME} letters")
    # Names become parts of file names, in which some characters are replaced; see
    # `prompts.objects.prompts_of_objects`.
    taken = {clean_name(obj.name).casefold() for obj in project.objects if obj.id != number}
    if clean_name(name.strip()).casefold() in taken:
        raise PromptError(f"two objects would be called {name.strip()!r}; give each its own name")
    return name.strip()


def _label(edit: Edit) -> int:
    label = edit.get("label", 1)
    if type(label) is not int or label not in (0, 1):
        raise PromptError(f"label {label!r} is not valid: it is 1 (object) or 0 (background)")
    return label


def _index(edit: Edit, prompts: Sequence[object]) -> int:
    index = edit.get("index")
    if type(index) is not int or not 0 <= index < len(prompts):
        raise PromptError(f"mark {index!r} is not valid: there are {len(prompts)}")
    return index


def _place(corner: object, clip_info: ClipInfo) -> tuple[float, float]:
    if not isinstance(corner, list | tuple) or len(corner) != 2:
        raise PromptError("a point needs x and y")
    x, y = (_number(value, "place") for value in cast("Sequence[object]", corner))
    if not (0 <= x < clip_info.width and 0 <= y < clip_info.height):
        raise PromptError(
            f"{x:g},{y:g} is outside the frame of {clip_info.width}x{clip_info.height}"
        )
    return x, y


def _number(value: object, what: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(cast("float", value)):
        raise PromptError(f"{what}: expected a number, got {value!r}")
    # Finer than a hundredth of a pixel is no intention of a person.
    return round(float(cast("float", value)), 2)
