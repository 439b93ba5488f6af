"""`vidmatte matte`, the default command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vidmatte.cli.console import (
    FAILED,
    one_line_errors,
    print_json,
    print_summary,
    say,
    set_log_level,
)
from vidmatte.cli.parameters import output_switches, table_options
from vidmatte.cli.pick import has_display, open_picker, refuse_for_picker
from vidmatte.cli.progress import ProgressLine
from vidmatte.errors import OptionError
from vidmatte.media.patterns import stem_of
from vidmatte.option_table import OPTIONS, PICKER, make_options
from vidmatte.options import NO_MODEL
from vidmatte.process import loading
from vidmatte.prompts.prompt import Prompt, parse_box, parse_points

if TYPE_CHECKING:
    from vidmatte.report.summary import Summary

_PROMPTS = ("points", "scribbles", "mask", "box")
"""Options with a value for each reference frame, in order."""
T = TypeVar("T")


@click.command("matte")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@table_options(*OPTIONS, multiple=("ref_frame", *_PROMPTS))
@output_switches
def matte_command(
    inputs: tuple[str, ...], quiet: bool, as_json: bool, debug: bool, **given: Any
) -> None:
    """Matte a clip, a sequence of frames or a set of images (the default command).

    INPUT is a movie, a folder of numbered frames or a pattern such as shot.%04d.png (or ####, @@@@,
    $F4); with --images a folder of independent images, or several of them. Without -o and --alpha,
    INPUT_matte.mov and INPUT_alpha.mov are written in the working directory. Without any mark, the
    picker opens if there is a display.
    """
    set_log_level(quiet=quiet)
    line = ProgressLine(enabled=not quiet)
    with one_line_errors(
        debug=debug,
        as_json=as_json,
        interrupted=lambda: f"Interrupted after {line.text}; no output is in place.",
    ):
        picks = PICKER in given["points"] or (
            _is_unmarked(inputs, given) and has_display() and not (quiet or as_json)
        )
        summary = _picked(inputs, given) if picks else _matted(inputs, given, line)
    if not quiet:
        print_summary(summary)
    if as_json:
        print_json(summary.as_json())


def _matted(inputs: tuple[str, ...], given: Mapping[str, Any], line: ProgressLine) -> Summary:
    options = make_options(given)
    source = inputs if given["images"] else _single(inputs)
    with loading():
        from vidmatte.pipeline.run import matte
        from vidmatte.prompts.objects import prompts_of_objects

    with line:
        objects = _objects(inputs, given)
        # A label mask marks several objects.
        count = len(prompts_of_objects(objects))
        return matte(
            source,
            objects,
            output=given["output"] or _default_outputs(inputs, given, count, "matte"),
            alpha=given["alpha"] or _default_outputs(inputs, given, count, "alpha"),
            reference=given["reference"],
            images=given["images"],
            report=given["report"],
            options=options,
            progress=line.update,
            on_adapt=line.adapt,
            on_status=line.status,
        )


def _is_unmarked(inputs: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Return whether a clip was given, and nothing that says what to matte in it."""
    ways = (*_PROMPTS, "prompts", "object", "images", "reference", "report", "matte", "trimaps")
    return len(inputs) == 1 and not any(given[name] for name in ways) and not _has_mattes(given)


def _has_mattes(given: Mapping[str, Any]) -> bool:
    """Return whether mattes or trimaps take the place of marks."""
    own = given["model"] == NO_MODEL or given["source_alpha"] == "matte"
    return own or given["matte"] is not None or given["trimaps"] is not None


def _picked(inputs: Sequence[str], given: Mapping[str, Any]) -> Summary:
    """Return the summary of the run in the picker. Exits with 1 if there was none."""
    prompts = ("scribbles", "mask", "box", "object")
    several = len(given["points"]) > 1 or len(given["ref_frame"]) > 1
    if several or any(given[name] for name in prompts):
        raise OptionError(
            "--points without a value opens the picker, where everything is marked: leave out "
            "other prompts"
        )
    unused = ("images", "reference", "report", "matte", "trimaps")
    refuse_for_picker({OPTIONS[name].flag: given[name] for name in unused})
    summary = open_picker(
        Path(_single(inputs)),
        prompt_file=_if_given(given["prompts"], Path),
        frame=(given["ref_frame"] or (None,))[0],
        outputs=given["output"],
        alphas=given["alpha"],
        options=make_options(given),
    )
    if summary is None:
        say("The page was left without a complete run; the prompts are saved.")
        sys.exit(FAILED)
    return summary


def _single(inputs: Sequence[str]) -> str:
    if len(inputs) > 1:
        raise OptionError(
            f"{len(inputs)} inputs given: several files are a set of images; add --images to matte "
            f"one"
        )
    return inputs[0]


def _objects(
    inputs: Sequence[str], given: Mapping[str, Any]
) -> dict[str, tuple[Prompt, ...]] | tuple[Prompt, ...]:
    """Return the prompts of a file by object, or those of the options."""
    prompts = {name: given[name] for name in _PROMPTS}
    if given["prompts"]:
        if any(prompts.values()) or given["ref_frame"]:
            raise OptionError(
                "--prompts holds all prompts: leave out --ref-frame, --points, --scribbles, --mask "
                "and --box"
            )
        from vidmatte.prompts.files import load_prompts

        return _chosen_objects(load_prompts(given["prompts"]), given["object"])
    if given["object"]:
        raise OptionError("--object chooses from a prompt file: give --prompts too")
    if any(prompts.values()):
        return _prompts_of_frames(given["ref_frame"] or (None,), prompts)
    if not _has_mattes(given):
        raise OptionError(_how_to_mark(inputs, given))
    return ()


def _how_to_mark(inputs: Sequence[str], given: Mapping[str, Any]) -> str:
    by_options = '--points "x,y ...", --scribbles, --mask, --box or --prompts'
    if given["images"]:
        return f"nothing is marked: give --reference IMAGE and {by_options}"
    return (
        f"nothing is marked: mark the object in the browser with 'vidmatte pick {inputs[0]}', or "
        f"give {by_options}"
    )


def _prompts_of_frames(
    frames: Sequence[str | None], prompts: Mapping[str, Sequence[str]]
) -> tuple[Prompt, ...]:
    """Return a prompt for each reference frame: the n-th value of each option belongs to it."""
    for name, values in prompts.items():
        if len(values) not in (0, len(frames)):
            raise OptionError(
                f"{len(frames)} reference frames, but {len(values)} values of {name}: give one for "
                f"each frame, in order, or put all prompts into a file and use --prompts"
            )
    found = []
    for n, frame in enumerate(frames):
        own = {name: values[n] for name, values in prompts.items() if values}
        found.append(_prompt(frame, own))
    return tuple(found)


def _prompt(frame: str | None, values: Mapping[str, str]) -> Prompt:
    return Prompt(
        frame=_frame(frame),
        points=_if_given(values.get("points"), parse_points) or (),
        box=_if_given(values.get("box"), parse_box),
        mask=_if_given(values.get("mask"), Path),
        scribbles=_if_given(values.get("scribbles"), Path),
    )


def _frame(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _if_given(text: str | None, parse: Callable[[str], T]) -> T | None:
    return None if text is None else parse(text)


def _chosen_objects(
    objects: dict[str, tuple[Prompt, ...]], names: Sequence[str]
) -> dict[str, tuple[Prompt, ...]]:
    unknown = [name for name in names if name not in objects]
    if unknown:
        raise OptionError(
            f"the prompt file marks {', '.join(objects)}; {unknown[0]!r} is not valid: use "
            f"--object NAME"
        )
    return {name: objects[name] for name in names or objects}


def _default_outputs(
    inputs: Sequence[str], given: Mapping[str, Any], objects: int, kind: str
) -> tuple[str, ...]:
    """Return the outputs of a run without --output and --alpha."""
    if given["output"] or given["alpha"]:
        return ()
    if objects > 1:
        kind = f"{{object}}_{kind}"
    if given["images"]:
        return (f"{{name}}_{kind}.png",)
    return (f"{stem_of(inputs[0])}_{kind}.mov",)
