"""Video object matting by in-context matting: mark an object once, get mattes of every frame.

    vidmatte.matte("clip.mp4", vidmatte.Prompt(points=[(640, 360)]), output="shot.mov")

is the whole flow in one call, and `Pipeline` the same with its parts in reach. `open_video`,
`load_model`, `matte_clip`, `smooth` and `create_outputs` are single stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidmatte.errors import VidmatteError
    from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
    from vidmatte.model import list_models, load_model
    from vidmatte.options import FinishOptions, MatteOptions
    from vidmatte.pipeline.pipeline import MattedFrame, Pipeline
    from vidmatte.pipeline.run import matte
    from vidmatte.prompts.files import load_prompts, save_prompts
    from vidmatte.prompts.prompt import Prompt, Reference, Stroke
    from vidmatte.read import open_video
    from vidmatte.stages.propagate import matte_clip
    from vidmatte.stages.smooth import smooth
    from vidmatte.write import create_outputs

__version__ = "0.1.0"

_MODULES = {
    "FinishOptions": "options",
    "FrameBatch": "frames",
    "MatteBatch": "frames",
    "MatteOptions": "options",
    "MattedFrame": "pipeline.pipeline",
    "Pipeline": "pipeline.pipeline",
    "Prompt": "prompts.prompt",
    "Reference": "prompts.prompt",
    "Stroke": "prompts.prompt",
    "VideoInfo": "frames",
    "VidmatteError": "errors",
    "create_outputs": "write",
    "list_models": "model",
    "load_model": "model",
    "load_prompts": "prompts.files",
    "matte": "pipeline.run",
    "matte_clip": "stages.propagate",
    "open_video": "read",
    "save_prompts": "prompts.files",
    "smooth": "stages.smooth",
}
"""Lazy exports: modules are imported on first access, so Ctrl-C works during loading."""

__all__ = [
    "FinishOptions",
    "FrameBatch",
    "MatteBatch",
    "MatteOptions",
    "MattedFrame",
    "Pipeline",
    "Prompt",
    "Reference",
    "Stroke",
    "VideoInfo",
    "VidmatteError",
    "__version__",
    "create_outputs",
    "list_models",
    "load_model",
    "load_prompts",
    "matte",
    "matte_clip",
    "open_video",
    "save_prompts",
    "smooth",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'vidmatte' has no attribute {name!r}")
    from vidmatte.errors import use_wording
    from vidmatte.python_errors import in_python

    # Whoever takes a public name writes Python; the command line takes none.
    use_wording(in_python)
    value = getattr(import_module(f"vidmatte.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
