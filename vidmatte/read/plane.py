"""Meaning of an image as a mask, matte or trimap: its alpha, its labels, or its brightness."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidmatte.frames import Box
from vidmatte.imaging.arrays import Alpha
from vidmatte.read.exr import read_exr_planes
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import decode, in_unit, read_image, read_palette
from vidmatte.read.labels import (
    LabelImage,
    labels_of_colors,
    labels_of_palette,
    labels_of_shades,
)

_DIVIDED = 0.002
"""Least share of pixels on either side of one half for an alpha channel to divide a picture."""
_OPAQUE = 0.99
_GRAY = 0.02
"""Largest difference between the channels of a picture without colour."""
FULL = 0.98
"""Share of the frame from which a mask is probably a mistake."""
_MAIN = ExrChoice()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Exr:
    """What to read of an EXR."""

    choice: ExrChoice = _MAIN
    raster: Box | None = None


_WHOLE = _Exr()


@dataclass(frozen=True)
class _Picture:
    """An image as stored."""

    color: npt.NDArray[np.float32]
    """(H, W, C) in 0..1, without alpha."""
    alpha: Alpha | None
    labels: LabelImage | None


def read_plane(path: Path, *, label: int | None = None, grays_are_labels: bool = False) -> Alpha:
    """Return (H, W) in 0..1 of a single image: a mask, a matte or a trimap.

    A label mask gives one object. Otherwise alpha counts if it divides the picture: many programs
    save alpha of 1 everywhere, or nearly. Else the brightest channel counts.

    Args:
        path: The image.
        label: Object of a label mask.
        grays_are_labels: Take a few flat grays for objects, as in a mask of objects; in
            mattes and trimaps they are shades.

    Raises:
        ReadError: If it cannot be decoded, or has several objects and no label is given.
    """
    picture = _read(path, only_dark=not grays_are_labels and label is None)
    if picture.labels is not None:
        return picture.labels.choose(path, label)
    if label is not None:
        # An image of another kind has no labels: this raises the error for that.
        return LabelImage(np.zeros((1, 1), np.int32), ()).choose(path, label)
    if picture.alpha is not None and _divides(picture.alpha):
        return picture.alpha
    return _brightest(picture)


def read_alpha(path: Path, choice: ExrChoice = _MAIN, *, raster: Box | None = None) -> Alpha | None:
    """Return the alpha (H, W) in 0..1 of an image, None without alpha. Raises ReadError.

    For layer, view and box of an EXR see `read.exr.read_exr`.
    """
    exr = _Exr(choice, raster)
    return _read(path, only_dark=True, with_labels=False, exr=exr).alpha


def is_gray_and_opaque(color: npt.NDArray[np.float32], alpha: Alpha) -> bool:
    """Return whether a picture (H, W, C) is a matte by its brightness, with useless alpha."""
    is_gray = float(np.ptp(color, axis=2).max()) <= _GRAY
    return is_gray and float(alpha.min()) >= _OPAQUE and _divides(color.max(axis=2))


def labels_of(path: Path) -> tuple[int, ...]:
    """Return the objects of a label mask, rising; nothing for other images. Raises ReadError."""
    labels = _read(path, only_dark=False).labels
    return () if labels is None else labels.objects


@dataclass(frozen=True)
class SequenceReading:
    """How to read the images of a sequence; a single one of them may mislead."""

    has_idle_alpha: bool = False
    """Alpha is 1 everywhere, and the matte is the gray picture."""
    has_labels: bool = False
    """Colours and dark grays stand for objects."""
    label: int | None = None
    exr: _Exr = _WHOLE

    @classmethod
    def of(
        cls,
        paths: Sequence[Path],
        *,
        label: int | None = None,
        choice: ExrChoice = _MAIN,
        raster: Box | None = None,
    ) -> SequenceReading:
        """Return how to read a sequence, judged by its first, middle and last image.

        For layer, view and box of EXR see `read.exr.read_exr`.
        """
        exr = _Exr(choice, raster)
        chosen = sorted({0, len(paths) // 2, len(paths) - 1})
        pictures = [_read(paths[place], only_dark=True, exr=exr) for place in chosen]
        # A frame without any object is black, and tells nothing.
        shown = [picture for picture in pictures if picture.color.any()]
        return cls(
            has_idle_alpha=all(
                picture.alpha is not None and is_gray_and_opaque(picture.color, picture.alpha)
                for picture in pictures
            ),
            has_labels=bool(shown) and all(picture.labels is not None for picture in shown),
            label=label,
            exr=exr,
        )

    def read(self, path: Path) -> Alpha:
        """Return (H, W) in 0..1 of one image of the sequence. Raises ReadError."""
        with_labels = self.has_labels or self.label is not None
        picture = _read(path, only_dark=self.label is None, with_labels=with_labels, exr=self.exr)
        if picture.labels is not None:
            # An object may leave the picture.
            if self.label is not None and self.label not in picture.labels.objects:
                return np.zeros(picture.color.shape[:2], np.float32)
            return picture.labels.choose(path, self.label)
        if picture.alpha is not None and not self.has_idle_alpha:
            return picture.alpha
        return _brightest(picture)


def warn_if_full(path: Path, plane: Alpha, what: str) -> None:
    """Log a warning about a mask over the whole frame, or nearly."""
    share = float((plane > 0.5).mean())
    if share > FULL:
        _log.warning("%s: %s covers %.1f %% of the frame", path, what, 100 * share)


def _read(path: Path, *, only_dark: bool, with_labels: bool = True, exr: _Exr = _WHOLE) -> _Picture:
    suffix = path.suffix.lower()
    if suffix == ".exr":
        color, alpha = read_exr_planes(path, exr.choice, raster=exr.raster)
        return _Picture(color.transpose(1, 2, 0).clip(0, 1), alpha, None)
    if suffix == ".dpx":
        return _Picture(read_image(path).rgb.transpose(1, 2, 0).clip(0, 1), None, None)
    image = decode(path)
    codes = image.reshape(*image.shape[:2], -1)
    is_float = image.dtype.kind == "f"
    pixels = np.nan_to_num(codes.astype(np.float32)) if is_float else in_unit(path, codes)
    pixels = pixels.clip(0, 1)
    has_alpha = pixels.shape[2] in (2, 4)
    colors = pixels.shape[2] - has_alpha
    alpha = np.ascontiguousarray(pixels[..., -1]) if has_alpha else None
    # Labels are looked for only if alpha does not show the object already.
    has_shape = alpha is not None and _divides(alpha)
    labels = None
    if with_labels and not is_float and not has_shape:
        labels = _labels(path, codes[..., :colors], only_dark=only_dark)
    return _Picture(pixels[..., :colors], alpha, labels)


def _labels(path: Path, bgr: npt.NDArray[np.generic], *, only_dark: bool) -> LabelImage | None:
    """Return the labels of an image (H, W, 1 or 3) of code values."""
    palette = read_palette(path)
    if palette is not None:
        found = labels_of_palette(palette.indices, palette.colors)
        if found is not None:
            return found
    is_gray = bgr.shape[2] == 1 or bool((np.ptp(bgr, axis=2) == 0).all())
    if is_gray:
        return labels_of_shades(bgr[..., 0], only_dark=only_dark)  # type: ignore[arg-type]
    return labels_of_colors(bgr[..., ::-1].astype(np.uint8)) if bgr.dtype == np.uint8 else None


def _divides(alpha: Alpha) -> bool:
    """Return whether alpha shows an object: more than a few pixels on either side of one half."""
    share = float((alpha > 0.5).mean())
    return _DIVIDED <= share <= 1 - _DIVIDED


def _brightest(picture: _Picture) -> Alpha:
    return np.ascontiguousarray(picture.color.max(axis=2))
