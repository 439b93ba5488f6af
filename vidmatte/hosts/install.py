"""Plug-ins of host programs, which come with the package, and where the programs look for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vidmatte.errors import OptionError, WriteError
from vidmatte.media.atomic import atomic_write


@dataclass(frozen=True)
class Plugin:
    """A plug-in of one file."""

    program: str
    source: str
    """Its file in this package."""
    name: str
    """Its name in the folder of the program."""
    folder: Callable[[], Path | None]
    """Where the program looks for plug-ins; None if that is not known."""
    then: str
    """What is left to do, in one sentence."""


def _of_nuke() -> Path:
    return Path.home() / ".nuke"


def _of_blender() -> Path | None:
    """Return the folder of the newest Blender that this user has started."""
    named = os.environ.get("BLENDER_USER_SCRIPTS")
    if named:
        return Path(named) / "addons"
    places = {
        "win32": Path(os.environ.get("APPDATA", "")) / "Blender Foundation" / "Blender",
        "darwin": Path.home() / "Library" / "Application Support" / "Blender",
    }
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "blender"
    place = places.get(sys.platform, settings)
    versions = [path for path in place.glob("*.*") if path.name.replace(".", "").isdecimal()]
    if not versions:
        return None
    newest = max(versions, key=lambda path: [int(part) for part in path.name.split(".")])
    return newest / "scripts" / "addons"


PLUGINS: Mapping[str, Plugin] = {
    "nuke": Plugin(
        "Nuke",
        "nuke_panel.py",
        "vidmatte_panel.py",
        _of_nuke,
        "add to menu.py there: import vidmatte_panel; vidmatte_panel.install()",
    ),
    "blender": Plugin(
        "Blender",
        "blender_addon.py",
        "vidmatte_addon.py",
        _of_blender,
        "switch on 'Compositing: vidmatte' in Edit > Preferences > Add-ons",
    ),
}
"""Every plug-in by the name of its host."""


def install_plugin(name: str, folder: Path | None = None) -> Path:
    """Copy a plug-in to where its program finds it, and return its path.

    Args:
        name: One of `PLUGINS`.
        folder: Where to copy it; None for the folder of the program.

    Raises:
        OptionError: If the folder of the program is not known.
        WriteError: If the file cannot be written.
    """
    plugin = PLUGINS[name]
    place = folder or plugin.folder()
    if place is None:
        raise OptionError(
            f"no settings of {plugin.program} were found: start it once, or say where its plug-ins "
            f"are (--to DIR)"
        )
    path = place / plugin.name
    try:
        place.mkdir(parents=True, exist_ok=True)
        atomic_write(path, files("vidmatte.hosts").joinpath(plugin.source).read_bytes())
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); name another folder with --to"
        ) from error
    return path
