"""Video object matting by in-context matting: mark an object once, get mattes of every frame.

    vidmatte.matte("clip.mp4", vidmatte.Prompt(points=((640, 360, 1),)), output="shot.mov")

is the whole flow in one call; `open_video`, `load_model`, `matte_clip`, `smooth` and
`create_outputs` are its stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidmatte.errors import VidmatteError
    from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
    from vidmatte.model import list_models, load_model
    from vidmatte.options import MatteOptions
    from vidmatte.pipeline.run import matte
    from vidmatte.prompts.prompt import Prompt, Reference, Stroke
    from vidmatte.read import open_video
    from vidmatte.stages.propagate import matte_clip
    from vidmatte.stages.smooth import smooth
    from vidmatte.write import create_outputs

__version__ = "0.1.0"

_MODULES = {
    "FrameBatch": "frames",
    "MatteBatch": "frames",
    "MatteOptions": "options",
    "Prompt": "prompts.prompt",
    "Reference": "prompts.prompt",
    "Stroke": "prompts.prompt",
    "VideoInfo": "frames",
    "VidmatteError": "errors",
    "create_outputs": "write",
    "list_models": "model",
    "load_model": "model",
    "matte": "pipeline.run",
    "matte_clip": "stages.propagate",
    "open_video": "read",
    "smooth": "stages.smooth",
}
"""Lazy exports: modules are imported on first access, so Ctrl-C works during loading."""

__all__ = [
    "FrameBatch",
    "MatteBatch",
    "MatteOptions",
    "Prompt",
    "Reference",
    "Stroke",
    "VideoInfo",
    "VidmatteError",
    "__version__",
    "create_outputs",
    "list_models",
    "load_model",
    "matte",
    "matte_clip",
    "open_video",
    "smooth",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'vidmatte' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"vidmatte.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
