"""Training of the corrector on coarse mattes whose exact alpha is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha, Pixels, Rgb8
from vidmatte.model.compact.correct import (
    DETAIL,
    REACH,
    Corrector,
    at_size_of,
    detail_of,
    matte_features,
)
from vidmatte.model.compact.edge_cues import refined
from vidmatte.model.compact.upsample import CERTAIN, certain, soft_band
from vidmatte.model.compact.window import crop_rgb, full_frame
from vidmatte.model.losses import Batch, core_error, l1_within, laplacian, weighted_sum
from vidmatte.synth.corpus import Rng
from vidmatte.threads import one_in_opencv
from vidmatte.train.config import MattesConfig
from vidmatte.train.loop import TrainingTask
from vidmatte.train.matte_files import Matte, is_given, matte_files, read_matte
from vidmatte.train.varied_mattes import varied

CROP = 192
"""Side of what is seen of a coarse matte in training, in its pixels."""
_CROPS = 2
"""Crops of each matte: reading it takes as long as a crop."""
_FORGOTTEN = 0.25
"""Share of the mattes of which the frame before is not told, as after a loss or between images."""
_MOST_LOST = 0.03
"""Largest error far from edges of a matte that is learnt from, beside the object's area."""
_MOST_NOISE = 0.02
"""Largest standard deviation of the noise that is added to colours 0-1."""
_WEIGHTS = {"l1": 1.0, "laplacian": 0.5, "core": 4.0}
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

    A batch has `coarse` (N, MATTE_CHANNELS, CROP, CROP) and `lines` (N, LINES, CROP, CROP), of
    `matte_features`; `detail`, the image at `DETAIL` times that size; the true `alpha`; and `near`,
    1 where alpha may change (N, 1, CROP, CROP).
    """

    def __init__(self, config: CorrectorConfig) -> None:
        self.config = config
        # Mattes that are given are not corrected in use.
        self._files = [path for path in matte_files(config.mattes) if not is_given(path)]
        if not self._files:
            raise ReadError(
                f"{config.mattes}: expected mattes that a model found, found only masks; make some "
                f"with python -m vidmatte.train.mattes"
            )

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        one_in_opencv()
        rng = np.random.default_rng((self.config.seed, index))
        samples: list[Batch] = []
        while len(samples) < self.config.crops:
            samples += make_samples(read_matte(self._files[rng.integers(len(self._files))]), rng)
        samples = samples[: self.config.crops]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def make_samples(matte: Matte, rng: Rng) -> Iterator[Batch]:
    """Yield crops of a matte; nothing of a matte without an edge, or too small for a crop."""
    matte = varied(matte, rng)
    size = (matte.coarse.shape[0], matte.coarse.shape[1])
    if min(size) < CROP:
        return
    truth = matte.truth.astype(np.float32) / np.float32(255)
    expected = None if rng.random() < _FORGOTTEN else matte.expected
    alpha = certain(matte.coarse)
    near = soft_band(alpha, REACH).astype(np.float32)
    small = cv2.resize(truth, size[::-1], interpolation=cv2.INTER_AREA)
    answer = np.asarray(small, np.float32)
    if not near.any() or _is_lost(matte.coarse, answer):
        return
    detail = _seen(matte.rgb, size, rng)
    features, lines = matte_features(at_size_of(alpha, detail), alpha, expected)
    planes = np.concatenate([features, lines, answer[None], near[None]], dtype=np.float32)
    places = np.argwhere(near)
    for _ in range(_CROPS):
        middle = rng.choice(places) + rng.integers(-CROP // 3, CROP // 3 + 1, 2)
        top, left = np.clip(middle - CROP // 2, 0, np.array(size) - CROP).tolist()
        crop = _cut(planes, top, left, CROP)
        yield {
            "coarse": crop[: len(features)],
            "lines": crop[len(features) : -2],
            "alpha": crop[-2:-1],
            "near": crop[-1:],
            "detail": _cut(detail.transpose(2, 0, 1), DETAIL * top, DETAIL * left, DETAIL * CROP),
        }


def _is_lost(coarse: Alpha, truth: Alpha) -> bool:
    """Return whether a matte (h, w) is wrong far from any true edge, beside the object's area.

    What was not found, or was taken along, no look at edges can mend; it would only teach to guess.
    """
    window = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    is_solid = (cv2.erode(truth, window) > 0.99) | (cv2.dilate(truth, window) < 0.01)
    wrong = is_solid & ((coarse > 0.5) != (truth > 0.5))
    return bool(wrong.sum() > _MOST_LOST * (truth > 0.5).sum())


def _seen(rgb: Rgb8, size: tuple[int, int], rng: Rng) -> Pixels:
    """Return a window (H, W, 3) as the corrector gets it for a matte of a size, with some noise."""
    whole = full_frame(*rgb.shape[:2])
    if rng.random() < 0.5:
        # Frames are shrunk before windows are cut from them, which takes some of the detail.
        share = rng.uniform(0.6, 1)
        fewer = (max(1, round(share * rgb.shape[0])), max(1, round(share * rgb.shape[1])))
        rgb = crop_rgb(rgb, whole, fewer)
        whole = full_frame(*fewer)
    detail = detail_of(rgb, whole, size) / np.float32(255)
    noise = rng.uniform(0, _MOST_NOISE) * rng.standard_normal(detail.shape, np.float32)
    return np.asarray(np.clip(detail + noise, 0, 1), np.float32)


def _cut(planes: Pixels, top: int, left: int, side: int) -> Tensor:
    """Return a square of planes (C, H, W)."""
    return torch.from_numpy(planes[:, top : top + side, left : left + side].copy())


def loss(
    net: Corrector, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and figures, also `before`: the error of the coarse mattes."""
    seen = batch["coarse"]
    with torch.autocast(seen.device.type, precision, enabled=precision != torch.float32):
        change = net(seen, batch["lines"], batch["detail"])
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
