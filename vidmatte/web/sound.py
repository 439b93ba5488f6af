"""The sound of a clip, as browsers play it."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import av

from vidmatte.errors import ReadError
from vidmatte.media.container import open_container

_RATE = 48_000
_BITS = 96_000


class Sound:
    """The first sound stream of a movie as Opus in WebM, made when it is first asked for."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._error: ReadError | None = None

    def file(self) -> Path:
        """Return the file with the sound. Raises ReadError if there is none, or it is damaged."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._folder is None:
                folder = tempfile.TemporaryDirectory(prefix="vidmatte-sound-")
                try:
                    self._convert(Path(folder.name) / "sound.webm")
                except (av.FFmpegError, ReadError, OSError) as error:
                    folder.cleanup()
                    self._error = ReadError(f"{self._source}: its sound cannot be played ({error})")
                    raise self._error from error
                self._folder = folder
            return Path(self._folder.name) / "sound.webm"

    def _convert(self, target: Path) -> None:
        with open_container(str(self._source)) as container:
            if not container.streams.audio:
                raise ReadError("there is none")
            sound = container.streams.audio[0]
            start = None
            video = container.streams.best("video")
            if video is not None and video.start_time is not None and video.time_base is not None:
                start = float(video.start_time * video.time_base)
            with av.open(str(target), "w", format="webm") as out:
                made = out.add_stream("libopus", rate=_RATE, layout="stereo")
                made.bit_rate = _BITS
                resampler = av.AudioResampler(format="s16", layout="stereo", rate=_RATE)
                for frame in container.decode(sound):
                    # Played from the time of the first picture on.
                    if start is not None and frame.time is not None and frame.time < start:
                        continue
                    for part in resampler.resample(frame):
                        part.pts = None
                        out.mux(made.encode(part))
                for part in resampler.resample(None):
                    part.pts = None
                    out.mux(made.encode(part))
                out.mux(made.encode(None))

    def close(self) -> None:
        """Remove the file."""
        with self._lock:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None
