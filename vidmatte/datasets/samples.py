"""Images in groups and clips, each with the files of its truth; paths only until they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha
from vidmatte.read.images import read_image, read_pixels
from vidmatte.read.still import StillImage

Truth = Literal["alpha", "mask", "labels"]
"""Kinds of truth: alpha; a mask, object above one half; labels, object unless black."""
CountedRegion = Literal["unknown", "whole"]
"""Pixels for errors: the unknown area of trimaps, or whole images."""
CountedFrame = Literal["count", "skip"]
"""Whether the first or last frame of a clip takes part in its figures."""
_UNKNOWN = (85 / 255, 170 / 255)
"""Brightness of a trimap's unknown pixels, from the first to below the second (research code)."""


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
    """Whether the truth may differ in size from the image and is resized to it (Open Images)."""
    has_border: bool = False
    """Whether the truth has a border of middle gray that never counts (GrabCut)."""

    @property
    def is_matting(self) -> bool:
        """Whether the truth is alpha; otherwise a segmentation with unreliable edges."""
        return self.kind == "alpha"

    def read_image(self) -> StillImage:
        """Return the image. Raises ReadError."""
        return read_image(self.image)

    def read_alpha(self, size: tuple[int, int]) -> Alpha:
        """Return the truth (H, W) in 0..1 of an image of `size` (height, width).

        Raises ReadError if it does not fit.
        """
        return read_truth(
            (self.alpha, *self.others), self.kind, size, image=self.image, scaled=self.scaled
        )

    def read_border(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the ignored pixels (H, W), None if all count. Raises ReadError."""
        return read_unknown(self.alpha, size, image=self.image) if self.has_border else None


@dataclass(frozen=True)
class Group:
    """Images of one category or one thing: one can be the reference of the others."""

    name: str
    images: tuple[ImageSample, ...]

    @property
    def is_matting(self) -> bool:
        """Whether the truth of all images is alpha."""
        return all(sample.is_matting for sample in self.images)


@dataclass(frozen=True)
class Clip:
    """Consecutive frames, all of their folder, with the truth of each."""

    name: str
    """May hold a slash, if a data set has parts or a clip several objects."""
    frames: tuple[Path, ...]
    """In order, of one size."""
    alphas: tuple[Path | None, ...]
    """The truth of each frame, see `kind`; None for a frame without."""
    kind: Truth = "alpha"
    first_mask: Path | None = None
    """The benchmark's mask of the first frame; None if the truth is used instead."""
    label: int | None = None
    """Index of the object in files of labels; None takes all objects together."""

    @property
    def folder(self) -> Path:
        """Folder of the frames."""
        return self.frames[0].parent

    @property
    def frames_with_truth(self) -> tuple[int, ...]:
        """Indices of the frames that have a truth."""
        return tuple(frame for frame, path in enumerate(self.alphas) if path is not None)

    def truth_file(self, frame: int) -> Path:
        """Return the file of a frame's truth. Raises ReadError if it has none."""
        path = self.alphas[frame]
        if path is None:
            raise ReadError(
                f"{self.frames[frame]}: has no truth; mark another frame of {self.name}"
            )
        return path

    def read_alpha(self, frame: int, size: tuple[int, int]) -> Alpha:
        """Read the truth (H, W) in 0..1 of a frame.

        Args:
            frame: index of a frame with truth.
            size: height and width of the frame.

        Raises:
            ReadError: there is no truth, it cannot be read, or has another size.
        """
        path = self.truth_file(frame)
        if self.label is not None:
            labels = read_labels(path, size, self.frames[frame])
            return np.asarray(labels == self.label, np.float32)
        return read_truth((path,), self.kind, size, image=self.frames[frame])


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: groups of images, or clips; and how its published figures count."""

    name: str
    """That of its layout, see `DATASETS`."""
    root: Path
    groups: tuple[Group, ...] = ()
    clips: tuple[Clip, ...] = ()
    region: CountedRegion = "whole"
    """Pixels of images that count unless something else is chosen."""
    first_frame: CountedFrame = "skip"
    """Whether the first frame of a clip, which is marked, counts."""
    last_frame: CountedFrame = "count"

    @property
    def images(self) -> int:
        """Number of images in all groups."""
        return sum(len(group.images) for group in self.groups)

    def __str__(self) -> str:
        if self.clips:
            frames = sum(len(clip.frames) for clip in self.clips)
            return f"{self.name}: {len(self.clips)} clips, {frames} frames"
        return f"{self.name}: {len(self.groups)} groups, {self.images} images"


def read_labels(path: Path, size: tuple[int, int], image: Path) -> NDArray[np.uint8]:
    """Read the object indices (H, W) of a file of labels: a PNG with a palette, or in gray.

    Args:
        size: height and width that it must have.
        image: the frame that it belongs to, for messages.

    Raises:
        ReadError: the file cannot be read, holds colour, or has another size.
    """
    try:
        with Image.open(path) as labels:
            if labels.mode not in ("P", "L", "1"):
                raise ReadError(
                    f"{path}: expected object indices (a palette or gray), got {labels.mode}"
                )
            indices = np.asarray(labels, np.uint8)
    except (OSError, ValueError) as error:
        # A ReadError is a ValueError, too, and says enough already.
        if isinstance(error, ReadError):
            raise
        raise ReadError(f"{path}: cannot be read ({error}); get it again") from error
    if indices.shape != size:
        raise ReadError(
            f"{path}: is {indices.shape[1]}x{indices.shape[0]}, but its image {image} is "
            f"{size[1]}x{size[0]}; replace one of the two, without scaling or cropping"
        )
    return indices


def read_truth(
    paths: Sequence[Path], kind: Truth, size: tuple[int, int], *, image: Path, scaled: bool = False
) -> Alpha:
    """Return truth (H, W) float32 in 0..1; of several files the largest value counts.

    Raises:
        ReadError: A file cannot be read, or has another size (height, width) than `image`, unless
            `scaled`.
    """
    matte = np.zeros(size, np.float32)
    for path in paths:
        pixels = read_pixels(path)
        if pixels.shape[:2] != size:
            if not scaled:
                raise ReadError(
                    f"{path}: is {pixels.shape[1]}x{pixels.shape[0]}, but its image {image} is "
                    f"{size[1]}x{size[0]}; replace one of the two, without scaling or cropping"
                )
            resized = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
            pixels = np.asarray(resized, np.float32).reshape(*size, -1)
        # Several instances of one object are one mask.
        matte = np.maximum(matte, _brightness(pixels))
    if kind == "alpha":
        return matte
    return (matte > (0.5 if kind == "mask" else 0)).astype(np.float32)


def read_unknown(trimap: Path, size: tuple[int, int], *, image: Path) -> NDArray[np.bool_]:
    """Return the unknown area (H, W) of a trimap.

    Raises ReadError if it cannot be read or has another size.
    """
    values = read_truth((trimap,), "alpha", size, image=image)
    return np.asarray((values >= np.float32(_UNKNOWN[0])) & (values < np.float32(_UNKNOWN[1])))


def _brightness(pixels: NDArray[np.float32]) -> Alpha:
    """Return (H, W) of (H, W, C): gray, or the brightest channel; alpha does not count."""
    # Two channels are gray with alpha, four are colour with alpha.
    channels = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    return np.asarray(pixels[..., :channels].max(axis=2), np.float32)
