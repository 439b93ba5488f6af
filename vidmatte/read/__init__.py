"""READ: movies, image sequences and image sets, frame by frame."""

from vidmatte.read.source import Frame, Reader, Video, open_video, parse_position

__all__ = ["Frame", "Reader", "Video", "open_video", "parse_position"]
