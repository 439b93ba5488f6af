"""`vidmatte evaluate`: measure a model, or mattes of any other system, on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import click

from vidmatte.cli.console import one_line_errors, print_result, say, set_log_level
from vidmatte.cli.parameters import output_switches, table_options
from vidmatte.cli.progress import ProgressLine
from vidmatte.datasets import DATASETS, CountedFrame, open_dataset
from vidmatte.errors import OptionError
from vidmatte.evaluate import (
    Experiment,
    Guidance,
    MethodUnderTest,
    PromptKind,
    Protocol,
    Region,
    experiment,
    run,
    write,
    write_evaluation,
)
from vidmatte.evaluate.clicks import DEFAULT_CLICKS
from vidmatte.evaluate.formats import TableFormat, as_format
from vidmatte.evaluate.measures import ConnKind
from vidmatte.option_table import OPTIONS, make_options
from vidmatte.options import chosen_options

_CLICKS = "clicks"
"""Word for the interactive protocol."""
_PROTOCOL_CHOICES = (
    "prompt",
    "guidance",
    "references",
    "rounds",
    "seed",
    "draw_references",
    "region",
    "conn",
    "frames",
    "first_frame",
    "last_frame",
)
_MODEL_OPTIONS = (
    "model",
    "sd",
    "weights",
    "settings",
    "device",
    "precision",
    "quality",
    "working_size",
    "adapt_steps",
    "smooth",
)


@click.command("evaluate")
@click.argument(
    "words", nargs=-1, required=True, metavar="[ablation|references|timesteps|clicks] DATASET"
)
@click.option("--root", required=True, metavar="DIR", help="Folder of the data set.")
@click.option(
    "--predictions",
    metavar="DIR",
    help="Score these mattes, of any system, instead of running a model.",
)
@click.option(
    "--name",
    metavar="TEXT",
    help="What tables call the system.  [default: the model or the folder]",
)
@click.option(
    "--prompt",
    type=click.Choice(get_args(PromptKind)),
    default=Protocol.prompt,
    show_default=True,
    help="What is marked on references, made from their truth.",
)
@click.option(
    "--guidance",
    type=click.Choice(get_args(Guidance)),
    help="References stand for their group, or each image is marked itself.  "
    "[default: group if there is one]",
)
@click.option(
    "--references",
    type=click.IntRange(min=1),
    metavar="N",
    help="Marked images of a group, or frames of a clip; the most of 'references'.  "
    "[default: 1; 4]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often what is drawn is drawn anew, and averaged.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first round."
)
@click.option(
    "--draw-references", is_flag=True, help="Other references in each round, not the same in all."
)
@click.option(
    "--protocol",
    type=click.Choice(["ours", "paper"]),
    default="ours",
    show_default=True,
    help="paper: squares of 768 pixels and the Conn of the code of In-Context Matting.",
)
@click.option(
    "--region",
    type=click.Choice(get_args(Region)),
    help="Pixels that errors are taken over.  [default: whole; unknown for alphamatting]",
)
@click.option(
    "--conn",
    type=click.Choice(get_args(ConnKind)),
    help="Definition of Conn.  [default: benchmark; research with --protocol paper]",
)
@click.option(
    "--first-frame",
    type=click.Choice(get_args(CountedFrame)),
    help="Whether the marked first frame counts.  [default: as published; skip for 'clips']",
)
@click.option(
    "--last-frame",
    type=click.Choice(get_args(CountedFrame)),
    help="Whether the last frame counts.  [default: as published; count for 'clips']",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the first N frames of each clip.",
)
@click.option("--steps", metavar="N,N,...", help="Time steps that 'timesteps' compares.")
@click.option(
    "--clicks",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Most clicks on an image, for 'clicks'.  [default: {DEFAULT_CLICKS}]",
)
@click.option(
    "--prompts",
    "usual_prompts",
    is_flag=True,
    help="For 'clicks': a box, a box and a point, four points, a stroke instead of clicks.",
)
@table_options(*_MODEL_OPTIONS)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, of one thread each.",
)
@click.option(
    "--mattes",
    is_flag=True,
    help="Keep the mattes of the first round, as --predictions reads them.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="Folder of the results.  [default: evaluation/DATASET-NAME-PROMPT]",
)
@click.option("--overwrite", is_flag=True, help="Begin anew where the folder holds other results.")
@click.option(
    "--table",
    type=click.Choice(get_args(TableFormat)),
    default="text",
    show_default=True,
    help="Format in which the table is printed.",
)
@output_switches
def evaluate_command(
    words: tuple[str, ...], quiet: bool, as_json: bool, debug: bool, **given: Any
) -> None:
    """Measure a model on a data set: table, CSV, JSON, plot, and a page of pictures, worst first.

    \b
    DATASET is the layout of the folder:
      icm57 aim500 rm1k open-images alphamatting    groups of images
      grabcut berkeley                              images with masks
      groups    GROUP/NAME/image.jpg, alpha.png[, trimap.png]
      videomatte youtubematte crgnn davis davis2017 clips
      clips     CLIP/frames, CLIP/alpha or CLIP/masks
    ablation, references and timesteps compare a model with itself (tables 5, 6 and 8 of the
    IconMatting paper).
    clicks clicks on each image where the last answer is most wrong, and counts the clicks.

    The same command goes on where it was stopped; the same seed gives the same table.
    """
    set_log_level(quiet=quiet)
    line = ProgressLine(enabled=not quiet, unit="clips or images")
    folder = Path()

    def interrupted() -> str:
        return f"Interrupted after {line.text}; the same command continues from there ({folder})."

    with one_line_errors(debug=debug, as_json=as_json, interrupted=interrupted):
        kind, layout = _words(words)
        folder = _folder(kind, layout, given)
        with line:
            text = _evaluate(kind, layout, folder, given, line)
    if as_json:
        text = (folder / write.JSON).read_text(encoding="utf-8").rstrip("\n")
    print_result(text)
    if not quiet:
        say(f"{folder / write.PAGE}: pictures; table, CSV, JSON and plot beside it")


def _evaluate(
    kind: str | None, layout: str, folder: Path, given: dict[str, Any], line: ProgressLine
) -> str:
    """Run, write all files, and return the table."""
    dataset = open_dataset(layout, given["root"])
    subject, protocol = _subject(given), _protocol(kind, given)
    if kind in (None, _CLICKS):
        if given["steps"]:
            raise OptionError(
                "--steps are compared by 'timesteps': vidmatte evaluate timesteps DATASET "
                "--steps ..."
            )
        found = run(
            dataset,
            subject,
            protocol,
            folder,
            workers=given["workers"],
            keep_mattes=given["mattes"],
            overwrite=given["overwrite"],
            on_done=line.update,
        )
        return as_format(write_evaluation(found), given["table"])
    if given["mattes"]:
        raise OptionError(
            f"--mattes keeps the mattes of one run, but {kind} makes several; leave it out"
        )
    table = experiment(
        cast(Experiment, kind),
        dataset,
        subject,
        protocol,
        folder,
        steps=_steps(given["steps"]),
        references=given["references"] if kind == "references" else None,
        workers=given["workers"],
        overwrite=given["overwrite"],
        on_done=lambda label, done, total: line.update(done, total),
    )
    return as_format(table, given["table"])


def _words(words: tuple[str, ...]) -> tuple[str | None, str]:
    """Return the experiment, if any, and the layout."""
    kinds = (*get_args(Experiment), _CLICKS)
    if len(words) == 1 and words[0] not in kinds:
        return None, words[0]
    if len(words) == 2 and words[0] in kinds:
        return words[0], words[1]
    raise OptionError(
        f"{' '.join(words)!r} is not valid: give a data set ({', '.join(DATASETS)}), and before it "
        f"one of {', '.join(kinds)} if a model is to be compared with itself, or clicked"
    )


def _folder(kind: str | None, layout: str, given: dict[str, Any]) -> Path:
    if given["output"]:
        return Path(given["output"])
    system = given["name"] or Path(given["predictions"] or make_options(given).model).stem
    prompt = given["prompt"]
    if kind == _CLICKS:
        prompt = "prompts" if given["usual_prompts"] else None
    name = "-".join(filter(None, (kind, layout, system, prompt)))
    return Path("evaluation") / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _subject(given: dict[str, Any]) -> MethodUnderTest:
    predictions = given["predictions"]
    options = make_options({name: given[name] for name in _MODEL_OPTIONS})
    if predictions is None:
        return MethodUnderTest(given["name"] or str(options.model), options)
    changed = list(chosen_options(options))
    if changed:
        raise OptionError(
            f"{OPTIONS[changed[0]].flag} was given, but mattes are scored and no model is run"
        )
    return MethodUnderTest(
        given["name"] or Path(predictions).name, options, predictions=Path(predictions)
    )


def _protocol(kind: str | None, given: dict[str, Any]) -> Protocol:
    choices = {name: given[name] for name in _PROTOCOL_CHOICES if given[name] is not None}
    if given["usual_prompts"] and (kind != _CLICKS or given["clicks"] is not None):
        raise OptionError(
            "--prompts takes the place of --clicks: vidmatte evaluate clicks DATASET --prompts ..."
        )
    if given["usual_prompts"]:
        choices["usual_prompts"] = True
    elif kind == _CLICKS:
        choices["clicks"] = given["clicks"] or DEFAULT_CLICKS
    elif given["clicks"] is not None:
        raise OptionError("--clicks is for 'clicks': vidmatte evaluate clicks DATASET --clicks ...")
    if kind == "references":
        choices.pop("references", None)
    return Protocol.paper(**choices) if given["protocol"] == "paper" else Protocol(**choices)


def _steps(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError as error:
        raise OptionError(
            f"steps {text!r} are not valid: write whole numbers, as in 0,100,200"
        ) from error
