"""`vidmatte pick`, and `--points` without a value: the picker in the browser."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from vidmatte.cli.console import one_line_errors, print_summary
from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.options import MatteOptions
from vidmatte.report.summary import Summary

_DEFAULTS = MatteOptions()


@click.command("pick")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), metavar="FILE.json",
              help="Where the marks are kept.  [default: CLIP.prompts.json beside the clip]")  # fmt: skip
@click.option("--ref-frame", "frame", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="0-based frame that is shown first.")  # fmt: skip
@click.option("-o", "--output", "outputs", multiple=True, metavar="PATH",
              help="Colour with alpha, to be offered first; repeatable.")  # fmt: skip
@click.option("--alpha", "alphas", multiple=True, metavar="PATH",
              help="Alpha alone, to be offered first; repeatable.")  # fmt: skip
@click.option("--model", default=str(_DEFAULTS.model), show_default=True, metavar="NAME|FILE",
              help="See 'vidmatte models'.")  # fmt: skip
@click.option(
    "--device", default=_DEFAULTS.device, show_default=True, help="auto, cpu, cuda, cuda:1, mps."
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen. Anything but this machine itself lets others try the address.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N",
              help="Where to listen.  [default: a free one]")  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def pick_command(
    clip: Path,
    prompt_file: Path | None,
    frame: int,
    outputs: tuple[str, ...],
    alphas: tuple[str, ...],
    model: str,
    device: str,
    host: str,
    port: int,
    no_browser: bool,
) -> None:
    """Mark, see, correct and finish CLIP in the browser.

    The page opens by itself, or with the address that is printed; over ssh, forward its port. Ctrl-C, or Done in the
    page, ends it; the marks are saved all the time.
    """
    with one_line_errors():
        from_page = open_picker(
            clip,
            prompt_file=prompt_file,
            frame=frame,
            outputs=outputs,
            alphas=alphas,
            options=MatteOptions(model=model, device=device),
            host=host,
            port=port,
            opens_browser=not no_browser,
        )
    if from_page is not None:
        print_summary(from_page)


def open_picker(
    clip: Path,
    *,
    prompt_file: Path | None,
    frame: int,
    outputs: tuple[str, ...],
    alphas: tuple[str, ...],
    options: MatteOptions,
    host: str = "127.0.0.1",
    port: int = 0,
    opens_browser: bool = True,
) -> Summary | None:
    """Open the page and wait for its end; returns what the last complete run did. Exits with 130 at Ctrl-C.

    Raises a VidmatteError for what cannot be opened.
    """
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise MissingExtraError("the picker", "web")
    # Imported here: most commands need no server.
    from vidmatte.web.server import pick
    from vidmatte.web.session import PickerConfig

    opening = PickerConfig(clip, prompt_file, frame, outputs, alphas, options)
    try:
        return pick(
            opening, host=host, port=port, opens_browser=opens_browser, on_address=_announce
        )
    except KeyboardInterrupt:
        click.echo("Closed; the marks are saved.", err=True)
        sys.exit(130)


def refuse_for_picker(asked: dict[str, object]) -> None:
    """Raise OptionError for options that mean nothing in the page; values that were given, by option."""
    for option, value in asked.items():
        if value:
            raise OptionError(
                f"{option} was given, but the picker, which --points opens, does without; leave it out"
            )


def _announce(address: str) -> None:
    click.echo(f"The picker is at {address}", err=True)
    click.echo(
        "The address is good for one browser. Ctrl-C ends it; over ssh, forward the port.", err=True
    )
