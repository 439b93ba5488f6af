"""Bring masks that were made at another size to the size of their frame."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from vidmatte.imaging.arrays import Pixels
from vidmatte.options import MaskFit

Size = tuple[int, int]
"""Height and width."""


def is_exact(found: Size, size: Size, display: Size) -> bool:
    """Return whether an image has the size of the stored frame, or of the displayed one."""
    return found in (size, display)


def fit_to_frame(
    image: Pixels,
    size: Size,
    display: Size,
    fit: MaskFit,
    *,
    beyond: Literal["edge", "empty"] = "edge",
) -> Pixels:
    """Return an image (H, W) or (H, W, C) at the size of its frame.

    Args:
        image: drawn on the displayed frame, in square pixels, or on the stored one.
        size: that of the stored frame.
        display: that of the displayed frame.
        fit: what is done with an image of another size; "exact" must not get one.
        beyond: what lies beyond an image that is too small: "edge" repeats its outermost pixels, as
            an object that is cut by them goes on; "empty" is 0.
    """
    found = (image.shape[0], image.shape[1])
    if is_exact(found, size, display):
        return _scaled(image, size, cv2.INTER_AREA)
    if fit == "scale":
        shrinks = size[0] <= found[0] and size[1] <= found[1]
        smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        # Colours of painted strokes must not mix.
        return _scaled(image, size, smooth if beyond == "edge" else cv2.INTER_NEAREST)
    assert fit != "exact"  # refused when the size was checked
    # Drawn on stored pixels if it is as wide as these; square pixels are the rule.
    canvas = size if found[1] == size[1] else display
    placed = _placed(image, canvas, centered=fit == "center", beyond=beyond)
    return _scaled(placed, size, cv2.INTER_AREA)


def _scaled(image: Pixels, size: Size, interpolation: int) -> Pixels:
    if image.shape[:2] == size:
        return image
    scaled = cv2.resize(image, size[::-1], interpolation=interpolation)
    # OpenCV drops an axis of one channel.
    return np.asarray(scaled, np.float32).reshape(*size, *image.shape[2:])


def _placed(image: Pixels, canvas: Size, *, centered: bool, beyond: str) -> Pixels:
    """Return the image unscaled on a canvas, cut or continued at its sides."""
    sides = []
    cut = []
    for length, wanted in zip(image.shape[:2], canvas, strict=True):
        # Negative where the image is too long.
        before = (wanted - length) // 2 if centered else 0
        first = max(0, -before)
        cut.append(slice(first, first + wanted))
        sides.append((max(0, before), max(0, wanted - length - before)))
    whole = [*sides, *[(0, 0)] * (image.ndim - 2)]
    inside = image[tuple(cut)]
    return np.pad(inside, whole, mode="edge" if beyond == "edge" else "constant")


def wrong_size(what: object, found: Size, frame: Size) -> str:
    """Return the message for a mask of another size, with the ways to use it all the same."""
    same_shape = abs(found[0] * frame[1] - found[1] * frame[0]) <= max(*found, *frame)
    ways = (
        "--mask-fit scale if it is of the whole frame"
        if same_shape
        else "--mask-fit top-left or center if only lines or columns differ, or scale"
    )
    return (
        f"{what}: is {found[1]}x{found[0]}, but the frame is {frame[1]}x{frame[0]}; make it from "
        f"that frame, without scaling or cropping, or give {ways}"
    )
