"""Bounds to check before memory is taken for a file: its header may lie."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vidmatte.errors import ReadError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 1 << 27
"""Pixels of a frame: 16384 x 8192. As float RGB that is 1.6 GB."""
MAX_SIDE = 32768
_ORIENTATION = 0x0112
"""EXIF and TIFF tag."""
_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_WIDTH, _HEIGHT = 256, 257
"""TIFF tags."""
_PILLOW = threading.RLock()


def check_size(source: Path | str, width: int, height: int) -> None:
    """Raise ReadError if a declared size is impossible or needs too much memory."""
    fits = min(width, height) >= 1 and max(width, height) <= MAX_SIDE
    if not fits or width * height > MAX_PIXELS:
        raise ReadError(
            f"{source}: says that it has {width}x{height} pixels; frames have 1 to {MAX_PIXELS:,} "
            f"pixels and sides of up to {MAX_SIDE}: the file is damaged, or scale or crop it first"
        )


def check_regular(path: Path | str) -> None:
    """Raise ReadError unless the path is a regular file.

    Reading a pipe would wait, and a device such as `/dev/zero` never ends.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ReadError(f"{path}: expected a file, got {kind}; give a regular file")


def header_size(source: Path | bytes) -> tuple[int, int] | None:
    """Return width and height from the header of an image, without decoding it.

    The size is that of the stored pixels, before EXIF orientation; of TIFF it is as displayed,
    since both Pillow and OpenCV turn that format by themselves.

    Args:
        source: A file, or the bytes of one.

    Returns:
        The size; None if Pillow does not know the format or finds no size.
    """
    size = None
    with _opened(source) as file:
        try:
            with open_pillow(file) as image:
                size = image.size
        except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, OverflowError):
            size = _size_of_tiff(file)
    return size


def displayed_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a displayed image from its header; None as in `header_size`.

    EXIF orientation is applied.
    """
    size = header_size(path)
    is_tiff = path.suffix.lower() in (".tif", ".tiff")
    if size is not None and not is_tiff and exif_orientation(path) in _SIDEWAYS:
        return size[1], size[0]
    return size


def exif_orientation(source: Path | bytes) -> int:
    """Return the EXIF orientation of an image, 1 (upright) to 8; 1 if it has none."""
    with _opened(source) as file:
        try:
            with open_pillow(file) as image:
                # Pillow would decode a PNG to look for EXIF behind its pixels.
                if image.format == "PNG" and "exif" not in image.info:
                    return 1
                value = image.getexif().get(_ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, OverflowError):
            return 1
    return value if value in range(1, 9) else 1


@contextmanager
def open_pillow(file: IO[bytes] | Path) -> Iterator[Image.Image]:
    """Open an image with Pillow for its header, or to decode it; one at a time.

    Warnings about damaged tags are dropped, since tags are judged by their values.
    """
    # The filters of warnings belong to the whole process.
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pillow_image(file) as image:
            yield image


def pillow_image(file: IO[bytes] | Path) -> Image.Image:
    """Return an image opened with Pillow, whose size `check_size` has to judge.

    Pillow's own bound would warn about frames that are allowed here, and does not say the size of
    those that are not.
    """
    from PIL import Image

    with _PILLOW:
        bound = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = bound


@contextmanager
def _opened(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    check_regular(source)
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ReadError(f"{source}: cannot be read ({error.strerror})") from error
    with file:
        yield file


def _size_of_tiff(file: IO[bytes]) -> tuple[int, int] | None:
    """Return the size of a TIFF with samples that Pillow does not read, such as floats of
    colour."""
    from PIL import TiffImagePlugin

    file.seek(0)
    header = file.read(8)
    if header[:4] not in (b"II*\0", b"MM\0*"):
        return None
    try:
        with _PILLOW, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
            width = int(directory[_WIDTH])
            height = int(directory[_HEIGHT])
            is_sideways = directory.get(_ORIENTATION) in _SIDEWAYS
            return (height, width) if is_sideways else (width, height)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, OverflowError):
        return None
