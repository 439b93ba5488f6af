"""All choices of a run that are not its input, prompts and outputs: plain values with their ranges."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from vidmatte.errors import OptionError

Foreground = Literal["estimate", "source"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Reader = Literal["pyav", "decord"]
Deinterlace = Literal["refuse", "bwdif", "yadif", "keep"]
"""What to do with interlaced frames: nothing at all, deinterlace them in one of two ways, or read them as they are."""
OnDamage = Literal["refuse", "stop", "skip", "hold"]
"""What to do at damaged frames of a movie: refuse it, end there, leave them out, or repeat the frame
before them."""
SourceAlpha = Literal["ignore", "multiply", "matte"]
"""What to do with the alpha of the source: nothing, multiply the matte with it, or take it as the
matte."""
NO_MODEL = "none"
"""Name of the model that takes external mattes."""
DEFAULT_ADAPT_STEPS = 80
"""Adaptation steps of a clip; a short one gets at most `ADAPT_STEPS_PER_FRAME`, so that the wait is in proportion."""
ADAPT_STEPS_PER_FRAME = 2
MAX_ADAPT_STEPS = 10_000
SHORTEST_SEGMENT = 2
WIDEST = 100.0
"""Pixels by which an edge can be moved, and the largest sigma that it can be softened by."""
Screen = Literal["green", "blue"]


@dataclass(frozen=True)
class Despill:
    """Which screen's light to take out, and how much of it."""

    screen: Screen
    strength: float = 1.0
    """0 (none) to 1 (all)."""

    def __post_init__(self) -> None:
        if self.screen not in get_args(Screen):
            raise OptionError(
                f"despill of a {self.screen!r} screen is not valid: choose {' or '.join(get_args(Screen))}"
            )
        if not 0 <= self.strength <= 1:
            raise OptionError(f"despill of strength {self.strength:g} is not valid: it is 0 to 1")


def parse_despill(text: str) -> Despill:
    """Despill of the form `green` or `green,0.5`. Raises OptionError."""
    screen, comma, strength = text.partition(",")
    try:
        return Despill(screen, float(strength) if comma else 1.0)  # type: ignore[arg-type]  # checked by Despill
    except ValueError as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(
            f"despill {text!r} is not valid: write green or blue, or green,0.5 for half of it"
        ) from error


@dataclass(frozen=True)
class FinishOptions:
    """What is done to each matte before its colour is estimated; nothing by default. The order is that of the module.

    Masks are images, movies or numbered sequences of the frames' size, white where they act, gray for partly; see
    `read.mask.open_mask`.
    """

    clip_black: float = 0.0
    """Alpha that becomes 0, 0..1."""
    clip_white: float = 1.0
    """Alpha that becomes 1, 0..1, above `clip_black`."""
    grow: float = 0.0
    """Pixels by which the outline moves out (in where negative), -100..100, see `imaging.morphology.grow`."""
    feather: float = 0.0
    """Standard deviation in pixels of the Gaussian that softens the outline, 0..100."""
    invert: bool = False
    inside_mask: Path | None = None
    """White is forced into the matte: a core, or holdout, matte."""
    outside_mask: Path | None = None
    """White is forced out of the matte: a garbage matte."""
    region: tuple[float, float, float, float] | None = None
    """(x0, y0, x1, y1) in pixels of the displayed frame; pixels that it cuts keep the share of alpha inside."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip_black < self.clip_white <= 1:
            raise OptionError(
                f"clipping at black {self.clip_black:g} and white {self.clip_white:g} is not valid: "
                f"it has to be 0 <= black < white <= 1"
            )
        if not -WIDEST <= self.grow <= WIDEST:
            raise OptionError(
                f"growth by {self.grow:g} pixels is not valid: it is {-WIDEST:g} (shrink) to {WIDEST:g}"
            )
        if not 0 <= self.feather <= WIDEST:
            raise OptionError(
                f"feather of {self.feather:g} pixels is not valid: it is 0 to {WIDEST:g}"
            )

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return self != _NOTHING


_NOTHING = FinishOptions()


def parse_region(text: str) -> tuple[float, float, float, float]:
    """A region of the form `x0,y0,x1,y1`. Raises OptionError."""
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError as error:
        raise OptionError(f"region {text!r} is not valid: write x0,y0,x1,y1") from error
    return x0, y0, x1, y1


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
    trimaps: str | Path | None = None
    """Trimaps of all frames, for models that take them instead of marks: a movie, a sequence, or for a set of images a
    path with `{name}`; see `read.beside`."""
    settings: str = ""
    """Of the model, as in "ensemble=1,inter=off"; see `model.build.parse_settings`."""
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    """Frames that are decoded and passed on together; None chooses by the device."""
    working_size: int | None = None
    """Longer side of what the network sees, in pixels; None is the model's own."""
    adapt_steps: int | None = None
    """Fine-tuning steps on the reference frames before a clip is tracked, see `model.compact.adapt`; 0 for none.

    None is twice the clip's frames, up to a default, for clips that are tracked by the embedded model; else 0.
    """
    smooth: float = 0.0
    """Strength of the temporal alpha smoother, 0 (off) to 1."""
    finish: FinishOptions = field(default_factory=FinishOptions)
    """Clip, grow, feather, invert, masks and region, see `stages.finish`."""
    foreground: Foreground = "estimate"
    """Colour of soft pixels: estimated, or the source's with the old background in it."""
    despill: Despill | None = None
    """Takes the light of a green or blue screen out of the foreground's colour, see `imaging.despill`."""
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
    stream: int | None = None
    """Which video stream of a movie, counted from 0 among all streams; None is the default one."""
    on_damage: OnDamage = "refuse"
    """What to do at damaged frames of a movie; see `read.open_video`."""
    source_alpha: SourceAlpha = "ignore"
    """What to do with the alpha of the source; "matte" is for model "none"."""
    overwrite: bool = False
    segment_frames: int = 500
    """Longer clips are rendered in segments of so many frames, which a run that goes on does not repeat."""
    resume: bool = False
    """Go on with the finished segments of a run that was stopped."""

    def __post_init__(self) -> None:
        _check_reading(self)
        is_own_matte = self.source_alpha == "matte"
        has_matte = self.matte is not None or is_own_matte
        if (str(self.model) == NO_MODEL) != has_matte:
            found = (
                "mattes were given"
                if self.matte is not None
                else f"model {NO_MODEL!r} was asked for"
            )
            raise OptionError(
                f"{found}: give both, --model {NO_MODEL} and --matte PATH, to take mattes from a file"
            )
        if self.foreground not in get_args(Foreground):
            raise OptionError(
                f"foreground {self.foreground!r} is not valid: choose one of {', '.join(get_args(Foreground))}"
            )
        if not 0 <= self.smooth <= 1:
            raise OptionError(f"smoothing {self.smooth} is not valid: it is a strength from 0 to 1")
        if self.adapt_steps is not None and not 0 <= self.adapt_steps <= MAX_ADAPT_STEPS:
            raise OptionError(
                f"adapt_steps is {self.adapt_steps}: it must be 0 (off) to {MAX_ADAPT_STEPS}"
            )
        if self.segment_frames < SHORTEST_SEGMENT:
            raise OptionError(
                f"segments of {self.segment_frames} frames are not valid: they have at least {SHORTEST_SEGMENT}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(f"batch size {self.batch_size} is not valid: it must be at least 1")


def _check_reading(options: MatteOptions) -> None:
    """Raise OptionError for choices of reading that are not offered, or contradict the model."""
    for name, value, choices in (
        ("on_damage", options.on_damage, get_args(OnDamage)),
        ("source_alpha", options.source_alpha, get_args(SourceAlpha)),
    ):
        if value not in choices:
            raise OptionError(f"{name} {value!r} is not valid: choose one of {', '.join(choices)}")
    is_without_model = str(options.model) == NO_MODEL and options.matte is None
    if options.source_alpha == "matte" and not is_without_model:
        raise OptionError(
            "source_alpha is 'matte', so that the source is its own matte: "
            f"give --model {NO_MODEL} too, and no --matte"
        )


def ends_at_damage(options: MatteOptions) -> bool:
    """Return whether a movie may end early, before damaged or missing frames."""
    return options.allow_truncated or options.on_damage == "stop"


def chosen_options(options: MatteOptions) -> dict[str, object]:
    """The choices that are not the default, by the names of their options; but for the one to replace outputs."""
    chosen = _changed(options, MatteOptions()) | _changed(options.finish, FinishOptions())
    if options.finish.region is not None:
        chosen["region"] = ",".join(map(str, options.finish.region))
    if options.despill is not None:
        chosen["despill"] = f"{options.despill.screen},{options.despill.strength:g}"
    return {
        name: value
        for name, value in chosen.items()
        if name not in ("overwrite", "resume", "finish")
    }


def _changed(
    options: MatteOptions | FinishOptions, default: MatteOptions | FinishOptions
) -> dict[str, object]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}
