"""READ: movies, image sequences and image sets, frame by frame."""

from vidmatte.read.deinterlace import Deinterlace
from vidmatte.read.source import Frame, Reader, Video, open_video, parse_position

__all__ = ["Deinterlace", "Frame", "Reader", "Video", "open_video", "parse_position"]
