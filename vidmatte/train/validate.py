"""Validation of the network on held-out procedural clips, and on real clips with masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha
from vidmatte.metrics import region_overlap
from vidmatte.model.build import load_corrector, load_refiner
from vidmatte.model.compact.inference import DEFAULT_WORKING_SIZE
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.objective import collate, propagate
from vidmatte.model.compact.predictor import CompactModel
from vidmatte.model.losses import jaccard, l1
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.read import open_video
from vidmatte.read.images import list_images
from vidmatte.synth.clips import make_clip
from vidmatte.synth.corpus import Corpus
from vidmatte.synth.prompts import PromptKind as Kind

_SIZE, _FRAMES, _BATCH = (144, 208), 6, 4
_CORRECTIONS = 4
"""Clicks that correct the matte of a frame that was marked in part."""
_FIRST_SEED = 1 << 40
"""First seed of the held-out clips; their photographs are not those of training either."""


@torch.no_grad()
def held_out(
    net: CompactNet, corpus: str, *, clips: int = 12, device: str = "cpu"
) -> dict[str, float]:
    """Return means over held-out procedural clips: `l1`, and J by kind of prompt.

    J is over the later frames, and over the marked one, before and after corrections, if it is
    decoded.

    Mattes are fed back as in inference. `clips` is the number of clips of each kind; they are the
    same in every call.
    """
    photographs = Corpus(corpus, "held-out")
    figures = dict[str, float]()
    errors = list[float]()
    for kind in get_args(Kind):
        first, corrected, later = list[float](), list[float](), list[float]()
        for start in range(0, clips, _BATCH):
            seeds = range(_FIRST_SEED + start, _FIRST_SEED + min(start + _BATCH, clips))
            batch = collate([make_clip(photographs, _SIZE, _FRAMES, kind, seed) for seed in seeds])
            placed = {name: tensor.to(device) for name, tensor in batch.items()}
            truth = placed["alpha"].float() / 255
            generator = torch.Generator().manual_seed(0)
            answers = list[list[float]]()
            for t, prediction in propagate(
                # The frame is fed the network's own matte in every step.
                net,
                placed,
                generator,
                feedback=1.0,
                corrections=_CORRECTIONS,
            ):
                errors.extend(l1(prediction.alpha, truth[:, t]).tolist())
                overlaps = jaccard(prediction.alpha, truth[:, t]).tolist()
                if t:
                    later.extend(overlaps)
                else:
                    answers.append(overlaps)
            if answers:
                first.extend(answers[0])
                corrected.extend(answers[-1])
        figures[f"J {kind}"] = float(np.mean(later))
        if first:
            figures[f"J {kind} on the marked frame"] = float(np.mean(first))
            figures[f"J {kind} after {_CORRECTIONS} corrections"] = float(np.mean(corrected))
    return {"l1": float(np.mean(errors)), **figures}


def on_clips(net: CompactNet, root: str | Path, *, device: str = "cpu") -> dict[str, float]:
    """Return the mean J of each clip in a folder of clips with `frames/` and binary `masks/`.

    The first mask is the prompt.

    Tracked as in inference, but without adaptation, to measure the network alone. Raises
    ReadError for a folder without such clips.
    """
    folders = sorted(path.parent for path in Path(root).glob("*/masks"))
    if not folders:
        raise ReadError(
            f"{root}: expected real clips to validate on, found none; looked for */frames and "
            f"*/masks"
        )
    place = torch.device(device)
    model = CompactModel(
        net,
        device=place,
        precision=torch.float32,
        working_size=DEFAULT_WORKING_SIZE,
        corrector=load_corrector(place),
        refiner=load_refiner(place),
        name="in training",
    )
    return {folder.name: float(np.mean(list(_overlaps(model, folder)))) for folder in folders}


def _overlaps(model: CompactModel, folder: Path) -> Iterator[float]:
    masks = list_images(folder / "masks")
    with open_video(folder / "frames") as video:
        first = video.frame(0).rgb
        reference = Prompt(mask=masks[0]).reference(first, frame=0)
        predictor = model.with_reference([reference])
        tracker = predictor.tracker()
        tracker.start(reference)
        for batch, mask in zip(video.batches(1, start=1), masks[1:], strict=True):
            coarse = tracker.step(predictor.shrink(batch.rgb))
            found = predictor.finish(batch.rgb, coarse)[0, 0].numpy()
            yield region_overlap(found, _true(mask, batch.rgb))


def _true(mask: Path, rgb: torch.Tensor) -> Alpha:
    reference: Reference = Prompt(mask=mask).reference(rgb)
    return np.asarray(reference.alpha[0, 0].numpy(), np.float32)
