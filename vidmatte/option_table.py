"""The table of options: the source of command line, manifests, documents and schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vidmatte.options import EXTENTS, FinishOptions, Kind, MatteOptions, OptionInfo

PICKER = "\0picker"
"""Value of `--points` if none is given: it opens the picker."""


@dataclass(frozen=True)
class Option:
    """An option by its name on the command line, with underscores: "clip_black", "fps"."""

    name: str
    info: OptionInfo
    default: Any = None
    field: str = ""
    """Field of MatteOptions or FinishOptions; empty for inputs, prompts and outputs."""
    is_finish: bool = False
    """Whether the field belongs to FinishOptions."""
    is_list: bool = False
    """Whether a manifest takes several values, and the command line the option several times."""

    @property
    def flag(self) -> str:
        """The option as it is typed, as in "--clip-black"."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str | None:
        """The environment variable that sets it, as in "VIDMATTE_DEVICE"; None for most."""
        return f"VIDMATTE_{self.name.upper()}" if self.info.has_variable else None

    @property
    def default_text(self) -> str:
        """The default in words; empty for switches."""
        if self.info.default_text:
            return self.info.default_text
        if self.info.kind == "switch" or self.default in (None, ""):
            return ""
        return str(self.default) if isinstance(self.default, str) else f"{self.default:g}"

    def read(self, value: Any) -> Any:
        """Return a value of a manifest as the value of the option.

        Raises:
            ValueError: If it is of another kind; the message is the expected kind.
            OptionError: If its text cannot be parsed.
        """
        if self.is_list:
            return _texts(value)
        found = _READERS[self.info.kind](value)
        is_parsed = self.info.parse is not None and self.info.kind != "path"
        return self.info.parse(found) if is_parsed and self.info.parse is not None else found


def _text(value: Any) -> str:
    if isinstance(value, dict | list | bool) or value is None:
        raise ValueError("text")
    return str(value)


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (ValueError, TypeError) as error:
        raise ValueError("a number, as in 0.5") from error


def _whole(value: Any) -> int:
    try:
        if isinstance(value, bool) or float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError("a whole number") from error


def _switch(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "yes", "1"):
        return True
    if text in ("false", "no", "0", ""):
        return False
    raise ValueError("true or false")


def _texts(value: Any) -> list[str]:
    try:
        if isinstance(value, list):
            return [_text(item) for item in value]
        return [item.strip() for item in _text(value).split(";") if item.strip()]
    except ValueError as error:
        raise ValueError("text or a list of it") from error


_READERS: Mapping[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "path": _text,
    "position": _text,
    "number": _number,
    "whole": _whole,
    "switch": _switch,
}


def _shot_option(
    name: str, help: str, kind: Kind = "text", *, is_list: bool = False, **info: Any
) -> Option:
    return Option(name, OptionInfo(help, kind, **info), is_list=is_list)


NAME = _shot_option(
    "name",
    "Name of the shot, which {shot} in its paths stands for.",
    metavar="NAME",
    default_text="the input without folder and extension",
)
INPUT = _shot_option(
    "input",
    "A movie, a folder of numbered frames or a pattern such as shot.%04d.png; of a set of images "
    "a folder or several images.",
    "path",
    metavar="PATH",
    is_list=True,
)
PROMPT_OPTIONS = (
    _shot_option(
        "images", "INPUT is a folder of, or several, independent images, not a clip.", "switch"
    ),
    _shot_option(
        "raw",
        "Size of raw frames on standard input (INPUT is -), as ffmpeg -f rawvideo -pix_fmt rgb24 "
        "sends them; --fps is their rate.",
        metavar="WIDTHxHEIGHT",
        in_manifest=False,
    ),
    _shot_option(
        "reference",
        "Image or clip that the prompts mark.",
        "path",
        metavar="PATH",
        default_text="INPUT",
    ),
    _shot_option(
        "ref_frame",
        "Frame that is marked, as --start names it; repeat it, and each prompt, for several.",
        "position",
        metavar="POSITION",
        default_text="the first",
    ),
    _shot_option(
        "points",
        "Pixels of the displayed frame; label 1 object (default), 0 background. Without a value: "
        "the picker.",
        metavar='"X,Y[,LABEL] ..."',
        bare=PICKER,
    ),
    _shot_option(
        "scribbles",
        "Painted strokes: white or green object, black or red background, the rest transparent.",
        "path",
        metavar="PNG",
    ),
    _shot_option(
        "mask",
        "Image of the frame's size: white is the object. Each label of a label mask is an object; "
        "mask.png:2 is label 2 alone.",
        "path",
        metavar="PNG",
    ),
    _shot_option("box", "The whole object lies inside.", metavar="X0,Y0,X1,Y1"),
    _shot_option(
        "extent",
        "How much the first mark of a frame means: the part that it is on, the object, or a group.",
        choices=EXTENTS,
        default_text="what the model is surest of",
    ),
    _shot_option(
        "prompts",
        "All prompts of any number of frames and objects, from a file.",
        "path",
        metavar="FILE.json",
    ),
    _shot_option(
        "object",
        "Name of an object of the prompt file; repeatable.",
        metavar="NAME",
        default_text="all",
        is_list=True,
    ),
)
OUTPUT_OPTIONS = (
    _shot_option(
        "output",
        "Colour with alpha: .mov (ProRes 4444), .webm (VP9), .mkv (FFV1), %06d.png, %06d.exr, "
        ".webp, .avif; repeatable. Format options follow a colon: shot.mov:prores-4444-xq, "
        "shot.webm:fast,crf=18, %06d.exr:float,dwaa,straight; a wrong one lists all. "
        "preview.mp4:over=checker (or #404040, bg.png) is over a background. - is standard "
        "output: raw frames, 8-bit RGBA.",
        "path",
        metavar="PATH",
        is_list=True,
    ),
    _shot_option(
        "alpha",
        "Alpha alone: .mkv (FFV1, lossless), .mov, .mxf, .webm, .mp4, %06d.png, %06d.exr; "
        "repeatable. Format options follow a colon: matte.mov:png, matte.mov:dnxhr-444. - is "
        "standard output: raw frames, 8-bit gray.",
        "path",
        metavar="PATH",
        is_list=True,
    ),
    _shot_option(
        "sidecar",
        "Write a script beside the first output that opens the outputs in Nuke (.nk), Fusion "
        "(.setting) or After Effects (.jsx), interpreted right; repeatable.",
        choices=("nuke", "fusion", "ae"),
        is_list=True,
    ),
    _shot_option(
        "report",
        "Folder for a page with contact sheet, confidence curve and suggested reference frames.",
        "path",
        metavar="DIR",
    ),
)


def _options_of(owner: type, *, is_finish: bool) -> list[Option]:
    found = []
    for each in fields(owner):
        if each.name == "finish":
            found += _options_of(FinishOptions, is_finish=True)
        elif "option" in each.metadata:
            info = each.metadata["option"]
            name = info.name or each.name
            found.append(Option(name, info, each.default, each.name, is_finish))
    return found


RUN_OPTIONS = tuple(_options_of(MatteOptions, is_finish=False))
"""The fields of MatteOptions and FinishOptions, in the order of the help page."""
OPTIONS: Mapping[str, Option] = {
    each.name: each for each in (*PROMPT_OPTIONS, *RUN_OPTIONS, *OUTPUT_OPTIONS)
}
"""All options of `vidmatte matte` for its work, by name."""
MANIFEST_KEYS: Mapping[str, Option] = {
    each.name: each for each in (NAME, INPUT, *OPTIONS.values()) if each.info.in_manifest
}
"""The possible keys of an entry in a batch manifest."""


GROUPS: Mapping[str, tuple[str, ...]] = {
    "Input": (
        "images",
        "raw",
        "reference",
        "start",
        "end",
        "fps",
        "reader",
        "deinterlace",
        "stream",
        "allow_truncated",
        "on_damage",
        "missing",
        "layer",
        "view",
        "source_alpha",
    ),
    "Marks": (
        "ref_frame",
        "points",
        "extent",
        "scribbles",
        "mask",
        "mask_fit",
        "box",
        "prompts",
        "object",
        "prompt_model",
        "prompt_weights",
        "matte",
        "trimaps",
    ),
    "Model": (
        "model",
        "sd",
        "weights",
        "settings",
        "device",
        "precision",
        "batch_size",
        "threads",
        "quality",
        "working_size",
        "adapt_steps",
        "mask_edge",
    ),
    "Matte": (
        "smooth",
        "clip_black",
        "clip_white",
        "remove_dots",
        "fill_holes",
        "grow",
        "feather",
        "invert",
        "inside_mask",
        "outside_mask",
        "region",
    ),
    "Colour": (
        "input_space",
        "output_space",
        "ocio",
        "foreground",
        "despill",
        "premultiplied",
    ),
    "Output": ("output", "alpha", "sidecar", "report", "bit_depth", "start_number", "overwrite"),
    "Long clips": ("resume", "segment_frames", "full_hash"),
}
"""Titles of the help page, and the options below them."""


def make_options(values: Mapping[str, Any]) -> MatteOptions:
    """Return the options of a run from values by option name.

    Args:
        values: Names other than fields of MatteOptions and FinishOptions are ignored, and so are
            values of None. Text is parsed if its option has a parser.

    Raises:
        OptionError: If a value is not valid.
    """
    run: dict[str, Any] = {}
    finish: dict[str, Any] = {}
    for each in RUN_OPTIONS:
        value = values.get(each.name)
        if value is None:
            continue
        if isinstance(value, str) and each.info.parse is not None:
            value = each.info.parse(value)
        if each.info.kind == "whole":
            # The command line gives closed choices as text.
            value = int(value)
        (finish if each.is_finish else run)[each.field] = value
    return MatteOptions(**run, finish=FinishOptions(**finish))


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a batch manifest, for editors and checks."""
    keys = {name: _schema_of(each) for name, each in MANIFEST_KEYS.items()}
    # Hyphens are allowed as well: "clip-black" is "clip_black".
    hyphens = {name.replace("_", "-"): {"$ref": f"#/$defs/shot/properties/{name}"} for name in keys}
    shot = {
        "type": "object",
        "properties": keys | {name: ref for name, ref in hyphens.items() if name not in keys},
        "additionalProperties": False,
    }
    entry = {"$ref": "#/$defs/shot"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vidmatte batch manifest",
        "type": "object",
        "properties": {
            "defaults": entry,
            "shots": {"type": "array", "items": entry, "minItems": 1},
        },
        "required": ["shots"],
        "additionalProperties": False,
        "$defs": {"shot": shot},
    }


def _schema_of(each: Option) -> dict[str, Any]:
    info = each.info
    types = {"number": "number", "whole": "integer", "switch": "boolean"}
    schema: dict[str, Any] = {"description": info.help}
    if each.is_list:
        text = {"type": "string", **({"enum": list(info.choices)} if info.choices else {})}
        schema["oneOf"] = [text, {"type": "array", "items": text}]
        return schema
    schema["type"] = types.get(info.kind, "string")
    if info.kind == "position":
        schema["type"] = ["integer", "string"]
    if info.choices:
        numbers = info.kind == "whole"
        schema["enum"] = [int(choice) if numbers else choice for choice in info.choices]
    if info.span is not None:
        for word, limit in zip(("minimum", "maximum"), info.span, strict=True):
            if abs(limit) != float("inf"):
                schema[word] = limit
    if isinstance(each.default, bool | int | float | str) and each.default != "":
        schema["default"] = each.default
    return schema


def options_as_markdown() -> str:
    """Return the table of all options for the documentation."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for each in OPTIONS.values():
        value = "" if each.info.kind == "switch" else f" {_value_of(each.info)}"
        help_text = each.info.help.replace("|", "\\|")
        typed = f"{each.flag}{value}".replace("|", "\\|")
        rows.append(f"| `{typed}` | {each.default_text} | {help_text} |")
    return "\n".join(rows) + "\n"


def _value_of(info: OptionInfo) -> str:
    text = "|".join(info.choices) or info.metavar
    return f"[{text}]" if info.bare is not None else text
