"""Gray pictures for the frames of a clip: masks, and mattes and trimaps from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from pathlib import Path

from vidmatte.errors import OptionError, ReadError
from vidmatte.frames import FrameBatch, VideoInfo, Windows
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.fit import Size, fit_to_frame, is_exact, wrong_size
from vidmatte.media.closing import Closing
from vidmatte.media.limits import displayed_size
from vidmatte.media.patterns import NAME
from vidmatte.media.prefetch import prefetch
from vidmatte.options import MaskFit
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import is_animated, is_image
from vidmatte.read.labels import split_label
from vidmatte.read.open import open_video
from vidmatte.read.plane import read_plane, warn_if_full
from vidmatte.read.sequence import SequenceVideo
from vidmatte.read.video import Video

_PREFETCHED_PLANES = 2


def open_mask(path: Path | str, fit: MaskFit = "exact") -> Mask:
    """Return the mask of a path, for a `with` block.

    An image belongs to all frames. The n-th frame of a movie or numbered sequence belongs to the
    n-th frame of the clip. A path with `{name}` belongs to the images of a set. `mask.png:2` is
    label 2 of a label mask.

    Alpha counts if it shows an object, labels count as objects, else the brightest channel counts;
    see `read.plane`. `fit` says what is done with a mask of another size than the clip, see
    `MatteOptions`.

    Raises:
        ReadError: If it cannot be read.
    """
    file, label = split_label(path)
    if NAME in file.name:
        return _NamedImages(file, label, fit)
    if is_image(file) and not is_animated(file):
        return _Image(file, label, fit)
    return _Movie(file, label, fit)


class Mask(Closing, ABC):
    """Planes in 0..1, one for each frame."""

    def __init__(self, path: Path, label: int | None = None, fit: MaskFit = "exact") -> None:
        self.path = path
        self.fit = fit
        self.label = label
        """Object of a label mask; None for the only one."""
        self.first = 0
        """Index in the clip of the first frame of a movie or sequence."""
        self.windows: Windows | None = None
        """Those of the clip; masks of the size of its display window are placed there."""
        # Several objects read the same masks frame by frame, so the last batch is kept.
        self._held: tuple[object, list[Alpha]] = None, []

    def read(self, batch: FrameBatch, size: tuple[int, int], display_width: int) -> list[Alpha]:
        """Return planes (H, W) in 0..1 of `size`, one for each frame of a batch.

        Masks may be drawn on the displayed frame, in square pixels, or on the stored one; others
        are brought to it as `fit` says. Several objects may ask for the same frames one after the
        other.

        Raises:
            OptionError: If the mask has another size, or a movie has no such frame.
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
        """Return the planes as they are in the file."""

    def _fit(self, plane: Alpha, size: tuple[int, int], display_width: int) -> Alpha:
        found = (plane.shape[0], plane.shape[1])
        if self.windows is not None and found == self.windows.size:
            return self.windows.filled(plane)
        display = (size[0], display_width)
        self._check(found, size, display)
        return fit_to_frame(plane, size, display, self.fit)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, if they are known and the same for all frames."""
        return None

    @property
    def frames(self) -> int | None:
        """Number of frames; None if one image serves for all, or each frame has its own."""
        return None

    def check_size(self, like: VideoInfo) -> None:
        """Raise OptionError if it is known to have another size than the clip."""
        self.windows = like.windows
        is_shown = like.windows is not None and self.size == like.windows.size
        if self.size is not None and not is_shown:
            self._check(self.size, (like.height, like.width), (like.height, like.display_width))

    def check_length(self, frames: int) -> None:
        """Raise OptionError if it has fewer than `frames` frames."""
        if self.frames is not None and self.frames < frames:
            raise OptionError(
                f"{self.path}: has {self.frames} frames, and frame {frames - 1} (0-based) of the "
                f"clip needs one too; "
                f"give a mask as long as the clip, or one image for all of it"
            )

    def _check(self, found: Size, size: Size, display: Size) -> None:
        if self.fit == "exact" and not is_exact(found, size, display):
            raise OptionError(wrong_size(self.path, found, size))

    def check_unchanged(self) -> None:
        """Raise ReadError if its file was replaced or rewritten since it was first read."""


class _Image(Mask):
    """One image for all frames; decoded when it is first needed, after its size was checked."""

    def __init__(self, path: Path, label: int | None, fit: MaskFit) -> None:
        super().__init__(path, label, fit)
        self._plane: Alpha | None = None
        self._size = displayed_size(path)

    @property
    def size(self) -> tuple[int, int]:
        if self._size is not None:
            return self._size[1], self._size[0]
        height, width = self._decoded().shape
        return height, width

    def _planes(self, batch: FrameBatch) -> list[Alpha]:
        return [self._decoded()] * len(batch)

    def _decoded(self) -> Alpha:
        if self._plane is None:
            self._plane = read_plane(self.path, label=self.label)
            warn_if_full(self.path, self._plane, "it")
        return self._plane


class _NamedImages(Mask):
    """An image for each image of a set."""

    def _planes(self, batch: FrameBatch) -> Iterable[Alpha]:
        for name in batch.names or [""]:
            if not name:
                raise OptionError(
                    f"{self.path}: the frames of a clip have no names; give a movie, or "
                    f"mask.%06d.png"
                )
            path = self.path.with_name(self.path.name.replace(NAME, name))
            yield read_plane(path, label=self.label)


class _Movie(Mask):
    """A movie or sequence with a frame for each frame of the clip."""

    def __init__(self, path: Path, label: int | None, fit: MaskFit) -> None:
        super().__init__(path, label, fit)
        self._video = open_video(path, choice=ExrChoice(takes_alpha=True))
        if label is not None:
            if not isinstance(self._video, SequenceVideo):
                raise OptionError(
                    f"{path}:{label}: labels are chosen in images and sequences of them; "
                    f"{path} is a movie"
                )
            self._video.label = label
        self._ahead: Generator[Alpha] | None = None
        self._next = 0
        self._count: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self._video.info.height, self._video.info.width

    def check_size(self, like: VideoInfo) -> None:
        # EXR are read where the frames of the clip lie, whatever box of them is stored.
        if like.windows is not None and isinstance(self._video, SequenceVideo):
            self._video.read_within(like.windows)
        super().check_size(like)

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
            # Frames are usually asked for in order; a jump begins to read anew.
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

    def check_unchanged(self) -> None:
        self._video.check_unchanged()

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


class SourceAlphaMask(Mask):
    """The alpha of the frames of a clip or set itself; the video stays open with its owner."""

    def __init__(self, video: Video) -> None:
        super().__init__(Path(video.info.source))
        self._video = video
        self._ahead: Generator[Alpha] | None = None
        self._next = 0

    def _planes(self, batch: FrameBatch) -> Iterable[Alpha]:
        for frame in batch.frames:
            if self._ahead is None or frame != self._next:
                self.close()
                self._ahead = prefetch(self._video.alpha(frame), _PREFETCHED_PLANES)
            found = next(self._ahead, None)
            if found is None:
                raise ReadError(f"{self.path}: the alpha of its frame {frame} cannot be read")
            self._next = frame + 1
            yield found

    def close(self) -> None:
        """Stop reading ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
