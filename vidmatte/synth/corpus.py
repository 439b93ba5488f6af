"""Photographs that training clips are made of: textures, backgrounds, and foregrounds cut from them.

Foregrounds are straight colour with alpha, (h, w, 4) float32 0-1. Three sources: cut-outs that come with a matte;
subjects, cut by GrabCut from photographs that show one thing in the middle; segments, single regions of any photograph
and unions of neighbours. A cut that is wrong as a segmentation is still true by construction once it is composited.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.imaging.arrays import Pixels

Rng = np.random.Generator
Split = Literal["train", "held-out"]

_PHOTO_SIDE = 512
_CUT_SIDE = 224
_SUBJECT_PREFIX = "dreambooth_"


def photographs(folder: str | Path, split: Split) -> list[Path]:
    """The files of one side of a corpus, sorted. Raises ReadError where there are none."""
    paths = [path for path in sorted(Path(folder).glob("images/*.jpg")) if _split(path) == split]
    if not paths:
        raise ReadError(
            f"{folder}: a corpus with {split} photographs asked for, found none; looked for images/*.jpg"
        )
    return paths


class Corpus:
    """The photographs of one folder, split once and for all by file name.

    Args:
        folder: holds `images/*.jpg` and `cutouts/<name>.jpg` with `cutouts/<name>_alpha.png`.
        split: "held-out" is about one photograph in eight and never meets "train".
        photo_side, cut_side: longer side, in pixels, that photographs and cut-outs are shrunk to.
    """

    def __init__(
        self,
        folder: str | Path,
        split: Split,
        *,
        photo_side: int = _PHOTO_SIDE,
        cut_side: int = _CUT_SIDE,
    ) -> None:
        paths = photographs(folder, split)
        self.photos = [_read(path, photo_side) for path in paths]
        self.subjects = [i for i, path in enumerate(paths) if path.name.startswith(_SUBJECT_PREFIX)]
        mattes = sorted(Path(folder).glob("cutouts/*_alpha.png"))
        self.cutouts = [
            _read_cutout(path, cut_side)
            for i, path in enumerate(mattes)
            if (i % 7 == 3) == (split == "held-out")
        ]
        self._segments: dict[int, NDArray[np.int32]] = {}
        self._cuts: dict[int, Pixels | None] = {}
        self._masks: dict[int, NDArray[np.bool_] | None] = {}

    def texture(self, side: int, rng: Rng, *, least: float = 0.25) -> Pixels:
        """A square crop of a photograph (side, side, 3), `least` to all of it, often with changed colours."""
        photo = self.photos[rng.integers(len(self.photos))]
        height, width = photo.shape[:2]
        crop = int(min(height, width) * rng.uniform(least, 1))
        y, x = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
        how = cv2.INTER_AREA if crop > side else cv2.INTER_LINEAR
        patch = cv2.resize(photo[y : y + crop, x : x + crop], (side, side), interpolation=how)
        patch = patch[:, ::-1] if rng.random() < 0.5 else patch
        colour: Pixels = np.asarray(patch, np.float32) / np.float32(255)
        return recolour(colour, rng) if rng.random() < 0.5 else colour

    def cutout(self, rng: Rng) -> Pixels:
        """A foreground that came with a matte."""
        return self.cutouts[rng.integers(len(self.cutouts))]

    def subject(self, rng: Rng) -> Pixels | None:
        """The thing in the middle of a photograph, or None where GrabCut finds none."""
        index = int(rng.choice(self.subjects)) if self.subjects else -1
        if index < 0:
            return None
        if index not in self._cuts:
            photo = _shrink(self.photos[index], _CUT_SIDE)
            mask = find_subject(photo)
            self._cuts[index] = None if mask is None else _cut(photo, mask)
        return self._cuts[index]

    def scene(self, rng: Rng) -> Pixels | None:
        """A photograph with its subject in place, square (S, S, 4); its alpha is GrabCut's, so only about right."""
        index = int(rng.choice(self.subjects)) if self.subjects else -1
        if index < 0:
            return None
        photo = self.photos[index]
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        photo = photo[top : top + side, left : left + side]
        if index not in self._masks:
            self._masks[index] = find_subject(_shrink(photo, _CUT_SIDE))
        mask = self._masks[index]
        if mask is None:
            return None
        alpha = cv2.resize(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7), (side, side))
        scene: Pixels = np.dstack([photo.astype(np.float32) / 255, alpha]).astype(np.float32)
        return scene[:, ::-1].copy() if rng.random() < 0.5 else scene

    def segment(self, rng: Rng) -> Pixels | None:
        """A region of a photograph and up to three of its neighbours, or None where the photograph has no fit one."""
        index = int(rng.integers(len(self.photos)))
        photo = _shrink(self.photos[index], _CUT_SIDE)
        if index not in self._segments:
            self._segments[index] = _label_regions(photo)
        labels = self._segments[index]
        start = labels[
            rng.integers(labels.shape[0] // 5, labels.shape[0] * 4 // 5),
            rng.integers(labels.shape[1]),
        ]
        mask = labels == start
        for _ in range(rng.integers(4)):
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~mask
            if ring.any():
                mask |= labels == rng.choice(labels[ring])
        share = mask.mean()
        return _cut(photo, mask) if 0.01 < share < 0.5 else None


def recolour(image: Pixels, rng: Rng) -> Pixels:
    """Change contrast, brightness and colour balance of an image 0-1."""
    contrast, shift = rng.uniform(0.6, 1.4), rng.uniform(-0.2, 0.2, 3)
    changed: Pixels = np.clip((image - 0.5) * contrast + 0.5 + shift, 0, 1).astype(np.float32)
    return changed


def _split(path: Path) -> Split:
    """All photographs of one subject (a name up to its number) fall on one side."""
    name = path.stem.rstrip("0123456789_")
    return "held-out" if hashlib.sha256(name.encode()).digest()[0] % 8 == 0 else "train"


def _read(path: Path, side: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ReadError(f"{path}: cannot be read as an image; replace or remove it")
    return _shrink(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), side)


def _shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    return np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def _read_cutout(path: Path, side: int) -> Pixels:
    """Colour and matte, trimmed to the object; colour made straight by multi-level estimation (Germer et al., 2020)."""
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise MissingExtraError("training", "train") from error

    alpha = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if alpha is None:
        raise ReadError(f"{path}: cannot be read as an image; replace or remove it")
    image = _read(path.with_name(path.name.replace("_alpha.png", ".jpg")), 10**6)
    rows, columns = np.nonzero(np.asarray(alpha) > 20)
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rgba = np.dstack([image[part].astype(np.float32), alpha[part].astype(np.float32)]) / 255
    scale = min(1.0, side / max(rgba.shape[:2]))
    rgba = np.asarray(cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    straight = estimate_foreground_ml(
        rgba[..., :3].astype(np.float64), rgba[..., 3].astype(np.float64)
    )
    cut: Pixels = np.dstack([np.clip(straight, 0, 1), rgba[..., 3]]).astype(np.float32)
    return cut


def _label_regions(photo: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Graph-based regions (Felzenszwalb and Huttenlocher, 2004) of a photograph."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise MissingExtraError("training", "train") from error

    return np.asarray(felzenszwalb(photo, scale=250, sigma=0.8, min_size=150), np.int32)


def find_subject(photo: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The thing in the middle of a photograph by GrabCut (Rother et al., 2004), or None if it hardly is one."""
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    inset = int(0.06 * min(height, width))
    middle = (inset, inset, width - 2 * inset, height - 2 * inset)
    # GrabCut draws from a generator of the whole process: without a seed its cuts would depend on what came before.
    cv2.setRNGSeed(0)
    cv2.grabCut(photo, mask, middle, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_RECT)
    found = cv2.morphologyEx(
        (mask % 2 == 1).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    solid = labels == largest
    edge = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]]).mean()
    core = solid[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5].mean()
    # A sprite covers the middle and leaves most of the border free; what does not is likely the background.
    return solid if 0.06 < solid.mean() < 0.6 and edge < 0.2 and core > 0.5 else None


def _cut(photo: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Pixels:
    """Cut a region with a pixel of softness, trimmed to its bounds."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    # Pulling the edge inward keeps the old surroundings out of the soft pixels.
    alpha = np.clip(alpha * 2 - 1, 0, 1)
    rows, columns = np.where(mask)
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    cut: Pixels = np.dstack([photo[part].astype(np.float32) / 255, alpha[part]]).astype(np.float32)
    return cut
