"""What a data set holds: images in groups, and clips, each with the files of its truth. Paths only, until read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha
from vidmatte.read.images import read_image, read_pixels
from vidmatte.read.still import StillImage

Truth = Literal["alpha", "mask", "labels"]
"""What files of truth say: alpha; a mask, object above one half; labels, object where not black."""
_UNKNOWN = (85 / 255, 170 / 255)
"""Brightness of a trimap from which, and below which, a pixel is unknown: the bounds of the research code."""


@dataclass(frozen=True)
class ImageSample:
    """An image and its truth."""

    name: str
    """Of the file, without its ending; a group has each name once."""
    image: Path
    alpha: Path
    """The truth, see `kind`."""
    trimap: Path | None = None
    """0 background, 255 object, between them unknown."""
    kind: Truth = "alpha"
    others: tuple[Path, ...] = ()
    """Further masks, of other instances: the truth is all of them together."""
    scaled: bool = False
    """Whether the truth may have another size than the image, and is then brought to its (Open Images)."""

    @property
    def is_matting(self) -> bool:
        """Whether the truth is alpha; otherwise a segmentation, whose edges are not to be trusted."""
        return self.kind == "alpha"

    def read_image(self) -> StillImage:
        """The image. Raises ReadError."""
        return read_image(self.image)

    def read_alpha(self, size: tuple[int, int]) -> Alpha:
        """The truth (H, W) in 0..1 of an image of `size` (height, width). Raises ReadError where it does not fit."""
        return read_truth(
            (self.alpha, *self.others), self.kind, size, image=self.image, scaled=self.scaled
        )


@dataclass(frozen=True)
class Group:
    """Images of one category or one thing, so that one of them tells what is meant in the others."""

    name: str
    images: tuple[ImageSample, ...]

    @property
    def is_matting(self) -> bool:
        """Whether the truth of all images is alpha."""
        return all(sample.is_matting for sample in self.images)


@dataclass(frozen=True)
class Clip:
    """Consecutive frames, all that their folder holds, with the truth of each."""

    name: str
    """May hold a slash, where a data set has parts."""
    frames: tuple[Path, ...]
    """In order, of one size."""
    alphas: tuple[Path, ...]
    """The truth of each frame, see `kind`."""
    kind: Truth = "alpha"
    first_mask: Path | None = None
    """The mask of the first frame that a benchmark hands out; None where the truth is used instead."""

    @property
    def folder(self) -> Path:
        """Where the frames lie."""
        return self.frames[0].parent

    def read_alpha(self, frame: int, size: tuple[int, int]) -> Alpha:
        """The truth (H, W) in 0..1 of a frame of `size` (height, width). Raises ReadError where it does not fit."""
        return read_truth((self.alphas[frame],), self.kind, size, image=self.frames[frame])


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: groups of images, or clips."""

    name: str
    """That of its layout, see `DATASETS`."""
    root: Path
    groups: tuple[Group, ...] = ()
    clips: tuple[Clip, ...] = ()

    @property
    def images(self) -> int:
        """How many images the groups hold."""
        return sum(len(group.images) for group in self.groups)

    def __str__(self) -> str:
        if self.clips:
            return f"{self.name}: {len(self.clips)} clips, {sum(len(clip.frames) for clip in self.clips)} frames"
        return f"{self.name}: {len(self.groups)} groups, {self.images} images"


def read_truth(
    paths: Sequence[Path], kind: Truth, size: tuple[int, int], *, image: Path, scaled: bool = False
) -> Alpha:
    """Truth (H, W) float32 in 0..1 from one or several files, of which the largest value counts.

    Raises:
        ReadError: a file cannot be read, or has another size (height, width) than `image`, unless `scaled`.
    """
    matte = np.zeros(size, np.float32)
    for path in paths:
        pixels = read_pixels(path)
        if pixels.shape[:2] != size:
            if not scaled:
                raise ReadError(
                    f"{path}: is {pixels.shape[1]}x{pixels.shape[0]}, but its image {image} is {size[1]}x{size[0]}; "
                    f"replace one of the two, without scaling or cropping"
                )
            resized = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
            pixels = np.asarray(resized, np.float32).reshape(*size, -1)
        matte = np.maximum(matte, _brightness(pixels))
    if kind == "alpha":
        return matte
    return (matte > (0.5 if kind == "mask" else 0)).astype(np.float32)


def read_unknown(trimap: Path, size: tuple[int, int], *, image: Path) -> NDArray[np.bool_]:
    """The unknown area (H, W) of a trimap. Raises ReadError where it cannot be read or has another size."""
    values = read_truth((trimap,), "alpha", size, image=image)
    return np.asarray((values >= np.float32(_UNKNOWN[0])) & (values < np.float32(_UNKNOWN[1])))


def _brightness(pixels: NDArray[np.float32]) -> Alpha:
    """(H, W) of (H, W, C): gray as it is, of colour the brightest channel; an alpha channel does not count."""
    channels = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    return np.asarray(pixels[..., :channels].max(axis=2), np.float32)
