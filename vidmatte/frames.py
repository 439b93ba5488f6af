"""Values passed between stages: the facts of a clip, some of its frames, and their mattes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.errors import worded

FieldOrder = Literal["top first", "bottom first"]
"""The field of an interlaced frame shown first."""
Chromaticities = tuple[float, ...]
"""CIE x and y of red, green, blue and white: eight numbers."""


@dataclass(frozen=True)
class ColorSpace:
    """A colour space of an OpenColorIO config; see `imaging.ocio`."""

    name: str
    config: str
    """Path of the config, or the URI of one that comes with OpenColorIO."""
    is_linear: bool
    """Whether its values are scene-linear light."""

    def __str__(self) -> str:
        return self.name


Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a rectangle of pixels; right and bottom lie outside of it."""


@dataclass(frozen=True)
class Windows:
    """Where the frames of an EXR sequence lie, in the pixels that its headers count in.

    Frames are read as a whole: the box around both windows. What is not EXR has the display window
    alone.
    """

    data: Box
    """The stored pixels; overscan lies outside of the display window."""
    display: Box
    """The picture as it is shown."""

    @property
    def raster(self) -> Box:
        """The box around both windows."""
        return box_around(self.data, self.display)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the display window."""
        left, top, right, bottom = self.display
        return bottom - top, right - left

    def filled(self, planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return planes (..., H, W) of the display window with zeros around it, as the raster."""
        left, top, right, bottom = self.raster
        filled = np.zeros((*planes.shape[:-2], bottom - top, right - left), np.float32)
        rows, columns = self.place_of(self.display)
        filled[..., rows, columns] = planes
        return filled

    def place_of(self, box: Box) -> tuple[slice, slice]:
        """Return the rows and the columns of a box in the raster."""
        left, top, _, _ = self.raster
        return slice(box[1] - top, box[3] - top), slice(box[0] - left, box[2] - left)


def box_around(first: Box, second: Box) -> Box:
    """Return the smallest box that holds two boxes."""
    left, top = min(first[0], second[0]), min(first[1], second[1])
    return left, top, max(first[2], second[2]), max(first[3], second[3])


@dataclass(frozen=True)
class ColorTags:
    """Tags of the colour of a clip: ITU-T H.273 numbers, as used by FFmpeg (2 = unspecified).

    `matrix` is never 2 for YUV sources: untagged HD is taken as BT.709, untagged SD as BT.601.
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 1
    full_range: bool = False
    assumed: bool = False
    """Whether the source had no matrix tag and the usual rule was applied."""
    icc: bytes | None = field(default=None, repr=False)
    """Colour profile that the code values of a still image are in. Primaries and transfer are those
    of the profile if H.273 has numbers for it (Display P3), else those of sRGB, to which outputs
    without profiles are converted."""
    chroma_location: int = 0
    """Position of subsampled chroma, as FFmpeg's AVChromaLocation; 0 (unknown) means 1 (left)."""
    chromaticities: Chromaticities | None = None
    """Primaries without a number in H.273 (then `primaries` is 3), such as those of ACES."""
    space: ColorSpace | None = None
    """Colour space that the code values are in, if the user named one. It goes before all other
    tags; `transfer` is 8 if it is linear."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a clip, an image sequence or an image set, as far as its headers tell them."""

    source: str
    """Path or pattern, as given."""
    width: int
    height: int
    """Size in pixels of the decoded frames: after display rotation, before correction of the
    pixel aspect."""
    frame_rate: Fraction
    """Average frames per second; exact times are the `pts` of the frames."""
    time_base: Fraction
    """Seconds per unit of `pts`."""
    frames_in_header: int | None = None
    """Number of frames by the headers, for progress and estimates only: it may be wrong."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a pixel over its height, after rotation."""
    bit_depth: int = 8
    color: ColorTags = field(default_factory=ColorTags)
    timecode: str | None = None
    first_number: int | None = None
    """Number of the first file of an image sequence; None for movies and image sets."""
    audio_streams: int = 0
    start: Fraction = Fraction(0)
    """Earliest start of picture or sound in seconds, on the clock of `pts`; outputs
    begin there. Containers for broadcast and recordings of a running clock begin late."""
    has_alpha: bool = False
    """Whether the frames have alpha, not included in `rgb`."""
    field_order: FieldOrder | None = None
    """Field order of frames read interlaced; None if frames are whole."""
    notes: tuple[str, ...] = ()
    """Notes for the user on reading the source."""
    windows: Windows | None = None
    """Where the frames of an EXR sequence lie; None for frames that are all of the picture."""
    declared_space: str = ""
    """Name of the colour space by the metadata of a camera or an EXR header, such as
    "lin_ap1_scene" or "LogC4"; empty if there is none. It counts if the user asks for it."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a frame needs at least one pixel, got {self.width}x{self.height}")
        if self.frame_rate <= 0 or self.time_base <= 0:
            raise ValueError(
                f"rates must be positive, got {self.frame_rate = } {self.time_base = }"
            )
        object.__setattr__(self, "notes", tuple(map(worded, self.notes)))

    @property
    def display_width(self) -> int:
        """Return the width in square pixels, rounded; the height never changes.

        Prompts are given in this space.
        """
        return max(1, round(self.width * self.sample_aspect_ratio))

    @property
    def on_display(self) -> VideoInfo:
        """Return the facts of the frames cut to their display window."""
        if self.windows is None:
            return self
        left, top, right, bottom = self.windows.display
        return replace(self, width=right - left, height=bottom - top, windows=None)

    def __str__(self) -> str:
        rate = f"{float(self.frame_rate):.3f}".rstrip("0").rstrip(".")
        return f"{self.source}: {self.width}x{self.height}, {rate} frames/s, {self.bit_depth}-bit"


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames of a clip, or one image of a set."""

    rgb: Tensor
    """(N, 3, H, W) float32, code values as 0..1, display-referred; scene-linear if the transfer of
    the clip is 8.

    Super-whites of video and light above diffuse white lie beyond 1; models see the result of
    `imaging.display.to_display`.
    """
    frames: tuple[int, ...]
    """0-based index of each frame in its source."""
    pts: tuple[int, ...]
    """Presentation time of each frame in units of the source's time base."""
    durations: tuple[int, ...]
    """Duration of each frame in the same unit; 0 if the source does not say."""
    names: tuple[str, ...] = ()
    """File stem of each image of an image set; empty otherwise."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[1] != 3 or self.rgb.dtype != torch.float32:
            raise ValueError(
                f"rgb must be (N, 3, H, W) float32, got {tuple(self.rgb.shape)} {self.rgb.dtype}"
            )
        _check_lengths(len(self.rgb), self.frames, self.pts, self.durations)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, part: slice) -> FrameBatch:
        """Return some of the frames."""
        return FrameBatch(
            self.rgb[part],
            self.frames[part],
            self.pts[part],
            self.durations[part],
            self.names[part],
        )

    def __repr__(self) -> str:
        return f"FrameBatch(rgb={tuple(self.rgb.shape)}, frames={self.frames})"


@dataclass(frozen=True)
class MatteBatch:
    """Mattes of a FrameBatch, beside the colour they belong to."""

    source: FrameBatch
    alpha: Tensor
    """(N, 1, H, W) float32 in 0..1 at the full size of the frames."""
    confidence: tuple[float, ...]
    """How sure the model is of each matte, 0..1."""
    foreground: Tensor | None = None
    """(N, 3, H, W) float32 in 0..1, straight (not premultiplied), display-referred; None before it
    is estimated."""

    def __post_init__(self) -> None:
        n, _, height, width = self.source.rgb.shape
        if tuple(self.alpha.shape) != (n, 1, height, width) or self.alpha.dtype != torch.float32:
            raise ValueError(
                f"alpha must be {(n, 1, height, width)} float32, got {tuple(self.alpha.shape)}"
            )
        if self.foreground is not None and self.foreground.shape != self.source.rgb.shape:
            raise ValueError(
                f"foreground must be {tuple(self.source.rgb.shape)}, got "
                f"{tuple(self.foreground.shape)}"
            )
        _check_lengths(n, self.confidence)

    @property
    def color(self) -> Tensor:
        """Return the straight colour to write, (N, 3, H, W): estimated foreground or source."""
        return self.source.rgb if self.foreground is None else self.foreground

    def within(self, box: Box, windows: Windows) -> MatteBatch:
        """Return the mattes cut to a box, for frames that are the raster of the windows."""
        rows, columns = windows.place_of(box)
        source = replace(self.source, rgb=self.source.rgb[..., rows, columns])
        foreground = None if self.foreground is None else self.foreground[..., rows, columns]
        return MatteBatch(source, self.alpha[..., rows, columns], self.confidence, foreground)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, part: slice) -> MatteBatch:
        """Return the mattes of some of the frames."""
        foreground = None if self.foreground is None else self.foreground[part]
        return MatteBatch(self.source[part], self.alpha[part], self.confidence[part], foreground)

    def __repr__(self) -> str:
        return f"MatteBatch(alpha={tuple(self.alpha.shape)}, frames={self.source.frames})"


def _check_lengths(n: int, *fields: Sequence[object]) -> None:
    if any(len(values) != n for values in fields):
        raise ValueError(f"{n} frames, but fields of length {[len(values) for values in fields]}")
