"""Media and timelines for tests, and what a player would show of them.

Each frame of the media carries in its alpha the number of its clip and its own, so that the matte
of a frame tells which source frame it was made of.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from clips import numbered_picture, read_number

from vidmatte.read import open_video

NTSC24 = Fraction(24000, 1001)
NTSC30 = Fraction(30000, 1001)
NTSC60 = Fraction(60000, 1001)
WIDTH, HEIGHT = 64, 48


def write_media(
    path: Path,
    clip: int,
    *,
    frames: int,
    rate: Fraction = NTSC24,
    timecode: str | None = "01:00:00:00",
) -> Path:
    """Write a movie whose alpha tells its clip (lower half) and its frames (upper half)."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("qtrle", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "argb"
        stream.codec_context.time_base = stream.time_base = 1 / rate
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(_numbered(clip, number), "argb")
            frame.time_base, frame.pts = 1 / rate, number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _numbered(clip: int, number: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 4), 128, np.uint8)
    upper = numbered_picture(number, WIDTH, HEIGHT)[: HEIGHT // 2, :, 0]
    lower = numbered_picture(clip, WIDTH, HEIGHT)[: HEIGHT // 2, :, 0]
    picture[..., 0] = np.concatenate([upper, lower])
    return picture


@cache
def numbers_in(path: Path) -> list[tuple[int, int]]:
    """Return clip and frame number of each frame of a matte."""
    found = []
    with open_video(path) as video:
        for frame in video.decode():
            upper, lower = np.split(frame.rgb, 2, axis=1)
            doubled = [np.repeat(half, 2, axis=1) for half in (lower, upper)]
            found.append(tuple(read_number(half) for half in doubled))
    return found
