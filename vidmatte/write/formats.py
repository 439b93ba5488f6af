"""What can be written: one table of formats, and the targets that choose from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidmatte.errors import OptionError

_NUMBER = re.compile(r"%(?:0(\d+))?d")
_NAME = "{name}"


@dataclass(frozen=True)
class Format:
    """How one kind of output is encoded."""

    container: str
    """FFmpeg's name of the container, or "images" for one file per frame."""
    codec: str
    pixel_format: str
    bit_depth: int
    """Bits of the alpha that a reader gets back."""
    description: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the encoder."""
    full_range: bool = False
    """Whether 0..1 spans all code values (of luma, where there is chroma) instead of the video range."""
    odd_pixel_format: str | None = None
    """Replaces `pixel_format` where a side is odd and the codec refuses that with chroma of half size."""
    square_pixels: bool = False
    """The container cannot say that pixels are not square, so pictures are scaled to square ones."""
    copied_audio: tuple[str, ...] | None = ()
    """Audio codecs that the container holds as they are, by name or prefix ending in "_"; None = any it knows."""
    audio_codec: str = ""
    """Encoder for the other audio codecs."""

    @property
    def is_movie(self) -> bool:
        """Whether all frames go to one file."""
        return self.container != "images"


# With a fixed quantizer of 1 the packets of prores_ks are byte-identical to those of its slow default search.
_PRORES_BEST = {"flags": "+qscale+bitexact", "global_quality": "118", "vendor": "apl0"}
_VP9 = {"deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0", "flags": "+bitexact"}
_MOV_AUDIO = ("aac", "mp3", "ac3", "eac3", "alac", "pcm_")
_MP4_AUDIO = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
_WEBM_AUDIO = ("opus", "vorbis")

FORMATS: Mapping[tuple[str, bool], Format] = {
    (".mov", False): Format(
        "mov",
        "prores_ks",
        "yuva444p10le",
        10,
        "ProRes 4444, 10-bit colour, alpha stored in 16 bits",
        {**_PRORES_BEST, "profile": "4444", "alpha_bits": "16"},
        copied_audio=_MOV_AUDIO,
        audio_codec="pcm_s24le",
    ),
    (".webm", False): Format(
        "webm",
        "libvpx-vp9",
        "yuva420p",
        8,
        "VP9 with alpha, for browsers",
        {**_VP9, "crf": "12"},
        square_pixels=True,
        copied_audio=_WEBM_AUDIO,
        audio_codec="libopus",
    ),
    (".png", False): Format("images", "png", "rgba64be", 16, "PNG with alpha, one per frame", full_range=True),
    (".exr", False): Format(
        "images", "exr", "gbrapf16le", 11, "OpenEXR, scene-linear, premultiplied, half float, one per frame"
    ),
    (".mkv", True): Format(
        "matroska",
        "ffv1",
        "gray16le",
        16,
        "FFV1, 16-bit gray, lossless",
        {"level": "3", "g": "1", "slicecrc": "1", "flags": "+bitexact"},
        full_range=True,
        copied_audio=None,
        audio_codec="pcm_s24le",
    ),
    (".mov", True): Format(
        "mov",
        "prores_ks",
        "yuv422p10le",
        10,
        "ProRes 422 HQ, gray",
        {**_PRORES_BEST, "profile": "hq"},
        copied_audio=_MOV_AUDIO,
        audio_codec="pcm_s24le",
    ),
    (".mp4", True): Format(
        "mp4",
        "libx264",
        "yuv420p",
        8,
        "H.264, gray, full range, close to lossless",
        {"qp": "1", "bf": "0", "flags": "+bitexact"},
        full_range=True,
        odd_pixel_format="gray",
        copied_audio=_MP4_AUDIO,
        audio_codec="aac",
    ),
    (".webm", True): Format(
        "webm",
        "libvpx-vp9",
        "yuv420p",
        8,
        "VP9, gray, full range, lossless in 8 bits",
        {**_VP9, "lossless": "1"},
        full_range=True,
        square_pixels=True,
        copied_audio=_WEBM_AUDIO,
        audio_codec="libopus",
    ),
    (".png", True): Format("images", "png", "gray16be", 16, "gray PNG, one per frame", full_range=True),
    (".exr", True): Format("images", "exr", "grayf16le", 11, "OpenEXR, one channel Y, half float, one per frame"),
}
"""(extension, alpha only) -> format."""


@dataclass(frozen=True)
class Target:
    """One output: a movie, or a pattern for one image per frame.

    A pattern has `%06d` (any width) for the frame number or `{name}` for the name of the image it belongs to.
    """

    path: Path | str
    alpha_only: bool = False
    object_name: str = ""
    """Which of several objects it shows; empty where there is one without a name."""
    layers: tuple[str, ...] = ()
    """Objects that share one EXR as layers, as in person.R; empty for all other targets."""

    @property
    def format(self) -> Format:
        """The entry of FORMATS. Raises OptionError for an extension that is not there."""
        return _format_of(Path(self.path), self.alpha_only)

    @property
    def folder(self) -> Path:
        """Where the output goes."""
        return Path(self.path).parent

    def image_name(self, *, number: int, name: str) -> str:
        """File name of one image of a pattern."""
        pattern = Path(self.path).name
        if _NAME in pattern:
            return pattern.replace(_NAME, name)
        return _NUMBER.sub(lambda found: f"{number:0{int(found[1] or 1)}d}", pattern)

    @property
    def is_named(self) -> bool:
        """Whether the pattern takes the names of images instead of frame numbers."""
        return _NAME in Path(self.path).name

    @property
    def file_names(self) -> re.Pattern[str]:
        """Matches the file names that the target can produce."""
        name = Path(self.path).name
        if not self.format.is_movie:
            parts = name.split(_NAME) if self.is_named else _NUMBER.sub("\0", name).split("\0")
            return re.compile((".+" if self.is_named else r"\d+").join(re.escape(part) for part in parts))
        return re.compile(re.escape(name))

    def __str__(self) -> str:
        return str(self.path)


def parse_target(path: Path | str, *, alpha_only: bool, object_name: str = "", layers: tuple[str, ...] = ()) -> Target:
    """The target of an output path, for one object or several as layers.

    Raises OptionError for an extension that is not in FORMATS, or an image path that does not say how to name
    the images.
    """
    target = Target(path, alpha_only, object_name, layers)
    name = Path(path).name
    places = len(_NUMBER.findall(name)) + name.count(_NAME)
    if not target.format.is_movie and places != 1:
        stem, extension = Path(path).stem, Path(path).suffix
        found = "no place for their numbers" if places == 0 else "more than one place for their numbers"
        raise OptionError(
            f"{path}: images are written one per frame, and the file name has {found}; use "
            f"{stem if places == 0 else 'frame'}_%06d{extension}, or {{name}}{extension} for a set of images"
        )
    if layers and target.format.codec != "exr":
        raise OptionError(f"{path}: only EXR has layers; write each object to a file of its own")
    return target


def _format_of(path: Path, alpha_only: bool) -> Format:
    extension = path.suffix.lower()
    if (extension, alpha_only) in FORMATS:
        return FORMATS[extension, alpha_only]
    kind = "an alpha matte" if alpha_only else "colour with alpha"
    choices = ", ".join(
        f"{end} ({entry.description})" for (end, alpha), entry in FORMATS.items() if alpha == alpha_only
    )
    found = f"the extension {extension!r}" if extension else "no extension"
    other = ""
    if (extension, not alpha_only) in FORMATS:
        other = "; give it to -o/--output" if alpha_only else "; give it to --alpha"
    raise OptionError(f"{path}: {kind} cannot be written with {found}{other}; choose from {choices}")
