"""Movies decoded by an NVIDIA GPU (NVDEC), through PyAV.

The decoder's frames come to the memory of the processor, and everything behind it is that of
`MovieVideo`. H.264, HEVC and AV1 define each pixel, so a GPU has to give the very pictures of
FFmpeg's own decoders; that is checked on the first frames of each movie.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.container import open_container, video_stream
from vidmatte.options import Deinterlace, OnDamage
from vidmatte.read.movie import MovieVideo
from vidmatte.read.video import Frame

_COMPARED = 3
"""Frames that are decoded both ways: a key frame, and frames that depend on it."""


class NvdecVideo(MovieVideo):
    """A movie whose frames are decoded by the GPU; described by what FFmpeg's decoder says of it.

    Raises ReadError if there is no such GPU, if it does not decode this codec, or if its frames
    differ from those of FFmpeg's decoder; OptionError if frames are to be repaired or deinterlaced.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        allow_truncated: bool = False,
        deinterlace: Deinterlace = "refuse",
        stream: int | None = None,
        on_damage: OnDamage = "refuse",
    ) -> None:
        if on_damage in ("skip", "hold") or deinterlace in ("bwdif", "yadif"):
            raise OptionError(
                f"on_damage {on_damage} and deinterlace {deinterlace} were given: reader nvdec "
                f"neither repairs nor deinterlaces; use --reader pyav"
            )
        self._is_on_gpu = False
        super().__init__(
            source,
            allow_truncated=allow_truncated,
            deinterlace=deinterlace,
            stream=stream,
            on_damage=on_damage,
        )
        expected = self._first_frames()
        self._is_on_gpu = True
        found = self._first_frames()
        if len(found) != len(expected) or not all(map(_is_same, found, expected)):
            raise ReadError(
                f"{source}: its first frames differ between this GPU and FFmpeg's own decoder; "
                f"use --reader pyav"
            )

    def _first_frames(self) -> list[Frame]:
        return list(islice(self.decode(), _COMPARED))

    def _open_stream(self) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        if not self._is_on_gpu:
            return super()._open_stream()
        self._file.check()
        return _opened(self._source, self._stream_number)


@contextmanager
def _opened(source: str, number: int | None) -> Iterator[tuple[InputContainer, VideoStream]]:
    # No fallback: a run that was asked to use the GPU would be slower without a word.
    hardware = HWAccel(device_type="cuda", allow_software_fallback=False)
    try:
        container = open_container(source, hardware)
    except (ReadError, NotImplementedError) as error:
        # The same file was opened without the GPU before.
        raise ReadError(
            f"{source}: cannot be decoded by an NVIDIA GPU ({_reason(error)}); is there one, with "
            f"its driver, and does it decode this codec? --reader pyav decodes on the processor"
        ) from error
    with container:
        yield container, video_stream(source, container, number)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "strerror", None) or cause)


def _is_same(one: Frame, other: Frame) -> bool:
    times = [(frame.index, frame.pts, frame.duration) for frame in (one, other)]
    return times[0] == times[1] and np.array_equal(one.rgb, other.rgb)
