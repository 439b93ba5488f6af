"""Read the photographs of a corpus: textures, backgrounds, and foregrounds cut from them.

Foregrounds are straight colour with alpha, (h, w, 4) float32 0-1. There are three sources: cut-outs
come with a matte; subjects are cut by GrabCut from photographs with one object in the middle;
segments are single regions of any photograph, or unions of neighbours. A cut that is a wrong
segmentation still has exact alpha, by construction, after it is composited.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.imaging.arrays import Alpha, Pixels
from vidmatte.threads import beside_numba

Rng = np.random.Generator
Split = Literal["train", "held-out"]

_PHOTO_SIDE = 512
"""Longer side of photographs in pixels: all of them are held in memory."""
_CUT_SIDE = 224
"""Longer side of foregrounds in pixels, about the largest sprite of a clip."""
SUBJECT_PREFIX = "dreambooth_"
"""Beginning of the names of photographs with one object in the middle."""


def photographs(folder: str | Path, split: Split) -> list[Path]:
    """Return the files of one side of a corpus, sorted.

    Raises:
        ReadError: there are none.
    """
    paths = [path for path in sorted(Path(folder).glob("images/*.jpg")) if _split(path) == split]
    if not paths:
        raise ReadError(
            f"{folder}: expected a corpus with {split} photographs, found none; "
            "looked for images/*.jpg"
        )
    return paths


class Corpus:
    """The photographs of one folder, split by file name into two fixed sides.

    Args:
        folder: holds `images/*.jpg` and `cutouts/<name>.jpg` with `cutouts/<name>_alpha.png`.
        split: "held-out" is about one photograph in eight; it shares none with "train".
        masks: folder with masks of subjects, by the names of their photographs, as
            `vidmatte.train.subjects` writes them; a photograph without one shows no subject. None
            for those of GrabCut, which often hold some of the background.
        photo_side: longer side of photographs in pixels, after shrinking.
        cut_side: longer side of cut-outs in pixels, after shrinking.
    """

    def __init__(
        self,
        folder: str | Path,
        split: Split,
        *,
        masks: str | Path | None = None,
        photo_side: int = _PHOTO_SIDE,
        cut_side: int = _CUT_SIDE,
    ) -> None:
        paths = photographs(folder, split)
        self.photos = [read_photograph(path, photo_side) for path in paths]
        self.subjects = [i for i, path in enumerate(paths) if path.name.startswith(SUBJECT_PREFIX)]
        mattes = sorted(Path(folder).glob("cutouts/*_alpha.png"))
        # One cut-out in seven is held out: the fourth, the eleventh and so on.
        wanted = [path for i, path in enumerate(mattes) if (i % 7 == 3) == (split == "held-out")]
        self.cutouts = [read_cutout(path, cut_side) for path in wanted]
        # Cuts take long, so each is made once, by the index of its photograph.
        self._segments: dict[int, NDArray[np.int32]] = {}
        self._cuts: dict[int, Pixels | None] = {}
        self._masks: dict[int, Alpha | None] = {}
        self._given: dict[int, Path] = {}
        self._has_masks = masks is not None
        if masks is not None:
            self._given = {i: Path(masks) / f"{paths[i].stem}.png" for i in self.subjects}
            self.subjects = [i for i in self.subjects if self._given[i].is_file()]
            if not self.subjects:
                raise ReadError(f"{masks}: expected masks of the subjects of {folder}, found none")
        names = {_subject(paths[i]) for i in self.subjects}
        self._groups = [
            [i for i in self.subjects if _subject(paths[i]) == name] for name in sorted(names)
        ]

    def texture(self, side: int, rng: Rng, *, least: float = 0.25) -> Pixels:
        """Draw a square crop of a photograph, half of the time with changed colours.

        Args:
            side: side of the result in pixels.
            rng: of all draws.
            least: smallest side of the crop as a share of the photograph's shorter side.

        Returns:
            (side, side, 3) 0-1.
        """
        photo = self.photos[rng.integers(len(self.photos))]
        height, width = photo.shape[:2]
        crop = int(min(height, width) * rng.uniform(least, 1))
        y = rng.integers(height - crop + 1)
        x = rng.integers(width - crop + 1)
        # Averaging avoids aliases when shrinking.
        how = cv2.INTER_AREA if crop > side else cv2.INTER_LINEAR
        patch = cv2.resize(photo[y : y + crop, x : x + crop], (side, side), interpolation=how)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        colour: Pixels = np.asarray(patch, np.float32) / np.float32(255)
        return recolour(colour, rng) if rng.random() < 0.5 else colour

    def cutout(self, rng: Rng) -> Pixels:
        """Draw a foreground (h, w, 4) from the photographs with a matte."""
        return self.cutouts[rng.integers(len(self.cutouts))]

    def subject(self, rng: Rng) -> Pixels | None:
        """Draw the object (h, w, 4) in the middle of a photograph; None if GrabCut finds none."""
        if not self.subjects:
            return None
        index = int(rng.choice(self.subjects))
        if index not in self._cuts:
            photo = _shrink(self.photos[index], _CUT_SIDE)
            mask = self._mask(index, photo)
            self._cuts[index] = None if mask is None else _cut(photo, mask > 0.5)
        return self._cuts[index]

    def scene(self, rng: Rng) -> Pixels | None:
        """Draw a square photograph (S, S, 4) with its subject in place; None if GrabCut finds none.

        Its alpha is GrabCut's, so it is only about right.
        """
        if not self.subjects:
            return None
        scene = self._scene(int(rng.choice(self.subjects)))
        if scene is None:
            return None
        return scene[:, ::-1].copy() if rng.random() < 0.5 else scene

    def pair(self, rng: Rng) -> tuple[Pixels, Pixels] | None:
        """Draw two photographs of one subject, or of one kind (dogs), as `scene` returns them.

        Returns None if no subject has two photographs in which GrabCut finds it.
        """
        groups = [group for group in self._groups if len(group) > 1]
        for number in rng.permutation(len(groups)):
            scenes = (self._scene(int(index)) for index in rng.permutation(groups[number]))
            usable = list(itertools.islice((each for each in scenes if each is not None), 2))
            if len(usable) == 2:
                return usable[0], usable[1]
        return None

    def _scene(self, index: int) -> Pixels | None:
        """Return the square middle of a photograph with its subject's alpha; None without one."""
        photo = self.photos[index]
        side = min(photo.shape[:2])
        top = (photo.shape[0] - side) // 2
        left = (photo.shape[1] - side) // 2
        photo = photo[top : top + side, left : left + side]
        if index not in self._masks:
            self._masks[index] = self._middle_mask(index, photo)
        alpha = self._masks[index]
        if alpha is None:
            return None
        return np.dstack([photo.astype(np.float32) / 255, alpha]).astype(np.float32)

    def _middle_mask(self, index: int, middle: NDArray[np.uint8]) -> Alpha | None:
        """Return the soft mask (S, S) of the square middle (S, S, 3) of a photograph."""
        side = len(middle)
        if not self._has_masks:
            mask = find_subject(_shrink(middle, _CUT_SIDE))
            return None if mask is None else _soft(mask, (side, side))
        whole = self._given_mask(index)
        top = (whole.shape[0] - side) // 2
        left = (whole.shape[1] - side) // 2
        part = whole[top : top + side, left : left + side]
        # The middle may hold little of a subject, or little else.
        return part if 0.02 < part.mean() < 0.8 else None

    def _mask(self, index: int, photo: NDArray[np.uint8]) -> Alpha | None:
        """Return the mask (h, w) 0-1 of the subject of a photograph at the size of `photo`."""
        if not self._has_masks:
            mask = find_subject(photo)
            return None if mask is None else mask.astype(np.float32)
        height, width = photo.shape[:2]
        return np.asarray(cv2.resize(self._given_mask(index), (width, height)), np.float32)

    def _given_mask(self, index: int) -> Alpha:
        """Return the mask from a file as (H, W) 0-1, soft, at the size of its photograph."""
        path = self._given[index]
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ReadError(f"{path}: cannot be read as an image; replace or remove it")
        height, width = self.photos[index].shape[:2]
        return _soft(np.asarray(mask) > 127, (height, width))

    def segment(self, rng: Rng) -> Pixels | None:
        """Draw a region (h, w, 4) of a photograph with up to three of its neighbours.

        Returns None if the region is too small or too large.
        """
        index = int(rng.integers(len(self.photos)))
        photo = _shrink(self.photos[index], _CUT_SIDE)
        if index not in self._segments:
            self._segments[index] = _label_regions(photo)
        labels = self._segments[index]
        # The top and the bottom of a photograph are mostly sky and ground.
        height, width = labels.shape
        row = rng.integers(height // 5, height * 4 // 5)
        mask = labels == labels[row, rng.integers(width)]
        for _ in range(rng.integers(4)):
            # A neighbour with a long common border is drawn more often.
            grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
            ring = grown & ~mask
            if ring.any():
                mask |= labels == rng.choice(labels[ring])
        share = mask.mean()
        # Neither a speck nor most of the photograph is a useful foreground.
        return _cut(photo, mask) if 0.01 < share < 0.5 else None


def recolour(image: Pixels, rng: Rng) -> Pixels:
    """Change contrast, brightness and colour balance of an image (..., 3) 0-1."""
    # In display space, around mid-grey.
    contrast = rng.uniform(0.6, 1.4)
    shift = rng.uniform(-0.2, 0.2, 3)
    changed: Pixels = np.clip((image - 0.5) * contrast + 0.5 + shift, 0, 1).astype(np.float32)
    return changed


def _split(path: Path) -> Split:
    """Return the side of a photograph; all of one subject, a name up to its number, share it."""
    # A hash of the name stays the same on every machine and when files are added.
    name = _subject(path)
    return "held-out" if hashlib.sha256(name.encode()).digest()[0] % 8 == 0 else "train"


def _subject(path: Path) -> str:
    """Return the name of a photograph's subject: that of its file up to the number."""
    return path.stem.rstrip("0123456789_")


def read_photograph(path: Path, side: int) -> NDArray[np.uint8]:
    """Return a photograph (h, w, 3), shrunk to a longer side.

    Raises:
        ReadError: it cannot be read.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ReadError(f"{path}: cannot be read as an image; replace or remove it")
    return _shrink(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), side)


def _shrink(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Shrink an image to a longer side; a smaller image stays."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def read_cutout(path: Path, side: int) -> Pixels:
    """Read colour and matte (h, w, 4), trimmed to the object.

    The colour is made straight by multi-level estimation (Germer et al., 2020).
    """
    try:
        with beside_numba():
            from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise MissingExtraError("training", "train") from error

    alpha = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if alpha is None:
        raise ReadError(f"{path}: cannot be read as an image; replace or remove it")
    # The image must keep its size, to match the matte.
    image = read_photograph(path.with_name(path.name.replace("_alpha.png", ".jpg")), 10**6)
    # 20 of 255: fainter pixels would widen the bounds by noise.
    rows, columns = np.nonzero(np.asarray(alpha) > 20)
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rgba = np.dstack([image[part].astype(np.float32), alpha[part].astype(np.float32)]) / 255
    scale = min(1.0, side / max(rgba.shape[:2]))
    rgba = np.asarray(cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    colour = rgba[..., :3].astype(np.float64)
    with beside_numba():
        straight = estimate_foreground_ml(colour, rgba[..., 3].astype(np.float64))
    cut: Pixels = np.dstack([np.clip(straight, 0, 1), rgba[..., 3]]).astype(np.float32)
    return cut


def _label_regions(photo: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label the graph-based regions of a photograph (Felzenszwalb and Huttenlocher, 2004)."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise MissingExtraError("training", "train") from error

    return np.asarray(felzenszwalb(photo, scale=250, sigma=0.8, min_size=150), np.int32)


def find_subject(photo: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Find the object in the middle of a photograph by GrabCut (Rother et al., 2004).

    Args:
        photo: (h, w, 3).

    Returns:
        (h, w) True on the object, or None if GrabCut's result is hardly an object.
    """
    height, width = photo.shape[:2]
    found = grab_middle(photo).astype(np.uint8)
    # Opening removes threads of a pixel between the object and its surroundings.
    opened = cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    solid = labels == largest
    edge = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]]).mean()
    core = solid[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5].mean()
    # An object covers the middle and leaves most of the border free; else it is likely background.
    is_object = 0.06 < solid.mean() < 0.6 and edge < 0.2 and core > 0.5
    return solid if is_object else None


def grab_middle(photo: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return GrabCut's mask (h, w) of what is in the middle of a photograph (h, w, 3)."""
    height, width = photo.shape[:2]
    inset = int(0.06 * min(height, width))
    middle = (inset, inset, width - 2 * inset, height - 2 * inset)
    return grab_cut(photo, np.zeros((height, width), np.uint8), rounds=4, middle=middle)


def grab_cut(
    photo: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    rounds: int,
    middle: tuple[int, int, int, int] | None = None,
) -> NDArray[np.bool_]:
    """Return GrabCut's mask from labels, or from a box (x, y, width, height) around the object.

    Args:
        photo: (h, w, 3).
        labels: (h, w) OpenCV's labels of sure and probable pixels; overwritten.
        rounds: of the estimate.
        middle: the box; None for the labels.
    """
    # GrabCut draws from a generator of the whole process: without a seed its cuts would depend on
    # what came before.
    cv2.setRNGSeed(0)
    mode = cv2.GC_INIT_WITH_MASK if middle is None else cv2.GC_INIT_WITH_RECT
    # Its colour models, 65 numbers each, are not used afterwards.
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photo, labels, middle or (0, 0, 0, 0), *models, rounds, mode)
    # Odd labels are sure and probable foreground.
    return np.asarray(labels % 2 == 1)


def _soft(mask: NDArray[np.bool_], size: tuple[int, int]) -> Alpha:
    """Return a mask at a size (h, w), 0-1, with a soft edge of about a pixel."""
    smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    return np.asarray(cv2.resize(smooth, size[::-1]), np.float32)


def _cut(photo: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Pixels:
    """Cut a region (h, w, 4) with a pixel of softness, trimmed to its bounds."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    # Pulling the edge inward keeps the old surroundings out of the soft pixels.
    alpha = np.clip(alpha * 2 - 1, 0, 1)
    rows, columns = np.where(mask)
    part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    cut: Pixels = np.dstack([photo[part].astype(np.float32) / 255, alpha[part]]).astype(np.float32)
    return cut
