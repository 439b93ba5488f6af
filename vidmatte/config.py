"""A studio's defaults: `vidmatte.toml`, above the working directory or in the user's folder.

An option that is given wins over a variable such as VIDMATTE_DEVICE, the variable over the file,
and the file over the default. Only the commands read it: in Python every option is an argument.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidmatte.errors import OptionError
from vidmatte.media.patterns import is_pattern, stem_of
from vidmatte.option_table import OPTIONS, RUN_OPTIONS, Option, make_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "vidmatte.toml"
VARIABLE = "VIDMATTE_CONFIG"
"""Names the file to read; empty, none is read."""
TABLE = "defaults"
CLIP = "{shot}"
"""In the paths of outputs, the name of the clip."""
_OF_ONE_CLIP = (
    "matte",
    "trimaps",
    "start",
    "end",
    "inside_mask",
    "outside_mask",
    "region",
    "stream",
    "source_alpha",
    "start_number",
    "allow_truncated",
    "invert",
    "overwrite",
    "resume",
)
"""Options that a clip has of its own, or that a person has to ask for."""
_OUTPUTS = ("output", "alpha", "sidecar")
KEYS: Mapping[str, Option] = {
    each.name: each
    for each in (*RUN_OPTIONS, *(OPTIONS[name] for name in _OUTPUTS))
    if each.name not in _OF_ONE_CLIP
}
"""The possible keys of the file."""
_OF_MOVIES = ("reader", "deinterlace", "on_damage")
_OF_SEQUENCES = ("fps", "missing", "layer", "view")
_OF_CLIPS = (*_OF_MOVIES, "fps", "missing", "batch_size", "smooth", "sidecar", "output", "alpha")
_NAME_OR_FILE = ("model", "prompt_model", "ocio")
_READ_BY_HOSTS = (".mov", ".mp4", ".mxf", ".png", ".exr")
_OF_COLOUR = ("foreground", "despill", "premultiplied")


@dataclass(frozen=True)
class Config:
    """The defaults of a studio, and where they stand."""

    path: Path | None = None
    """The file; None if there is none."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """By name of option, as a manifest would give them; paths of files are absolute."""

    def for_clip(
        self,
        inputs: Sequence[str | Path],
        *,
        images: bool = False,
        outputs: Sequence[str | Path] = (),
        alphas: Sequence[str | Path] = (),
    ) -> dict[str, Any]:
        """Return the defaults that have a meaning for a run, by name of option, as they stand.

        The others say nothing about it: a frame rate is for image sequences, a colour for outputs
        with colour. `{shot}` stays in the paths of outputs.

        Args:
            inputs: What is matted.
            images: Whether it is a set of independent images.
            outputs: Outputs with colour that were asked for.
            alphas: Outputs of alpha that were asked for.
        """
        left_out: set[str] = set(_OF_CLIPS if images else ())
        is_sequence = any(os.path.isdir(path) or is_pattern(path) for path in inputs)
        left_out |= set(_OF_MOVIES if is_sequence else _OF_SEQUENCES)
        if outputs or alphas:
            left_out |= {"output", "alpha"}
        elif not images:
            outputs, alphas = self._paths("output"), self._paths("alpha")
        if alphas and not outputs:
            left_out |= set(_OF_COLOUR)
        written = " ".join(map(str, (*outputs, *alphas))).lower()
        if ".png" not in written:
            left_out.add("bit_depth")
        # Without an output, the default ones are movies.
        if written and not any(extension in written for extension in _READ_BY_HOSTS):
            left_out.add("sidecar")
        return {name: value for name, value in self.values.items() if name not in left_out}

    def options_for(self, inputs: Sequence[str | Path], **facts: Any) -> dict[str, Any]:
        """Return the defaults of `for_clip` as values of options, with the name of the clip."""
        found = {
            name: KEYS[name].read(value) for name, value in self.for_clip(inputs, **facts).items()
        }
        for key in ("output", "alpha"):
            if key in found:
                found[key] = [path.replace(CLIP, stem_of(inputs[0])) for path in found[key]]
        return found

    def _paths(self, key: str) -> list[str]:
        value = self.values.get(key, ())
        return [value] if isinstance(value, str) else [str(path) for path in value]


def find_config(folder: Path) -> Path | None:
    """Return the file that counts in a folder, None if there is none.

    It is the one that the variable VIDMATTE_CONFIG names; else the nearest `vidmatte.toml` in the
    folder or above it; else that of the user's folder for settings.

    Raises:
        OptionError: If the variable names a file that is not there.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        if named and not Path(named).is_file():
            raise OptionError(f"{VARIABLE} is {named}, and there is no such file; correct it")
        return Path(named).absolute() if named else None
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
    from platformdirs import user_config_path

    of_user = user_config_path("vidmatte", appauthor=False) / FILE
    return of_user if of_user.is_file() else None


def load_config(folder: Path | None = None) -> Config:
    """Return the defaults that count in a folder, by default the working directory.

    Raises:
        OptionError: If the file cannot be read, has an unknown key, or a value that is not valid.
    """
    path = find_config(folder or Path.cwd())
    if path is None:
        return Config()
    values = _table(path)
    parsed = {}
    for name, value in values.items():
        try:
            parsed[name] = KEYS[name].read(value)
            if KEYS[name].info.choices:
                _check_choice(KEYS[name], parsed[name])
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from error
        except ValueError as error:
            raise OptionError(f"{path}: {name} is {value!r}, which is not {error}") from error
    try:
        make_options(parsed)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    return Config(path, {name: _placed(name, value, path) for name, value in values.items()})


def _table(path: Path) -> dict[str, Any]:
    """Return the table of the file by names of options. Raises OptionError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(f"{path}: cannot be read as TOML ({reason}); correct it") from error
    wrong = sorted(set(document) - {TABLE})
    if wrong or not isinstance(document.get(TABLE, {}), dict):
        raise OptionError(
            f"{path}: has {wrong[0] if wrong else TABLE!r} at its top, and its only table is "
            f"[{TABLE}]"
        )
    found = {}
    for key, value in document.get(TABLE, {}).items():
        name = key.replace("-", "_")
        if name not in KEYS:
            raise OptionError(f"{path}: {_unknown(key, name)}")
        found[name] = value
    return found


def _unknown(key: str, name: str) -> str:
    if name in OPTIONS:
        return (
            f"{key!r} is no key of it: it belongs to one clip or one run; give it there, or in a "
            f"manifest"
        )
    near = difflib.get_close_matches(name, KEYS, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(sorted(KEYS))}"
    return f"the key {key!r} is not known; {hint}"


def _check_choice(option: Option, value: Any) -> None:
    choices = option.info.choices
    for each in value if isinstance(value, list) else [value]:
        if str(each) not in choices:
            raise OptionError(
                f"{option.name} {each!r} is not valid: choose one of {', '.join(choices)}"
            )


def _placed(name: str, value: Any, path: Path) -> Any:
    """Return a value with paths of files made absolute: they are relative to the config file."""
    is_file = KEYS[name].info.kind == "path" and name not in _OUTPUTS
    if is_file or (name in _NAME_OR_FILE and (path.parent / str(value)).is_file()):
        return str(path.parent / str(value))
    return value
