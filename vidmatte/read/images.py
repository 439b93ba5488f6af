"""Single images: frames of a sequence, members of a set, references and masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.errors import ReadError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


def _decode(path: Path, flags: int) -> npt.NDArray[np.generic]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image: npt.NDArray[np.generic] | None = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # a declared size beyond OpenCV's limits
        image = None
    if image is None:
        raise ReadError(f"{path}: is not an image that can be read, or is damaged; save it again, as PNG for instance")
    if image.dtype not in (np.uint8, np.uint16):
        raise ReadError(f"{path}: has {image.dtype} samples, but 8- and 16-bit integer images can be read; convert it")
    return image


def read_pixels(path: Path) -> npt.NDArray[np.float32]:
    """(H, W, C) in 0..1, channels as in the file: gray, BGR or BGRA. Raises ReadError when it cannot be decoded."""
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    peak = np.float32(255 if image.dtype == np.uint8 else 65535)
    return (image.astype(np.float32) / peak).reshape(*image.shape[:2], -1)


def read_image(path: Path) -> npt.NDArray[np.float32]:
    """(3, H, W) RGB in 0..1 of an 8- or 16-bit image; its EXIF orientation is applied, its alpha ignored.

    Raises ReadError when it cannot be decoded.
    """
    image = _decode(path, _COLOR)
    peak = np.float32(255 if image.dtype == np.uint8 else 65535)
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1).astype(np.float32) / peak)


def size_and_depth(path: Path) -> tuple[int, int, int]:
    """Height, width, and 8 or 16 bits. Raises ReadError when the image cannot be decoded."""
    image = _decode(path, _COLOR)
    return image.shape[0], image.shape[1], 8 if image.dtype == np.uint8 else 16


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by name. Raises ReadError when there are none."""
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise ReadError(f"{folder}: holds no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    return images
