"""The colour space that a camera recorded in, by the metadata of its movies.

Tags of H.273 have no numbers for the curves of cameras. ARRI and Apple's ProApps write the name of
the curve into QuickTime metadata; Sony writes it into an XML file beside the clip
(`C0001M01.XML` of `C0001.MP4`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_KEYS = re.compile(r"gamma|log|transfer|colou?r_?space|gamut", re.IGNORECASE)
"""Keys of metadata that are looked at."""
_CURVES = (
    (r"log-?_?c4", "LogC4"),
    (r"log-?_?c3?(?![a-z0-9])", "LogC3"),
    (r"s-?log3.*cine", "S-Log3 S-Gamut3.Cine"),
    (r"s-?log3.*s-?gamut3", "S-Log3 S-Gamut3"),
    (r"s-?log3", "S-Log3"),
    (r"v-?log", "V-Log"),
    (r"log3g10", "Log3G10"),
    (r"(canon|c)-?_?log-?_?3", "C-Log3"),
    (r"(canon|c)-?_?log-?_?2", "C-Log2"),
    (r"apple-?_?log-?_?2", "Apple Log 2"),
    (r"apple-?_?log", "Apple Log"),
    (r"d-?log(?!-?m)", "D-Log"),
)
"""Expressions of a value, and the name of the curve in `imaging.ocio`; the first match counts."""
_SIDECAR_BYTES = 1 << 20
_SIDECAR_ITEM = re.compile(r'name="Capture(?:GammaEquation|ColorPrimaries)"\s+value="([^"]*)"')


def declared_space(path: Path, metadata: Mapping[str, str]) -> str:
    """Return the name of the colour space of a movie, as `imaging.ocio` knows it; empty if unknown.

    Args:
        path: The movie.
        metadata: That of its container and stream.
    """
    for key, value in metadata.items():
        if _KEYS.search(key) and (found := _curve_of(value)):
            return found
    return _curve_of(" ".join(_SIDECAR_ITEM.findall(_sidecar(path))))


def _curve_of(text: str) -> str:
    for expression, name in _CURVES:
        if re.search(expression, text, re.IGNORECASE):
            return name
    return ""


def _sidecar(path: Path) -> str:
    """Return the text of the XML file of a Sony camera beside a clip; empty without one."""
    for suffix in (".XML", ".xml"):
        beside = path.with_name(f"{path.stem}M01{suffix}")
        try:
            with open(beside, encoding="utf-8", errors="replace") as file:
                return file.read(_SIDECAR_BYTES)
        except OSError:
            continue
    return ""
