"""Files of coarse mattes with their images and exact alpha, which the refiner learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha, Rgb8


@dataclass(frozen=True)
class Matte:
    """A window of a frame, as the refiner gets it.

    Attributes:
        rgb: (H, W, 3) pixels at full size.
        truth: (H, W) exact alpha in codes, 0-255.
        coarse: (h, w) what the model found.
    """

    rgb: Rgb8
    truth: NDArray[np.uint8]
    coarse: Alpha


def write_matte(path: Path, matte: Matte) -> None:
    """Write a matte, colours and alpha as PNG."""
    codes = np.dstack([matte.rgb[..., ::-1], matte.truth])
    _, picture = cv2.imencode(".png", codes, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    partial = path.with_suffix(".part.npz")
    np.savez(partial, picture=picture, coarse=matte.coarse.astype(np.float16))
    partial.rename(path)


def read_matte(path: Path) -> Matte:
    """Read a matte of `write_matte`."""
    with np.load(path) as stored:
        codes = np.asarray(cv2.imdecode(stored["picture"], cv2.IMREAD_UNCHANGED), np.uint8)
        coarse = stored["coarse"].astype(np.float32)
    return Matte(np.ascontiguousarray(codes[..., 2::-1]), codes[..., 3].copy(), coarse)


def matte_files(folder: str | Path) -> list[Path]:
    """Return the files of a folder of mattes in order of name. Raises ReadError if it has none."""
    paths = sorted(path for path in Path(folder).glob("*.npz") if ".part" not in path.name)
    if not paths:
        raise ReadError(
            f"{folder}: expected coarse mattes (*.npz), found none; make some with "
            f"python -m vidmatte.train.mattes"
        )
    return paths
