"""Write animated AVIF through Pillow (extra `avif`), whose encoder takes all frames at once."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, OptionError, WriteError
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.imaging.display import for_output
from vidmatte.imaging.transfer import linear_to_srgb
from vidmatte.write.planes import packed_codes, with_width
from vidmatte.write.specs import OutputSpec

MOST_BYTES = 1 << 30
"""Memory for the frames of one file, 4 bytes a pixel: 129 frames of 1920x1080, 291 of 1280x720."""
_HEADERS = re.compile(rb"(?:mvhd|tkhd|mdhd)\x01...", re.DOTALL)
"""Headers of movie, track and media in version 1: times of creation and change, 8 bytes each."""
# Two 64-bit times.
_CLOCKS = 16


def check_avif(
    spec: OutputSpec, like: VideoInfo, *, frames: int | None, premultiplied: bool
) -> None:
    """Raise an error if an AVIF cannot be written.

    Raises:
            MissingExtraError: If Pillow, or its AVIF codec, is not installed.
            OptionError: If colour is premultiplied: Chromium shows it up to 13 code values too
                dark.
            WriteError: If there are more frames than fit into `MOST_BYTES`.
    """
    if premultiplied:
        raise OptionError(
            f"{spec}: AVIF is shown right with straight colour only; leave out --premultiplied"
        )
    try:
        from PIL import features
    except ImportError as error:
        raise MissingExtraError("AVIF output", "avif") from error
    if not features.check("avif"):
        raise MissingExtraError("AVIF output", "avif")
    if frames is not None:
        _check_frames(spec, like, frames)


def _check_frames(spec: OutputSpec, like: VideoInfo, frames: int) -> None:
    most = MOST_BYTES // (4 * like.display_width * like.height)
    if frames > most:
        raise WriteError(
            f"{spec}: AVIF has to be held in memory whole, {most} frames of "
            f"{like.display_width}x{like.height} at most, and there are {frames} or more; "
            f"cut with --start and --end, or choose .webm"
        )


class AvifWriter:
    """Collect frames, and encode them when all are there.

    Used from one thread; `discard` may be called from another one afterwards.
    """

    kind: Literal["colour", "alpha"] = "colour"

    def __init__(self, spec: OutputSpec, partial: Path, *, like: VideoInfo, audio: bool) -> None:
        self.spec = spec
        self.format = spec.format
        self.pixel_format = self.format.pixel_format
        # Pillow takes a time base of milliseconds, so times are kept until the end.
        self.notes: list[str] = []
        if audio and like.audio_streams:
            self.notes.append(f"{spec}: .avif holds no sound; that of the source is left out")
        self.frames = 0
        self._partial = partial
        self._like = like
        self._pictures: list[npt.NDArray[Any]] = []
        self._times: list[int] = []
        self._last_duration = 0

    def create(self) -> None:
        """Create the partial file. Raises OSError."""
        with open(self._partial, "xb"):
            pass

    def write(self, mattes: Mapping[str, MatteBatch]) -> None:
        """Take the frames of the output's object. Raises WriteError if they become too many."""
        batch = mattes[self.spec.object_name]
        self.frames += len(batch)
        _check_frames(self.spec, self._like, self.frames)
        for index in range(len(batch)):
            color = for_output(
                # AVIF by Pillow cannot be tagged, so the colour has to be plain sRGB.
                batch.color[index],
                self._like.color,
                linear_to_srgb,
                holds="nothing",
            )
            alpha = with_width(batch.alpha[index], self._like.display_width)
            color = with_width(color, self._like.display_width)
            self._pictures.append(packed_codes(color, alpha[0], order="rgba", dtype=np.uint8))
        self._times += batch.source.pts
        self._last_duration = batch.source.durations[-1]

    def finish(self) -> list[tuple[Path, Path]]:
        """Encode and complete the file, and return its rename (from, to). Raises OSError."""
        from PIL import Image

        # At once, as Pillow encodes an animation only in one call.
        first, *others = (Image.fromarray(picture) for picture in self._pictures)
        options: dict[str, Any] = {name: int(value) for name, value in self.format.options.items()}
        # Encoded to memory: the clock in the header has to be cleared before the file is written.
        encoded = io.BytesIO()
        first.save(
            encoded,
            "AVIF",
            save_all=True,
            append_images=others,
            duration=self._durations(),
            subsampling="4:4:4",
            **options,
        )
        with open(self._partial, "r+b") as file:
            file.write(_without_clock(encoded.getvalue()))
            file.flush()
            os.fsync(file.fileno())
        return [(self._partial, Path(self.spec.path))]

    def close(self) -> None:
        """Release the frames."""
        self._pictures = []

    def discard(self) -> None:
        """Remove the partial file."""
        self._partial.unlink(missing_ok=True)

    def failure(self, error: Exception) -> WriteError:
        """Return the error to raise for one of the file or of Pillow."""
        reason = getattr(error, "strerror", None) or str(error)
        return WriteError(
            f"{self.spec}: writing failed after {self.frames} frames ({reason}); "
            f"no output was written; check the free space and the rights of "
            f"{self.spec.folder.absolute()}"
        )

    def _durations(self) -> list[int]:
        """Return the duration of each frame in milliseconds, rounded without drift."""
        base = self._like.time_base
        usual = 1 / self._like.frame_rate
        # A duration of 0 means that the source has none.
        last = self._times[-1] * base + (self._last_duration * base or usual)
        # Each edge is rounded, and not each duration, or errors would add up.
        edges = [*(pts * base for pts in self._times), last]
        starts = [round(1000 * time) for time in edges]
        # At least 1 ms: players skip frames of no duration.
        return [max(1, after - before) for before, after in pairwise(starts)]


def _without_clock(data: bytes) -> bytes:
    """Return the file with its times of creation set to 0, for equal bytes in all runs.

    (ISO/IEC 14496-12, 8.2 to 8.4.)
    """
    cleared = bytearray(data)
    offset = 0
    while offset < len(data):
        # A size of 0 means up to the end of the file.
        size = int.from_bytes(data[offset : offset + 4], "big") or len(data)
        if data[offset + 4 : offset + 8] == b"moov":
            for header in _HEADERS.finditer(data, offset, offset + size):
                cleared[header.end() : header.end() + _CLOCKS] = bytes(_CLOCKS)
        offset += size
    return bytes(cleared)
