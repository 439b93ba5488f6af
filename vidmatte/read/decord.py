"""Movies decoded by decord (extra `decord`); clips read wrongly by it are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.errors import MissingExtraError, OptionError, ReadError
from vidmatte.options import Deinterlace
from vidmatte.read.movie import MovieVideo
from vidmatte.read.video import Frame, Video

_AHEAD_BYTES = 2 << 30
"""Memory for decord's decoding ahead: it decodes the whole rest of the clip."""


class DecordVideo(MovieVideo):
    """A movie with pictures from decord: 8 bits, as dark as by swscale's default conversion.

    Times, facts and the index come from PyAV. Clips known to be read wrongly by decord, or with
    other frame counts or times in it, are refused.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        allow_truncated: bool = False,
        deinterlace: Deinterlace = "refuse",
        stream: int | None = None,
    ) -> None:
        super().__init__(
            source, allow_truncated=allow_truncated, deinterlace=deinterlace, stream=stream
        )
        import decord

        self._decord = decord
        reason = self._wrong_for()
        if self._has_choice:
            reason = "has several video streams, of which decord chooses one by itself"
        if reason:
            raise OptionError(f"{source}: {reason}; use --reader pyav")
        reader, wanted = self._open(), self.count_frames()
        if len(reader) != wanted:
            raise ReadError(
                f"{source}: decord finds {len(reader)} frames where there are {wanted}; use "
                f"--reader pyav"
            )
        # decord counts time from the first frame of the file.
        starts = reader.get_frame_timestamp(range(wanted))[:, 0]
        times = [float(self.seconds_of(index)) for index in range(wanted)]
        # A quarter of a frame is more than rounding of times.
        if np.abs(starts - starts[0] - times).max() > 0.25 / float(self.info.frame_rate):
            raise ReadError(
                f"{source}: decord shows its frames at other times than the file says; use "
                f"--reader pyav"
            )

    def _wrong_for(self) -> str | None:
        """Return why decord must not read the clip: wrong frames or too much memory; or None."""
        info = self.info
        if info.bit_depth > 8:
            return f"has {info.bit_depth}-bit colour, of which decord keeps 8 bits"
        if not self._is_timed:
            return (
                "is no MP4, MOV or Matroska; in other containers decord misses and repeats frames"
            )
        if self._index is None or not self._times:
            return "has packets without times, in which decord cannot find frames"
        if self._index.has_discarded or self._first_pts != self._index.pts.min():
            return "has an edit list that leaves frames out; decord shows them all"
        if self._index.has_open_groups:
            return "has open groups of pictures, in which decord finds wrong frames"
        if self._is_interlaced or self._deinterlace not in ("refuse", "keep"):
            return "is interlaced, which decord cannot undo"
        # Three bytes a pixel.
        size = 3 * info.width * info.height * self.count_frames()
        if size > _AHEAD_BYTES:
            return (
                f"would take up to {size / 2**30:.0f} GB: "
                f"decord decodes the whole clip ahead of its reader"
            )
        return None

    def _open(self) -> Any:
        try:
            return self._decord.VideoReader(self._source, num_threads=1)
        except (RuntimeError, self._decord.DECORDError) as error:
            raise ReadError(f"{self._source}: decord cannot open it; use --reader pyav") from error

    def decode(self, start: int = 0) -> Iterator[Frame]:
        """Yield frames from `start` on."""
        reader = self._open()
        times = self._times
        count = len(reader)
        if start < count:
            reader.seek_accurate(start)
        for index in range(start, count):
            rgb = reader.next().asnumpy().transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            following = times[index + 1] if index + 1 < count else None
            duration = following - times[index] if following is not None else 0
            yield Frame(np.ascontiguousarray(rgb), index, times[index], duration)


def open_decord(
    source: str | Path,
    *,
    allow_truncated: bool,
    deinterlace: Deinterlace,
    stream: int | None = None,
) -> Video:
    """Return a DecordVideo. Raises MissingExtraError if decord is not installed."""
    try:
        import decord  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reader 'decord'", "decord") from error
    return DecordVideo(
        source, allow_truncated=allow_truncated, deinterlace=deinterlace, stream=stream
    )
