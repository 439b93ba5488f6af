"""All choices of a run that are not its input, prompts and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from vidmatte.despill import Despill
from vidmatte.errors import OptionError
from vidmatte.finish import FinishOptions
from vidmatte.model.build import Precision
from vidmatte.model.given import NO_MODEL
from vidmatte.read import Deinterlace, Reader
from vidmatte.train.rehearse import LONGEST_REHEARSAL

Foreground = Literal["estimate", "source"]


@dataclass(frozen=True)
class MatteOptions:
    """All choices of a run that are not its input, prompts and outputs."""

    model: str | Path = "compact"
    """Name or file, see `load_model`; "none" takes `matte` instead."""
    matte: str | Path | None = None
    """Mattes in the place of a model's, for model "none": a movie, sequence or image, see `read.mask.open_mask`."""
    sd: str | Path | None = None
    """Stable Diffusion 2.1 for the models that stand on it, see `load_model`; None downloads it."""
    weights: str | Path | None = None
    """Trained weights of the model, see `load_model`; None for its own."""
    settings: str = ""
    """Of the model, as in "ensemble=1,inter=off"; see `model.build.parse_settings`."""
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    """Frames that are decoded and passed on together; None chooses by the device."""
    working_size: int | None = None
    """Longer side of what the network sees, in pixels; None is the model's own."""
    rehearsal: int | None = None
    """Steps of practice on the marked frames before a clip is followed, see `train.rehearse`; 0 for none. None is
    twice the clip's frames, up to a default, where it can be done: clips, followed by the embedded model."""
    smooth: float = 0.0
    """Strength of the temporal alpha smoother, 0 (off) to 1."""
    finish: FinishOptions = field(default_factory=FinishOptions)
    """Clip, grow, feather, invert, masks and region, see `finish`."""
    foreground: Foreground = "estimate"
    """Colour of soft pixels: estimated, or the source's with the old background in it."""
    despill: Despill | None = None
    """Takes the light of a green or blue screen out of the foreground's colour, see `despill`."""
    premultiplied: bool = False
    bit_depth: int = 16
    """Of PNG outputs: 8 or 16."""
    start: str | None = None
    """In point: frame, seconds or time; see `read.parse_position`."""
    end: str | None = None
    """Out point, itself included."""
    reader: Reader = "pyav"
    frame_rate: Fraction | None = None
    """Of an image sequence; None is 24."""
    allow_truncated: bool = False
    deinterlace: Deinterlace = "refuse"
    """What to do with interlaced movies; see `read.open_video`."""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if (str(self.model) == NO_MODEL) != (self.matte is not None):
            found = "mattes were given" if self.matte is not None else f"model {NO_MODEL!r} was asked for"
            raise OptionError(f"{found}: give both, --model {NO_MODEL} and --matte PATH, to take mattes from a file")
        if self.foreground not in get_args(Foreground):
            raise OptionError(
                f"foreground {self.foreground!r} asked for: choose one of {', '.join(get_args(Foreground))}"
            )
        if not 0 <= self.smooth <= 1:
            raise OptionError(f"smoothing {self.smooth} asked for: it is a strength from 0 to 1")
        if self.rehearsal is not None and not 0 <= self.rehearsal <= LONGEST_REHEARSAL:
            raise OptionError(
                f"a rehearsal of {self.rehearsal} steps asked for: it has 0 (none) to {LONGEST_REHEARSAL}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"batch size {self.batch_size} asked for: it must be at least 1")


def chosen_options(options: MatteOptions) -> dict[str, object]:
    """The choices that are not the default, by the names of their options; but for the one to replace outputs."""
    chosen = _changed(options, MatteOptions()) | _changed(options.finish, FinishOptions())
    if options.finish.region is not None:
        chosen["region"] = ",".join(map(str, options.finish.region))
    if options.despill is not None:
        chosen["despill"] = f"{options.despill.screen},{options.despill.strength:g}"
    return {name: value for name, value in chosen.items() if name not in ("overwrite", "finish")}


def _changed(options: MatteOptions | FinishOptions, default: MatteOptions | FinishOptions) -> dict[str, object]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}
