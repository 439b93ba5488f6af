"""Animated WebP and AVIF, decoded by Pillow: 8 bits, each frame with its time."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidmatte.errors import ReadError
from vidmatte.frames import VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.media.limits import check_size, pillow_image
from vidmatte.read.still import STILL
from vidmatte.read.video import Frame, Video

_TIME_BASE = Fraction(1, 1000)
"""Both formats count in milliseconds."""
_USUAL_DURATION = 100
"""Milliseconds of a frame without a duration, as in browsers."""


class AnimatedVideo(Video):
    """An image file of several pictures, each shown for its own time."""

    def __init__(self, source: str | Path) -> None:
        super().__init__()
        self._source = Path(source)
        with closing(self._pictures(0)) as pictures:
            size = next(pictures)[0].shape[:2]
        durations = self._durations
        frames = len(durations)
        self.info = VideoInfo(
            source=str(source),
            width=size[1],
            height=size[0],
            frame_rate=Fraction(frames * 1000, sum(durations)).limit_denominator(1001),
            time_base=_TIME_BASE,
            frames_in_header=frames,
            color=STILL,
            has_alpha=self._has_alpha,
        )

    @functools.cached_property
    def _durations(self) -> list[int]:
        """Return the milliseconds of each frame, known only after decoding."""
        with closing(self._pictures(0)) as pictures:
            return [duration for _, duration in pictures]

    def count_frames(self) -> int:
        """Return the number of frames."""
        return len(self._durations)

    def seconds_of(self, index: int) -> Fraction:
        """Return the sum of the durations before a frame."""
        # Past the end, time goes on at the average rate.
        behind = max(0, index - self.count_frames()) / self.info.frame_rate
        return sum(self._durations[:index]) * _TIME_BASE + behind

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on. Raises ReadError for a damaged one."""
        pts = sum(self._durations[:start])
        with closing(self._pictures(start)) as pictures:
            for index, (rgba, duration) in enumerate(pictures, start):
                rgb = rgba[..., :3].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
                yield Frame(np.ascontiguousarray(rgb), index, pts, duration)
                pts += duration

    def opacity(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.opacity`."""
        with closing(self._pictures(start)) as pictures:
            for rgba, _ in pictures:
                plane = rgba[..., 3] if self._has_alpha else rgba[..., :3].max(axis=2)
                yield plane.astype(np.float32) / np.float32(255)

    def alpha(self, start: int = 0) -> Generator[Alpha]:
        """See `Video.alpha`."""
        with closing(self._pictures(start)) as pictures:
            for rgba, _ in pictures:
                yield rgba[..., 3].astype(np.float32) / np.float32(255)

    @functools.cached_property
    def _has_alpha(self) -> bool:
        """Return whether a frame is transparent somewhere; files may declare unused alpha."""
        with closing(self._pictures(0)) as pictures:
            return any(rgba[..., 3].min() < 255 for rgba, _ in pictures)

    def _pictures(self, start: int) -> Generator[tuple[npt.NDArray[np.uint8], int]]:
        """Yield (H, W, 4) red, green, blue and alpha of each frame, and its milliseconds."""
        index = start
        try:
            with pillow_image(self._source) as image:
                check_size(self._source, *image.size)
                for index in range(start, getattr(image, "n_frames", 1)):
                    # Frames may depend on earlier ones; Pillow decodes those by itself.
                    image.seek(index)
                    image.load()
                    duration = round(image.info.get("duration") or _USUAL_DURATION)
                    # A duration of 0 would put two frames at one time.
                    yield np.asarray(image.convert("RGBA")), max(1, duration)
        except ReadError:
            raise
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ReadError(
                f"{self._source}: frame {index} cannot be decoded ({error}); save it again"
            ) from error
