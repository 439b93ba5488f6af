"""Gray pictures beside the frames of a clip: masks, and mattes that come from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.media.patterns import NAME
from vidmatte.media.prefetch import prefetch
from vidmatte.read.images import IMAGE_SUFFIXES, read_opacity
from vidmatte.read.open import open_video

_PREFETCHED_PLANES = 2


def open_mask(path: Path | str) -> Mask:
    """The mask that a path names; to be used in a `with` statement.

    An image belongs to all frames, of a movie or numbered sequence the n-th frame to the n-th of the clip, a path with
    `{name}` to the images of a set. What counts is alpha where a movie or the images of a sequence have it, of other
    images where it is below 1 somewhere; else the brightest channel.

    Raises ReadError where it cannot be read.
    """
    path = Path(path)
    if NAME in path.name:
        return _NamedImages(path)
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return _Image(path)
    return _Movie(path)


class Mask(ABC):
    """What a mask shows of each frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = 0
        """Index in the clip of the frame that a movie or sequence begins at."""
        self._held: tuple[object, list[Alpha]] = None, []

    def read(self, batch: FrameBatch, size: tuple[int, int], display_width: int) -> list[Alpha]:
        """(H, W) planes in 0..1 of `size`, one for each frame of a batch, that was drawn with or without square pixels.

        Several objects may ask for the same frames one after the other. Raises OptionError for another size, and where
        a movie has no such frame.
        """
        asked = batch.frames, batch.names
        if self._held[0] != asked:
            self._held = (
                asked,
                [self._fit(plane, size, display_width) for plane in self._planes(batch)],
            )
        return self._held[1]

    @abstractmethod
    def _planes(self, batch: FrameBatch) -> Iterable[Alpha]:
        """The planes as they are in the file."""

    def _fit(self, plane: Alpha, size: tuple[int, int], display_width: int) -> Alpha:
        height, width = plane.shape
        if (height, width) == size:
            return plane
        if (height, width) != (size[0], display_width):
            raise self._wrong_size((height, width), size)
        return np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA), np.float32)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width where they are the same for all frames and known beforehand."""
        return None

    @property
    def frames(self) -> int | None:
        """Number of its frames; None where one picture serves for all, or each has its own."""
        return None

    def check_size(self, like: VideoInfo) -> None:
        """Raise OptionError where it is known to have another size than the clip."""
        size = (like.height, like.width)
        if self.size is not None and self.size not in (size, (like.height, like.display_width)):
            raise self._wrong_size(self.size, size)

    def check_length(self, frames: int) -> None:
        """Raise OptionError where it has fewer frames than that."""
        if self.frames is not None and self.frames < frames:
            raise OptionError(
                f"{self.path}: has {self.frames} frames, and frame {frames - 1} (0-based) of the clip needs one too; "
                f"give a mask as long as the clip, or one image for all of it"
            )

    def _wrong_size(self, found: tuple[int, int], wanted: tuple[int, int]) -> OptionError:
        return OptionError(
            f"{self.path}: is {found[1]}x{found[0]}, but the frame is {wanted[1]}x{wanted[0]}; make the mask from a "
            f"frame of the clip, without scaling or cropping"
        )

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of its file."""

    def __enter__(self) -> Mask:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Image(Mask):
    """One image for all frames."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._plane = read_opacity(path)

    @property
    def size(self) -> tuple[int, int]:
        return self._plane.shape[0], self._plane.shape[1]

    def _planes(self, batch: FrameBatch) -> list[Alpha]:
        return [self._plane] * len(batch)


class _NamedImages(Mask):
    """An image for each image of a set."""

    def _planes(self, batch: FrameBatch) -> Iterable[Alpha]:
        for name in batch.names or [""]:
            if not name:
                raise OptionError(
                    f"{self.path}: the frames of a clip have no names; give a movie, or mask.%06d.png"
                )
            yield read_opacity(self.path.with_name(self.path.name.replace(NAME, name)))


class _Movie(Mask):
    """A movie or sequence whose frames lie beside those of the clip."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._video = open_video(path)
        self._ahead: Generator[Alpha] | None = None
        self._next = 0
        self._count: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self._video.info.height, self._video.info.width

    @property
    def frames(self) -> int:
        if self._count is None:
            self._count = self._video.count_frames()
        return self._count

    def _planes(self, batch: FrameBatch) -> Iterable[Alpha]:
        if batch.names:
            raise OptionError(
                f"{self.path}: images of a set have no order; give one image, or {{name}}.png"
            )
        for frame in batch.frames:
            if self._ahead is None or frame != self._next:
                self.close()
                self._ahead = prefetch(self._video.opacity(frame - self.first), _PREFETCHED_PLANES)
            found = next(self._ahead, None)
            if found is None:
                self.check_length(frame - self.first + 1)
                raise OptionError(
                    f"{self.path}: its frame {frame - self.first} cannot be read; make it again"
                )
            self._next = frame + 1
            yield found

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
