"""Which channels of an EXR are the picture: parts, layers and views by the names in its headers.

A channel is called `layer.channel`, as in `beauty.R`; of several views `layer.view.channel`, or the
part of the file has the view. In a file of several parts, the name of a part stands for the layer
if its channels have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidmatte.errors import ReadError

_COLORS = (("R", "G", "B"), ("r", "g", "b"), ("red", "green", "blue"), ("Red", "Green", "Blue"))
_USUAL_LAYERS = ("", "rgba", "beauty", "rgb", "combined", "color", "colour", "main", "c")
"""Names of the picture itself among other layers, the likeliest first."""

Channels = tuple[str, str, str]


@dataclass(frozen=True)
class ExrChoice:
    """The layer and the view of an EXR that are wanted; None for the main ones."""

    layer: str | None = None
    view: str | None = None
    takes_alpha: bool = False
    """Whether alpha stands for the picture if there is no other, as in mattes."""


@dataclass(frozen=True)
class Picture:
    """The channels of one picture in a file."""

    part: int
    """Index of the part."""
    layer: str
    """Empty for channels without a layer."""
    view: str
    """Empty in files of one view."""
    color: Channels | None = None
    """Full names of red, green and blue; those of gray three times."""
    alpha: str | None = None


def pictures_of(headers: Sequence[dict[str, Any]]) -> list[Picture]:
    """Return the pictures of all flat parts: the likeliest layer first, then in the file's order.

    Args:
        headers: those of the parts, as the OpenEXR library gives them.
    """
    found = [
        picture
        for index, header in enumerate(headers)
        if not is_deep(header)
        for picture in _of_part(index, header, is_alone=len(headers) == 1)
    ]
    # Sorting keeps the order of equal ones.
    return sorted(found, key=lambda picture: (picture.color is None, _rank(picture.layer)))


def is_deep(header: dict[str, Any]) -> bool:
    """Return whether a part holds any number of samples for each pixel."""
    return str(header["type"]).rpartition(".")[2].startswith("deep")


def chosen_picture(path: Path, pictures: Sequence[Picture], choice: ExrChoice) -> Picture | None:
    """Return the first picture that is wanted, None if there is none at all.

    Raises:
        ReadError: If the file has pictures, but not this layer or view.
    """
    views = _without_repeats(picture.view for picture in pictures)
    if choice.view is not None:
        # A file of one view, for %V in its name, need not say which one it is.
        if any(views) and choice.view not in views:
            names = ", ".join(filter(None, views))
            raise ReadError(f"{path}: has no view {choice.view!r}; its views are {names}")
        pictures = [picture for picture in pictures if picture.view in (choice.view, "")]
    if choice.layer is not None:
        layers = _without_repeats(picture.layer for picture in pictures)
        pictures = [picture for picture in pictures if picture.layer == choice.layer]
        if not pictures:
            names = ", ".join(filter(None, layers)) or "none: its channels have no layer"
            raise ReadError(f"{path}: has no layer {choice.layer!r}; its layers are {names}")
    return pictures[0] if pictures else None


def notes_on(pictures: Sequence[Picture], chosen: Picture, choice: ExrChoice) -> Iterator[str]:
    """Yield what a user should know of the pictures that were not chosen."""
    views = [view for view in _without_repeats(picture.view for picture in pictures) if view]
    if len(views) > 1 and choice.view is None:
        yield (
            f"the EXR has the views {', '.join(views)}; {chosen.view} was read, --view chooses "
            f"another one"
        )
    colored = [picture for picture in pictures if picture.color and picture.view == chosen.view]
    layers = _without_repeats(picture.layer for picture in colored)
    if chosen.layer and len(layers) > 1 and choice.layer is None:
        yield (
            f"the EXR has the layers {', '.join(layers)}; {chosen.layer} was read, --layer chooses "
            f"another one"
        )


def _rank(layer: str) -> int:
    # Blender writes "ViewLayer.Combined".
    name = layer.rpartition(".")[2].lower()
    return _USUAL_LAYERS.index(name) if name in _USUAL_LAYERS else len(_USUAL_LAYERS)


def _of_part(index: int, header: dict[str, Any], *, is_alone: bool) -> Iterator[Picture]:
    """Yield the pictures of one part, by layer and view."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for channel in header["channels"]:
        layer, view, name = _split(channel.name, header, is_alone=is_alone)
        groups.setdefault((layer, view), {})[name] = channel.name
    for (layer, view), names in groups.items():
        color = _color(names)
        alpha = names.get("A")
        if color is not None or alpha is not None:
            yield Picture(index, layer, view, color, alpha)


def _split(full_name: str, header: dict[str, Any], *, is_alone: bool) -> tuple[str, str, str]:
    """Return layer, view and channel of a full name."""
    *prefix, name = full_name.split(".")
    views = list(header.get("multiView", ()))
    view = header.get("view", "")
    if views:
        # The first one is the default: its channels go without it.
        view = prefix.pop() if prefix and prefix[-1] in views else views[0]
    if not prefix and not is_alone:
        return _layer_of_part(header.get("name", ""), view), view, name
    return ".".join(prefix), view, name


def _layer_of_part(name: str, view: str) -> str:
    """Return the layer that a part is called by: "beauty" of "beauty.left"."""
    if name == view:
        return ""
    return name.removesuffix(f".{view}") if view else name


def _color(names: dict[str, str]) -> Channels | None:
    for red, green, blue in _COLORS:
        if {red, green, blue} <= names.keys():
            return names[red], names[green], names[blue]
    # Y with RY and BY is luminance and chroma, at different sizes.
    if "Y" in names and not {"RY", "BY"} & names.keys():
        return (names["Y"],) * 3
    return None


def _without_repeats(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))
