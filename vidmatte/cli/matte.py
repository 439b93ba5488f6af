"""`vidmatte matte`, the default command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vidmatte.cli.console import (
    FAILED,
    has_display,
    logged,
    one_line_errors,
    print_json,
    print_summary,
    say,
    set_log_level,
)
from vidmatte.cli.parameters import (
    STANDARD,
    GroupedCommand,
    output_switches,
    table_options,
    with_config,
)
from vidmatte.cli.progress import ProgressLine
from vidmatte.errors import OptionError
from vidmatte.media.patterns import stem_of
from vidmatte.option_table import OPTIONS, PICKER, make_options
from vidmatte.options import NO_MODEL
from vidmatte.process import loading
from vidmatte.prompts.prompt import Prompt, parse_box, parse_points, with_extent

if TYPE_CHECKING:
    from vidmatte.report.summary import Summary

_PROMPTS = ("points", "scribbles", "mask", "box")
"""Options with a value for each reference frame, in order."""
T = TypeVar("T")


@click.command("matte", cls=GroupedCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@table_options(*OPTIONS, multiple=("ref_frame", *_PROMPTS))
@click.option("-v", "--verbose", is_flag=True, help="Say how long each stage took.")
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add messages, with their times, to this file too, even with --quiet.",
)
@output_switches
def matte_command(
    inputs: tuple[str, ...],
    verbose: bool,
    log_file: Path | None,
    quiet: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> None:
    """Matte a clip, a sequence of frames or a set of images (the default command).

    INPUT is a movie, a folder of numbered frames or a pattern such as shot.%04d.png (or ####, @@@@,
    $F4); with --images a folder of independent images, or several of them. Without -o and --alpha,
    INPUT_matte.mov and INPUT_alpha.mov are written in the working directory. Without any mark, the
    picker opens if there is a display.
    """
    set_log_level(quiet=quiet)
    line = ProgressLine(enabled=not quiet)
    with (
        one_line_errors(
            debug=debug,
            as_json=as_json,
            interrupted=lambda: f"Interrupted after {line.text}; no output is in place.",
        ),
        logged(log_file),
    ):
        if _is_piped(inputs, given):
            summary = _piped(inputs, given, line, as_json=as_json)
        else:
            summary = _whole_run(inputs, given, line, asks=not (quiet or as_json))
        if summary is not None and not (quiet and log_file is None):
            print_summary(summary, verbose=verbose, quiet=quiet)
    if as_json and summary is not None:
        print_json(summary.as_json())


def _whole_run(
    inputs: tuple[str, ...], given: Mapping[str, Any], line: ProgressLine, *, asks: bool
) -> Summary:
    """Matte from files to files; `asks` says that the picker may open if nothing is marked."""
    unmarked = asks and _is_unmarked(inputs, given) and has_display()
    if PICKER in given["points"] or unmarked:
        return _picked(inputs, given)
    return _matted(inputs, with_config(given, inputs), line)


def _is_piped(inputs: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Return whether a standard stream takes part."""
    return STANDARD in (*inputs, *given["output"], *given["alpha"]) or given["raw"] is not None


def _piped(
    inputs: tuple[str, ...], given: Mapping[str, Any], line: ProgressLine, *, as_json: bool
) -> Summary | None:
    """Matte from standard input, to standard output, or both; no summary of what was sent on."""
    _check_pipes(inputs, given, as_json=as_json)
    given = with_config(given, ["stdin" if name == STANDARD else name for name in inputs])
    with loading():
        from vidmatte.pipeline.raw import parse_size, received

    if inputs[0] != STANDARD:
        _to_stdout(inputs[0], given, line)
        return None
    size = None if given["raw"] is None else parse_size(given["raw"])
    with received(sys.stdin.buffer, size) as source:
        if STANDARD in (*given["output"], *given["alpha"]):
            _to_stdout(source, given, line)
            return None
        return _matted(("stdin",), given, line, source=source)


def _check_pipes(inputs: Sequence[str], given: Mapping[str, Any], *, as_json: bool) -> None:
    """Raise OptionError for what cannot go through a pipe."""
    if len(inputs) > 1 or given["images"]:
        raise OptionError("- is one clip: leave out --images, and other inputs")
    if given["raw"] is not None and inputs[0] != STANDARD:
        raise OptionError(
            f"--raw is for frames on standard input, and {inputs[0]} was given: use -"
        )
    if PICKER in given["points"]:
        raise OptionError("the picker needs a file: save the clip, and open that")
    outputs = [*given["output"], *given["alpha"]]
    if STANDARD not in outputs:
        return
    if len(outputs) > 1 or given["report"] is not None or given["sidecar"] or as_json:
        raise OptionError(
            "- takes one output: leave out the other ones, --report, --sidecar and --json"
        )
    if sys.stdout.isatty():
        raise OptionError(
            "- would fill this terminal with raw frames: send it to a program or file"
        )


def _to_stdout(source: Any, given: Mapping[str, Any], line: ProgressLine) -> None:
    with line:
        with loading():
            from vidmatte.pipeline.outputs import OutputPlan
            from vidmatte.pipeline.raw import matte_to_stream
            from vidmatte.pipeline.request import Request
            from vidmatte.pipeline.source import Source
            from vidmatte.prompts.objects import ObjectPrompts

        marks = ObjectPrompts.of(_objects((STANDARD,), given), given["reference"])
        request = Request(Source.of(source), marks, OutputPlan(), make_options(given))
        frames = matte_to_stream(
            request, sys.stdout.buffer, alpha_only=not given["output"], progress=line.show
        )
    if line.is_enabled:
        say(f"standard output: {frames} raw frames of {'RGBA' if given['output'] else 'gray'}")


def _matted(
    inputs: tuple[str, ...], given: Mapping[str, Any], line: ProgressLine, source: Any = None
) -> Summary:
    """Matte to files; `source` is what was received in place of the first input."""
    options = make_options(given)
    if source is None:
        source = inputs if given["images"] else _single(inputs)
    # Before the imports, so that wrong marks are told at once.
    objects = _objects(inputs, given)
    with line:
        with loading():
            from vidmatte.pipeline.run import matte
            from vidmatte.prompts.objects import prompts_of_objects

        # A label mask marks several objects.
        count = len(prompts_of_objects(objects))
        # An output that was given replaces both defaults, see `_default_outputs`.
        return matte(
            source,
            objects,
            output=given["output"] or _default_outputs(inputs, given, count, "matte"),
            alpha=given["alpha"] or _default_outputs(inputs, given, count, "alpha"),
            reference=given["reference"],
            images=given["images"],
            report=given["report"],
            sidecars=given["sidecar"],
            options=options,
            progress=line.show,
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
    # Imported here: timelines, which it takes too, would load torch before anything is shown.
    from vidmatte.cli.pick import open_picker, refuse_for_picker

    prompts = ("scribbles", "mask", "box", "object")
    # --points without a value is one entry, too.
    several = len(given["points"]) > 1 or len(given["ref_frame"]) > 1
    if several or any(given[name] for name in prompts):
        raise OptionError(
            "--points without a value opens the picker, where everything is marked: leave out "
            "other prompts"
        )
    unused = ("images", "reference", "report", "sidecar", "matte", "trimaps", "extent")
    refuse_for_picker({OPTIONS[name].flag: given[name] for name in unused})
    given = with_config(given, inputs)
    summary = open_picker(
        Path(_single(inputs)),
        prompt_file=_if_given(given["prompts"], Path),
        frame=(given["ref_frame"] or (None,))[0],
        outputs=tuple(given["output"]),
        alphas=tuple(given["alpha"]),
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
    # A prompt file names its frames itself, so --ref-frame has no place beside it.
    prompts = {name: given[name] for name in _PROMPTS}
    if given["prompts"]:
        if any(prompts.values()) or given["ref_frame"]:
            raise OptionError(
                "--prompts holds all prompts: leave out --ref-frame, --points, --scribbles, --mask "
                "and --box"
            )
        from vidmatte.prompts.files import load_prompts

        objects = _chosen_objects(load_prompts(given["prompts"]), given["object"])
        return {name: with_extent(marks, given["extent"]) for name, marks in objects.items()}
    if given["object"]:
        raise OptionError("--object chooses from a prompt file: give --prompts too")
    # Without --ref-frame, the first frame is marked.
    if any(prompts.values()):
        found = _prompts_of_frames(given["ref_frame"] or (None,), prompts)
        return with_extent(found, given["extent"])
    # External mattes and trimaps need no marks.
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
    # Plain digits are a frame number, everything else a time or timecode.
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
