"""Training of `compact` on procedural clips: one loop, in order, on the CPU or a CUDA device.

A run is a folder: `weights`, `average` (the exponential moving average, which is what ships) and the optimiser's
state, each a safetensors file under 16 MB, and `run.json` with the configuration, the step reached and the figures of
every validation. Everything random is a function of the step, so a run that was stopped and resumed ends with the
weights of an unbroken one.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vidmatte.model.compact.motion import motion_cue
from vidmatte.model.compact.net import CompactNet, Prediction
from vidmatte.model.compact.similarity import Memory
from vidmatte.train.corpus import Corpus
from vidmatte.train.losses import jaccard, matting_losses, weighted_sum
from vidmatte.train.marks import Prompt
from vidmatte.train.shoot import Clip
from vidmatte.train.synthesize import make_clip

Batch = dict[str, Tensor]
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run does.

    Attributes:
        corpus: folder of photographs, see `corpus.Corpus`.
        steps: length of the run.
        pixels: budget of a step: clips x frames x height x width comes close to it for every size drawn.
        sizes: (height, width, share of steps).
        frames: least and most frames of a clip.
        rate: of the learning, at its peak; `warm_up` steps to reach it, then a cosine down to a fiftieth.
        average: weight that the moving average keeps per step.
        seed: of everything; workers: processes that make clips; device: "cpu" or "cuda".
        save_every, validate_every: steps between checkpoints, and between validations of the average; 0 for none.
    """

    corpus: str
    steps: int = 20000
    pixels: int = 420_000
    sizes: tuple[tuple[int, int, float], ...] = ((128, 128, 0.2), (160, 160, 0.35), (144, 208, 0.2), (256, 256, 0.25))
    frames: tuple[int, int] = (4, 6)
    rate: float = 6e-4
    warm_up: int = 100
    average: float = 0.995
    seed: int = 0
    workers: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    save_every: int = 100
    validate_every: int = 500


class Batches(Dataset[Batch]):
    """Batch k of a run, made from nothing but the configuration and k."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._corpus: Corpus | None = None

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        if self._corpus is None:
            cv2.setNumThreads(1)
            self._corpus = Corpus(self.config.corpus, "train")
        rng = np.random.default_rng((self.config.seed, step))
        shares = np.array([share for *_, share in self.config.sizes])
        height, width, _ = self.config.sizes[rng.choice(len(shares), p=shares / shares.sum())]
        # Steps are either all masks or all marks, since only marks need the reference decoded; these are short, since
        # a whole object from a few marks is learnt on the reference alone.
        masks = rng.random() < 0.45
        frames = (
            int(rng.integers(self.config.frames[0], self.config.frames[1] + 1)) if masks else int(rng.integers(2, 4))
        )
        count = max(1, round(self.config.pixels / (frames * height * width)))
        clips = []
        for i in range(count):
            prompt: Prompt = "mask" if masks else rng.choice(["clicks", "strokes", "box"], p=[0.58, 0.25, 0.17])
            seed = int(np.random.SeedSequence((self.config.seed, step, i)).generate_state(1)[0])
            clips.append(make_clip(self._corpus, (height, width), frames, prompt, seed))
        return collate(clips)


def collate(clips: list[Clip]) -> Batch:
    """Clips of one size as a batch: each field (B, T, ...) or (B, ...) in its own dtype."""
    names = ("rgb", "alpha", "flow", "between", "marks", "known")
    return {name: torch.from_numpy(np.stack([getattr(clip, name) for clip in clips])) for name in names}


@dataclass(frozen=True)
class Part(Generic[Net]):
    """What is trained: how the network is made, what it learns from, and how it takes a step.

    Attributes:
        batches: the data of a configuration; item k is the batch of step k.
        learn: one step of (network, optimiser, batch, generator); returns mean loss terms, and scores by name.
    """

    make: Callable[[], Net]
    batches: Callable[[TrainConfig], Dataset[Batch]]
    learn: Callable[[Net, torch.optim.Optimizer, Batch, torch.Generator], tuple[dict[str, float], dict[str, float]]]


def train(
    config: TrainConfig,
    run: str | Path,
    part: Part[Net],
    *,
    start: Net | None = None,
    validate: Callable[[Net], Mapping[str, float]] | None = None,
    log: Callable[[str], None] = print,
) -> Net:
    """Train a part, or go on from where the run in folder `run` stopped; returns the averaged network.

    Args:
        start: weights to begin a new run with; ignored when the run has a checkpoint.
        validate: gives the figures of an averaged network, which is not kept; see `validate.py`.
        log: receives one line every 20 steps and one for each validation.
    """
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    net = start or part.make()
    net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    first, history = load_run(Path(run), net, optimiser, average)
    began, running = time.monotonic(), dict[str, float]()
    for step, batch in zip(range(first, config.steps), _stream(part.batches(config), config, first), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * schedule(step, config)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        placed = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        terms, scores = part.learn(net, optimiser, placed, generator)
        keep = min(config.average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), [v.detach() for v in net.state_dict().values()], 1 - keep)
        for name, value in {**terms, **scores}.items():
            running[name] = 0.98 * running.get(name, value) + 0.02 * value
        if (step + 1) % 20 == 0:
            figures = "  ".join(f"{name} {value:.4f}" for name, value in running.items())
            log(f"{step + 1}  {(step + 1 - first) / (time.monotonic() - began):.2f}/s  {figures}")
        if validate is not None and config.validate_every and (step + 1) % config.validate_every == 0:
            history.append({"step": step + 1, **_validated(net, average, validate)})
            log("validation  " + "  ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save_run(Path(run), config, step + 1, net, optimiser, average, history)
    net.load_state_dict(average)
    return net


def _validated(
    net: Net, average: Mapping[str, Tensor], validate: Callable[[Net], Mapping[str, float]]
) -> Mapping[str, float]:
    averaged = copy.deepcopy(net)
    averaged.load_state_dict(average)
    return validate(averaged.eval())


def learn(
    net: CompactNet,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    generator: torch.Generator,
    *,
    precision: torch.dtype = torch.bfloat16,
) -> tuple[dict[str, float], dict[str, float]]:
    """One step: follow each clip frame by frame, sum the losses, update. Returns mean terms and mean J by role."""
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(batch["rgb"].device.type, precision, enabled=precision != torch.float32):
        predictions = list(follow(net, batch, generator))
    truth = batch["alpha"].float() / 255
    losses = [matting_losses(prediction, truth[:, t]) for t, prediction in predictions]
    terms = {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}
    descend(net, optimiser, weighted_sum(terms))
    reached = {t: jaccard(prediction.alpha.detach(), truth[:, t]).mean().item() for t, prediction in predictions}
    scores = {f"J{t}": reached[t] for t in reached if t < 3}
    return {name: term.item() for name, term in terms.items()}, scores


def descend(net: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One update along the gradient of a loss."""
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()


NETWORK = Part(CompactNet, Batches, learn)


def follow(
    net: CompactNet, batch: Batch, generator: torch.Generator, *, own: float = 0.85
) -> Iterator[tuple[int, Prediction]]:
    """Matte a batch of clips as inference does, feeding mattes back; yields (frame, prediction) for those decoded.

    What a frame leaves for the next (memory and prior) is the network's own matte with a chance of `own`, else the
    truth. The prior is spoilt now and then, so that the network learns when to overrule it; with `own` 1, as in
    validation, nothing is spoilt or left out.
    """
    rgb, truth, known = batch["rgb"].float() / 255, batch["alpha"].float() / 255, batch["known"].float()
    clips, frames = rgb.shape[:2]
    features = net.encode(rgb.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    each = [features[_every(t, frames, clips)] for t in range(frames)]
    none = torch.zeros_like(truth[:, 0])
    matte = truth[:, 0]

    def cue(flow: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """Images of a set have no motion, so the network is to do without it now and then."""
        return motion_cue(flow, inside, outside) * _coin(none, 0.85 if own < 1 else 1.0, generator)

    if not bool(known.all()):
        marks = batch["marks"].float() / 255
        motion = cue(batch["flow"][:, 0], marks * known, 1 - marks * known)
        prediction = net.decode(rgb[:, 0], each[0], [net.remember(each[0], marks, known)], marks, known, motion)
        yield 0, prediction
        matte = _either(prediction.alpha.detach(), truth[:, 0], 0.5 if own < 1 else 1.0, generator)
    memories: list[Memory] = [net.remember(each[0], matte, torch.ones_like(none))]
    for t in range(1, frames):
        prior = warp(matte, batch["flow"][:, t], batch["between"][:, t])
        prior = spoil(prior, generator) if own < 1 else prior
        present = _coin(prior, (0.7 if t == 1 else 0.9) if own < 1 else 1.0, generator).expand_as(prior)
        motion = cue(batch["flow"][:, t], prior * present, 1 - prior * present)
        prediction = net.decode(rgb[:, t], each[t], memories, prior, present, motion)
        yield t, prediction
        matte = _either(prediction.alpha.detach(), truth[:, t], own, generator)
        recent = net.remember(each[t], matte, torch.ones_like(none))
        memories = [memories[0], *memories[1:][-1:], recent] if _flip(0.5, generator) else [memories[0], recent]


def warp(alpha: Tensor, flow: Tensor, between: Tensor) -> Tensor:
    """Alpha (N, 1, h, w) of the frame before, seen from this one along `flow` (N, h, w, 2) and `between` (N, 2, 3)."""
    height, width = alpha.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(side, device=alpha.device) for side in (height, width)), indexing="ij")
    places = torch.stack([x, y], -1) + flow
    places = torch.einsum("nhwi,nji->nhwj", places, between[..., :2]) + between[:, None, None, :, 2]
    size = torch.tensor([width, height], device=alpha.device)
    return F.grid_sample(alpha, (places + 0.5) / size * 2 - 1, align_corners=False)


def spoil(prior: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil about a fifth of the priors (N, 1, h, w): shifted, grown, shrunk, faded, half lost or partly invented."""
    height, width = prior.shape[-2:]
    shift = (torch.randint(-height // 12, height // 12 + 1, (2,), generator=generator)).tolist()
    radius = int(torch.randint(1, max(3, height // 24), (1,), generator=generator))
    grown = F.max_pool2d(prior, 2 * radius + 1, 1, radius)
    shrunk = -F.max_pool2d(-prior, 2 * radius + 1, 1, radius)
    blob = torch.rand(len(prior), 1, 4, 4, generator=generator).to(prior)
    blob = (F.interpolate(blob, size=(height, width), mode="bicubic") > 0.75).float()
    kinds = [
        torch.roll(prior, shift, (2, 3)),
        grown,
        shrunk,
        prior * blob.mean(),
        prior * (1 - blob),
        torch.maximum(prior, blob),
    ]
    choice = torch.rand(len(prior), 1, 1, 1, generator=generator).to(prior)
    for i, kind in enumerate(kinds):
        prior = torch.where((choice >= 0.035 * i) & (choice < 0.035 * (i + 1)), kind, prior)
    return prior


def schedule(step: int, config: TrainConfig) -> float:
    """Share of the peak rate at a step."""
    return min(1.0, (step + 1) / config.warm_up) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / config.steps)))


def save_run(
    run: Path,
    config: TrainConfig,
    step: int,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: dict[str, Tensor],
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write a checkpoint; the files are replaced together, so that a kill leaves the one before."""
    parts: dict[str, dict[str, Tensor]] = {"weights": dict(net.state_dict()), "average": average}
    for moment in ("exp_avg", "exp_avg_sq"):
        parts[moment] = {
            name: optimiser.state[value][moment] for name, value in net.named_parameters() if value in optimiser.state
        }
    fresh = run.with_name(run.name + f".{os.getpid()}.part")
    fresh.mkdir(parents=True, exist_ok=True)
    for name, tensors in parts.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, fresh / f"{name}.safetensors"
        )
    (fresh / "run.json").write_text(
        json.dumps({"step": step, "config": asdict(config), "validation": list(history)}, indent=1)
    )
    old = run.with_name(run.name + ".old")
    _remove(old)
    with suppress(FileNotFoundError):
        run.rename(old)
    fresh.rename(run)
    _remove(old)


def load_run(
    run: Path, net: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, list[Mapping[str, float]]]:
    """Restore a checkpoint in place; returns its step, 0 if there is none, and the validations so far."""
    if not (run / "run.json").exists() and run.with_name(run.name + ".old").exists():
        run.with_name(run.name + ".old").rename(run)
    if not (run / "run.json").exists():
        return 0, []
    saved = json.loads((run / "run.json").read_text())
    step = int(saved["step"])
    net.load_state_dict(load_file(run / "weights.safetensors"))
    for name, value in load_file(run / "average.safetensors").items():
        average[name].copy_(value)
    moments = {m: load_file(run / f"{m}.safetensors") for m in ("exp_avg", "exp_avg_sq")}
    for name, value in net.named_parameters():
        if name in moments["exp_avg"]:
            state = {m: torch.empty_like(value).copy_(moments[m][name]) for m in moments}
            optimiser.state[value] = {"step": torch.tensor(float(step)), **state}
    return step, saved.get("validation", [])


def read_config(run: str | Path) -> TrainConfig:
    """The configuration that a run was started with."""
    raw = json.loads((Path(run) / "run.json").read_text())["config"]
    sizes = tuple((int(h), int(w), float(share)) for h, w, share in raw["sizes"])
    return replace(TrainConfig(corpus=raw["corpus"]), **{**raw, "sizes": sizes, "frames": tuple(raw["frames"])})


def _stream(batches: Dataset[Batch], config: TrainConfig, first: int) -> Iterator[Batch]:
    """Batches from `first` on, made ahead by worker processes in order."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, config.steps),
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            pin_memory=config.device == "cuda",
        )
    )


def _every(t: int, frames: int, clips: int) -> slice:
    """Frame t of every clip in a flattened (clips x frames) batch."""
    return slice(t, frames * clips, frames)


def _coin(like: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """(N, 1, 1, 1) 1 with a chance, else 0."""
    return (torch.rand(len(like), 1, 1, 1, generator=generator) < chance).to(like)


def _either(first: Tensor, second: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Per item `first` with a chance, else `second`."""
    coin = _coin(first, chance, generator)
    return coin * first + (1 - coin) * second


def _flip(chance: float, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < chance


def _remove(folder: Path) -> None:
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
