"""Files of coarse mattes with their images and exact alpha, which the refiner learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Alpha, Rgb8
from vidmatte.model.compact.expectation import Expectation


@dataclass(frozen=True)
class Matte:
    """A window of a frame, as the refiner gets it.

    Attributes:
        rgb: (H, W, 3) pixels at full size.
        truth: (H, W) exact alpha in codes, 0-255.
        coarse: (h, w) what the model found, or was given.
        expected: (h, w) the corrected matte of the frame before, moved along; None for the first.
        is_given: whether the coarse matte is the mask or trimap of the reference.
    """

    rgb: Rgb8
    truth: NDArray[np.uint8]
    coarse: Alpha
    expected: Expectation | None = None
    is_given: bool = False


def write_matte(path: Path, matte: Matte) -> None:
    """Write a matte, colours and alpha as PNG."""
    codes = np.dstack([matte.rgb[..., ::-1], matte.truth])
    _, picture = cv2.imencode(".png", codes, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    partial = path.with_suffix(".part.npz")
    found = [matte.coarse]
    if matte.expected is not None:
        found += [matte.expected.alpha, matte.expected.known]
    planes = np.stack(found).astype(np.float16)
    np.savez(partial, picture=picture, planes=planes, is_given=matte.is_given)
    partial.rename(path)


def read_matte(path: Path) -> Matte:
    """Read a matte of `write_matte`."""
    with np.load(path) as stored:
        codes = np.asarray(cv2.imdecode(stored["picture"], cv2.IMREAD_UNCHANGED), np.uint8)
        coarse, *before = stored["planes"].astype(np.float32)
        is_given = bool(stored["is_given"])
    return Matte(
        rgb=np.ascontiguousarray(codes[..., 2::-1]),
        truth=codes[..., 3].copy(),
        coarse=coarse,
        expected=Expectation(*before) if before else None,
        is_given=is_given,
    )


def is_given(path: Path) -> bool:
    """Return `Matte.is_given` of a file without reading the rest."""
    with np.load(path) as stored:
        return bool(stored["is_given"])


def matte_files(folder: str | Path) -> list[Path]:
    """Return the files of a folder of mattes in order of name. Raises ReadError if it has none."""
    paths = sorted(path for path in Path(folder).glob("*.npz") if ".part" not in path.name)
    if not paths:
        raise ReadError(
            f"{folder}: expected coarse mattes (*.npz), found none; make some with "
            f"python -m vidmatte.train.mattes"
        )
    return paths
