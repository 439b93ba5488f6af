"""Video object matting by in-context matting: mark an object once, get production mattes of every frame.

    vidmatte.matte("clip.mp4", vidmatte.Prompt(points=((640, 360, 1),)), output="shot.mov")

is the whole flow in one call; `open_video`, `load_model`, `matte_clip`, `smooth` and `create_outputs` are its stages.
"""

__version__ = "0.1.0"

from vidmatte.errors import VidmatteError
from vidmatte.follow import matte_clip
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.model import list_models, load_model
from vidmatte.options import MatteOptions
from vidmatte.pipeline import matte
from vidmatte.prompt import Prompt, Reference, Stroke
from vidmatte.read import open_video
from vidmatte.smooth import smooth
from vidmatte.write import create_outputs

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
