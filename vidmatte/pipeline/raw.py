"""Raw frames on standard streams, as `ffmpeg -f rawvideo` reads and writes them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidmatte.errors import OptionError, ReadError, WriteError
from vidmatte.pipeline.models import model_from_options, model_of, share_cores
from vidmatte.pipeline.pipeline import matted_frames
from vidmatte.pipeline.progress import ProgressCallback, Work
from vidmatte.pipeline.request import Request, open_shot
from vidmatte.pipeline.run import predictors_of, streamed
from vidmatte.pipeline.source import Inputs

_CHANNELS = 3


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of the form `1920x1080`. Raises OptionError."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise OptionError(f"size {text!r} of raw frames is not valid: write 1920x1080")
    return int(width), int(height)


@contextmanager
def received(stream: BinaryIO, size: tuple[int, int] | None) -> Iterator[Inputs]:
    """Keep a stream in a temporary file for the block, and return it as a source.

    Prompts may be on any frame, and a clip is read more than once, which no pipe allows.

    Args:
        stream: a movie in any container, or raw frames of RGB, 8 bits a channel.
        size: width and height of raw frames; None for a movie.

    Raises:
        ReadError: nothing came, or no whole number of raw frames.
    """
    with tempfile.TemporaryDirectory(prefix="vidmatte-stdin-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        length = path.stat().st_size
        if not length:
            raise ReadError("standard input: is empty; send a movie, or raw frames with --raw")
        if size is None:
            yield path
            return
        width, height = size
        frames, rest = divmod(length, width * height * _CHANNELS)
        if rest or not frames:
            raise ReadError(
                f"standard input: {length} bytes came, and frames of {width}x{height} in RGB are "
                f"{width * height * _CHANNELS} bytes each; check --raw, and send -pix_fmt rgb24"
            )
        yield np.memmap(path, np.uint8, "r", shape=(frames, height, width, _CHANNELS))


def matte_to_stream(
    request: Request,
    stream: BinaryIO,
    *,
    alpha_only: bool,
    progress: ProgressCallback | None = None,
) -> int:
    """Write raw frames of 8 bits a channel, straight RGBA or alpha alone, and return their number.

    Args:
        request: what is matted; its outputs are not used.
        stream: takes the frames.
        alpha_only: whether to write alpha alone, one byte a pixel.
        progress: see `pipeline.run.matte`.

    Raises:
        VidmatteError: whatever a user can correct; WriteError if the stream was closed.
    """
    options = request.options
    if len(request.prompts.objects) > 1:
        raise OptionError(
            f"{len(request.prompts.objects)} objects are marked, and standard output takes one; "
            f"choose it (--object)"
        )
    work = Work(progress)
    work.begin("opening")
    done = 0
    with open_shot(request) as shot, share_cores(options):
        work.begin("loading")
        model = model_of(shot, model_from_options)
        predictors = predictors_of(shot, model, work)
        mattes = streamed(shot, model, predictors, color=not alpha_only, work=work)
        with closing(mattes):
            for batches in mattes:
                for frame in matted_frames(batches[0], shot.video):
                    rgba = frame.rgba()
                    _write(stream, rgba[..., 3] if alpha_only else rgba, done)
                    done += 1
                work.add("matting", len(batches[0]))
        shot.check_unchanged()
    return done


def _write(stream: BinaryIO, pixels: np.ndarray, done: int) -> None:
    try:
        stream.write(np.ascontiguousarray(pixels).tobytes())
        stream.flush()
    except OSError as error:
        raise WriteError(
            f"standard output was closed after {done} frames ({error.strerror}); see what the "
            f"program behind the pipe says"
        ) from error
