# ruff: noqa: RUF009 - `option` returns a dataclass field
"""All choices of a run except its input, prompts and outputs: plain values with their ranges.

Each field says once what the command line, batch manifests, the documentation and the JSON schema
need to know about it, see `OptionInfo` and `option_table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

from vidmatte.errors import OptionError

Foreground = Literal["estimate", "source"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Reader = Literal["pyav", "decord", "nvdec"]
Deinterlace = Literal["refuse", "bwdif", "yadif", "keep"]
"""Interlaced frames: refuse them, deinterlace them in one of two ways, or read them as they are."""
OnDamage = Literal["refuse", "stop", "skip", "hold"]
"""Damaged frames of a movie: refuse it, end before them, skip them, or hold the frame before."""
Missing = Literal["error", "hold"]
"""Missing numbers of an image sequence: refuse it, or hold the frame before."""
SourceAlpha = Literal["ignore", "multiply", "matte"]
"""The alpha of the source: ignore it, multiply the matte with it, or take it as the matte."""
Screen = Literal["green", "blue"]
Quality = Literal["standard", "best"]
MaskEdge = Literal["soft", "hard"]
"""The edge of a mask on its own frame: find it anew from the image, or keep the mask as it is."""
MaskFit = Literal["exact", "scale", "center", "top-left"]
"""A mask of another size than the frame: refuse it, scale it, or lay it on the frame's middle or
corner."""
Extent = Literal["part", "object", "group"]
"""How much a mark may mean: a part of the object, all of it, or several objects together."""
EXTENTS: tuple[Extent, ...] = get_args(Extent)
PromptModelName = Literal["compact", "sam2", "edgetam"]
"""Models that can answer marks for another one."""
PROMPT_MODELS: tuple[PromptModelName, ...] = get_args(PromptModelName)
Kind = Literal["text", "path", "position", "number", "whole", "switch"]

NO_MODEL = "none"
"""Name of the model for external mattes."""
SUGGESTED_ADAPT_STEPS = 12
"""Length of an adaptation where a user asks for one without saying how long."""
MAX_ADAPT_STEPS = 10_000
SHORTEST_SEGMENT = 2
WIDEST = 100.0
"""Largest number of pixels to move an edge by, and largest sigma to soften it with."""


@dataclass(frozen=True)
class OptionInfo:
    """Facts about an option for the command line, manifests and documents."""

    help: str
    """Whole sentences."""
    kind: Kind
    metavar: str = ""
    """Placeholder of the value, as in "PIXELS"; empty for switches and choices."""
    choices: tuple[str, ...] = ()
    """All values of a closed choice."""
    span: tuple[float, float] | None = None
    """Least and largest number, both included."""
    default_text: str = ""
    """The default in words, if its value does not tell it."""
    bare: Any = None
    """Value of the option if it is given without one; None if it needs a value."""
    name: str = ""
    """Name on the command line and in manifests, if it differs from that of the field."""
    other_flag: str = ""
    """Another spelling on the command line, as other programs have it."""
    parse: Callable[[str], Any] | None = None
    """Turns the text of the command line or of a manifest into the value of the field."""
    in_manifest: bool = True
    """Whether a shot of a batch can set it."""
    has_variable: bool = False
    """Whether an environment variable can set it for a machine: VIDMATTE_ and the name."""


def option(default: Any, help: str, kind: Kind, **info: Any) -> Any:
    """Return a dataclass field for an option; `info` are fields of `OptionInfo`."""
    return field(default=default, metadata={"option": OptionInfo(help, kind, **info)})


def _check_fields(options: MatteOptions | FinishOptions) -> None:
    """Raise OptionError for a value outside of the span or the choices of its option."""
    for each in fields(options):
        info: OptionInfo | None = each.metadata.get("option")
        value = getattr(options, each.name)
        if info is None or value is None:
            continue
        if info.choices and str(value) not in info.choices:
            raise OptionError(
                f"{each.name} {value!r} is not valid: choose one of {', '.join(info.choices)}"
            )
        if info.span is not None and not info.span[0] <= value <= info.span[1]:
            raise OptionError(f"{each.name} {value:g} is not valid: {_describe_span(info)}")


def _describe_span(info: OptionInfo) -> str:
    assert info.span is not None
    least, largest = info.span
    number = "a whole number" if info.kind == "whole" else "a number"
    if math.isinf(largest):
        return f"give {number} of at least {least:g}"
    return f"give {number} from {least:g} to {largest:g}"


@dataclass(frozen=True)
class Despill:
    """The colour of the screen light to remove, and its strength."""

    screen: Screen
    strength: float = 1.0
    """0 (none) to 1 (all)."""

    def __post_init__(self) -> None:
        if self.screen not in get_args(Screen):
            raise OptionError(
                f"despill of a {self.screen!r} screen is not valid: "
                f"choose {' or '.join(get_args(Screen))}"
            )
        if not 0 <= self.strength <= 1:
            raise OptionError(
                f"despill of strength {self.strength:g} is not valid: give a number from 0 to 1"
            )


def parse_despill(text: str) -> Despill:
    """Return the despill of `green` or `green,0.5`. Raises OptionError."""
    screen, comma, strength = text.partition(",")
    try:
        number = float(strength) if comma else 1.0
    except ValueError as error:
        raise OptionError(
            f"despill {text!r} is not valid: write green or blue, or green,0.5 for half of it"
        ) from error
    return Despill(screen, number)  # type: ignore[arg-type]  # checked by Despill


def parse_region(text: str) -> tuple[float, float, float, float]:
    """Return the region of the form `x0,y0,x1,y1`. Raises OptionError."""
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError as error:
        raise OptionError(f"region {text!r} is not valid: write x0,y0,x1,y1") from error
    return x0, y0, x1, y1


def parse_rate(text: str) -> Fraction:
    """Return the rate of 25, 23.976 (meaning 24000/1001) or 24000/1001. Raises OptionError."""
    try:
        rate = Fraction(text).limit_denominator(1_000_000)
    except (ValueError, ZeroDivisionError) as error:
        raise OptionError(
            f"frame rate {text!r} is not valid: write 25, 23.976 or 24000/1001"
        ) from error
    if not 1 <= rate <= 1000:
        raise OptionError(f"frame rate {text} is not valid: it must be 1 to 1000 frames per second")
    if rate.denominator in (1, 1001):
        return rate
    # 23.976, 29.97 and 59.94 stand for n * 1000 / 1001.
    ntsc = Fraction(round(rate) * 1000, 1001)
    return ntsc if abs(rate - ntsc) < Fraction(1, 1000) else rate


@dataclass(frozen=True)
class FinishOptions:
    """How each matte is finished before its colour is estimated; by default it is left as it is.

    The order of the fields is the order of the steps, except that the region is last. Masks are
    images, movies or numbered sequences of the frames' size, white where they act, gray for partly;
    see `read.mask.open_mask`.
    """

    clip_black: float = option(
        0.0,
        "Alpha that becomes 0. This and the following options are applied in this order.",
        "number",
        metavar="0..1",
        span=(0, 1),
    )
    clip_white: float = option(1.0, "Alpha that becomes 1.", "number", metavar="0..1", span=(0, 1))
    """Must be above `clip_black`."""
    remove_dots: float = option(
        0.0,
        "Remove separate spots of the matte of up to this area; --despeckle is the same.",
        "number",
        metavar="PIXELS",
        other_flag="--despeckle",
        span=(0, math.inf),
    )
    """See `imaging.morphology.remove_dots`."""
    fill_holes: float = option(
        0.0,
        "Fill enclosed holes of the matte of up to this area.",
        "number",
        metavar="PIXELS",
        span=(0, math.inf),
    )
    grow: float = option(
        0.0,
        "Move the edge outwards, or inwards if negative; fractions count.",
        "number",
        metavar="PIXELS",
        span=(-WIDEST, WIDEST),
    )
    """See `imaging.morphology.grow`."""
    feather: float = option(
        0.0,
        "Soften the edge with a Gaussian of this sigma.",
        "number",
        metavar="PIXELS",
        span=(0, WIDEST),
    )
    invert: bool = option(False, "Matte the surroundings instead of the object.", "switch")
    inside_mask: Path | None = option(
        None,
        "Image, movie or %04d.png: white is forced into the matte.",
        "path",
        metavar="PATH",
        parse=Path,
    )
    """A core, or holdout, matte."""
    outside_mask: Path | None = option(
        None,
        "Garbage matte: white is forced out of the matte, also out of the inside mask.",
        "path",
        metavar="PATH",
        parse=Path,
    )
    region: tuple[float, float, float, float] | None = option(
        None,
        "Set alpha to 0 outside of this rectangle.",
        "text",
        metavar="X0,Y0,X1,Y1",
        parse=parse_region,
    )
    """Pixels of the displayed frame; pixels cut by it keep the share of alpha inside."""

    def __post_init__(self) -> None:
        _check_fields(self)
        if not self.clip_black < self.clip_white:
            raise OptionError(
                f"clipping at black {self.clip_black:g} and white {self.clip_white:g} is not "
                f"valid: black has to be below white"
            )

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return self != _NOTHING


_NOTHING = FinishOptions()


@dataclass(frozen=True)
class MatteOptions:
    """All choices of a run except its input, prompts and outputs.

    Raises OptionError for invalid or contradictory values.
    """

    model: str | Path = option(
        "compact",
        "See 'vidmatte models'. A named model is downloaded once if needed; none: use --matte.",
        "text",
        metavar="NAME|FILE",
        has_variable=True,
    )
    """See `load_model`; "none" takes `matte` instead."""
    matte: str | Path | None = option(
        None,
        "With --model none: take these mattes, no prompt is needed. A movie (its alpha, or gray), "
        "%04d.png or an image.",
        "path",
        metavar="PATH",
    )
    """See `read.mask.open_mask`."""
    trimaps: str | Path | None = option(
        None,
        "A trimap of every frame instead of prompts, for vitmatte and closed-form: a movie, "
        "%04d.png or {name}.png.",
        "path",
        metavar="PATH",
    )
    """For a set of images a path with `{name}`; see `read.mask`."""
    sd: str | Path | None = option(
        None,
        "Stable Diffusion 2.1 for iconmatting: a folder or a .safetensors file.",
        "path",
        metavar="PATH",
        default_text="downloaded",
        has_variable=True,
    )
    """See `load_model`."""
    weights: str | Path | None = option(
        None,
        "The authors' checkpoint for iconmatting, a folder of networks for the other models.",
        "path",
        metavar="PATH",
        has_variable=True,
    )
    """See `load_model`; None for the model's own."""
    prompt_model: PromptModelName | None = option(
        None,
        "Model that answers points, strokes and boxes on the marked frames; the other one mattes "
        "the clip. sam2 and edgetam know whole objects from a click.",
        "text",
        choices=get_args(PromptModelName),
        default_text="that of --model",
        has_variable=True,
    )
    """See `model.prompted`."""
    prompt_weights: str | Path | None = option(
        None,
        "A folder of networks for --prompt-model.",
        "path",
        metavar="PATH",
        default_text="downloaded",
        has_variable=True,
    )
    """See `load_model`."""
    settings: str = option(
        "",
        "Settings of the model. iconmatting: time_step, ensemble, seed, inter, intra, "
        "multi_scale, references, positions, at_once, compile; icmp: points, side, band; sam2, "
        "edgetam: points, band; seggpt: matte, band.",
        "text",
        metavar="NAME=VALUE,...",
    )
    """As in "ensemble=1,inter=off"; see `model.build.parse_settings`."""
    device: str = option(
        "auto", "auto, cpu, cuda, cuda:1, mps.", "text", metavar="DEVICE", has_variable=True
    )
    precision: Precision = option(
        "auto",
        "Number format that the network computes in.",
        "text",
        choices=get_args(Precision),
        has_variable=True,
    )
    batch_size: int | None = option(
        None,
        "Number of frames that are passed on together.",
        "whole",
        metavar="FRAMES",
        span=(1, math.inf),
        default_text="by the device",
        has_variable=True,
    )
    threads: int | None = option(
        None,
        "Processor threads of the network; changes the last bits. Codecs get one more.",
        "whole",
        metavar="N",
        span=(1, math.inf),
        default_text="half of the cores for compact, else one less than all",
        in_manifest=False,
        has_variable=True,
    )
    """Batches share the cores by `--threads` of their own."""
    quality: Quality = option(
        "standard",
        "Quality of compact; best sees more pixels and takes a third longer.",
        "text",
        choices=get_args(Quality),
        has_variable=True,
    )
    """Best is a working size of 512 in place of 448."""
    working_size: int | None = option(
        None,
        "Longer side of what the network sees.",
        "whole",
        metavar="PIXELS",
        default_text="that of the quality",
        has_variable=True,
    )
    """The model checks its range."""
    adapt_steps: int = option(
        0,
        "Fine-tuning steps on the reference frames before tracking; 0 for none.",
        "whole",
        metavar="STEPS",
        span=(0, MAX_ADAPT_STEPS),
    )
    """See `model.compact.adapt`. Objects that keep their looks gain a little by it; one that turns
    may be lost."""
    mask_edge: MaskEdge = option(
        "soft",
        "What a mask is worth on its own frame: soft keeps its inside and finds its edge anew in "
        "the image, hard keeps all of it.",
        "text",
        choices=get_args(MaskEdge),
    )
    """See `stages.full_size.keep_given_areas`."""
    mask_fit: MaskFit = option(
        "exact",
        "Masks, painted strokes, mattes and trimaps of another size than the frame: refuse them, "
        "scale them to it, or lay them unscaled on its middle or its top left corner (1080 lines "
        "on 1088), cut or continued at the sides.",
        "text",
        choices=get_args(MaskFit),
    )
    """See `imaging.fit.fit_to_frame`."""
    smooth: float = option(
        0.0,
        "Strength of the temporal alpha smoother; 0.5 without a value.",
        "number",
        metavar="0..1",
        span=(0, 1),
        bare=0.5,
        default_text="off",
    )
    finish: FinishOptions = field(default_factory=FinishOptions)
    """See `stages.finish`."""
    start: str | None = option(
        None,
        "In point: a frame number (of the file in a sequence, from 0 in a movie), index:5 from the "
        "first frame, seconds (5s, 5.0), time (00:00:05.5) or timecode (00:00:05:12).",
        "position",
        metavar="POSITION",
    )
    """See `read.parse_position`."""
    end: str | None = option(
        None, "Out point; this frame is included.", "position", metavar="POSITION"
    )
    frame_rate: Fraction | None = option(
        None,
        "Frame rate of an image sequence: 25, 23.976, 24000/1001.",
        "text",
        metavar="RATE",
        default_text="24",
        name="fps",
        parse=parse_rate,
    )
    reader: Reader = option(
        "pyav", "Library that decodes movies.", "text", choices=get_args(Reader)
    )
    deinterlace: Deinterlace = option(
        "refuse",
        "Interlaced movies: make whole frames (bwdif or yadif; bwdif without a value), keep the "
        "frames as they are, or refuse them.",
        "text",
        choices=get_args(Deinterlace),
        bare="bwdif",
    )
    """See `read.open_video`."""
    allow_truncated: bool = option(
        False, "Matte the part of a damaged movie that can be read.", "switch"
    )
    stream: int | None = option(
        None,
        "Video stream of a movie, counted from 0 among all its streams.",
        "whole",
        metavar="N",
        span=(0, math.inf),
        default_text="the main one",
    )
    on_damage: OnDamage = option(
        "refuse",
        "Damaged frames of a movie: refuse it, stop before them, skip them, or hold the frame "
        "before them.",
        "text",
        choices=get_args(OnDamage),
    )
    """See `read.open_video`."""
    missing: Missing = option(
        "error",
        "Missing frames of an image sequence: refuse it, or hold the frame before them.",
        "text",
        choices=get_args(Missing),
    )
    layer: str | None = option(
        None,
        "Layer of EXR to read, as in beauty for the channels beauty.R, beauty.G and beauty.B.",
        "text",
        metavar="NAME",
        default_text="the channels without a layer, or rgba, beauty and the like",
    )
    """See `read.exr_channels`."""
    view: str | None = option(
        None,
        "View of stereo footage, as in left: that of EXR with several, and what stands for %V (%v: "
        "its first letter) in the paths of inputs and outputs.",
        "text",
        metavar="NAME",
        default_text="the first one of EXR",
    )
    """See `media.patterns.with_view`."""
    input_space: str | None = option(
        None,
        "Colour space of INPUT in an OpenColorIO config, such as 'ARRI LogC4', S-Log3 or ACEScg; "
        "auto takes what its metadata says.",
        "text",
        metavar="NAME|auto",
        default_text="by the tags of the file",
    )
    """See `pipeline.color`."""
    output_space: str | None = option(
        None,
        "Colour space of EXR with colour, such as ACEScg.",
        "text",
        metavar="NAME",
        default_text="that of the source if it is linear, else scene_linear of the config",
    )
    ocio: str | Path | None = option(
        None,
        "OpenColorIO config of these spaces: a .ocio or .ocioz file, or ocio://NAME for one that "
        "comes with OpenColorIO.",
        "text",
        metavar="CONFIG",
        default_text="$OCIO, else the ACES studio config",
    )
    """See `imaging.ocio.config_in_use`."""
    source_alpha: SourceAlpha = option(
        "ignore",
        "Alpha of INPUT: multiply the matte with it, or take it as the matte (--model none).",
        "text",
        choices=get_args(SourceAlpha),
    )
    foreground: Foreground = option(
        "estimate",
        "Colour of soft pixels: estimated, or the source's with the old background in it.",
        "text",
        choices=get_args(Foreground),
    )
    despill: Despill | None = option(
        None,
        "Take the light of a green or blue screen out of the colour; strength 0 to 1.",
        "text",
        metavar="SCREEN[,STRENGTH]",
        parse=parse_despill,
    )
    """See `imaging.despill`."""
    premultiplied: bool = option(
        False, "Write colour multiplied with alpha instead of straight.", "switch"
    )
    bit_depth: int = option(16, "Bit depth of PNG outputs.", "whole", choices=("8", "16"))
    start_number: int | None = option(
        None,
        "Number of the source's first frame in the names of image outputs, as in 1001; a run that "
        "begins at --start index:10 then writes 1011 first.",
        "whole",
        metavar="NUMBER",
        span=(0, math.inf),
        default_text="that of an image sequence, 0 for movies",
    )
    overwrite: bool = option(False, "Replace outputs that exist.", "switch", in_manifest=False)
    resume: bool = option(
        False,
        "Continue a run that was stopped after its last segment.",
        "switch",
        in_manifest=False,
    )
    segment_frames: int = option(
        500,
        "Render longer clips in segments of this length, which --resume does not repeat.",
        "whole",
        metavar="FRAMES",
        span=(SHORTEST_SEGMENT, math.inf),
    )
    full_hash: bool = option(
        False,
        "Compare all bytes of the input with those of the run that --resume continues.",
        "switch",
    )

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_mattes(self)
        _check_prompt_model(self)
        if self.ocio is not None and not (self.input_space or self.output_space):
            raise OptionError(
                f"ocio {str(self.ocio)!r} was given without a colour space: give --input-space or "
                f"--output-space too"
            )


def _check_mattes(options: MatteOptions) -> None:
    """Raise OptionError if there are external mattes as well as a model, or neither."""
    has_model = str(options.model) != NO_MODEL
    if options.source_alpha == "matte":
        if has_model or options.matte is not None:
            raise OptionError(
                f"source_alpha is 'matte', so that the source is its own matte: give --model "
                f"{NO_MODEL} too, and no --matte"
            )
        return
    if has_model == (options.matte is not None):
        found = "mattes were given" if has_model else f"model {NO_MODEL!r} was given"
        raise OptionError(
            f"{found}: give both, --model {NO_MODEL} and --matte PATH, to take mattes from a file"
        )


def _check_prompt_model(options: MatteOptions) -> None:
    """Raise OptionError for a model that answers marks where there are none, or weights alone."""
    if options.prompt_model is None:
        if options.prompt_weights is not None:
            raise OptionError(
                f"prompt_weights {options.prompt_weights} were given without a model for marks: "
                f"give prompt_model too, or leave them out"
            )
        return
    if options.trimaps is not None or str(options.model) == NO_MODEL:
        raise OptionError(
            f"prompt_model {options.prompt_model!r} was given, but mattes or trimaps take no "
            f"marks: leave it out"
        )


def ends_at_damage(options: MatteOptions) -> bool:
    """Return whether a movie may end early, before damaged or missing frames."""
    return options.allow_truncated or options.on_damage == "stop"


def chosen_options(options: MatteOptions) -> dict[str, object]:
    """Return the choices different from the default by field; not `overwrite` and `resume`."""
    chosen = _changed(options, MatteOptions()) | _changed(options.finish, FinishOptions())
    if options.finish.region is not None:
        chosen["region"] = ",".join(map(str, options.finish.region))
    if options.despill is not None:
        chosen["despill"] = f"{options.despill.screen},{options.despill.strength:g}"
    left_out = ("overwrite", "resume", "finish")
    return {name: value for name, value in chosen.items() if name not in left_out}


def _changed(
    options: MatteOptions | FinishOptions, default: MatteOptions | FinishOptions
) -> dict[str, object]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}
