"""READ: movies, image sequences and image sets, frame by frame."""

from vidmatte.read.open import open_video
from vidmatte.read.position import parse_position
from vidmatte.read.video import Frame, Video

__all__ = ["Frame", "Video", "open_video", "parse_position"]
