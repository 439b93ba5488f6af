"""Change known mattes at random, so that a network never sees the same twice."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vidmatte.imaging.arrays import Alpha
from vidmatte.model.compact.expectation import Expectation
from vidmatte.synth.corpus import Rng
from vidmatte.train.matte_files import Matte


def coarse_mask(truth: Alpha, size: tuple[int, int], rng: Rng) -> Alpha:
    """Return a mask of `draw_mask` at the size (h, w) of a coarse matte."""
    mask = draw_mask(truth, rng)
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def draw_mask(truth: Alpha, rng: Rng) -> Alpha:
    """Return the mask (h, w) 0 or 1 that a person, or a tool, gives of a true alpha.

    Half of them are exact; others lie beside the edge by some pixels, are coarse, or lack what is
    thin.
    """
    mask = (truth > rng.uniform(0.3, 0.7)).astype(np.float32)
    if rng.random() < 0.5:
        return mask
    kind = rng.random()
    side = 2 * int(rng.integers(1, 4)) + 1
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    if kind < 0.35:
        how = int(rng.choice([cv2.MORPH_OPEN, cv2.MORPH_CLOSE, cv2.MORPH_ERODE, cv2.MORPH_DILATE]))
        return np.asarray(cv2.morphologyEx(mask, how, window), np.float32)
    if kind < 0.65:
        moved = np.array([[1, 0, rng.normal(0, 1.5)], [0, 1, rng.normal(0, 1.5)]])
        shifted = cv2.warpAffine(mask, moved, mask.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        return (np.asarray(shifted) > 0.5).astype(np.float32)
    # Corners rounded off, as by a brush or by a mask of a smaller size.
    smooth = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 4))
    return (smooth > 0.5).astype(np.float32)


def varied(matte: Matte, rng: Rng) -> Matte:
    """Mirror a matte, and change its colours, each sometimes."""
    if rng.random() < 0.5:
        matte = _mirrored(matte)
    if rng.random() < 0.4:
        matte = replace(matte, rgb=matte.rgb[..., rng.permutation(3)])
    if rng.random() < 0.4:
        codes = np.arange(256) / 255
        table = 255 * codes ** np.exp(rng.normal(0, 0.3))
        matte = replace(matte, rgb=np.rint(table).astype(np.uint8)[matte.rgb])
    return replace(matte, rgb=np.ascontiguousarray(matte.rgb))


def _mirrored(matte: Matte) -> Matte:
    expected = matte.expected
    if expected is not None:
        expected = Expectation(np.fliplr(expected.alpha), np.fliplr(expected.known))
    return replace(
        matte,
        rgb=np.ascontiguousarray(matte.rgb[:, ::-1]),
        truth=np.ascontiguousarray(matte.truth[:, ::-1]),
        coarse=np.ascontiguousarray(matte.coarse[:, ::-1]),
        expected=expected,
    )
