"""Errors of the library in the words of Python: `overwrite=True` in place of `--overwrite`.

Messages are written for the command line, which shows most of them. The first use of a public name
of `vidmatte` words them by `in_python` for the process.
"""

from __future__ import annotations

import re

_OUTPUT = re.compile(r"(?<![\w-])-o(?:/--output)?(?![\w-])")
_FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)(?: ([A-Z]+\b|[a-z0-9:]+(?:-[a-z0-9]+)*))?")
_OTHER_NAMES = {"object": "prompts={name: ...}", "ref_frame": "frame", "points": "points=..."}
_FREE_VALUES = ("model", "device", "precision")
"""Options whose values stand behind them in messages, as in "try --device cpu"."""


def in_python(text: str) -> str:
    """Return a message with options of the command line as arguments of Python."""
    return _FLAG.sub(_argument, _OUTPUT.sub("output", text))


def _argument(found: re.Match[str]) -> str:
    from vidmatte.option_table import OPTIONS

    flag, value = found.groups()
    name = flag[2:].replace("-", "_")
    if name not in OPTIONS:
        return found[0]
    option = OPTIONS[name]
    argument = option.field or _OTHER_NAMES.get(name, name)
    rest = "" if value is None else f" {value}"
    if option.info.kind == "switch":
        return f"{argument}=True{rest}"
    if value is not None and value.isupper() and "=" not in argument:
        return f"{argument}={value}"
    if value is not None and (value in option.info.choices or name in _FREE_VALUES):
        return f"{argument}={value!r}"
    return f"{argument}{rest}"
