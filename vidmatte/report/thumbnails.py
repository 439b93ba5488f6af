"""Keep small pictures of a run of unknown length in flat memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.frames import ColorTags, MatteBatch
from vidmatte.imaging.arrays import Bgr8
from vidmatte.imaging.display import is_for_display, to_display
from vidmatte.report.summary import SUGGESTIONS, least_sure

SPREAD = 24
"""Number of pictures spread evenly over the run."""
_BOX = (240, 180)
"""Largest width and height of a picture in pixels."""
_CHECKS = ((0.30, 0.46, 0.36), (0.42, 0.60, 0.48))
"""Colours (blue, green, red) of the checkerboard behind the object.

Of middle brightness, to show both dark and bright fringes.
"""
_CHECK_SIZE = 8


@dataclass(frozen=True)
class Thumbnail:
    """Source, alpha and composite of one frame, as large as a sheet shows them."""

    frame: int
    """Number of the frame."""
    name: str
    """File stem of an image of a set; empty for a frame of a clip."""
    confidence: float
    source: Bgr8
    alpha: Bgr8
    composite: Bgr8
    """The object in its written colour, over a checkerboard."""

    @property
    def pictures(self) -> tuple[Bgr8, Bgr8, Bgr8]:
        """The pictures in display order."""
        return self.source, self.alpha, self.composite


class Thumbnails:
    """Keep evenly spread frames, and a few possible suggestions for references."""

    def __init__(
        self,
        *,
        pixel_aspect: Fraction,
        references: Sequence[int],
        apart: int,
        first_number: int = 0,
        chosen: Collection[int] | None = None,
        color: ColorTags | None = None,
    ) -> None:
        """Begin with nothing kept.

        Args:
            pixel_aspect: Width of a pixel over its height.
            references: Numbers of the marked frames.
            apart: Least distance of suggested frames, see `suggested_apart`.
            first_number: Number of the first frame of the source.
            chosen: Numbers of frames to keep in place of evenly spread ones, if they are known
                before the run.
            color: Tags of the source; HDR, light and log are shown as the model sees them.
        """
        self._color = color or ColorTags()
        self._chosen = chosen
        self._pixel_aspect = float(pixel_aspect)
        self._references = references
        self._apart = apart
        self._first_number = first_number
        self._seen = 0
        self._stride = 1
        self._spread: list[Thumbnail] = []
        self._unsure: dict[int, Thumbnail] = {}

    def add(self, batch: MatteBatch) -> None:
        """Take the next mattes of the run."""
        for index, place in enumerate(batch.source.frames):
            frame = place + self._first_number
            is_spread = self._is_spread(frame)
            is_unsure = self._may_be_suggested(frame, batch.confidence[index])
            self._seen += 1
            # Shrinking costs time, so only kept frames are shrunk.
            if not (is_spread or is_unsure):
                continue
            thumbnail = _shrink(batch, index, frame, self._pixel_aspect, self._color)
            if is_spread:
                self._spread.append(thumbnail)
            if is_unsure:
                self._unsure[frame] = thumbnail
            if self._chosen is None and len(self._spread) == 2 * SPREAD:
                # Twice as many as are shown: every second one goes, and from now on fewer come.
                self._spread = self._spread[::2]
                self._stride *= 2

    def _is_spread(self, frame: int) -> bool:
        if self._chosen is not None:
            return frame in self._chosen
        return self._seen % self._stride == 0

    def sheet(self, suggested: Collection[int]) -> list[Thumbnail]:
        """Return evenly spread frames and the suggested ones, in order."""
        chosen = {thumbnail.frame: thumbnail for thumbnail in evenly(self._spread, SPREAD)}
        # Suggested frames are shown even between the spread ones.
        chosen |= {frame: self._unsure[frame] for frame in suggested}
        return [chosen[frame] for frame in sorted(chosen)]

    @property
    def kept(self) -> list[Thumbnail]:
        """All frames kept so far, in order."""
        every = {thumbnail.frame: thumbnail for thumbnail in self._spread} | self._unsure
        return [every[frame] for frame in sorted(every)]

    def _may_be_suggested(self, frame: int, confidence: float) -> bool:
        """Return whether a frame may be suggested at the end; drop impossible ones.

        Frames come in order: a new one is too close to the last suggestion at most, and then takes
        its place. So a frame surer than `SUGGESTIONS` others stays behind them for good.
        """
        # References and sure frames are out before any comparison.
        if not least_sure({frame: confidence}, self._references, count=1, apart=self._apart):
            return False
        known = {kept: thumbnail.confidence for kept, thumbnail in self._unsure.items()} | {
            frame: confidence
        }
        ahead = least_sure(known, self._references, count=SUGGESTIONS, apart=self._apart)
        if len(ahead) < SUGGESTIONS:
            return True
        last = (known[ahead[-1]], ahead[-1])
        self._unsure = {
            kept: picture for kept, picture in self._unsure.items() if (known[kept], kept) <= last
        }
        return (confidence, frame) <= last


def spread_frames(first: int, end: int) -> frozenset[int]:
    """Return frames spread evenly from `first` to `end` (exclusive), both ends included."""
    return frozenset(
        np.linspace(first, end - 1, min(SPREAD, end - first)).round().astype(int).tolist()
    )


def for_sheet(thumbnails: Sequence[Thumbnail], suggested: Collection[int]) -> list[Thumbnail]:
    """Return evenly spread thumbnails and those of suggested frames, in order."""
    chosen = {thumbnail.frame: thumbnail for thumbnail in evenly(thumbnails, SPREAD)}
    chosen |= {
        thumbnail.frame: thumbnail for thumbnail in thumbnails if thumbnail.frame in suggested
    }
    return [chosen[frame] for frame in sorted(chosen)]


def evenly(thumbnails: Sequence[Thumbnail], count: int) -> list[Thumbnail]:
    """Return at most `count` thumbnails, the first and the last included."""
    places = np.linspace(0, len(thumbnails) - 1, min(count, len(thumbnails)))
    return [thumbnails[place] for place in places.round().astype(int)]


def _shrink(
    batch: MatteBatch, index: int, frame: int, pixel_aspect: float, tags: ColorTags
) -> Thumbnail:
    rgb, color = batch.source.rgb[index], batch.color[index]
    if not is_for_display(tags):
        rgb, color = to_display(rgb, tags), to_display(color, tags)
    alpha = batch.alpha[index]
    size = shrunk_size(rgb.shape[-2], rgb.shape[-1], pixel_aspect)
    small = shrink(alpha, size)
    # Multiplied before it is shrunk, as the edges of a full-size composite are.
    composite = shrink(color * alpha, size) + (1 - small) * _checkerboard(size)
    return Thumbnail(
        frame=frame,
        name=batch.source.names[index] if batch.source.names else "",
        confidence=batch.confidence[index],
        source=to_codes(shrink(rgb, size)),
        alpha=to_codes(np.repeat(small, 3, axis=2)),
        composite=to_codes(composite),
    )


def shrunk_size(height: int, width: int, pixel_aspect: float = 1.0) -> tuple[int, int]:
    """Return width and height, in square pixels, of the thumbnail of a frame."""
    # Never enlarged.
    scale = min(1.0, _BOX[0] / (width * pixel_aspect), _BOX[1] / height)
    # At least one pixel: a strip of a frame may be very flat.
    return max(1, round(width * pixel_aspect * scale)), max(1, round(height * scale))


def shrink(planes: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (C, H, W) planes as (h, w, C), from RGB to OpenCV's BGR."""
    # Averaged over areas, so that fine hair does not alias.
    small = [
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes.flip(0).numpy()
    ]
    return np.stack(small, axis=2).astype(np.float32, copy=False)


def _checkerboard(size: tuple[int, int]) -> NDArray[np.float32]:
    y, x = np.mgrid[: size[1], : size[0]] // _CHECK_SIZE
    return np.asarray(np.array(_CHECKS, np.float32)[(x + y) % 2])


def to_codes(picture: NDArray[np.float32]) -> Bgr8:
    """Return values in 0..1 as 8-bit codes."""
    return (picture * 255 + np.float32(0.5)).clip(0, 255).astype(np.uint8)
