"""Recipes: TOML files with the settings of a run, and the configuration they make."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from vidmatte.errors import MissingExtraError, OptionError, ReadError
from vidmatte.model.build import choose_precision
from vidmatte.model.settings import parse_settings, parse_value
from vidmatte.train.config import DTYPES, LoopConfig
from vidmatte.train.correct import CorrectorConfig
from vidmatte.train.iconmatting import IconMattingConfig
from vidmatte.train.network import ConfidenceConfig, TrainConfig
from vidmatte.train.refine import RefinerConfig

RECIPES = Path(__file__).parent / "recipes"
_CONFIGS: Mapping[str, type[LoopConfig]] = {
    "network": TrainConfig,
    "confidence": ConfidenceConfig,
    "corrector": CorrectorConfig,
    "refiner": RefinerConfig,
    "iconmatting": IconMattingConfig,
    "iconmatting-trimap": IconMattingConfig,
}
"""Configurations by part."""


def load_recipe(recipe: str | Path) -> tuple[str, dict[str, Any]]:
    """Return the part and the settings of a recipe: a file, or the name of a shipped one.

    Raises ReadError if the file cannot be read, OptionError for an unknown part or setting.
    """
    path = _find(recipe)
    try:
        with path.open("rb") as file:
            settings = _toml(file.read().decode("utf-8"))
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ReadError(f"{path}: is not TOML ({error})") from error
    part = settings.pop("part", None)
    if part not in _CONFIGS:
        raise OptionError(f"{path}: part {part!r} is not valid: there are {', '.join(_CONFIGS)}")
    return part, {name: _checked(path, part, name, value) for name, value in settings.items()}


def make_config(part: str, settings: Mapping[str, Any]) -> LoopConfig:
    """Return the configuration of a part with settings by the names of its fields.

    Device "auto" becomes "cuda" if there is a CUDA device, otherwise "cpu".

    Raises OptionError for settings unknown to the part.
    """
    if settings.get("device") == "auto":
        settings = {**settings, "device": "cuda" if torch.cuda.is_available() else "cpu"}
    known = {field.name for field in fields(_CONFIGS[part])}
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise OptionError(
            f"{unknown[0].replace('_', ' ')} was given: part {part!r} has none; leave it out"
        )
    config = _CONFIGS[part]
    if issubclass(config, TrainConfig) and not settings.get("corpus"):
        raise OptionError(f"part {part!r} learns from photographs: give --corpus FOLDER")
    if issubclass(config, RefinerConfig) and not settings.get("mattes"):
        raise OptionError(
            f"part {part!r} learns from coarse mattes: give --mattes FOLDER, made with "
            f"python -m vidmatte.train.mattes"
        )
    if issubclass(config, TrainConfig | RefinerConfig):
        settings = {"precision": native_precision(settings.get("device", "cpu")), **settings}
    return config(**settings)


def native_precision(device: str) -> str:
    """Return the name of the fast precision of a device, see `model.build.choose_precision`."""
    chosen = choose_precision("auto", torch.device(device))
    return next(name for name, dtype in DTYPES.items() if dtype == chosen)


def parse_values(part: str, text: str) -> dict[str, Any]:
    """Return settings of a part from text such as "intra=off,clip=1".

    Raises OptionError for a setting unknown to the part, or another kind of value.
    """
    defaults = {field.name: field.default for field in fields(_CONFIGS[part])}
    found: dict[str, Any] = {}
    for name, value in parse_settings(text).items():
        default = defaults.get(name, MISSING)
        # Settings that are lists have options of their own.
        if not isinstance(default, bool | int | float | str):
            offered = [
                key for key, like in defaults.items() if isinstance(like, bool | int | float | str)
            ]
            raise OptionError(f"setting {name!r} is not valid: choose one of {', '.join(offered)}")
        found[name] = value if isinstance(default, str) else parse_value(name, value, default)
    return found


def _find(recipe: str | Path) -> Path:
    shipped = RECIPES / f"{recipe}.toml"
    if shipped.is_file() and not Path(recipe).exists():
        return shipped
    if not Path(recipe).is_file():
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
        raise ReadError(
            f"{recipe}: recipe is not valid: it is neither a file nor the name of a recipe that "
            f"ships ({names})"
        )
    return Path(recipe)


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingExtraError("reading recipes", "train") from error
    return dict(tomllib.loads(text))


def _checked(path: Path, part: str, name: str, value: Any) -> Any:
    """Return a value in the type of its field: lists as tuples, tables of data sets as pairs."""
    defaults = {field.name: field.default for field in fields(_CONFIGS[part])}
    if name not in defaults:
        raise OptionError(f"{path}: {name} was given: part {part!r} has {', '.join(defaults)}")
    if name in ("data", "held_out"):
        try:
            return tuple((str(table["layout"]), str(table["root"])) for table in value)
        except (TypeError, KeyError) as error:
            raise OptionError(f"{path}: [[{name}]] needs layout and root") from error
    return _like(path, name, value, defaults[name])


def _like(path: Path, name: str, value: Any, default: Any) -> Any:
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    kinds = {bool: (bool,), int: (int,), float: (int, float), str: (str,), type(None): (str,)}
    wanted = kinds.get(type(default))
    # bool is a kind of int in Python, but "steps = true" is a mistake.
    is_wrong_bool = isinstance(value, bool) and not isinstance(default, bool)
    if wanted is not None and (not isinstance(value, wanted) or is_wrong_bool):
        raise OptionError(f"{path}: {name} = {value!r} was given: its value is like {default!r}")
    # TOML writes 1 for 1.0.
    return float(value) if isinstance(default, float) else value
