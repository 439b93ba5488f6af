"""Settings of models: from text to the options of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar

from vidmatte.errors import OptionError

Settings: TypeAlias = Mapping[str, "str | int | float | bool | None"]
T = TypeVar("T")
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def parse_settings(text: str) -> dict[str, str]:
    """Return settings by name from text such as "ensemble=1,inter=off".

    Raises OptionError for any other form.
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise OptionError(
                f"setting {part!r} is not valid: write NAME=VALUE,NAME=VALUE, as in "
                f"ensemble=1,inter=off"
            )
        # Names may be written as on the command line.
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def as_options(kind: type[T], settings: Settings | None) -> T:
    """Return a dataclass of options with some settings; the others keep their default.

    Args:
        kind: the dataclass. Each field has a default, which tells the kind of its values: a
            switch, a number, or a whole number (None too).
        settings: values by name; text is parsed.

    Raises:
        OptionError: `kind` has no such field, or the field does not take the value.
    """
    known: dict[str, Any] = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in (settings or {}).items():
        if name not in known:
            offered = ", ".join(f"{name} ({_as_text(default)})" for name, default in known.items())
            raise OptionError(f"setting {name!r} is not valid: there are {offered}")
        values[name] = value
        if isinstance(value, str):
            values[name] = parse_value(name, value, known[name])
    return kind(**values)


def parse_value(name: str, text: str, like: object) -> int | float | bool | str:
    """Return the value of a setting from text, of the kind of its default `like`.

    Raises OptionError for text of another kind.
    """
    if isinstance(like, str):
        # One of several words, which the options check themselves.
        return text
    try:
        # bool before int, as it is one in Python.
        if isinstance(like, bool):
            return _SWITCH[text.lower()]
        return float(text) if isinstance(like, float) else int(text)
    except (KeyError, ValueError) as error:
        wanted = "a whole number"
        if isinstance(like, bool):
            wanted = "on or off"
        elif isinstance(like, float):
            wanted = "a number"
        raise OptionError(f"setting {name}={text} is not valid: its value is {wanted}") from error


def _as_text(value: object) -> str:
    if isinstance(value, bool | None):
        return {True: "on", False: "off", None: "all"}[value]
    return str(value)
