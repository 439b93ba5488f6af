"""Open a movie, an image sequence or an image."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.patterns import is_pattern
from vidmatte.options import Deinterlace, Missing, OnDamage, Reader
from vidmatte.read.animation import AnimatedVideo
from vidmatte.read.decord import open_decord
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import is_animated, is_image
from vidmatte.read.movie import MovieVideo
from vidmatte.read.nvdec import NvdecVideo
from vidmatte.read.sequence import SequenceVideo
from vidmatte.read.video import Video

_MAIN = ExrChoice()


def open_video(
    source: str | Path,
    *,
    reader: Reader = "pyav",
    frame_rate: Fraction | None = None,
    allow_truncated: bool = False,
    deinterlace: Deinterlace = "refuse",
    stream: int | None = None,
    on_damage: OnDamage = "refuse",
    missing: Missing = "error",
    choice: ExrChoice = _MAIN,
) -> Video:
    """Open a movie, an animated image, a sequence of images or a single image.

    Args:
        source: A file, a folder of numbered frames, or a pattern such as `shot.%04d.png`.
        reader: Decoder of movies.
        frame_rate: Frames per second of an image sequence; None is the rate of its header, or 24.
        allow_truncated: Read a truncated movie as far as possible instead of refusing it.
        deinterlace: How to treat an interlaced movie: refuse it, make whole frames of it
            (bwdif, yadif), or read it as it is (keep).
        stream: Video stream of a movie, counted from 0 among all streams; None takes the
            default one, or the largest.
        on_damage: How to treat a movie with damaged frames: refuse it (refuse), end before
            them (stop, like `allow_truncated`), leave them out (skip), or repeat
            the frame before them (hold). The last two decode the movie twice.
        missing: How to treat missing numbers of an image sequence: refuse it (error), or
            repeat the frame before them (hold).
        choice: Layer and view of a sequence of EXR.

    Raises:
        ReadError: If nothing can be read there.
        OptionError: If an option is unknown, or does not apply to this kind of source.
        MissingExtraError: If decord is chosen and not installed.
    """
    _check_choice("reader", reader, get_args(Reader))
    _check_choice("deinterlace", deinterlace, get_args(Deinterlace))
    _check_choice("on_damage", on_damage, get_args(OnDamage))
    _check_choice("missing", missing, get_args(Missing))
    path = Path(source)
    kind = _kind_of(path)
    chosen = (reader, deinterlace, stream, on_damage)
    if kind != "movie" and chosen != ("pyav", "refuse", None, "refuse"):
        found = "a sequence of images" if kind == "sequence" else "an animated image"
        raise OptionError(
            f"{source} is {found}: reader, deinterlacing, stream and damage are for movies only; "
            f"leave them out"
        )
    if kind == "sequence":
        return SequenceVideo(source, frame_rate, missing=missing, choice=choice)
    if missing != "error" or choice.layer is not None:
        raise OptionError(
            f"{source} is no sequence of images: missing frames and layers are for these only; "
            f"leave them out"
        )
    _check_movie_file(path, frame_rate)
    if kind == "animation":
        return AnimatedVideo(source)
    if reader == "decord":
        if on_damage in ("skip", "hold"):
            raise OptionError(f"on_damage {on_damage} is not for reader decord; use --reader pyav")
        return open_decord(
            source,
            allow_truncated=allow_truncated or on_damage == "stop",
            deinterlace=deinterlace,
            stream=stream,
        )
    movie = NvdecVideo if reader == "nvdec" else MovieVideo
    return movie(
        source,
        allow_truncated=allow_truncated,
        deinterlace=deinterlace,
        stream=stream,
        on_damage=on_damage,
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} {value!r} is not valid: choose one of {', '.join(choices)}")


def _check_movie_file(path: Path, frame_rate: Fraction | None) -> None:
    if not path.is_file():
        exists = path.exists()
        found = "neither a file nor a folder (a pipe?)" if exists else "no such file or folder"
        raise ReadError(f"{path}: {found}; check the path")
    if frame_rate is not None:
        raise OptionError(
            f"{path} is a movie and has its own frame rate: "
            f"a frame rate is for image sequences only"
        )


def _kind_of(path: Path) -> Literal["movie", "sequence", "animation"]:
    if path.is_dir() or is_pattern(path):
        return "sequence"
    if not is_image(path):
        return "movie"
    if not is_animated(path):
        return "sequence"
    # FFmpeg reads animated PNG, with its 16 bits, but not WebP, and of AVIF no alpha.
    return "movie" if path.suffix.lower() == ".png" else "animation"
