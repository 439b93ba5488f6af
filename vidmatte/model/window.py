"""What the network looks at: a window around the object, so that small ones get enough pixels.

A window is (x, y, width, height) in pixels of a frame. Frames are (h, w, 3) uint8, alphas (h, w) float32 in 0..1.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb: TypeAlias = NDArray[np.uint8]
Alpha: TypeAlias = NDArray[np.float32]
Box: TypeAlias = tuple[int, int, int, int]

FILL = 0.5
"""Share of the window's side that the object is to take: about as much as in training."""
LEAST = 0.3
"""Smallest window, as a share of the frame's side."""
REACH = 0.3
"""How far from where it was expected a piece of the object may lie, as a share of the object's size."""
_NEARLY_ALL = 0.9
_GROWTH = 1.5


def whole(height: int, width: int) -> Box:
    """The window that shows the whole frame."""
    return 0, 0, width, height


def window_around(alpha: Alpha) -> Box:
    """The window for an object that was seen at `alpha`, of the frame's aspect; the whole frame if there is none."""
    height, width = alpha.shape
    box = _bounds(alpha)
    if box is None:
        return whole(height, width)
    x, y, box_width, box_height = box
    share = float(np.clip(max(box_width / width, box_height / height) / FILL, LEAST, 1.0))
    # A window that would show nearly everything may as well show everything.
    return _centred(x + box_width / 2, y + box_height / 2, 1.0 if share > _NEARLY_ALL else share, height, width)


def wider(window: Box, height: int, width: int) -> Box:
    """The window half as wide again: where to look for an object that was lost."""
    x, y, wide, tall = window
    return _centred(x + wide / 2, y + tall / 2, min(1.0, _GROWTH * wide / width), height, width)


def _centred(x: float, y: float, share: float, height: int, width: int) -> Box:
    wide, tall = max(1, round(share * width)), max(1, round(share * height))
    left = int(np.clip(round(x - wide / 2), 0, width - wide))
    top = int(np.clip(round(y - tall / 2), 0, height - tall))
    return left, top, wide, tall


def crop_rgb(frame: Rgb, window: Box, size: tuple[int, int]) -> Rgb:
    """The window of a frame at another size (height, width)."""
    x, y, width, height = window
    part = frame[y : y + height, x : x + width]
    return np.asarray(cv2.resize(part, size[::-1], interpolation=_how(window, size)), np.uint8)


def crop_alpha(alpha: Alpha, window: Box, size: tuple[int, int]) -> Alpha:
    """The window of an alpha at another size (height, width)."""
    x, y, width, height = window
    part = alpha[y : y + height, x : x + width]
    return np.asarray(cv2.resize(part, size[::-1], interpolation=_how(window, size)), np.float32)


def _how(window: Box, size: tuple[int, int]) -> int:
    return cv2.INTER_AREA if size[0] < window[3] else cv2.INTER_LINEAR


def paste(alpha: Alpha, window: Box, height: int, width: int) -> Alpha:
    """A window's alpha at its place in a frame of zeros."""
    x, y, wide, tall = window
    frame = np.zeros((height, width), np.float32)
    frame[y : y + tall, x : x + wide] = cv2.resize(alpha, (wide, tall), interpolation=cv2.INTER_LINEAR)
    return frame


def keep_near(alpha: Alpha, expected: Alpha) -> Alpha:
    """Drop pieces of a matte that lie nowhere near where the object was expected; all stay if none is near."""
    pieces = (alpha > 0.3).astype(np.uint8)
    there = (expected > 0.3).astype(np.uint8)
    count, labels = cv2.connectedComponents(pieces)
    if count < 3 or not there.any():
        return alpha
    radius = 1 + round(REACH * float(np.sqrt(there.sum())))
    distance = cv2.distanceTransform(1 - there, cv2.DIST_L2, 3)
    near = np.unique(labels[(distance <= radius) & (pieces > 0)])
    if not len(near):
        return alpha
    is_near = np.isin(labels, near) & (pieces > 0)
    # The soft fringe of a dropped piece goes with it.
    far = cv2.dilate(((pieces > 0) & ~is_near).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(far & ~is_near, np.float32(0), alpha)


def _bounds(alpha: Alpha) -> Box | None:
    """Box around the object: specks that hold less than a twentieth of its area do not count."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
    if count < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = stats[1:][areas >= 0.05 * areas.max()]
    left, top = kept[:, cv2.CC_STAT_LEFT].min(), kept[:, cv2.CC_STAT_TOP].min()
    right = (kept[:, cv2.CC_STAT_LEFT] + kept[:, cv2.CC_STAT_WIDTH]).max()
    bottom = (kept[:, cv2.CC_STAT_TOP] + kept[:, cv2.CC_STAT_HEIGHT]).max()
    return int(left), int(top), int(right - left), int(bottom - top)
