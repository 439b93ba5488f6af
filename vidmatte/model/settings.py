"""Settings of models: text into the options that a model has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar

from vidmatte.errors import OptionError

Settings: TypeAlias = Mapping[str, "str | int | float | bool | None"]
T = TypeVar("T")
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def parse_settings(text: str) -> dict[str, str]:
    """Settings of a model from text such as "ensemble=1,inter=off". Raises OptionError for anything else."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise OptionError(
                f"setting {part!r} is not valid: write NAME=VALUE,NAME=VALUE, as in ensemble=1,inter=off"
            )
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def as_options(kind: type[T], settings: Settings | None) -> T:
    """A dataclass of options from settings, whose values may be text; what is left out keeps its default.

    Every field has a default, which says what its values are: a switch, a number, or a whole number (None too).

    Raises OptionError for a name that `kind` does not have and for a value that it does not take.
    """
    known: dict[str, Any] = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in (settings or {}).items():
        if name not in known:
            offered = ", ".join(f"{name} ({_as_text(default)})" for name, default in known.items())
            raise OptionError(f"setting {name!r} is not valid: there are {offered}")
        values[name] = _parse(name, value, known[name]) if isinstance(value, str) else value
    return kind(**values)


def _parse(name: str, text: str, like: object) -> int | float | bool:
    try:
        if isinstance(like, bool):
            return _SWITCH[text.lower()]
        return float(text) if isinstance(like, float) else int(text)
    except (KeyError, ValueError) as error:
        wanted = (
            "on or off"
            if isinstance(like, bool)
            else "a number"
            if isinstance(like, float)
            else "a whole number"
        )
        raise OptionError(f"setting {name}={text} is not valid: its value is {wanted}") from error


def _as_text(value: object) -> str:
    return (
        {True: "on", False: "off", None: "all"}[value]
        if isinstance(value, bool | None)
        else str(value)
    )
