"""Open a movie, an image sequence or an image."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.patterns import is_pattern
from vidmatte.options import Deinterlace, Reader
from vidmatte.read.animation import AnimatedVideo
from vidmatte.read.decord import open_decord
from vidmatte.read.images import is_animated, is_image
from vidmatte.read.movie import MovieVideo
from vidmatte.read.sequence import SequenceVideo
from vidmatte.read.video import Video


def open_video(
    source: str | Path,
    *,
    reader: Reader = "pyav",
    frame_rate: Fraction | None = None,
    allow_truncated: bool = False,
    deinterlace: Deinterlace = "refuse",
) -> Video:
    """Open a movie, a folder of numbered frames, a pattern such as `shot.%04d.png` or `shot.####.png`, or an image.

    `frame_rate` is for image sequences (default: what their header says, or 24); giving it for a movie is an error.
    `allow_truncated` reads what there is of a movie that ends early, instead of refusing it. `deinterlace` says what to
    do with interlaced movies: refuse them, make whole frames of them (bwdif, yadif), or read them as they are (keep).

    Raises ReadError when nothing can be read there, OptionError for an unknown reader, MissingExtraError for decord.
    """
    for name, value, choices in (
        ("reader", reader, Reader),
        ("deinterlace", deinterlace, Deinterlace),
    ):
        if value not in get_args(choices):
            raise OptionError(
                f"{name} {value!r} is not valid: choose one of {', '.join(get_args(choices))}"
            )
    path = Path(source)
    has_movie_options = (reader, deinterlace) != ("pyav", "refuse")
    kind = _kind_of(path)
    if kind != "movie" and has_movie_options:
        found = "a sequence of images" if kind == "sequence" else "an animated image"
        raise OptionError(
            f"{source} is {found}: reader {reader} and deinterlace {deinterlace} are for movies only"
        )
    if kind == "sequence":
        return SequenceVideo(source, frame_rate)
    if not path.is_file():
        exists = path.exists()
        found = "neither a file nor a folder (a pipe?)" if exists else "no such file or folder"
        raise ReadError(f"{source}: {found}; check the path")
    if frame_rate is not None:
        raise OptionError(
            f"{source} is a movie and has its own frame rate: "
            f"a frame rate is for image sequences only"
        )
    if kind == "animation":
        return AnimatedVideo(source)
    open_movie = open_decord if reader == "decord" else MovieVideo
    return open_movie(source, allow_truncated=allow_truncated, deinterlace=deinterlace)


def _kind_of(path: Path) -> Literal["movie", "sequence", "animation"]:
    if path.is_dir() or is_pattern(path):
        return "sequence"
    if not is_image(path):
        return "movie"
    if not is_animated(path):
        return "sequence"
    # FFmpeg reads animated PNG, with its 16 bits, but not WebP, and of AVIF no alpha.
    return "movie" if path.suffix.lower() == ".png" else "animation"
