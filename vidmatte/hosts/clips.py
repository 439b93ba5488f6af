"""The outputs of a run as a host program reads them: path, numbers, alpha, colour."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vidmatte.frames import ColorSpace, VideoInfo
from vidmatte.imaging.transfer import LINEAR
from vidmatte.media.patterns import FramePattern, parse_pattern, stem_of, trailing_number
from vidmatte.write import OutputSpec
from vidmatte.write.exr import layer_names, space_of_output

Holds = Literal["straight", "premultiplied", "fill", "alpha", "flat"]
"""Colour with alpha in one of two ways; colour on black whose alpha is another file; alpha alone;
a picture without alpha."""
_RGB_MATRIX, _UNSPECIFIED, _BT709, _SRGB = 0, 2, 1, 13
"""Numbers of ITU-T H.273."""
_IMAGES = (".exr", ".png", ".dpx", ".tif", ".tiff", ".jpg", ".jpeg")
_MOVIES = (".mov", ".mp4", ".mxf")
_WRITTEN = (*_MOVIES, ".png", ".exr")


@dataclass(frozen=True)
class HostClip:
    """A movie, or the numbered images of one clip."""

    path: Path
    """Absolute; of images with the place of the frame number in the name."""
    holds: Holds
    transfer: int
    """Transfer of its colour, a number of ITU-T H.273; of alpha alone it means nothing."""
    first: int
    """Number of the first frame: that in the name of an image, or from 0 in a movie."""
    frames: int
    size: tuple[int, int]
    """Width and height in stored pixels."""
    pixel_aspect: float
    rate: Fraction
    object_name: str = ""
    """Name of its object; empty for one object without a name."""
    space: str = ""
    """Name of its colour space in OpenColorIO, if the user named spaces; it goes before
    `transfer`."""
    layers: tuple[str, ...] = ()
    """Layers of an EXR of several objects; their colour and alpha lie as `holds` says."""

    @property
    def pattern(self) -> FramePattern | None:
        """The pattern of the images; None for a movie."""
        if self.path.suffix.lower() in (*_MOVIES, ".mkv", ".webm", ".webp", ".avif"):
            return None
        return parse_pattern(self.path)

    @property
    def is_linear(self) -> bool:
        """Whether its colour is scene-linear."""
        return self.transfer == LINEAR

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.first + self.frames - 1

    @property
    def first_file(self) -> Path:
        """The movie, or the first image."""
        pattern = self.pattern
        if pattern is None:
            return self.path
        return self.path.with_name(pattern.whole.name_of(self.first))

    @property
    def name(self) -> str:
        """The name of the file without extension and place of the frame number."""
        return stem_of(self.path) if self.pattern is not None else self.path.stem

    @property
    def channel(self) -> str:
        """Name of the channel of an EXR that holds alpha alone, without layers."""
        return "Y" if self.holds == "alpha" else "A"


@dataclass(frozen=True)
class HostShot:
    """Everything that a script for a host names."""

    name: str
    clips: tuple[HostClip, ...]
    """The outputs that the host reads."""
    left_out: tuple[str, ...]
    """Names of outputs that it cannot read."""
    plate: HostClip | None
    """The matted part of the source, if the host can read it."""
    made_by: str
    """Name and version of this program."""

    @property
    def first(self) -> int:
        """Frame at which everything begins in the host, counted like numbered images.

        Without images in the shot it is 0, the first frame of a movie.
        """
        numbered = [clip.first for clip in self._all if clip.pattern is not None]
        return numbered[0] if numbered else 0

    @property
    def has_numbers(self) -> bool:
        """Whether images give the numbers of the frames."""
        return any(clip.pattern is not None for clip in self._all)

    @property
    def _all(self) -> tuple[HostClip, ...]:
        # Numbers of outputs win over those of the source: --start-number may have changed them.
        return self.clips if self.plate is None else (*self.clips, self.plate)

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the colour spaces in OpenColorIO, if the user named spaces."""
        return tuple(dict.fromkeys(clip.space for clip in self._all if clip.space))

    def matte_of(self, fill: HostClip) -> HostClip | None:
        """Return the matte that belongs to colour on black; None if none was written."""
        found = [
            clip
            for clip in self.clips
            if clip.holds == "alpha" and clip.object_name == fill.object_name and not clip.layers
        ]
        return found[0] if found else None


def is_readable(spec: OutputSpec) -> bool:
    """Return whether the hosts read an output: they know neither Matroska nor formats of the web.

    A file for each image of a set, and raw frames, are no clips.
    """
    return Path(spec.path).suffix.lower() in _WRITTEN and not spec.is_named


def clip_of(
    spec: OutputSpec,
    *,
    like: VideoInfo,
    first: int,
    frames: int,
    premultiplied: bool,
    output_space: ColorSpace | None = None,
) -> HostClip:
    """Return an output as a host reads it.

    Args:
        spec: The output.
        like: The source.
        first: Number of the first written frame, as numbered images have it.
        frames: Number of written frames.
        premultiplied: Whether colour was asked for multiplied with alpha.
        output_space: Colour space that was asked for EXR.
    """
    is_exr = spec.format.codec == "exr"
    space = space_of_output(like.color, output_space) if is_exr else _coded_space(like)
    return HostClip(
        Path(os.path.abspath(spec.path)),
        _holds(spec, premultiplied=premultiplied),
        LINEAR if is_exr else _display_transfer(like, is_image=not spec.format.is_movie),
        0 if spec.format.is_movie else first,
        frames,
        (like.width, like.height),
        float(like.sample_aspect_ratio),
        like.frame_rate,
        spec.object_name,
        "" if space is None or spec.alpha_only else space.name,
        tuple(layer_names(spec.layers)),
    )


def _coded_space(like: VideoInfo) -> ColorSpace | None:
    """Return the space of display-referred outputs, which keep the code values of the source.

    Scene-linear sources are encoded for them, with a curve of video or of images.
    """
    space = like.color.space
    return None if space is None or space.is_linear else space


def _holds(spec: OutputSpec, *, premultiplied: bool) -> Holds:
    if spec.alpha_only:
        return "alpha"
    if spec.format.over_black:
        return "flat" if spec.backdrop else "fill"
    if spec.format.codec == "exr":
        return "straight" if spec.format.options["colour"] == "straight" else "premultiplied"
    return "premultiplied" if premultiplied else "straight"


def _display_transfer(like: VideoInfo, *, is_image: bool) -> int:
    """Return the transfer of display-referred outputs of a source."""
    tags = like.color
    if tags.icc is not None:
        return _SRGB
    if tags.transfer == LINEAR:
        return _SRGB if is_image else _BT709
    if tags.transfer == _UNSPECIFIED:
        # Images without tags are sRGB by custom, and video is BT.709.
        return _SRGB if tags.matrix == _RGB_MATRIX else _BT709
    return tags.transfer


def plate_of(source: str | Path, *, like: VideoInfo, index: int, frames: int) -> HostClip | None:
    """Return the matted part of the source; None if the hosts cannot read such a file.

    Args:
        source: A movie, a folder of numbered images or a pattern.
        like: Facts of it.
        index: Index of the first matted frame, from 0.
        frames: Number of matted frames.
    """
    path = _pattern_of(Path(source))
    suffix = path.suffix.lower()
    is_movie = suffix in _MOVIES
    numbers = [] if is_movie or suffix not in _IMAGES else _numbers(path)
    if not is_movie and not index < len(numbers):
        return None
    return HostClip(
        Path(os.path.abspath(path)),
        "flat",
        LINEAR if like.color.transfer == LINEAR else _display_transfer(like, is_image=not is_movie),
        index if is_movie else numbers[index],
        frames,
        (like.width, like.height),
        float(like.sample_aspect_ratio),
        like.frame_rate,
        space="" if like.color.space is None else like.color.space.name,
    )


def _numbers(path: Path) -> list[int]:
    """Return the numbers of the images of a pattern, in order; none for another name.

    They are those on the disk: --start-number renames outputs, not the files of the source.
    """
    pattern = parse_pattern(path)
    if pattern is None or not path.parent.is_dir():
        return []
    first, last = pattern.span or (0, sys.maxsize)
    found = [pattern.whole.number_of(entry.name) for entry in path.parent.iterdir()]
    return sorted(number for number in found if number is not None and first <= number <= last)


def _pattern_of(source: Path) -> Path:
    """Return a folder of numbered images as a pattern; any other source as it is."""
    if not source.is_dir():
        return source
    images = sorted(path for path in source.iterdir() if path.suffix.lower() in _IMAGES)
    if not images or trailing_number(images[0]) is None:
        return source
    digits = re.search(r"\d+$", images[0].stem)
    assert digits is not None  # it has a trailing number
    before = images[0].stem[: digits.start()]
    width = min(len(path.stem) - len(before) for path in images)
    return source / f"{before}%0{width}d{images[0].suffix}"


def sidecar_name(requested: Sequence[OutputSpec]) -> str:
    """Return the name of a sidecar without extension, after the first output of a run."""
    first = requested[0]
    plain = Path(first.path)
    stem = plain.stem if first.format.is_movie else stem_of(plain)
    # "{object}_matte" is "matte": one sidecar names the files of all objects.
    return re.sub(r"^[._ -]+|[._ -]+$", "", stem.replace("{object}", "")) or "shot"
