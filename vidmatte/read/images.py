"""Single images: frames of a sequence, members of a set, references and masks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.frames import Box
from vidmatte.media.limits import (
    check_regular,
    check_size,
    exif_orientation,
    header_size,
    open_pillow,
)
from vidmatte.read.dpx import read_dpx
from vidmatte.read.exr import read_exr
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.orientation import from_exif
from vidmatte.read.profile import with_profile
from vidmatte.read.still import LINEAR_STILL, StillImage, finite

IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".avif",
    ".heic",
    ".heif",
    ".dpx",
    ".exr",
)
_ANIMATED_SUFFIXES = (".png", ".webp", ".avif")
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_FLOATS = (np.float32, np.float64)
_HEIF = (".heic", ".heif")
_MAIN = ExrChoice()
_BY_PILLOW = (".avif", *_HEIF)
_JPEG = b"\xff\xd8"
# Messages of libjpeg about damage; it has others about unusual but whole files.
_DAMAGED_JPEG = re.compile("corrupt|premature|extraneous|bad huffman", re.IGNORECASE)
_TIFF = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Palette:
    """An image of palette indices, as stored."""

    indices: npt.NDArray[np.uint8]
    """(H, W)"""
    colors: npt.NDArray[np.uint8]
    """(N, 3) red, green and blue of each index."""


def decode(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> npt.NDArray[np.generic]:
    """Return the displayed pixels (H, W) or (H, W, C) of an image, with EXIF applied.

    Channels are gray, BGR or BGRA, samples those of the file.

    Raises:
        ReadError: If the image cannot be decoded, or is larger than any frame.
    """
    check_regular(path)
    if is_animated(path):
        raise ReadError(
            f"{path}: holds several pictures, where one is expected; give it as a clip of its own, "
            f"or save the picture as PNG"
        )
    if path.suffix.lower() in _BY_PILLOW:
        return _decode_with_pillow(path)
    raw = _checked_bytes(path)
    try:
        data = np.frombuffer(raw, np.uint8)
        image: npt.NDArray[np.generic] | None = cv2.imdecode(data, flags) if raw else None
    except cv2.error:  # a declared size beyond OpenCV's limits
        image = None
    if image is None:
        raise ReadError(
            f"{path}: is not an image that can be read, or is damaged; save it again, as PNG say"
        )
    # OpenCV turns TIFF by itself in spite of the flags, and no other format.
    if raw.startswith(_TIFF):
        return image
    return _upright(image, exif_orientation(raw))


def _checked_bytes(path: Path) -> bytes:
    """Return the bytes of an image of acceptable size, and undamaged if it is a JPEG."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    size = header_size(raw)
    if size is not None:
        check_size(path, *size)
    if raw.startswith(_JPEG):
        _check_jpeg(path, raw)
    return raw


def _decode_with_pillow(path: Path) -> npt.NDArray[np.generic]:
    """Return the 8-bit pixels, gray, BGR or BGRA, of an image unknown to OpenCV.

    Raises:
        ReadError: If it cannot be decoded.
        MissingExtraError: If it is HEIC, of an iPhone say, and the library is not installed.
    """
    if path.suffix.lower() in _HEIF:
        _register_heif()
    try:
        with open_pillow(path) as image:
            check_size(path, *image.size)
            mode = image.mode if image.mode in ("L", "RGB", "RGBA") else "RGBA"
            pixels = np.asarray(image.convert(mode))
    except ReadError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ReadError(
            f"{path}: is not an image that can be read, or is damaged ({error}); "
            f"save it again, as PNG say"
        ) from error
    if pixels.ndim == 3:
        # Pillow has red first, OpenCV blue.
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return _upright(np.ascontiguousarray(pixels), exif_orientation(path))


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise MissingExtraError("HEIC input", "heif") from error
    register_heif_opener()


def _check_jpeg(path: Path, data: bytes) -> None:
    """Raise ReadError for a JPEG with damaged data; OpenCV fills it with gray or garbage.

    Only the entropy code is decoded, to an eighth of the size. Kinds of JPEG unknown to libjpeg are
    left to the decoder.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if _DAMAGED_JPEG.search(str(error)):
            raise ReadError(
                f"{path}: is damaged ({str(error).strip()}); copy it again, or save it as PNG if "
                f"it looks right"
            ) from error


def _upright(image: npt.NDArray[np.generic], exif: int) -> npt.NDArray[np.generic]:
    if exif == 1:
        return image
    channels = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
    turned = np.ascontiguousarray(from_exif(exif).apply(channels).transpose(1, 2, 0))
    return turned if image.ndim == 3 else turned[..., 0]


def in_unit(path: Path, image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return 8- or 16-bit code values as 0..1. Raises ReadError for other samples."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ReadError(
            f"{path}: expected 8- or 16-bit integer samples, got {image.dtype}; convert it"
        )
    return image.astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 65535)


def read_pixels(path: Path) -> npt.NDArray[np.float32]:
    """Return an image as (H, W, C) in 0..1, channels as in the file: gray, BGR or BGRA.

    Raises:
        ReadError: If it cannot be decoded.
    """
    image = decode(path)
    return in_unit(path, image).reshape(*image.shape[:2], -1)


def read_palette(path: Path) -> Palette | None:
    """Return the indices of an image with an opaque palette, None for any other image."""
    check_regular(path)
    try:
        with open_pillow(path) as image:
            if image.mode != "P" or "transparency" in image.info:
                return None
            check_size(path, *image.size)
            colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            indices = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        return None  # another reader says what is wrong with it
    # OpenCV and Pillow turn TIFF by themselves, see `decode`.
    exif = 1 if path.suffix.lower() in (".tif", ".tiff") else exif_orientation(path)
    return Palette(from_exif(exif).apply(indices), colors)


def read_image(path: Path, choice: ExrChoice = _MAIN, *, raster: Box | None = None) -> StillImage:
    """Return the displayed image, without alpha, from 8- or 16-bit integers or floats.

    Integers are display-referred. Floats (EXR, TIFF) are scene-linear; not-a-number in them becomes
    0 and infinity 65504.

    Args:
        path: The image.
        choice: Layer and view of an EXR; see `read.exr.read_exr`.
        raster: Box of pixels of an EXR.

    Raises:
        ReadError: If it cannot be decoded.
        MissingExtraError: If it is an EXR and the library for it is not installed.
    """
    if path.suffix.lower() == ".exr":
        return read_exr(path, choice, raster=raster)
    if path.suffix.lower() == ".dpx":
        return read_dpx(path)
    image = decode(path, _COLOR)
    if image.ndim == 2:
        image = np.dstack([image] * 3)
    image = image[..., :3]
    bits = 8 * image.dtype.itemsize
    if image.dtype in _FLOATS:
        return StillImage(finite(_planes(image.astype(np.float32))), LINEAR_STILL, bits)
    rgb = _planes(in_unit(path, image))
    rgb, color, notes = with_profile(path, rgb)
    return StillImage(rgb, color, bits, notes=notes)


def _planes(bgr: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def is_image(path: str | Path) -> bool:
    """Return whether a path names a file in an image format."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES and Path(path).is_file()


def is_animated(path: Path) -> bool:
    """Return whether an image file holds several pictures, shown one after the other."""
    if path.suffix.lower() not in _ANIMATED_SUFFIXES:
        return False
    try:
        check_regular(path)
        with open_pillow(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError):  # ReadError is a ValueError
        return False  # reading it says what is wrong


def is_listed(path: Path) -> bool:
    """Return whether a file of a folder counts among its images.

    Hidden files do not: macOS puts a `._frame.png` beside each frame on foreign disks.
    """
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden and path.is_file()


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder by name. Raises ReadError if there are none."""
    images = sorted(path for path in folder.iterdir() if is_listed(path))
    if not images:
        raise ReadError(f"{folder}: holds no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    return images
