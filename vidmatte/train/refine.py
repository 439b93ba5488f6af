"""Training of the refiner on coarse mattes whose exact alpha is known at full size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.imaging.area import shrink_planes
from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.model.build import load_corrector
from vidmatte.model.compact.correct import Corrector, correct, detail_of
from vidmatte.model.compact.edge_cues import coarse_features, reachable, refined
from vidmatte.model.compact.refine import (
    CORE,
    HALO,
    MAX_ENLARGEMENT,
    Refiner,
    Survey,
    Tiles,
    tiles_on,
)
from vidmatte.model.compact.upsample import CERTAIN, certain, guided_upsample
from vidmatte.model.compact.window import full_frame
from vidmatte.model.losses import Batch, core_error, gradient, l1, laplacian, weighted_sum
from vidmatte.synth.corpus import Rng
from vidmatte.threads import one_in_opencv
from vidmatte.train.config import MattesConfig
from vidmatte.train.loop import TrainingTask
from vidmatte.train.matte_files import Matte, matte_files, read_matte
from vidmatte.train.varied_mattes import coarse_mask, varied

CROP = 128
"""Side of what the first stage sees of a coarse matte in training, in its pixels."""
_BORDER = 12
"""Pixels at the border of a crop whose surroundings the first stage does not see."""
_TILES = 12
"""Tiles of each crop."""
_CROPS = 2
"""Crops of each matte: reading it takes as long as a crop."""
_MASKS = 0.35
"""Share of the mattes that are made of a mask instead."""
_WEIGHTS = {
    "l1": 1.0,
    "laplacian": 0.5,
    "gradient": 1.0,
    "core": 4.0,
    "band": 0.05,
}
"""Of the terms of the loss."""
_WRONG = 0.03
"""Error of the enlarged coarse matte from which a pixel belongs to the band."""


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(MattesConfig):
    """The choices of a run of the refiner.

    Attributes:
        corrected: whether it learns from mattes that the packaged corrector has corrected, as in
            use.
    """

    corrected: bool = True
    crops: int = 8
    rate: float = 1.5e-3
    average: float = 0.998


class TileBatches(Dataset[Batch]):
    """Batch k of a run of the refiner, made from nothing but the configuration and k.

    A batch has crops of coarse mattes with tiles of each.
    """

    def __init__(self, config: RefinerConfig) -> None:
        self.config = config
        self._files = matte_files(config.mattes)
        self._corrector: Corrector | None = None

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        one_in_opencv()
        if self.config.corrected and self._corrector is None:
            # Loaded by the process that makes batches.
            self._corrector = load_corrector(torch.device("cpu"))
        rng = np.random.default_rng((self.config.seed, index))
        samples: list[Batch] = []
        while len(samples) < self.config.crops:
            matte = read_matte(self._files[rng.integers(len(self._files))])
            samples += make_samples(matte, rng, self._corrector)
        samples = samples[: self.config.crops]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def make_samples(matte: Matte, rng: Rng, corrector: Corrector | None = None) -> Iterator[Batch]:
    """Yield crops of a matte, with tiles at full size. A corrector first corrects what was found.

    Nothing is yielded of a matte without an edge, or too small for a crop.

    Each has the coarse features and lines of the crop (C, CROP, CROP); `near`, where alpha may
    change, and `band`, where it has to; `geometry` (6,), top and left of the
    crop and the sizes h, w, H, W of the whole; corners, pixels and truth of the tiles.
    """
    matte = varied(matte, rng)
    rgb = np.ascontiguousarray(matte.rgb.transpose(2, 0, 1), np.float32) / np.float32(255)
    truth = matte.truth.astype(np.float32) / np.float32(255)
    size = (matte.coarse.shape[0], matte.coarse.shape[1])
    height, width = truth.shape
    small = shrink_planes(rgb, size)
    coarse = matte.coarse
    if rng.random() < _MASKS:
        coarse = coarse_mask(truth, size, rng)
    elif corrector is not None and not matte.is_given:
        detail = detail_of(matte.rgb, full_frame(height, width), size)
        with torch.inference_mode():
            device = torch.device("cpu")
            coarse = correct(corrector, detail, coarse, device, matte.expected)
    alpha = certain(coarse)
    near = reachable(alpha).astype(np.float32)
    is_small = min(size) < CROP or max(size[0] / height, size[1] / width) > MAX_ENLARGEMENT
    if is_small or not near.any():
        return
    guided = guided_upsample(rgb, coarse, small)
    features, lines = coarse_features(small, alpha)
    band = _band(alpha, truth)
    planes = np.concatenate([features, lines, np.stack([near, band])], dtype=np.float32)
    for _ in range(_CROPS):
        top, left = _crop_corner(near, band, rng)
        crop = torch.from_numpy(planes[:, top : top + CROP, left : left + CROP].copy())
        tiles = _tiles(near, (top, left), (height, width), rng)
        yield {
            "coarse": crop[: len(features)],
            "lines": crop[len(features) : -2],
            "near": crop[-2:-1],
            "band": crop[-1:],
            "geometry": torch.tensor([top, left, *size, height, width]),
            "corners": tiles.corners,
            "fine": torch.from_numpy(tiles.cut(rgb, guided[None])),
            "truth": torch.from_numpy(tiles.cut(truth[None], side=CORE, halo=0)),
        }


def _band(alpha: Alpha, truth: Alpha) -> Pixels:
    """Return (h, w) 1 where the enlarged coarse matte is wrong, and next to it, else 0."""
    enlarged = cv2.resize(alpha, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    wrong = (np.abs(enlarged - truth) > _WRONG).astype(np.float32)
    touched = cv2.resize(wrong, alpha.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    grown = cv2.dilate(touched.astype(np.float32), np.ones((3, 3), np.uint8))
    return np.asarray(grown, np.float32)


def _crop_corner(near: Pixels, band: Pixels, rng: Rng) -> tuple[int, int]:
    """Draw the top left corner of a crop about a place that may change, mostly one that has to."""
    wanted = near * band if rng.random() < 0.7 else near
    places = np.argwhere(wanted if wanted.any() else near)
    middle = places[rng.integers(len(places))] + rng.integers(-CROP // 4, CROP // 4 + 1, 2)
    top, left = np.clip(middle - CROP // 2, 0, np.array(near.shape) - CROP).tolist()
    return top, left


def _tiles(near: Pixels, corner: tuple[int, int], size: tuple[int, int], rng: Rng) -> Tiles:
    """Draw tiles of an image that lie inside of a crop of its coarse matte, mostly where it counts.

    Args:
        near: (h, w) 1 where alpha may change.
        corner: top and left of the crop.
        size: of the image.
        rng: of all draws.
    """
    inner = np.zeros_like(near, np.float32)
    rows = slice(corner[0] + _BORDER, corner[0] + CROP - _BORDER)
    columns = slice(corner[1] + _BORDER, corner[1] + CROP - _BORDER)
    inner[rows, columns] = near[rows, columns]
    found = tiles_on(inner, *size).corners
    if not len(found):
        found = torch.tensor([[corner[i] * size[i] // near.shape[i] for i in (0, 1)]])
    drawn = found[torch.from_numpy(rng.integers(len(found), size=_TILES))]
    moved = drawn + torch.from_numpy(2 * rng.integers(-12, 13, size=(_TILES, 2)))
    most = torch.tensor([max(0, size[0] - CORE), max(0, size[1] - CORE)])
    return Tiles(moved.clamp(min=0).minimum(most // 2 * 2), *size)


def loss(
    net: Refiner, batch: Batch, generator: torch.Generator, precision: torch.dtype
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch's crops and tiles, and figures, also of the guided filter."""
    with torch.autocast(batch["fine"].device.type, precision, enabled=precision != torch.float32):
        survey, alpha = predict(net, batch)
    truth = batch["truth"].flatten(0, 1)
    terms = {
        "l1": l1(alpha, truth).mean(),
        "laplacian": laplacian(alpha, truth).mean(),
        "gradient": gradient(alpha, truth).mean(),
        "core": core_error(alpha, truth, torch.ones_like(truth)),
        "band": _band_error(survey, batch),
    }
    guided = batch["fine"].flatten(0, 1)[:, 3:4, HALO:-HALO, HALO:-HALO]
    told = {"guided": (guided - truth).abs().mean().item()}
    return weighted_sum(terms, _WEIGHTS), {
        **{name: term.item() for name, term in terms.items()},
        **told,
    }


def _band_error(survey: Survey, batch: Batch) -> Tensor:
    """Return the cross-entropy of the band; to miss a place weighs more than to add one."""
    each = F.binary_cross_entropy_with_logits(
        survey.band, batch["band"], pos_weight=torch.tensor(2.0), reduction="none"
    )
    return (batch["near"] * each).sum() / batch["near"].sum().clamp(min=1)


def _stretched(alpha: Tensor) -> Tensor:
    # Not clipped as in use, so that what lies beyond still learns.
    return (alpha - CERTAIN) / (1 - 2 * CERTAIN)


def predict(net: Refiner, batch: Batch) -> tuple[Survey, Tensor]:
    """Return the survey of all crops, and alpha of the cores of their tiles (N, 1, CORE, CORE)."""
    survey = net.survey(batch["coarse"])
    maps = torch.cat([batch["lines"], survey.features], 1)
    around = []
    for i, (top, left, h, w, height, width) in enumerate(batch["geometry"].tolist()):
        # Placed in the whole, in whose coordinates the tiles are sampled.
        placed = F.pad(maps[i : i + 1], (left, w - left - CROP, top, h - top - CROP))
        around.append(Tiles(batch["corners"][i], height, width).sample(placed))
    fine = batch["fine"].flatten(0, 1)
    pixels = F.pixel_unshuffle(fine, 2)
    change = net(pixels, torch.cat(around))
    found = refined(fine[:, 3:], F.pixel_shuffle(change.float(), 2))
    return survey, _stretched(found[..., HALO:-HALO, HALO:-HALO])


REFINER = TrainingTask("refiner", Refiner, TileBatches, loss)
