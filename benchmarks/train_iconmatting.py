"""Train IconMatting's head at a small scale on features of a tiny untrained Stable Diffusion.

    python benchmarks/make_groups.py CORPUS groups
    python benchmarks/train_iconmatting.py groups runs/icm --steps 600

Prints the loss as it falls, and SAD on groups that were not trained on: before and after training,
and of no matte at all. That of the untrained head says nothing of a trained system; this shows that
the recipe learns, not how well.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_sd import SIDE, tiny_sd

from vidmatte.metrics import sad
from vidmatte.model.iconmatting import IconMattingOptions
from vidmatte.train import IconMattingConfig, train
from vidmatte.train.iconmatting import groups_of, make_trainer, score


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = IconMattingConfig(
        data=(
            ("groups", str(given.groups / "matting")),
            ("open-images", str(given.groups / "masks")),
        ),
        held_out=(("groups", str(given.groups / "held-out")),),
        steps=given.steps,
        batch=given.batch,
        loss="simple",
        framing="random",
        unknown="soft",
        matting=0.5,
        clip=1.0,
        crop=SIDE,
        crops=4,
        ensemble=1,
        average=0.98,
        warm_up=50,
        workers=0,
        precision="float32",
        cache=str(given.run.with_name(given.run.name + ".features")),
        save_every=100,
        validate_every=200,
    )
    held_out = groups_of(config.held_out)
    trainer = make_trainer(config, tiny_sd(), groups_of(config.data), held_out, identity="tiny")
    torch.manual_seed(config.seed)
    untrained = trainer.part.make().eval()
    truths = [
        s.read_alpha(s.read_image().rgb.shape[1:]) for group in held_out for s in group.images[1:]
    ]
    print(f"no matte at all: SAD {np.mean([sad(0 * truth, truth) for truth in truths]):.3f}")
    print(
        "untrained: SAD "
        f"{score(untrained, tiny_sd(), held_out, IconMattingOptions(200, 1))['SAD']:.3f}"
    )
    began = time.monotonic()
    train(config, given.run, trainer.part, validate=trainer.validate)
    print(f"{config.steps} steps in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
