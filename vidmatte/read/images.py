"""Single images: frames of a sequence, members of a set, references and masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha
from vidmatte.media.limits import check_size, header_size
from vidmatte.read.dpx import read_dpx
from vidmatte.read.exr import read_exr, read_exr_opacity
from vidmatte.read.still import LINEAR_STILL, STILL, StillImage, finite

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx", ".exr")
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
_FLOATS = (np.float32, np.float64)


def _decode(path: Path, flags: int) -> npt.NDArray[np.generic]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    size = header_size(data.tobytes())
    if size is not None:
        check_size(path, *size)
    try:
        image: npt.NDArray[np.generic] | None = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # a declared size beyond OpenCV's limits
        image = None
    if image is None:
        raise ReadError(
            f"{path}: is not an image that can be read, or is damaged; save it again, as PNG for instance"
        )
    return image


def _in_unit(path: Path, image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if image.dtype not in (np.uint8, np.uint16):
        raise ReadError(
            f"{path}: has {image.dtype} samples, but 8- and 16-bit integer images can be read; convert it"
        )
    return image.astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 65535)


def read_pixels(path: Path) -> npt.NDArray[np.float32]:
    """(H, W, C) in 0..1, channels as in the file: gray, BGR or BGRA. Raises ReadError when it cannot be decoded."""
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    return _in_unit(path, image).reshape(*image.shape[:2], -1)


def read_image(path: Path) -> StillImage:
    """An 8- or 16-bit integer or a float image; its EXIF orientation is applied, its alpha ignored.

    Integers are display-referred; floats (EXR, TIFF) scene-linear, not-a-number in them 0 and infinity 65504.
    Raises ReadError when it cannot be decoded, MissingExtraError for EXR without the library.
    """
    if path.suffix.lower() == ".exr":
        return read_exr(path)
    if path.suffix.lower() == ".dpx":
        return read_dpx(path)
    image = _decode(path, _COLOR)
    if image.dtype in _FLOATS:
        return StillImage(
            finite(_planes(image.astype(np.float32))), LINEAR_STILL, 8 * image.dtype.itemsize
        )
    return StillImage(_planes(_in_unit(path, image)), STILL, 8 * image.dtype.itemsize)


def read_opacity(path: Path, *, in_sequence: bool = False) -> Alpha:
    """(H, W) in 0..1: the alpha of an image that has one, else its brightest channel.

    Many programs add alpha that is 1 everywhere to what they save: it counts only `in_sequence`, where the other
    images tell it from colour. Raises ReadError when it cannot be decoded.
    """
    if path.suffix.lower() == ".exr":
        return read_exr_opacity(path)
    if path.suffix.lower() == ".dpx":
        return np.asarray(read_image(path).rgb.max(axis=0).clip(0, 1))
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    pixels = image.astype(np.float32) if image.dtype in _FLOATS else _in_unit(path, image)
    pixels = np.nan_to_num(pixels.reshape(*image.shape[:2], -1)).clip(0, 1)
    has_alpha = pixels.shape[2] in (2, 4)
    if has_alpha and (in_sequence or pixels[..., -1].min() < 1):
        return np.ascontiguousarray(pixels[..., -1])
    return np.ascontiguousarray(pixels[..., : pixels.shape[2] - has_alpha].max(axis=2))


def _planes(bgr: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def is_image(path: str | Path) -> bool:
    """Whether a path names a file that is read as an image."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES and Path(path).is_file()


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by name. Raises ReadError when there are none."""
    images = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not images:
        raise ReadError(f"{folder}: holds no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    return images
