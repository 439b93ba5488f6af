"""`vidmatte train`: the embedded model's parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vidmatte.cli.console import fail
from vidmatte.errors import OptionError, VidmatteError


@click.command("train")
@click.argument("run", metavar="RUN")
@click.option("--corpus", required=True, metavar="DIR", help="Photographs: images/*.jpg, and cutouts/ with mattes.")
@click.option(
    "--part",
    type=click.Choice(["network", "refiner"]),
    default="network",
    show_default=True,
    help="What is trained: the matting network, or what brings its mattes to full size.",
)
@click.option("--start", metavar="FILE", help="Weights to begin a new run with.  [default: random]")
@click.option("--steps", type=click.IntRange(min=1), default=20000, show_default=True, help="Length of the run.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is random.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Processes making clips.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@click.option("--clips", metavar="DIR", help="Real clips (*/frames, */masks) to validate on too; never trained on.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def train_command(run: str, part: str, start: str | None, clips: str | None, debug: bool, **given: Any) -> None:
    """Train the embedded model on procedural clips, or go on with the run in folder RUN.

    Every 500 steps the network is validated on clips made of photographs that are not trained on.

    RUN/average.safetensors are the weights to use: vidmatte clip.mp4 --model RUN/average.safetensors ...
    """
    from vidmatte.model.weights import load_strictly, load_tensors
    from vidmatte.train import PARTS, TrainConfig, train
    from vidmatte.train.validate import held_out, on_clips

    config = TrainConfig(**given)
    if clips is not None and part != "network":
        fail(OptionError("clips to validate on were given, but only the network is validated; leave them out"))

    def validate(averaged: Any) -> dict[str, float]:
        figures = held_out(averaged, config.corpus, device=config.device)
        return figures if clips is None else {**figures, **on_clips(averaged, clips, device=config.device)}

    try:
        net = PARTS[part].make()
        if start is not None:
            load_strictly(net, load_tensors(Path(start)), start)
        train(
            config,
            run,
            PARTS[part],
            start=net,
            validate=validate if part == "network" else None,
            log=lambda line: click.echo(line, err=True),
        )
    except VidmatteError as error:
        if debug:
            raise
        fail(error)
    except KeyboardInterrupt:
        click.echo(f"Interrupted; the same command goes on from the last checkpoint in {run}.", err=True)
        sys.exit(130)
