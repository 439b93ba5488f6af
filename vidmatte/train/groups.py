"""What IconMatting learns from: two images of one context group, one with its object marked, cropped at random."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.datasets import Group, ImageSample
from vidmatte.errors import OptionError, ReadError
from vidmatte.model.losses import Batch
from vidmatte.synth.corpus import Rng

_log = logging.getLogger(__name__)
_TRIES = 10
_ENOUGH = 0.5
"""Share of the object that a crop is to show; the best of some crops is taken where none does."""
_EDGE = 0.01
"""Width of the band around a mask's outline whose truth is not trusted, as a share of the crop's side."""


class DrawsPairs(Protocol):
    """What a configuration says of the pairs that are drawn."""

    @property
    def seed(self) -> int:
        """Of everything."""
        ...

    @property
    def batch(self) -> int:
        """Pairs in a step, of all processes and turns together."""
        ...

    @property
    def accumulate(self) -> int:
        """Turns of a step."""
        ...

    @property
    def processes(self) -> int:
        """That take part."""
        ...

    @property
    def batches(self) -> int:
        """In the whole run."""
        ...

    @property
    def crop(self) -> int:
        """Side of a crop."""
        ...

    @property
    def crops(self) -> int:
        """How many there are of each image; 0 for a new one each time."""
        ...

    @property
    def matting(self) -> float:
        """Share of pairs with alpha, where there are masks too."""
        ...


@dataclass(frozen=True)
class Crop:
    """A square of an image."""

    rgb: NDArray[np.uint8]
    """(3, S, S)"""
    alpha: NDArray[np.uint8]
    """(S, S)"""
    key: int
    """The same for the same square of the same file; -1 for one that is not drawn again."""


def usable_groups(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups with at least two images: a reference and a target. Others are left out, and that is logged.

    Raises ReadError where none is left.
    """
    usable = tuple(group for group in groups if len(group.images) > 1)
    single = [group.name for group in groups if len(group.images) < 2]
    if not usable:
        raise ReadError(
            f"groups to train on asked for, found {len(groups)}, none of two or more images: one is the reference of "
            f"the other, so put images of one kind of thing into a group"
        )
    if single:
        _log.warning("%d groups of one image are left out, such as %s", len(single), single[0])
    return usable


class PairBatches(Dataset[Batch]):
    """Batch k of a run: pairs of images, made from nothing but the configuration, the files and k.

    Pairs are numbered through, so that a step sees the same ones however it is divided among turns and processes.
    """

    def __init__(self, config: DrawsPairs, groups: Sequence[Group]) -> None:
        self.config = config
        used = usable_groups(groups)
        self.kinds = [
            kind
            for kind in ([g for g in used if g.is_matting], [g for g in used if not g.is_matting])
            if kind
        ]
        self.pairs, rest = divmod(config.batch, config.accumulate * config.processes)
        if rest or not self.pairs:
            raise OptionError(
                f"a batch of {config.batch} asked for, in {config.accumulate} turns of {config.processes} processes: "
                f"it must be a multiple of {config.accumulate * config.processes}"
            )

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        cv2.setNumThreads(1)
        pairs = [
            self.pair(number) for number in range(index * self.pairs, (index + 1) * self.pairs)
        ]
        return {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}

    def pair(self, number: int) -> Batch:
        """The pair with a number: `reference` and `target` (3, S, S), `roi`, `alpha` and `known` (1, S, S), all uint8.

        `known` is 1 where the truth is to be trusted and solid; `is_matting` whether elsewhere it is alpha;
        `reference_key` and `target_key` are those of the crops.
        """
        rng = np.random.default_rng((self.config.seed, number))
        groups = self.kinds[0 if len(self.kinds) == 1 or rng.random() < self.config.matting else 1]
        group = groups[rng.integers(len(groups))]
        reference, target = (
            self._crop(group.images[i], rng)
            for i in rng.choice(len(group.images), size=2, replace=False)
        )
        known = solid(target.alpha) if group.is_matting else away_from_edges(target.alpha)
        return {
            "reference": torch.from_numpy(reference.rgb),
            "roi": torch.from_numpy((reference.alpha > 127).astype(np.uint8))[None],
            "reference_key": torch.tensor(reference.key),
            "target": torch.from_numpy(target.rgb),
            "alpha": torch.from_numpy(target.alpha)[None],
            "known": torch.from_numpy(known.astype(np.uint8))[None],
            "target_key": torch.tensor(target.key),
            "is_matting": torch.tensor(group.is_matting),
        }

    def _crop(self, sample: ImageSample, rng: Rng) -> Crop:
        if not self.config.crops:
            return Crop(*crop(sample, self.config.crop, rng), -1)
        number = int(rng.integers(self.config.crops))
        facts = sample.image.stat()
        text = f"{sample.image.resolve()} {facts.st_size} {facts.st_mtime_ns} {self.config.crop} {number}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        # The crop belongs to its image and number, whatever pair it is drawn for.
        return Crop(
            *crop(sample, self.config.crop, np.random.default_rng((self.config.seed, key))), key
        )


def crop(sample: ImageSample, side: int, rng: Rng) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A random square of an image that shows its object: colours (3, side, side) and alpha (side, side).

    It is at least `side` pixels wide, where the image is as large, and is brought to that size. Raises ReadError for
    files that cannot be read, an alpha of another size, and an image without object.
    """
    rgb = sample.read_image().rgb
    height, width = rgb.shape[1:]
    alpha = sample.read_alpha((height, width))
    whole = float(alpha.sum())
    if not (alpha > 0.5).any():
        raise ReadError(
            f"{sample.alpha}: shows no object: nothing in it is white; take the image out of its group"
        )
    least = min(height, width, side)
    best, best_share = (0, 0, min(height, width)), -1.0
    for _ in range(_TRIES):
        wide = int(rng.integers(least, min(height, width) + 1))
        top, left = int(rng.integers(height - wide + 1)), int(rng.integers(width - wide + 1))
        part = alpha[top : top + wide, left : left + wide]
        share = float(part.sum()) / whole if (part > 0.5).any() else 0.0
        if share > best_share:
            best, best_share = (top, left, wide), share
        if share >= _ENOUGH:
            break
    top, left, wide = best
    inside = (slice(top, top + wide), slice(left, left + wide))
    flipped = slice(None, None, -1 if rng.random() < 0.5 else 1)
    how = cv2.INTER_AREA if wide > side else cv2.INTER_LINEAR
    planes = [
        cv2.resize(np.ascontiguousarray(plane[inside][:, flipped]), (side, side), interpolation=how)
        for plane in (*rgb, alpha)
    ]
    codes = (np.clip(np.stack(planes), 0, 1) * 255 + 0.5).astype(np.uint8)
    return codes[:3], codes[3]


def solid(alpha: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where alpha (H, W) is 0 or 255 and stays so for a few pixels around."""
    soft = ((alpha > 0) & (alpha < 255)).astype(np.uint8)
    return np.asarray(cv2.dilate(soft, np.ones((5, 5), np.uint8)) == 0)


def away_from_edges(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a mask (H, W) is to be trusted: not near its outline, which people drew."""
    size = 2 * max(1, round(_EDGE * max(mask.shape))) + 1
    window = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    inside = (mask > 127).astype(np.uint8)
    return np.asarray(cv2.dilate(inside, window) == cv2.erode(inside, window))


def as_colours(codes: Tensor) -> Tensor:
    """(N, C, S, S) uint8 as float32 in 0..1."""
    return codes.float() / 255
