"""`vidmatte train`: the embedded model's parts, and IconMatting's heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidmatte.cli.console import one_line_errors, say, set_log_level
from vidmatte.errors import OptionError

if TYPE_CHECKING:
    from vidmatte.train import LoopConfig

_PARTS = ("network", "confidence", "corrector", "refiner", "iconmatting", "iconmatting-trimap")


@click.command("train")
@click.argument("run", metavar="RUN")
@click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="Settings of the run; 'iconmatting' and 'iconmatting-trimap', the paper's, ship.",
)
@click.option(
    "--part",
    type=click.Choice(_PARTS),
    help="Part to train: compact's matting network, its confidence, its corrector, its refiner, or "
    "IconMatting's head, with a reference or with a trimap.  [default: the recipe's, or network]",
)
@click.option(
    "--corpus",
    metavar="DIR",
    help="Of network and confidence: photographs, images/*.jpg, and cutouts/.",
)
@click.option(
    "--mattes",
    metavar="DIR",
    help="Of corrector and refiner: coarse mattes with exact alpha, of vidmatte.train.mattes.",
)
@click.option(
    "--masks",
    metavar="DIR",
    help="Of network and confidence: masks of the corpus' subjects, of vidmatte.train.subjects.",
)
@click.option(
    "--bank",
    metavar="DIR",
    help="Of network and confidence: a bank of moving foregrounds that half of the clips are made "
    "from.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="LAYOUT=DIR",
    help="Of iconmatting: a data set with alpha or masks, such as rm1k=DIR; repeatable.",
)
@click.option(
    "--held-out",
    multiple=True,
    metavar="LAYOUT=DIR",
    help="Of iconmatting: a data set to validate on; repeatable.",
)
@click.option("--sd", metavar="PATH", help="Of iconmatting: Stable Diffusion 2.1, folder or file.")
@click.option("--cache", metavar="DIR", help="Of iconmatting: keep features of crops there.")
@click.option(
    "--crops",
    type=click.IntRange(min=0),
    help="Of iconmatting: different random crops of each image; 0 endless.",
)
@click.option(
    "--crop", type=click.IntRange(min=8), help="Of iconmatting: side of a crop.  [default: 768]"
)
@click.option(
    "--time-step",
    type=click.IntRange(0, 999),
    help="Of iconmatting: noise of the features.  [default: 200]",
)
@click.option(
    "--ensemble",
    type=click.IntRange(min=1),
    help="Of iconmatting: noises whose features are averaged.  [default: 4]",
)
@click.option(
    "--start",
    metavar="FILE",
    help="Weights to begin a new run with.  [default: random, the network's on a published trunk]",
)
@click.option(
    "--settings",
    metavar="NAME=VALUE,...",
    help="Other settings of a recipe, such as inter=off,loss=simple,framing=random.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Peak learning rate.  [default: 6e-4, of iconmatting 4e-4]",
)
@click.option("--steps", type=click.IntRange(min=1), help="Length of the run.  [default: 20000]")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Of iconmatting: pairs in a step.  [default: 8]"
)
@click.option(
    "--accumulate",
    type=click.IntRange(min=1),
    help="Batches whose gradients make a step.  [default: 1]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of mixed precision.  [default: the fastest of the device]",
)
@click.option("--seed", type=int, help="Of everything that is random.  [default: 0]")
@click.option("--workers", type=click.IntRange(min=0), help="Processes making batches.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Device to train on; auto is cuda if there is one, else cpu.  [default: cpu]",
)
@click.option(
    "--clips", metavar="DIR", help="Of network: real clips (*/frames, */masks) to validate on too."
)
@click.option(
    "--tensorboard", is_flag=True, help="Write the figures for TensorBoard to RUN.tensorboard too."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def train_command(run: str, debug: bool, **given: Any) -> None:
    """Train a part of a model, or resume the run in folder RUN.

    compact learns from procedural clips, IconMatting's heads from groups of images. The average of
    the weights is validated on data that is not trained on. On several GPUs: torchrun
    --nproc-per-node N -m vidmatte train ...

    Use RUN/average.safetensors: vidmatte clip.mp4 --model RUN/average.safetensors ...
    """
    set_log_level(quiet=False)
    resuming = f"Interrupted; the same command resumes from the last checkpoint in {run}."
    with one_line_errors(debug=debug, interrupted=lambda: resuming):
        _train(run, given)


def _train(run: str, given: dict[str, Any]) -> None:
    from vidmatte.train import train
    from vidmatte.train.processes import count_processes
    from vidmatte.train.recipe import load_recipe, make_config, parse_values

    part = given["part"] or "network"
    settings: dict[str, Any] = {}
    if given["recipe"]:
        part, settings = load_recipe(given["recipe"])
    # A recipe is of one part; a contradiction is refused.
    if given["part"] not in (None, part):
        raise OptionError(
            f"part {given['part']!r} is not valid: the recipe is of {part!r}; leave --part out"
        )
    names = (
        "corpus",
        "mattes",
        "masks",
        "bank",
        "sd",
        "cache",
        "crops",
        "crop",
        "time_step",
        "ensemble",
        "rate",
        "steps",
        "batch",
        "accumulate",
        "precision",
        "seed",
        "workers",
        "device",
    )
    # From weak to strong: recipe, --settings, options of their own.
    settings |= parse_values(part, given["settings"] or "")
    settings |= {name: given[name] for name in names if given[name] is not None}
    settings |= {name: _places(given[name]) for name in ("data", "held_out") if given[name]}
    for name in ("bank", "masks", "corpus"):
        if part in ("corrector", "refiner") and settings.get(name) is not None:
            raise OptionError(
                f"--{name} was given, but the {part} does not learn from it; leave it out"
            )
    config = replace(make_config(part, settings), processes=count_processes())
    if given["clips"] is not None and part != "network":
        raise OptionError(
            "clips to validate on were given, but only the network is validated on clips; leave "
            "them out"
        )
    trained, validate = _part(part, config, given["clips"])
    start = _first_network(part, trained, config.seed, run, given["start"])
    train(
        config,
        run,
        trained,
        start=start,
        validate=validate,
        log=say,
        tensorboard=given["tensorboard"],
    )


def _first_network(part: str, trained: Any, seed: int, run: str, weights: str | None) -> Any:
    """Return the network that a run begins with; None for the loop's own, or its checkpoint."""
    import torch

    from vidmatte.model.iconmatting.net import decoder_tensors
    from vidmatte.model.weights import load_checkpoint, load_strictly

    is_new = not (Path(run) / "run.json").exists()
    if weights is not None:
        start = trained.make()
        tensors = load_checkpoint(Path(weights))
        if part == "iconmatting":
            # A checkpoint of the research code may hold the frozen feature extractor, too.
            tensors = decoder_tensors({"state_dict": tensors}, weights)
        load_strictly(start, tensors, weights)
        return start
    if part == "confidence" and is_new:
        raise OptionError(
            "confidence is that of a trained network, and none was given; add --start "
            "WEIGHTS.safetensors"
        )
    if trained.initial is not None and is_new:
        # The loop seeds only the networks that it makes itself.
        torch.manual_seed(seed)
        return trained.initial()
    return None


def _part(part: str, config: LoopConfig, clips: str | None) -> tuple[Any, Any]:
    """Return the training task and its validation, None if it has none."""
    from vidmatte.synth.bank import Bank
    from vidmatte.synth.corpus import photographs
    from vidmatte.train import TRAINING_TASKS, IconMattingConfig, TrainConfig
    from vidmatte.train.config import MattesConfig
    from vidmatte.train.iconmatting import prepare
    from vidmatte.train.matte_files import matte_files
    from vidmatte.train.processes import own_device
    from vidmatte.train.validate import held_out, on_clips

    if isinstance(config, IconMattingConfig):
        trainer = prepare(config, own_device(config.device), part=part)
        return trainer.part, trainer.validate
    if isinstance(config, MattesConfig):
        matte_files(config.mattes)
        return TRAINING_TASKS[part], None
    assert isinstance(config, TrainConfig)  # of the other parts
    # A wrong folder is reported here, and not by another process.
    photographs(config.corpus, "train")
    if config.bank is not None:
        Bank(config.bank, "train")

    def validate(averaged: Any) -> dict[str, float]:
        figures = held_out(averaged, config.corpus, device=config.device)
        if clips is not None:
            figures |= on_clips(averaged, clips, device=config.device)
        return figures

    return TRAINING_TASKS[part], validate if part == "network" else None


def _places(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    places = []
    for text in texts:
        layout, sign, root = text.partition("=")
        if not sign or not layout or not root:
            raise OptionError(
                f"data set {text!r} is not valid: write LAYOUT=FOLDER, as in rm1k=data/RM-1K"
            )
        places.append((layout, root))
    return tuple(places)
