"""Training of the corrector on coarse mattes whose exact alpha is known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.imaging.area import shrink_planes
from vidmatte.model.compact.correct import Corrector
from vidmatte.model.compact.edge_cues import coarse_features, reachable, refined
from vidmatte.model.compact.upsample import CERTAIN, certain
from vidmatte.model.losses import Batch, core_error, l1_within, laplacian, weighted_sum
from vidmatte.synth.corpus import Rng
from vidmatte.threads import one_in_opencv
from vidmatte.train.config import MattesConfig
from vidmatte.train.loop import TrainingTask
from vidmatte.train.matte_files import Matte, matte_files, read_matte
from vidmatte.train.varied_mattes import coarse_mask, varied

CROP = 192
"""Side of what is seen of a coarse matte in training, in its pixels."""
_MASKS = 0.12
"""Share of the mattes that are made of a mask instead."""
_MOST_NOISE = 0.02
"""Largest standard deviation of the noise that is added to colours 0-1."""
_WEIGHTS = {"l1": 1.0, "laplacian": 0.5, "core": 1.0}
"""Of the terms of the loss."""


@dataclass(frozen=True, kw_only=True)
class CorrectorConfig(MattesConfig):
    """The choices of a run of the corrector."""

    crops: int = 6
    rate: float = 3e-3
    final: float = 0.01
    average: float = 0.99


class CorrectionBatches(Dataset[Batch]):
    """Batch k of a run of the corrector, made from nothing but the configuration and k.

    A batch has `coarse` (N, COARSE_CHANNELS, CROP, CROP), of `coarse_features`; the true `alpha`
    at that size; and `near`, 1 where alpha may change (N, 1, CROP, CROP).
    """

    def __init__(self, config: CorrectorConfig) -> None:
        self.config = config
        self._files = matte_files(config.mattes)

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        one_in_opencv()
        rng = np.random.default_rng((self.config.seed, index))
        samples: list[Batch] = []
        while len(samples) < self.config.crops:
            sample = make_sample(read_matte(self._files[rng.integers(len(self._files))]), rng)
            if sample is not None:
                samples.append(sample)
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def make_sample(matte: Matte, rng: Rng) -> Batch | None:
    """Return a crop of a matte; None of a matte without an edge, or too small for a crop."""
    matte = varied(matte, rng)
    size = (matte.coarse.shape[0], matte.coarse.shape[1])
    if min(size) < CROP:
        return None
    rgb = np.ascontiguousarray(matte.rgb.transpose(2, 0, 1), np.float32) / np.float32(255)
    noise = rng.normal(0, rng.uniform(0, _MOST_NOISE), (*size, 3))
    small = np.clip(shrink_planes(rgb, size) + noise, 0, 1).astype(np.float32)
    truth = matte.truth.astype(np.float32) / np.float32(255)
    coarse = matte.coarse
    if rng.random() < _MASKS:
        coarse = coarse_mask(truth, size, rng)
    alpha = certain(coarse)
    near = reachable(alpha).astype(np.float32)
    if not near.any():
        return None
    features, _ = coarse_features(small, alpha)
    answer = cv2.resize(truth, size[::-1], interpolation=cv2.INTER_AREA)
    middle = rng.choice(np.argwhere(near)) + rng.integers(-CROP // 3, CROP // 3 + 1, 2)
    top, left = np.clip(middle - CROP // 2, 0, np.array(size) - CROP).tolist()
    place = np.s_[..., top : top + CROP, left : left + CROP]
    planes = {"coarse": features, "alpha": answer[None], "near": near[None]}
    return {name: torch.from_numpy(plane[place].copy()) for name, plane in planes.items()}


def loss(
    net: Corrector, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and figures, also `before`: the error of the coarse mattes."""
    seen = batch["coarse"]
    with torch.autocast(seen.device.type, precision, enabled=precision != torch.float32):
        change = net(seen)
    near, truth = batch["near"], batch["alpha"]
    before = batch["coarse"][:, 3:4]
    # Not clipped as in use, so that what lies beyond still learns.
    alpha = (refined(before, near * change) - CERTAIN) / (1 - 2 * CERTAIN)
    area = near.sum().clamp(min=1)
    terms = {
        "l1": l1_within(alpha, truth, near).mean(),
        # Per pixel within reach: beyond it there is no difference that could change.
        "laplacian": laplacian(alpha, truth, levels=3).mean() * near.numel() / area,
        "core": core_error(alpha, truth, near),
    }
    told = {"before": l1_within(before, truth, near).mean().item()}
    figures = {name: term.item() for name, term in terms.items()}
    return weighted_sum(terms, _WEIGHTS), {**figures, **told}


CORRECTOR = TrainingTask("corrector", Corrector, CorrectionBatches, loss)
