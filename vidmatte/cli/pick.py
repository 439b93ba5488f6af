"""`vidmatte pick`, and `--points` without a value: the picker in the browser."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidmatte.cli.console import INTERRUPTED, one_line_errors, print_summary, say
from vidmatte.cli.parameters import table_options, with_config
from vidmatte.cli.timelines import (
    edit_options,
    refuse_without_timeline,
    timeline_options,
)
from vidmatte.edit.open import is_timeline
from vidmatte.errors import OptionError
from vidmatte.option_table import make_options
from vidmatte.options import MatteOptions
from vidmatte.process import loading

if TYPE_CHECKING:
    from vidmatte.cli.timeline_marks import MarkedMedia
    from vidmatte.report.summary import Summary


@click.command("pick")
@click.argument("clip", type=click.Path(path_type=Path), required=False)
@click.option(
    "--sample", is_flag=True, help="Try it with the sample clip, copied to vidmatte-demo."
)
@click.option(
    "--prompts",
    "prompt_file",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Where the prompts are kept.  [default: CLIP.prompts.json beside the clip]",
)
@click.option(
    "--ref-frame",
    "frame",
    metavar="POSITION",
    help="Frame that is shown first: its number, index:5, 2.5s or a timecode.  [default: the "
    "first]",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="PATH",
    help="Colour with alpha, to be offered first; repeatable.",
)
@click.option(
    "--alpha",
    "alphas",
    multiple=True,
    metavar="PATH",
    help="Alpha alone, to be offered first; repeatable.",
)
@table_options("model", "device", "input_space", "ocio", "missing", "layer", "view")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. Anything but this machine itself lets others try the address.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Where to listen.  [default: a free one]",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@timeline_options
@click.option(
    "--again", is_flag=True, help="Timeline: open also what is marked, to change its marks."
)
def pick_command(
    clip: Path | None,
    sample: bool,
    prompt_file: Path | None,
    frame: str | None,
    outputs: tuple[str, ...],
    alphas: tuple[str, ...],
    host: str,
    port: int,
    no_browser: bool,
    again: bool,
    **given: Any,
) -> None:
    """Mark, see, correct and finish CLIP in the browser.

    Without CLIP, the page lists the clips of this folder. The page opens by itself, or with the
    address that is printed; over ssh, forward its port. Ctrl-C, or Done in the page, ends it; the
    prompts are saved all the time. Enter in the terminal prints a fresh address, for another
    browser or one that lost its cookie.

    CLIP may be a timeline (.otio, .xml, .fcpxml, .edl, .aaf): its media without marks are opened
    one after the other, at the frames that it shows; Done in the page goes on to the next.
    """
    with one_line_errors():
        refuse_without_timeline(clip, {**given, "again": again}, "again")
        if sample:
            clip = _sample_for(clip)
        where: dict[str, Any] = {"host": host, "port": port, "opens_browser": not no_browser}
        # Its own --fps is that of an EDL.
        asked = {"output": outputs, "alpha": alphas, **given, "fps": None}
        if clip is not None and is_timeline(clip):
            refuse_for_picker({"--prompts": prompt_file, "--ref-frame": frame})
            refuse_for_picker({"--output": outputs, "--alpha": alphas})
            _pick_timeline(clip, given, again, asked, where)
            return
        chosen = with_config(asked, [] if clip is None else [str(clip)])
        from_page = open_picker(
            clip,
            prompt_file=prompt_file,
            frame=frame,
            outputs=tuple(chosen["output"]),
            alphas=tuple(chosen["alpha"]),
            options=make_options(chosen),
            **where,
        )
    if from_page is not None:
        print_summary(from_page)


def _pick_timeline(
    path: Path,
    given: Mapping[str, Any],
    again: bool,
    asked: Mapping[str, Any],
    where: Mapping[str, Any],
) -> None:
    """Open the picker for one media of a timeline after the other."""
    with loading():
        from vidmatte.cli.timeline_marks import media_to_mark

    waiting = media_to_mark(path, edit_options(given), again=again)
    for number, media in enumerate(waiting, 1):
        say(f"{number} of {len(waiting)}: {media}")
        from_page = _pick_media(media, with_config(asked, [str(media.path)]), where)
        if from_page is not None:
            print_summary(from_page)
    say(f"Done; render with 'vidmatte batch {path}'.")


def _pick_media(
    media: MarkedMedia, chosen: Mapping[str, Any], where: Mapping[str, Any]
) -> Summary | None:
    start, end = f"index:{media.first}", f"index:{media.last}"
    options = replace(make_options(chosen), start=start, end=end, frame_rate=media.rate)
    return open_picker(
        media.path,
        prompt_file=media.prompt_file,
        frame=start,
        outputs=tuple(chosen["output"]),
        alphas=tuple(chosen["alpha"]),
        options=options,
        **where,
    )


def _sample_for(clip: Path | None) -> Path:
    """Return the sample clip, copied where it can be marked. Raises OptionError beside a CLIP."""
    if clip is not None:
        raise OptionError(f"{clip} and --sample were given: leave one of them out")
    from vidmatte.cli.demo import copied_sample

    return copied_sample(Path("vidmatte-demo"))


def open_picker(
    clip: Path | None,
    *,
    prompt_file: Path | None,
    frame: str | None,
    outputs: tuple[str, ...],
    alphas: tuple[str, ...],
    options: MatteOptions,
    host: str = "127.0.0.1",
    port: int = 0,
    opens_browser: bool = True,
) -> Summary | None:
    """Open the page, wait for its end, and return the summary of the last complete run.

    Exits with 130 at Ctrl-C.

    Raises:
        VidmatteError: If the clip cannot be opened.
    """
    with loading():
        from vidmatte.web.server import pick
        from vidmatte.web.session import PickerConfig
        from vidmatte.web.tips import tips_file

    config = PickerConfig(clip, prompt_file, frame, outputs, alphas, options, tips_file())
    try:
        return pick(config, host=host, port=port, opens_browser=opens_browser, on_address=_announce)
    except KeyboardInterrupt:
        say("Closed; the prompts are saved.")
        sys.exit(INTERRUPTED)


_WITHOUT_PAGE = {
    "--images": (
        "mark one of the images with 'vidmatte pick IMAGE', which shows the command for all"
    ),
    "--reference": (
        "mark that one with 'vidmatte pick OTHER', then give --reference OTHER --prompts "
        "OTHER.prompts.json"
    ),
    "--report": "tick Report in the page, or give it with --prompts",
    "--sidecar": "give it with --prompts",
    "--matte": "mattes need no marks; leave --points out",
    "--trimaps": "trimaps need no marks; leave --points out",
    "--extent": "choose the answer in the page (Tab)",
}
"""What to do instead, by option."""


def refuse_for_picker(asked: Mapping[str, object]) -> None:
    """Raise OptionError for given options, by their flags, if the page ignores them."""
    for option, value in asked.items():
        if value:
            instead = _WITHOUT_PAGE.get(option, "leave it out")
            raise OptionError(f"{option} was given, and the picker does without: {instead}")


def _announce(address: str) -> None:
    say(f"The picker is at {address}")
    say(
        "The address is good for one browser; Enter prints a fresh one. Ctrl-C ends it; over ssh, "
        "forward the port."
    )
