"""Training of IconMatting's head on context groups, by the recipe of the paper (Guo et al., CVPR 2024, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidmatte.datasets import Group, ImageSample, open_dataset
from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch
from vidmatte.metrics import mse, sad
from vidmatte.model.diffusion import fingerprint, load_stable_diffusion, weights_in
from vidmatte.model.iconmatting import (
    FeatureSettings,
    IconMattingNet,
    IconMattingOptions,
    InContextFeatures,
    StableDiffusion,
    build_iconmatting,
)
from vidmatte.model.iconmatting.prompts import whole_cells
from vidmatte.model.iconmatting.similarity import match
from vidmatte.model.losses import Batch, gradient, l1_within, laplacian
from vidmatte.prompts.prompt import Reference
from vidmatte.train.config import DTYPES, LoopConfig
from vidmatte.train.feature_cache import FeatureCache
from vidmatte.train.groups import PairBatches, as_colours, usable_groups
from vidmatte.train.loop import TrainingTask

Places = tuple[tuple[str, str], ...]
"""Data sets: layout (see `datasets.DATASETS`) and folder."""


@dataclass(frozen=True, kw_only=True)
class IconMattingConfig(LoopConfig):
    """Everything that decides what a run of IconMatting's head does; the defaults are the paper's recipe.

    Attributes:
        data: what is trained on: data sets with alpha, with masks, or both.
        held_out: what is validated on.
        sd: Stable Diffusion 2.1, frozen: folder or file; None downloads it.
        batch: pairs of reference and target in a step.
        crop: side of the crops, which Stable Diffusion takes: 768.
        crops: how many different crops there are of each image; 0 for a new one each time, whose features are not kept.
        matting: share of pairs with alpha, where there are masks too.
        time_step, ensemble: of the look at the images, see `FeatureSettings`.
        cache: folder for features of crops; None keeps none; cache_gigabytes: of it at most.
    """

    data: Places = ()
    held_out: Places = ()
    sd: str | None = None
    steps: int = 20000
    rate: float = 4e-4
    warm_up: int = 250
    final: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 1e-2
    average: float = 0.999
    workers: int = 4
    save_every: int = 250
    validate_every: int = 1000
    batch: int = 8
    crop: int = 768
    crops: int = 0
    matting: float = 0.5
    time_step: int = 200
    ensemble: int = 4
    cache: str | None = None
    cache_gigabytes: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.features  # noqa: B018 - checks time step and ensemble
        if not 0 <= self.matting <= 1:
            raise OptionError(
                f"matting {self.matting:g} is not valid: it is a share of the pairs, 0 to 1"
            )
        if self.cache is not None and not self.crops:
            raise OptionError(
                "a cache of features asked for, but every crop is new: set crops to the number of each image's, "
                "or leave the cache out"
            )

    @property
    def features(self) -> FeatureSettings:
        """How images are looked at."""
        return FeatureSettings(self.time_step, self.ensemble)


@dataclass(frozen=True)
class Trainer:
    """The part and its validation, with Stable Diffusion loaded."""

    part: TrainingTask[IconMattingNet]
    validate: Callable[[IconMattingNet], Mapping[str, float]] | None


def prepare(config: IconMattingConfig, device: torch.device) -> Trainer:
    """Open the data sets and load Stable Diffusion.

    Raises ReadError for data sets that are not as their layout says, ModelError for a Stable Diffusion that cannot be
    used, OptionError for a configuration that does not fit it, or names no data.
    """
    if not config.data:
        raise OptionError(
            "nothing to train on was named: give --data LAYOUT=FOLDER, or [[data]] in the recipe"
        )
    groups, held_out = groups_of(config.data), groups_of(config.held_out)
    path = None if config.sd is None else Path(config.sd).expanduser()
    sd = load_stable_diffusion(
        path, device=device, dtype=DTYPES[config.precision], purpose="training IconMatting"
    )
    return make_trainer(config, sd, groups, held_out, identity=_identity(path))


def make_trainer(
    config: IconMattingConfig,
    sd: StableDiffusion,
    groups: Sequence[Group],
    held_out: Sequence[Group] = (),
    *,
    identity: str = "",
) -> Trainer:
    """The part for a Stable Diffusion and groups that are there; `identity` is that of its weights, for the cache."""
    if sd.side != config.crop:
        raise OptionError(
            f"crops of {config.crop} pixels asked for, but this Stable Diffusion takes {sd.side}: set crop to that"
        )
    cache = None if config.cache is None else Path(config.cache).expanduser()
    looks = FeatureCache(
        sd, config.features, identity=identity, cache=cache, gigabytes=config.cache_gigabytes
    )
    usable = usable_groups(groups)

    def make() -> IconMattingNet:
        return IconMattingNet(sd.channels, (sd.coarse_cells, sd.fine_cells))

    def of_batch(
        net: IconMattingNet, batch: Batch, generator: torch.Generator, precision: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        return loss(net, looks, batch, precision)

    def validate(net: IconMattingNet) -> Mapping[str, float]:
        return score(net, sd, held_out, IconMattingOptions(config.time_step, config.ensemble))

    part = TrainingTask("iconmatting", make, lambda given: PairBatches(given, usable), of_batch)
    return Trainer(part, validate if held_out else None)


def groups_of(places: Places) -> tuple[Group, ...]:
    """The groups of data sets. Raises ReadError, or OptionError for a layout that there is not, or one of clips."""
    found: list[Group] = []
    for layout, root in places:
        dataset = open_dataset(layout, root)
        if not dataset.groups:
            raise OptionError(
                f"data set {layout!r} is not valid: it holds clips; IconMatting learns from groups of images"
            )
        found.extend(dataset.groups)
    return tuple(found)


def loss(
    net: IconMattingNet, looks: FeatureCache, batch: Batch, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Of a batch of pairs; figures are the mean of each term over the pairs that have it.

    Alpha: l1 of what is soft and of what is solid, Laplacian, gradient. Masks: l1 where they are to be trusted.
    """
    rgb = as_colours(batch["target"])
    target = looks(rgb, "target", batch["target_key"])
    reference = looks(as_colours(batch["reference"]), "reference", batch["reference_key"])
    with torch.autocast(rgb.device.type, precision, enabled=precision != torch.float32):
        similarity = similarities(net, reference, target, batch["roi"])
        alpha = net(rgb, target, similarity).alpha.float()
    truth, known, is_matting = (
        as_colours(batch["alpha"]),
        batch["known"].float(),
        batch["is_matting"],
    )
    terms = {
        "l1 unknown": (l1_within(alpha, truth, 1 - known), is_matting),
        "l1 known": (l1_within(alpha, truth, known), is_matting),
        "laplacian": (laplacian(alpha, truth), is_matting),
        "gradient": (gradient(alpha, truth), is_matting),
        "l1 confident": (l1_within(alpha, truth, known), ~is_matting),
    }
    total = torch.stack([(term * counts).mean() for term, counts in terms.values()]).sum()
    figures = {
        name: term[counts].mean().item() for name, (term, counts) in terms.items() if counts.any()
    }
    return total, {"loss": total.item(), **figures}


def similarities(
    net: IconMattingNet, reference: InContextFeatures, target: InContextFeatures, roi: Tensor
) -> Tensor:
    """(N, n) similarity of each target to the marked cells (N, 1, S, S) of its own reference."""
    known, seen = net.tokens(reference).float(), net.tokens(target).float()
    cells = target.cells
    with torch.autocast(seen.device.type, enabled=False):
        rows = []
        for n in range(len(seen)):
            query = known[n][whole_cells(roi[n].float(), cells)]
            rows.append(match(query, query[:0], seen[n : n + 1], None, 1))
    return torch.cat(rows)


def score(
    net: IconMattingNet, sd: StableDiffusion, groups: Sequence[Group], options: IconMattingOptions
) -> dict[str, float]:
    """Mean SAD (/1000) and MSE of whole images; the first of each group is the reference of the others, as in use."""
    weights = {name: value.detach().cpu() for name, value in net.state_dict().items()}
    model = build_iconmatting(
        sd, weights, name="in training", device=sd.device, precision=sd.dtype, options=options
    )
    sads, squares = list[float](), list[float]()
    for group in usable_groups(groups):
        first, *others = group.images
        predictor = model.with_reference([_reference(first)])
        for sample in others:
            rgb = torch.from_numpy(sample.read_image().rgb)[None].clamp(0, 1)
            found = predictor(FrameBatch(rgb, (0,), (0,), (0,))).alpha[0, 0].numpy()
            truth = sample.read_alpha((rgb.shape[-2], rgb.shape[-1]))
            sads.append(sad(found, truth))
            squares.append(mse(found, truth))
    return {"SAD": float(np.mean(sads)), "MSE": float(np.mean(squares))}


def _reference(sample: ImageSample) -> Reference:
    rgb = torch.from_numpy(sample.read_image().rgb)[None].clamp(0, 1)
    alpha = torch.from_numpy(sample.read_alpha((rgb.shape[-2], rgb.shape[-1])))[None, None]
    return Reference(rgb, alpha, torch.ones_like(alpha))


def _identity(path: Path | None) -> str:
    """Of the weights that were given; the downloaded ones have a revision that never changes."""
    if path is None:
        return "sd-2-1"
    weights = path if path.is_file() else weights_in(path / "unet")
    return "" if weights is None else fingerprint(weights)
