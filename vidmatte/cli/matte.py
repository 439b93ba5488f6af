"""`vidmatte matte`, the default command."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from vidmatte.cli.console import one_line_errors, print_summary
from vidmatte.cli.pick import open_picker, refuse_for_picker
from vidmatte.cli.progress import ProgressLine
from vidmatte.errors import OptionError
from vidmatte.media.patterns import stem_of
from vidmatte.options import (
    DEFAULT_ADAPT_STEPS,
    MAX_ADAPT_STEPS,
    NO_MODEL,
    Deinterlace,
    FinishOptions,
    Foreground,
    MatteOptions,
    OnDamage,
    Precision,
    Reader,
    SourceAlpha,
    parse_despill,
    parse_region,
)
from vidmatte.pipeline.run import matte
from vidmatte.prompts.files import load_prompts
from vidmatte.prompts.objects import prompts_of_objects
from vidmatte.prompts.prompt import Prompt, parse_box, parse_points
from vidmatte.read.rate import parse_rate
from vidmatte.report.summary import Summary

_PICKER = "\0picker"
"""Value of `--points` when none is given."""
_DEFAULTS = MatteOptions()
_FINISH = _DEFAULTS.finish
_PATH = click.Path(path_type=Path)
T = TypeVar("T")


@click.command("matte")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--images",
    is_flag=True,
    help="INPUT is a folder of, or several, independent images, not a clip.",
)
@click.option(
    "--reference", metavar="PATH", help="Image or clip that the prompts mark.  [default: INPUT]"
)
@click.option(
    "--ref-frame", "ref_frames", type=click.IntRange(min=0), multiple=True, metavar="N",
    help="0-based frame that is marked; repeat it, and each prompt, for several.  [default: 0]",
)  # fmt: skip
@click.option(
    "--points", "points", multiple=True, is_flag=False, flag_value=_PICKER, metavar='"X,Y[,LABEL] ..."',
    help="Pixels of the displayed frame; label 1 object (default), 0 background. Without a value: the picker.",
)  # fmt: skip
@click.option(
    "--scribbles", multiple=True, metavar="PNG",
    help="Painted strokes: white or green object, black or red background, the rest transparent.",
)  # fmt: skip
@click.option(
    "--mask",
    "masks",
    multiple=True,
    metavar="PNG",
    help="Image of the frame's size: white is the object. Each label of a label mask is an object; "
    "mask.png:2 is label 2 alone.",
)
@click.option(
    "--box", "boxes", multiple=True, metavar="X0,Y0,X1,Y1", help="All of the object lies inside."
)
@click.option(
    "--prompts",
    "prompt_file",
    metavar="FILE.json",
    help="All marks of any number of frames, from a file.",
)
@click.option("--object", "objects", multiple=True, metavar="NAME",
              help="Which objects of the prompt file; repeatable.  [default: all]")  # fmt: skip
@click.option("--model", default=str(_DEFAULTS.model), show_default=True, metavar="NAME|FILE",
              help="See 'vidmatte models'; what a named model needs is downloaded once; none: --matte.")  # fmt: skip
@click.option("--matte", metavar="PATH",
              help="With --model none: take these mattes, nothing is marked. A movie (its alpha, or gray), %04d.png "
              "or an image.")  # fmt: skip
@click.option("--trimaps", metavar="PATH",
              help="A trimap of every frame instead of marks, for vitmatte and closed-form: movie, "
              "%04d.png, {name}.png.")  # fmt: skip
@click.option("--sd", metavar="PATH",
              help="Stable Diffusion 2.1 for iconmatting: folder or .safetensors.  [default: downloaded]")  # fmt: skip
@click.option("--weights", metavar="PATH",
              help="The authors' checkpoint for iconmatting, a folder of networks for the others.")  # fmt: skip
@click.option("--settings", default=_DEFAULTS.settings, metavar="NAME=VALUE,...",
              help="Of iconmatting: time_step, ensemble, seed, inter, intra, multi_scale, references, positions, "
              "at_once, compile; icmp: points, side, band; "
              "sam2, edgetam: points, band; seggpt: matte, band.")  # fmt: skip
@click.option(
    "--device", default=_DEFAULTS.device, show_default=True, help="auto, cpu, cuda, cuda:1, mps."
)
@click.option("--precision", type=click.Choice(get_args(Precision)), default=_DEFAULTS.precision, show_default=True,
              help="Number format that the network computes in.")  # fmt: skip
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Frames passed on together.  [default: by the device]",
)
@click.option("--working-size", type=int, metavar="PIXELS",
              help="Longer side of what the network sees.  [default: the model's own]")  # fmt: skip
@click.option(
    "--adapt-steps", type=click.IntRange(0, MAX_ADAPT_STEPS), metavar="STEPS",
    help="Fine-tuning steps on the reference frames before tracking; 0 for none.  "
    f"[default: twice the frames, up to {DEFAULT_ADAPT_STEPS}]",
)  # fmt: skip
@click.option("--smooth", type=click.FloatRange(0, 1), is_flag=False, flag_value=0.5, default=_DEFAULTS.smooth,
              help="Temporal alpha smoother; without a value 0.5.  [default: off]")  # fmt: skip
@click.option("--clip-black", type=float, default=_FINISH.clip_black, show_default=True, metavar="0..1",
              help="Alpha that becomes 0. This and what follows is applied in this order.")  # fmt: skip
@click.option("--clip-white", type=float, default=_FINISH.clip_white, show_default=True, metavar="0..1",
              help="Alpha that becomes 1.")  # fmt: skip
@click.option("--grow", type=float, default=_FINISH.grow, show_default=True, metavar="PIXELS",
              help="Move the outline out, in where negative; fractions count.")  # fmt: skip
@click.option("--feather", type=float, default=_FINISH.feather, show_default=True, metavar="PIXELS",
              help="Soften the outline with a Gaussian of this sigma.")  # fmt: skip
@click.option("--invert", is_flag=True, help="Matte the surroundings instead of the object.")
@click.option("--inside-mask", metavar="PATH", type=_PATH,
              help="Image, movie or %04d.png: white is forced into the matte.")  # fmt: skip
@click.option("--outside-mask", metavar="PATH", type=_PATH,
              help="Garbage matte: white is forced out of the matte, also of the inside mask.")  # fmt: skip
@click.option("--region", metavar="X0,Y0,X1,Y1", help="Alpha is 0 outside of it.")
@click.option(
    "--start",
    metavar="POSITION",
    help="In point: frame (120), seconds (5s, 5.0), time (00:00:05.5) or timecode (00:00:05:12).",
)
@click.option("--end", metavar="POSITION", help="Out point, itself included.")
@click.option(
    "--fps",
    metavar="RATE",
    help="Frame rate of an image sequence: 25, 23.976, 24000/1001.  [default: 24]",
)
@click.option("--reader", type=click.Choice(get_args(Reader)), default=_DEFAULTS.reader, show_default=True,
              help="What decodes movies.")  # fmt: skip
@click.option(
    "--deinterlace", type=click.Choice(get_args(Deinterlace)), is_flag=False, flag_value="bwdif",
    default=_DEFAULTS.deinterlace, show_default=True,
    help="Interlaced movies: make whole frames (without a value: bwdif), keep them as they are, or refuse them.",
)  # fmt: skip
@click.option("--stream", type=click.IntRange(min=0), metavar="N",
              help="Video stream of a movie, among all its streams.  [default: the main one]")  # fmt: skip
@click.option("--on-damage", type=click.Choice(get_args(OnDamage)), default=_DEFAULTS.on_damage, show_default=True,
              help="Damaged frames of a movie: refuse it, stop before them, skip or hold.")  # fmt: skip
@click.option("--source-alpha", type=click.Choice(get_args(SourceAlpha)), default=_DEFAULTS.source_alpha,
              show_default=True,
              help="Alpha of INPUT: multiply the matte with it, or take it as the matte (--model none).")  # fmt: skip
@click.option("--allow-truncated", is_flag=True, help="Matte what can be read of a damaged movie.")
@click.option("-o", "--output", "outputs", multiple=True, metavar="PATH",
              help="Colour with alpha: .mov (ProRes 4444), .webm (VP9), .mkv (FFV1), %06d.png, %06d.exr, .webp, .avif; "
              "repeatable. Choices follow a colon: shot.mov:prores-4444-xq, shot.webm:fast,crf=18, "
              "%06d.exr:float,dwaa,straight; a wrong one lists all.")  # fmt: skip
@click.option("--alpha", "alphas", multiple=True, metavar="PATH",
              help="Alpha alone: .mkv (FFV1, lossless), .mov, .mxf, .webm, .mp4, %06d.png, %06d.exr; repeatable. "
              "Choices follow a colon: matte.mov:png, matte.mov:dnxhr-444.")  # fmt: skip
@click.option("--foreground", type=click.Choice(get_args(Foreground)), default=_DEFAULTS.foreground, show_default=True,
              help="Colour of soft pixels.")  # fmt: skip
@click.option("--despill", metavar="SCREEN[,STRENGTH]",
              help="Take the light of a green or blue screen out of the colour; strength 0 to 1.")  # fmt: skip
@click.option(
    "--premultiplied", is_flag=True, help="Write colour multiplied with alpha instead of straight."
)
@click.option("--bit-depth", type=click.Choice(["8", "16"]), default=str(_DEFAULTS.bit_depth), show_default=True,
              help="Of PNG outputs.")  # fmt: skip
@click.option("--report", metavar="DIR",
              help="Folder for a page with contact sheet, confidence curve and frames worth marking too.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option(
    "--resume", is_flag=True, help="Go on with the finished segments of a run that was stopped."
)
@click.option("--segment-frames", type=int, default=_DEFAULTS.segment_frames, show_default=True, metavar="FRAMES",
              help="Longer clips are rendered in segments of this length, which --resume does not repeat.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output when done."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def matte_command(
    inputs: tuple[str, ...], quiet: bool, as_json: bool, debug: bool, **given: Any
) -> None:
    """Matte a clip, a sequence of frames or a set of images (the default command).

    INPUT is a movie, a folder of numbered frames or a pattern such as shot.%04d.png; with --images a folder of
    independent images, or several of them. Without -o and --alpha, INPUT_matte.mov and INPUT_alpha.mov are written in
    the working directory.
    """
    # What the library logs goes to standard error: downloads, and what could not be kept.
    logging.getLogger("vidmatte").setLevel(logging.ERROR if quiet else logging.WARNING)
    line = ProgressLine(enabled=not quiet)
    with one_line_errors(
        debug=debug, interrupted=lambda: f"Interrupted after {line.text}; no output is in place."
    ):
        summary = (
            _picked(inputs, given) if _PICKER in given["points"] else _matted(inputs, given, line)
        )
    if not quiet:
        print_summary(summary)
    if as_json:
        click.echo(json.dumps(summary.as_json()))


def _matted(inputs: tuple[str, ...], given: dict[str, Any], line: ProgressLine) -> Summary:
    with line:
        objects = _objects(given)
        count = len(prompts_of_objects(objects))
        return matte(
            inputs if given["images"] else _single(inputs),
            objects,
            output=given["outputs"] or _default_outputs(inputs, given, count, "matte"),
            alpha=given["alphas"] or _default_outputs(inputs, given, count, "alpha"),
            reference=given["reference"],
            images=given["images"],
            report=given["report"],
            options=_options(given),
            progress=line.update,
            on_adapt=line.adapt,
        )


def _picked(inputs: Sequence[str], given: dict[str, Any]) -> Summary:
    """The run that was made in the picker. Exits with 1 where the page was left without one."""
    marks = ("scribbles", "masks", "boxes", "objects")
    unused = ("images", "reference", "report", "matte", "trimaps")
    if any(given[key] for key in marks) or len(given["points"]) > 1 or len(given["ref_frames"]) > 1:
        raise OptionError(
            "--points without a value opens the picker, where everything is marked: leave out other marks"
        )
    refuse_for_picker({f"--{name}": given[name] for name in unused})
    summary = open_picker(
        Path(_single(inputs)),
        prompt_file=_if_given(given["prompt_file"], Path),
        frame=(given["ref_frames"] or (0,))[0],
        outputs=given["outputs"],
        alphas=given["alphas"],
        options=_options(given),
    )
    if summary is None:
        click.echo("The page was left without a complete run; the marks are saved.", err=True)
        sys.exit(1)
    return summary


def _single(inputs: Sequence[str]) -> str:
    if len(inputs) > 1:
        raise OptionError(
            f"{len(inputs)} inputs given: several files are a set of images; add --images to matte one"
        )
    return inputs[0]


def _objects(given: dict[str, Any]) -> dict[str, tuple[Prompt, ...]] | tuple[Prompt, ...]:
    """Prompts of the options: the n-th value of each kind belongs to the n-th reference frame; or of a file."""
    marks = {key: given[key] for key in ("points", "scribbles", "masks", "boxes")}
    if given["prompt_file"]:
        if any(marks.values()) or given["ref_frames"]:
            raise OptionError(
                "--prompts holds all marks: leave out --ref-frame, --points, --scribbles, --mask and --box"
            )
        return _chosen_objects(load_prompts(given["prompt_file"]), given["objects"])
    if given["objects"]:
        raise OptionError("--object chooses from a prompt file: give --prompts too")
    if not any(marks.values()):
        if given["matte"] is not None or given["model"] == NO_MODEL or given["trimaps"] is not None:
            return ()
        raise OptionError(
            'nothing is marked: give --points "x,y ...", --scribbles, --mask, --box or --prompts'
        )
    return _marked(given["ref_frames"] or (0,), marks)


def _marked(frames: Sequence[int], marks: dict[str, Sequence[str]]) -> tuple[Prompt, ...]:
    for key, values in marks.items():
        if len(values) not in (0, len(frames)):
            raise OptionError(
                f"{len(frames)} reference frames, but {len(values)} values of {key}: give one for each frame, "
                f"in order, or put all marks into a file and use --prompts"
            )
    return tuple(
        _prompt(frame, {key: values[n] for key, values in marks.items() if values})
        for n, frame in enumerate(frames)
    )


def _prompt(frame: int, marks: dict[str, str]) -> Prompt:
    return Prompt(
        frame=frame,
        points=_if_given(marks.get("points"), parse_points) or (),
        box=_if_given(marks.get("boxes"), parse_box),
        mask=_if_given(marks.get("masks"), Path),
        scribbles=_if_given(marks.get("scribbles"), Path),
    )


def _if_given(text: str | None, parse: Callable[[str], T]) -> T | None:
    return None if text is None else parse(text)


def _chosen_objects(
    objects: dict[str, tuple[Prompt, ...]], names: Sequence[str]
) -> dict[str, tuple[Prompt, ...]]:
    unknown = [name for name in names if name not in objects]
    if unknown:
        raise OptionError(
            f"the prompt file marks {', '.join(objects)}; {unknown[0]!r} is not valid: use --object NAME"
        )
    return {name: objects[name] for name in names or objects}


def _options(given: dict[str, Any]) -> MatteOptions:
    names = ("model", "matte", "trimaps", "sd", "weights", "settings", "device", "precision", "batch_size",
             "working_size", "adapt_steps", "smooth", "foreground", "premultiplied", "start", "end", "reader",
             "allow_truncated", "deinterlace", "stream", "on_damage", "source_alpha",
             "overwrite", "resume", "segment_frames")  # fmt: skip
    controls = (
        "clip_black",
        "clip_white",
        "grow",
        "feather",
        "invert",
        "inside_mask",
        "outside_mask",
    )
    options = MatteOptions(
        **{name: given[name] for name in names},
        finish=FinishOptions(
            **{name: given[name] for name in controls},
            region=_if_given(given["region"], parse_region),
        ),
        despill=_if_given(given["despill"], parse_despill),
    )
    return replace(
        options, bit_depth=int(given["bit_depth"]), frame_rate=_if_given(given["fps"], parse_rate)
    )


def _default_outputs(
    inputs: Sequence[str], given: dict[str, Any], objects: int, kind: str
) -> tuple[str, ...]:
    if given["outputs"] or given["alphas"]:
        return ()
    if objects > 1:
        kind = f"{{object}}_{kind}"
    if given["images"]:
        return (f"{{name}}_{kind}.png",)
    return (f"{stem_of(inputs[0])}_{kind}.mov",)
