"""Training pairs for IconMatting: two crops from one context group, the object marked in one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidmatte.datasets import Group, ImageSample
from vidmatte.datasets.samples import read_unknown
from vidmatte.errors import OptionError, ReadError
from vidmatte.model.losses import Batch
from vidmatte.synth.corpus import Rng
from vidmatte.threads import one_in_opencv

Framing = Literal["center", "random"]
"""Cropping of an image to a square: the largest one in the middle, like the released code,
or a square of random size and place with the object in it, mirrored at random."""
UnknownArea = Literal["trimap", "soft"]
"""Source of the unknown area of alpha: that of the data set's trimap, or soft alpha."""

D = TypeVar("D", np.uint8, np.float32)
_log = logging.getLogger(__name__)
_TRIES = 10
# Wanted share of the object in a random crop; otherwise the best of some crops is taken.
_ENOUGH = 0.5
# Width of the untrusted band around a mask's outline, as a share of the side.
_EDGE = 0.01


class DrawsPairs(Protocol):
    """The part of a configuration for drawing pairs."""

    @property
    def seed(self) -> int:
        """Seed of everything."""
        ...

    @property
    def batch(self) -> int:
        """Pairs in a step, of all processes and micro-steps together."""
        ...

    @property
    def accumulate(self) -> int:
        """Micro-steps of a step."""
        ...

    @property
    def processes(self) -> int:
        """Number of processes."""
        ...

    @property
    def batches(self) -> int:
        """Batches of the whole run."""
        ...

    @property
    def crop(self) -> int:
        """Side of a crop in pixels."""
        ...

    @property
    def crops(self) -> int:
        """Number of different random crops of an image; 0 for a new one each time."""
        ...

    @property
    def framing(self) -> Framing:
        """How crops are cut."""
        ...

    @property
    def unknown(self) -> UnknownArea:
        """Source of the unknown area."""
        ...

    @property
    def matting(self) -> float:
        """Share of pairs with alpha, if there are masks too."""
        ...

    @property
    def segmentation(self) -> bool:
        """Whether pairs with masks take part."""
        ...


@dataclass(frozen=True)
class Crop:
    """A square of an image."""

    rgb: NDArray[np.uint8]
    """(3, S, S)"""
    alpha: NDArray[np.uint8]
    """(S, S)"""
    unknown: NDArray[np.bool_] | None
    """(S, S), the unknown area of the image's trimap; None without a trimap."""
    key: int
    """Equal for the same square of the same file; -1 for a square drawn only once."""


def usable_groups(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups with a reference and a target; log the others.

    Raises ReadError if none is left.
    """
    usable = tuple(group for group in groups if len(group.images) > 1)
    single = [group.name for group in groups if len(group.images) < 2]
    if not usable:
        raise ReadError(
            f"expected groups of two or more images to train on, found {len(groups)} groups and "
            f"none of that size: one image is the reference of the other, so put images of one "
            f"kind of thing into a group"
        )
    if single:
        _log.warning("%d groups of one image are left out, such as %s", len(single), single[0])
    return usable


class PairBatches(Dataset[Batch]):
    """Batch k of a run: pairs of images, determined by the configuration, the files and k.

    Pairs are numbered through, so a step sees the same ones however it is divided among
    micro-steps and processes.
    """

    def __init__(self, config: DrawsPairs, groups: Sequence[Group]) -> None:
        self.config = config
        used = usable_groups(groups)
        matting = [group for group in used if group.is_matting]
        masks = [group for group in used if not group.is_matting]
        if not config.segmentation:
            if not matting:
                raise OptionError(
                    "segmentation is off, but no data set has alpha: give one with --data, or "
                    "leave segmentation on"
                )
            masks = []
        self.kinds = [kind for kind in (matting, masks) if kind]
        _warn_of_missing_trimaps(config, matting)
        share = config.accumulate * config.processes
        self.pairs, rest = divmod(config.batch, share)
        if rest or not self.pairs:
            raise OptionError(
                f"batch {config.batch} is not valid in {config.accumulate} micro-steps of "
                f"{config.processes} processes: it must be a multiple of {share}"
            )

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        # Worker processes share the cores already.
        one_in_opencv()
        first = index * self.pairs
        pairs = [self.pair(number) for number in range(first, first + self.pairs)]
        return {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}

    def pair(self, number: int) -> Batch:
        """Return the pair with a number.

        Returns:
            `reference` and `target` (3, S, S), `roi`, `alpha` and `known` (1, S, S), all uint8.
            `known` is 1 outside the unknown area, or if the truth is a mask, away from its
            outline. `is_matting` tells alpha from masks. `reference_key` and `target_key` are the
            keys of the crops.
        """
        # Seeded by the number of the pair: the same pair in every process and after a resume.
        rng = np.random.default_rng((self.config.seed, number))
        groups = self.kinds[0]
        if len(self.kinds) > 1 and rng.random() >= self.config.matting:
            groups = self.kinds[1]
        group = groups[rng.integers(len(groups))]
        chosen = rng.choice(len(group.images), size=2, replace=False)
        reference = self._crop(group.images[chosen[0]], rng)
        target = self._crop(group.images[chosen[1]], rng)
        return {
            "reference": torch.from_numpy(reference.rgb),
            "roi": torch.from_numpy((reference.alpha > 127).astype(np.uint8))[None],
            "reference_key": torch.tensor(reference.key),
            "target": torch.from_numpy(target.rgb),
            "alpha": torch.from_numpy(target.alpha)[None],
            "known": torch.from_numpy(known_area(target, group.is_matting).astype(np.uint8))[None],
            "target_key": torch.tensor(target.key),
            "is_matting": torch.tensor(group.is_matting),
        }

    def _crop(self, sample: ImageSample, rng: Rng) -> Crop:
        config = self.config
        if config.framing == "center":
            return crop(sample, config, None, self._key(sample, "center"))
        if not config.crops:
            return crop(sample, config, rng, -1)
        key = self._key(sample, str(int(rng.integers(config.crops))))
        # The crop depends on its image and number, not on the pair.
        return crop(sample, config, np.random.default_rng((config.seed, key)), key)

    def _key(self, sample: ImageSample, which: str) -> int:
        facts = sample.image.stat()
        text = (
            f"{sample.image.resolve()} {facts.st_size} {facts.st_mtime_ns} "
            f"{self.config.crop} {which}"
        )
        # Seven bytes: the key has to fit into a positive int64.
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


class TrimapBatches(Dataset[Batch]):
    """Batch k of a run of the trimap variant: single images with alpha and a trimap."""

    def __init__(self, config: DrawsPairs, groups: Sequence[Group]) -> None:
        self.config = config
        self.samples = [s for group in groups for s in group.images if s.is_matting]
        if not self.samples:
            raise ReadError(
                "expected images with alpha to train on, found none: the trimap variant does not "
                "learn from masks, so give a data set such as rm1k with --data"
            )
        without = [sample.name for sample in self.samples if sample.trimap is None]
        if without and config.unknown == "trimap":
            raise ReadError(
                f"image {without[0]} has no trimap ({len(without)} of {len(self.samples)} have "
                f"none): add trimaps, or set unknown to soft to derive them from alpha"
            )
        share = config.accumulate * config.processes
        self.images, rest = divmod(config.batch, share)
        if rest or not self.images:
            raise OptionError(
                f"batch {config.batch} is not valid: it must be a multiple of {share}"
            )

    def __len__(self) -> int:
        return self.config.batches

    def __getitem__(self, index: int) -> Batch:
        one_in_opencv()
        first = index * self.images
        items = [self.item(number) for number in range(first, first + self.images)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def item(self, number: int) -> Batch:
        """Return the image with a number: `target`, `alpha`, `known`, `target_key`.

        Shapes and types are those of `PairBatches.pair`.
        """
        rng = np.random.default_rng((self.config.seed, number))
        sample = self.samples[rng.integers(len(self.samples))]
        framed = rng if self.config.framing == "random" else None
        found = crop(sample, self.config, framed, -1)
        return {
            "target": torch.from_numpy(found.rgb),
            "alpha": torch.from_numpy(found.alpha)[None],
            "known": torch.from_numpy(known_area(found, True).astype(np.uint8))[None],
            "target_key": torch.tensor(found.key),
        }


def _warn_of_missing_trimaps(config: DrawsPairs, groups: Sequence[Group]) -> None:
    if config.unknown == "soft":
        return
    without = [s.name for group in groups for s in group.images if s.trimap is None]
    if without:
        _log.warning(
            "%d images have no trimap, such as %s; their unknown area is the soft part of alpha",
            len(without),
            without[0],
        )


def known_area(crop: Crop, is_matting: bool) -> NDArray[np.bool_]:
    """Return the known part (S, S) of a crop's truth."""
    if not is_matting:
        return away_from_edges(crop.alpha)
    return solid(crop.alpha) if crop.unknown is None else ~crop.unknown


def crop(sample: ImageSample, config: DrawsPairs, rng: Rng | None, key: int) -> Crop:
    """Cut a square of side `config.crop` from an image.

    Args:
        sample: the image.
        config: side of the square, and the source of its unknown area.
        rng: None for the largest square in the middle; otherwise a random square, at least
            `config.crop` pixels wide if the image is that large, mirrored at random.
        key: of the crop.

    Raises:
        ReadError: If a file cannot be read, alpha has another size, or it shows no object.
    """
    rgb = sample.read_image().rgb
    height, width = rgb.shape[1:]
    alpha = sample.read_alpha((height, width))
    if not (alpha > 0.5).any():
        raise ReadError(
            f"{sample.alpha}: shows no object: nothing in it is white; take the image out of its "
            f"group"
        )
    unknown = None
    if config.unknown == "trimap" and sample.trimap is not None:
        unknown = read_unknown(sample.trimap, (height, width), image=sample.image)
    if rng is None:
        square = min(height, width)
        box = ((height - square) // 2, (width - square) // 2, square)
        is_mirrored = False
    else:
        box = _random_box(alpha, config.crop, rng)
        is_mirrored = bool(rng.random() < 0.5)
    planes = [_resized(plane, box, is_mirrored, config.crop) for plane in (*rgb, alpha)]
    # Rounded to the nearest code.
    codes = (np.clip(np.stack(planes), 0, 1) * 255 + 0.5).astype(np.uint8)
    if unknown is not None:
        part = _cut(unknown.astype(np.uint8), box, is_mirrored)
        side = (config.crop, config.crop)
        # Like the trimaps of the research code: without values in between.
        unknown = cv2.resize(part, side, interpolation=cv2.INTER_NEAREST) > 0
    return Crop(codes[:3], codes[3], unknown, key)


def _random_box(alpha: NDArray[np.float32], side: int, rng: Rng) -> tuple[int, int, int]:
    """Return top, left and side of a random square with the object in it."""
    height, width = alpha.shape
    whole = float(alpha.sum())
    # Not smaller than the crop: that would only enlarge it.
    least = min(height, width, side)
    best = (0, 0, min(height, width))
    best_share = -1.0
    for _ in range(_TRIES):
        wide = int(rng.integers(least, min(height, width) + 1))
        top = int(rng.integers(height - wide + 1))
        left = int(rng.integers(width - wide + 1))
        part = alpha[top : top + wide, left : left + wide]
        share = float(part.sum()) / whole if (part > 0.5).any() else 0.0
        if share > best_share:
            best = (top, left, wide)
            best_share = share
        if share >= _ENOUGH:
            break
    return best


def _cut(plane: NDArray[D], box: tuple[int, int, int], is_mirrored: bool) -> NDArray[D]:
    top, left, wide = box
    part = plane[top : top + wide, left : left + wide]
    return np.ascontiguousarray(part[:, ::-1] if is_mirrored else part)


def _resized(
    plane: NDArray[np.float32], box: tuple[int, int, int], is_mirrored: bool, side: int
) -> NDArray[np.float32]:
    how = cv2.INTER_AREA if box[2] > side else cv2.INTER_LINEAR
    part = _cut(plane, box, is_mirrored)
    return np.asarray(cv2.resize(part, (side, side), interpolation=how), np.float32)


def solid(alpha: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return True for pixels of alpha (H, W) if they and their surroundings are 0 or 255."""
    soft = ((alpha > 0) & (alpha < 255)).astype(np.uint8)
    return np.asarray(cv2.dilate(soft, np.ones((5, 5), np.uint8)) == 0)


def away_from_edges(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return True for pixels of a mask (H, W) away from its hand-drawn outline."""
    size = 2 * max(1, round(_EDGE * max(mask.shape))) + 1
    window = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    inside = (mask > 127).astype(np.uint8)
    # Dilation and erosion agree away from the outline.
    return np.asarray(cv2.dilate(inside, window) == cv2.erode(inside, window))


def as_colours(codes: Tensor) -> Tensor:
    """Return uint8 (N, C, S, S) as float32 in 0..1."""
    return codes.float() / 255
