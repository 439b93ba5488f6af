"""Training of IconMatting's heads on frozen Stable Diffusion, by the recipe of the paper.

Guo et al., CVPR 2024, sections 3.4 and 4.1 for the head with a reference, supplement 8.2 for
the variant with a trimap. docs/paper.md compares the paper, the released code and this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vidmatte.datasets import Group, ImageSample, open_dataset
from vidmatte.datasets.samples import read_unknown
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
    TrimapHead,
    TrimapMatting,
    build_iconmatting,
)
from vidmatte.model.iconmatting.prompts import whole_cells
from vidmatte.model.iconmatting.similarity import match
from vidmatte.model.losses import Batch, gradient, l1_within, laplacian
from vidmatte.prompts.prompt import Reference
from vidmatte.train import research_loss
from vidmatte.train.config import DTYPES, LoopConfig
from vidmatte.train.feature_cache import FeatureCache
from vidmatte.train.groups import (
    Framing,
    PairBatches,
    TrimapBatches,
    UnknownArea,
    as_colours,
    solid,
    usable_groups,
)
from vidmatte.train.loop import TrainingTask

Places = tuple[tuple[str, str], ...]
"""Data sets: layout (see `datasets.DATASETS`) and folder."""
LossName = Literal["research", "simple"]
"""The losses of the public code, or plain means: l1, box-filtered Laplacian, first differences."""


@dataclass(frozen=True, kw_only=True)
class IconMattingConfig(LoopConfig):
    """The configuration of a run of IconMatting's head.

    The defaults are the recipe of the paper and its released code.

    Attributes:
        data: data sets to train on, with alpha, with masks, or both.
        held_out: data sets to validate on.
        sd: Stable Diffusion 2.1, frozen: folder or file; None downloads it.
        batch: pairs of reference and target in a step.
        loss: see `LossName`.
        framing: how crops are cut, see `groups.Framing`.
        crop: side of the crops, 768 for Stable Diffusion.
        crops: number of different random crops of an image; 0 for a new one each time, its
            features are not kept.
        unknown: source of the unknown area, see `groups.UnknownArea`. Images without a trimap
            use the soft part of alpha, with a line in the log.
        matting: share of pairs with alpha, if there are masks too: about 1 in 15 in the paper.
        segmentation: whether pairs with masks take part (an ablation of table 5).
        inter, intra, multi_scale: parts of the model to use (table 5). To use the weights,
            switch off the same parts with --settings.
        time_step, ensemble: of the features, see `FeatureSettings`.
        cache: folder for features of crops; None keeps none. cache_gigabytes: its largest size.
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
    clip: float = 0.0
    average: float = 0.999
    workers: int = 4
    save_every: int = 250
    validate_every: int = 1000
    batch: int = 8
    loss: LossName = "research"
    framing: Framing = "center"
    crop: int = 768
    crops: int = 0
    unknown: UnknownArea = "trimap"
    matting: float = 0.067
    segmentation: bool = True
    inter: bool = True
    intra: bool = True
    multi_scale: bool = True
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
        choices = (("loss", LossName), ("framing", Framing), ("unknown", UnknownArea))
        for name, offered in choices:
            if getattr(self, name) not in get_args(offered):
                raise OptionError(
                    f"{name} {getattr(self, name)!r} is not valid: choose one of "
                    f"{', '.join(get_args(offered))}"
                )
        if self.cache is not None and self.framing == "random" and not self.crops:
            raise OptionError(
                "cache is not valid: every random crop is new, so its features are not used "
                "again; set crops to a number for each image, or leave the cache out"
            )

    @property
    def features(self) -> FeatureSettings:
        """Settings of Stable Diffusion's features."""
        return FeatureSettings(self.time_step, self.ensemble)

    @property
    def options(self) -> IconMattingOptions:
        """Settings for using the trained head."""
        return IconMattingOptions(
            self.time_step,
            self.ensemble,
            inter=self.inter,
            intra=self.intra,
            multi_scale=self.multi_scale,
        )


@dataclass(frozen=True)
class Trainer:
    """A training task and its validation, with Stable Diffusion loaded."""

    part: TrainingTask[Any]
    validate: Callable[[Any], Mapping[str, float]] | None


def prepare(
    config: IconMattingConfig, device: torch.device, *, part: str = "iconmatting"
) -> Trainer:
    """Open the data sets and load Stable Diffusion.

    Args:
        config: of the run.
        device: for Stable Diffusion.
        part: "iconmatting", or "iconmatting-trimap" for the variant with a trimap.

    Raises:
            ReadError: If a data set does not match its layout.
            ModelError: If Stable Diffusion cannot be used.
            OptionError: If the configuration does not fit it, or names no data.
    """
    if not config.data:
        raise OptionError(
            "no data to train on: give --data LAYOUT=FOLDER, or [[data]] in the recipe"
        )
    groups = groups_of(config.data)
    held_out = groups_of(config.held_out)
    path = None if config.sd is None else Path(config.sd).expanduser()
    purpose = "training IconMatting"
    sd = load_stable_diffusion(path, device=device, dtype=DTYPES[config.precision], purpose=purpose)
    make = make_trainer if part == "iconmatting" else make_trimap_trainer
    return make(config, sd, groups, held_out, identity=_identity(path))


def make_trainer(
    config: IconMattingConfig,
    sd: StableDiffusion,
    groups: Sequence[Group],
    held_out: Sequence[Group] = (),
    *,
    identity: str = "",
) -> Trainer:
    """Return the trainer of the head for a loaded Stable Diffusion and groups of images.

    `identity` identifies Stable Diffusion's weights in the cache of features.
    """
    features = _features(config, sd, identity)
    usable = usable_groups(groups)

    def make() -> IconMattingNet:
        return IconMattingNet(sd.channels, (sd.coarse_cells, sd.fine_cells))

    def of_batch(
        net: IconMattingNet, batch: Batch, generator: torch.Generator, precision: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        return loss(net, features, batch, precision, config)

    def validate(net: IconMattingNet) -> Mapping[str, float]:
        return score(net, sd, held_out, config.options)

    task = TrainingTask("iconmatting", make, lambda given: PairBatches(given, usable), of_batch)
    return Trainer(task, validate if held_out else None)


def make_trimap_trainer(
    config: IconMattingConfig,
    sd: StableDiffusion,
    groups: Sequence[Group],
    held_out: Sequence[Group] = (),
    *,
    identity: str = "",
) -> Trainer:
    """Return the trainer of the variant with a trimap instead of a reference.

    Arguments as for `make_trainer`. There is no similarity, so inter, intra, multi_scale and
    masks have no meaning; held-out images need trimaps.
    """
    features = _features(config, sd, identity)

    def make() -> TrimapHead:
        return TrimapHead(sd.channels)

    def of_batch(
        net: TrimapHead, batch: Batch, generator: torch.Generator, precision: torch.dtype
    ) -> tuple[Tensor, dict[str, float]]:
        return trimap_loss(net, features, batch, precision, config)

    def validate(net: TrimapHead) -> Mapping[str, float]:
        return score_trimaps(net, sd, held_out, config.features)

    def batches(given: IconMattingConfig) -> TrimapBatches:
        return TrimapBatches(given, groups)

    task = TrainingTask("iconmatting-trimap", make, batches, of_batch)
    return Trainer(task, validate if held_out else None)


def _features(config: IconMattingConfig, sd: StableDiffusion, identity: str) -> FeatureCache:
    if sd.side != config.crop:
        raise OptionError(
            f"crop {config.crop} is not valid: this Stable Diffusion takes {sd.side} pixels; set "
            f"crop to that"
        )
    cache = None if config.cache is None else Path(config.cache).expanduser()
    return FeatureCache(
        sd, config.features, identity=identity, cache=cache, gigabytes=config.cache_gigabytes
    )


def groups_of(places: Places) -> tuple[Group, ...]:
    """Return the groups of several data sets.

    Raises ReadError if a data set does not match its layout, OptionError for clips.
    """
    found: list[Group] = []
    for layout, root in places:
        dataset = open_dataset(layout, root)
        if not dataset.groups:
            raise OptionError(
                f"data set {layout!r} is not valid: it holds clips; IconMatting learns from "
                f"groups of images"
            )
        found.extend(dataset.groups)
    return tuple(found)


def loss(
    net: IconMattingNet,
    features: FeatureCache,
    batch: Batch,
    precision: torch.dtype,
    config: IconMattingConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch of pairs, and the mean of each term over its pairs.

    Pairs with alpha and pairs with masks have different terms, see `research_loss`.
    """
    rgb = as_colours(batch["target"])
    target = features(rgb, "target", batch["target_key"])
    reference = features(as_colours(batch["reference"]), "reference", batch["reference_key"])
    # Only the network runs in low precision; losses need float32.
    with torch.autocast(rgb.device.type, precision, enabled=precision != torch.float32):
        similarity = similarities(net, reference, target, batch["roi"], inter=config.inter)
        decoded = net(rgb, target, similarity, intra=config.intra, multi_scale=config.multi_scale)
    alpha = decoded.alpha.float()
    truth = as_colours(batch["alpha"])
    unknown = 1 - batch["known"].float()
    is_matting = batch["is_matting"]
    matting, segmentation = _TERMS[config.loss]
    # Both kinds of terms are computed for all pairs, and counted for their own kind only.
    terms = {name: (term, is_matting) for name, term in matting(alpha, truth, unknown).items()}
    for name, term in segmentation(alpha, truth, unknown).items():
        terms[name] = (term, ~is_matting)
    return _mean_loss(terms)


def trimap_loss(
    net: TrimapHead,
    features: FeatureCache,
    batch: Batch,
    precision: torch.dtype,
    config: IconMattingConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch of images with trimaps, and the mean of each of its terms."""
    rgb = as_colours(batch["target"])
    truth = as_colours(batch["alpha"])
    known = batch["known"].float()
    seen = features(rgb, "target", batch["target_key"])
    with torch.autocast(rgb.device.type, precision, enabled=precision != torch.float32):
        alpha = net(rgb, trimap_of(truth, known), seen.coarse, seen.fine).float()
    everywhere = torch.ones(len(rgb), dtype=torch.bool, device=rgb.device)
    found = _TERMS[config.loss][0](alpha, truth, 1 - known)
    return _mean_loss({name: (term, everywhere) for name, term in found.items()})


def trimap_of(alpha: Tensor, known: Tensor) -> Tensor:
    """Return the trimap (N, 1, S, S) of true alpha and its known area: 0, 0.5 and 1."""
    return torch.where(known > 0, (alpha > 0.5).float(), torch.full_like(alpha, 0.5))


def _simple_matting(alpha: Tensor, truth: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    return {
        "l1 unknown": l1_within(alpha, truth, unknown),
        "l1 known": l1_within(alpha, truth, 1 - unknown),
        "laplacian": laplacian(alpha, truth),
        "gradient": gradient(alpha, truth),
    }


def _simple_segmentation(alpha: Tensor, truth: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    return {"l1 confident": l1_within(alpha, truth, 1 - unknown)}


_TERMS: Mapping[str, tuple[research_loss.Terms, research_loss.Terms]] = {
    "research": (research_loss.matting_terms, research_loss.segmentation_terms),
    "simple": (_simple_matting, _simple_segmentation),
}
"""Terms of pairs with alpha and of pairs with masks, by `LossName`."""


def _mean_loss(terms: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, float]]:
    """Sum the terms (N,) of their items (N,), and average over all items."""
    total = torch.stack([(term * has).mean() for term, has in terms.values()]).sum()
    figures = {name: term[has].mean().item() for name, (term, has) in terms.items() if has.any()}
    return total, {"loss": total.item(), **figures}


def similarities(
    net: IconMattingNet,
    reference: InContextFeatures,
    target: InContextFeatures,
    roi: Tensor,
    *,
    inter: bool = True,
) -> Tensor:
    """Return the similarity (N, n) of each target to its own reference.

    Args:
        net: the head, for normalising the features.
        reference, target: features of N pairs.
        roi: (N, 1, S, S) 0/1, the marked region of each reference.
        inter: whether features are matched; if not, every cell gets the same share.
    """
    known = net.tokens(reference).float()
    seen = net.tokens(target).float()
    rows = []
    # The softmax over thousands of cells needs float32.
    with torch.autocast(seen.device.type, enabled=False):
        for n in range(len(seen)):
            # Cells that lie in the marked region as a whole, as in the released code.
            query = known[n][whole_cells(roi[n].float(), target.cells)]
            if inter:
                rows.append(match(query, query[:0], seen[n : n + 1], None, 1))
            else:
                rows.append(torch.full_like(seen[n : n + 1, :, 0], len(query) / seen.shape[1]))
    return torch.cat(rows)


def score(
    net: IconMattingNet, sd: StableDiffusion, groups: Sequence[Group], options: IconMattingOptions
) -> dict[str, float]:
    """Return mean SAD (/1000) and MSE of whole images.

    The first image of each group is the reference of the others.
    """
    weights = {name: value.detach().cpu() for name, value in net.state_dict().items()}
    model = build_iconmatting(
        sd, weights, name="in training", device=sd.device, precision=sd.dtype, options=options
    )
    errors: list[tuple[float, float]] = []
    for group in usable_groups(groups):
        first, *others = group.images
        predictor = model.with_reference([_reference(first)])
        for sample in others:
            rgb = _rgb(sample)
            found = predictor(FrameBatch(rgb, (0,), (0,), (0,))).alpha[0, 0].numpy()
            truth = sample.read_alpha((rgb.shape[-2], rgb.shape[-1]))
            errors.append((sad(found, truth), mse(found, truth)))
    return _mean_errors(errors)


def score_trimaps(
    net: TrimapHead, sd: StableDiffusion, groups: Sequence[Group], settings: FeatureSettings
) -> dict[str, float]:
    """Return mean SAD (/1000) and MSE of whole images matted from their trimaps."""
    matter = TrimapMatting(sd, net, settings, sd.device, sd.dtype)
    errors: list[tuple[float, float]] = []
    for group in groups:
        for sample in group.images:
            rgb = _rgb(sample)
            size = (rgb.shape[-2], rgb.shape[-1])
            truth = sample.read_alpha(size)
            if sample.trimap is not None:
                known = ~read_unknown(sample.trimap, size, image=sample.image)
            else:
                known = solid((truth * 255 + 0.5).astype(np.uint8))
            alpha = torch.from_numpy(truth)[None, None]
            trimap = trimap_of(alpha, torch.from_numpy(known)[None, None])
            found = matter(rgb, trimap)[0, 0].numpy()
            errors.append((sad(found, truth), mse(found, truth)))
    return _mean_errors(errors)


def _mean_errors(errors: Sequence[tuple[float, float]]) -> dict[str, float]:
    sads, squares = np.mean(errors, axis=0)
    return {"SAD": float(sads), "MSE": float(squares)}


def _rgb(sample: ImageSample) -> Tensor:
    return torch.from_numpy(sample.read_image().rgb)[None].clamp(0, 1)


def _reference(sample: ImageSample) -> Reference:
    rgb = _rgb(sample)
    alpha = torch.from_numpy(sample.read_alpha((rgb.shape[-2], rgb.shape[-1])))[None, None]
    return Reference(rgb, alpha, torch.ones_like(alpha))


def _identity(path: Path | None) -> str:
    """Return a name for given weights; downloaded ones have a fixed revision."""
    if path is None:
        return "sd-2-1"
    weights = path if path.is_file() else weights_in(path / "unet")
    return "" if weights is None else fingerprint(weights)
