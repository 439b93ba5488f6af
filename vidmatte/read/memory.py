"""Frames that are in memory already, arrays or Pillow images, read as a clip or a set of images."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from vidmatte.errors import ReadError
from vidmatte.frames import FrameBatch, VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.read.still import STILL
from vidmatte.read.video import DEFAULT_SEQUENCE_RATE, Frame, Video

ImageLike = npt.NDArray[Any] | Image
"""An array (H, W), (H, W, 3) or (H, W, 4) of gray, RGB or RGBA, or a Pillow image."""

IN_MEMORY = "frames in memory"
"""Name of such a source."""


def is_image_like(value: object) -> bool:
    """Return whether a value is an array or a Pillow image, and no path."""
    return hasattr(value, "__array_interface__")


class MemoryVideo(Video):
    """Arrays or Pillow images, display-referred sRGB, as a clip or as a set of images.

    Arrays hold 0..255 as uint8, 0..65535 as uint16, or 0..1 as floats. Frames of a clip have one
    size; they are converted one by one when they are read.
    """

    def __init__(
        self,
        frames: Sequence[ImageLike],
        frame_rate: Fraction | None = None,
        *,
        is_set: bool = False,
    ) -> None:
        """Take frames in the order of presentation.

        Args:
            frames: at least one; they must not be changed while they are read.
            frame_rate: frames per second of a clip; None for 24.
            is_set: whether the images are independent, of any size.

        Raises:
            ReadError: there is no frame, or the first one is not an image.
        """
        super().__init__()
        if not len(frames):
            raise ReadError("no frames given; give at least one image")
        self._frames = frames
        self._is_set = is_set
        first, alpha = _planes(frames[0], 0)
        rate = Fraction(1) if is_set else frame_rate or DEFAULT_SEQUENCE_RATE
        self.info = VideoInfo(
            source=IN_MEMORY,
            width=first.shape[2],
            height=first.shape[1],
            frame_rate=rate,
            time_base=1 / rate,
            frames_in_header=len(frames),
            bit_depth=8 if np.asarray(frames[0]).dtype.itemsize == 1 else 16,
            color=STILL,
            has_alpha=alpha is not None and bool(alpha.min() < 1),
        )

    def count_frames(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def seconds_of(self, index: int) -> Fraction:
        """Return the index over the frame rate."""
        return index / self.info.frame_rate

    def adjacent(self, index: int) -> FrameBatch | None:
        """See `Video.adjacent`; images of a set have no time."""
        return None if self._is_set else super().adjacent(index)

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on. Raises ReadError for one that does not fit the first."""
        for index in range(start, len(self._frames)):
            rgb, _ = self._read(index)
            yield Frame(rgb, index, index, 1, name=f"{index:06d}" if self._is_set else "")

    def alpha(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.alpha`."""
        for index in range(start, len(self._frames)):
            rgb, alpha = self._read(index)
            yield np.ones(rgb.shape[1:], np.float32) if alpha is None else alpha

    def _read(self, index: int) -> tuple[npt.NDArray[np.float32], Alpha | None]:
        rgb, alpha = _planes(self._frames[index], index)
        size = (self.info.height, self.info.width)
        if not self._is_set and rgb.shape[1:] != size:
            raise ReadError(
                f"frame {index} is {rgb.shape[2]}x{rgb.shape[1]}, the first one {size[1]}x"
                f"{size[0]}: frames of a clip have one size; scale it, or give images=True for "
                f"images of any size"
            )
        return rgb, alpha


def _planes(image: ImageLike, index: int) -> tuple[npt.NDArray[np.float32], Alpha | None]:
    """Return rgb (3, H, W) and alpha (H, W) of an image, in 0..1. Raises ReadError."""
    values = as_unit(_pixels(image), f"frame {index}")
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4) or 0 in values.shape:
        raise ReadError(
            f"frame {index} has the shape {values.shape}: give (H, W) gray, (H, W, 3) RGB or "
            f"(H, W, 4) RGBA"
        )
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    if len(planes) == 1:
        return np.repeat(planes, 3, axis=0), None
    return planes[:3], planes[3] if len(planes) == 4 else None


def _pixels(image: ImageLike) -> npt.NDArray[Any]:
    # Not by its attributes: mapped arrays have a mode too.
    if isinstance(image, np.ndarray) or image.mode in ("L", "RGB", "RGBA", "I;16"):
        return np.asarray(image)
    has_alpha = "A" in image.mode or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def as_unit(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.float32]:
    """Return code values as 0..1: uint8 over 255, uint16 over 65535, floats as they are.

    `what` names the image in messages. Raises ReadError for other types and for floats that are no
    finite numbers.
    """
    if values.dtype in (np.uint8, np.uint16):
        return (values / np.float32(np.iinfo(values.dtype).max)).astype(np.float32, copy=False)
    if not np.issubdtype(values.dtype, np.floating):
        raise ReadError(
            f"{what} has values of type {values.dtype}: give uint8 (0 to 255), uint16 (0 to 65535) "
            f"or floats (0 to 1)"
        )
    if not np.isfinite(values).all():
        raise ReadError(f"{what} has values that are no finite numbers; replace them")
    return values.astype(np.float32)
