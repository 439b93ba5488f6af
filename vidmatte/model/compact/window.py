"""The network's input: a window around the object, so small objects get enough pixels.

A window is (x, y, width, height) in pixels of a frame. Frames are (h, w, 3) uint8, alphas (h, w)
float32 in 0..1.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Alpha, Flow, Rgb8

Box: TypeAlias = tuple[int, int, int, int]

TARGET_FILL = 0.5
"""Wanted share of the object in the window's side: about as in training."""
MIN_SHARE = 0.3
"""Smallest window, as a share of the frame's side."""
MAX_DISTANCE = 0.3
"""How far from the expected alpha a piece of the object may lie, as a share of its size."""
GROWTH = 1.12
"""Largest growth or shrinking of the window from one frame to the next."""
CUT_GROWTH = 1.5
"""Largest growth if the window cuts the object."""
_LEAST_GAP = 0.1
"""Least distance of a piece that can be left behind from the largest one, in that one's size."""
_LEAST_MOTION = 1.5
"""Pixels a frame that the object has to move over the ground before a piece is left behind."""
_STANDING = 0.2
"""Motion of a piece over the ground, as a share of the object's, under which it stands still."""
_RING = np.ones((9, 9), np.uint8)
_FAINT = 0.1
"""Alpha from which something is seen at all."""
_MARGIN = 0.03
"""Width of the strip along the edges of a window that a matte keeps clear of, as a share of the
window's longer side."""
_NEARLY_ALL = 0.9
"""Share of the frame's side from which a window becomes the whole frame."""


def full_frame(height: int, width: int) -> Box:
    """Return the window of the whole frame."""
    return 0, 0, width, height


def window_around(alpha: Alpha, *, before: Box | None = None) -> Box:
    """Return the window for an object last seen at `alpha`, of the frame's aspect.

    It is the whole frame if there is no object. From the window `before` it may not grow or shrink
    by more than a little, because objects do not and leaks do, unless that window cuts the object.
    """
    height, width = alpha.shape
    box = bounds(alpha)
    if box is None:
        return full_frame(height, width)
    share = max(box[2] / width, box[3] / height) / TARGET_FILL
    if before is not None:
        last = before[2] / width
        growth = CUT_GROWTH if is_cut(alpha, before) else GROWTH
        share = float(np.clip(share, last / GROWTH, last * growth))
    share = float(np.clip(share, MIN_SHARE, 1.0))
    return _centred(box, 1.0 if share > _NEARLY_ALL else share, height, width)


def is_cut(alpha: Alpha, window: Box) -> bool:
    """Return whether an object reaches an edge of its window inside the frame."""
    height, width = alpha.shape
    x, y, wide, tall = window
    right = x + wide - 1
    bottom = y + tall - 1
    edges = [
        (x > 0, alpha[y : y + tall, x]),
        (y > 0, alpha[y, x : x + wide]),
        (right < width - 1, alpha[y : y + tall, right]),
        (bottom < height - 1, alpha[bottom, x : x + wide]),
    ]
    return any(inside and bool((edge > 0.5).any()) for inside, edge in edges)


def grown(window: Box, height: int, width: int) -> Box:
    """Return a window of a frame, larger around the same middle by as much as a cut one grows."""
    wide, tall = window[2:]
    share = max(wide / width, tall / height) * CUT_GROWTH
    return _centred(window, 1.0 if share > _NEARLY_ALL else share, height, width)


def holds(window: Box, alpha: Alpha) -> bool:
    """Return whether all that is faintly seen in a frame (h, w) lies in a window, off its edges.

    Edges of the frame do not count: more than the frame cannot be looked at.
    """
    height, width = alpha.shape
    seen = alpha > _FAINT
    rows = np.flatnonzero(seen.any(axis=1))
    columns = np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return True
    x, y, wide, tall = window
    margin = round(_MARGIN * max(wide, tall))
    return bool(
        (x == 0 or columns[0] >= x + margin)
        and (y == 0 or rows[0] >= y + margin)
        and (x + wide == width or columns[-1] < x + wide - margin)
        and (y + tall == height or rows[-1] < y + tall - margin)
    )


def inner_weight(window: Box, size: tuple[int, int], height: int, width: int) -> Alpha:
    """Return (h, w) 0 on the edges of a window that rises to 1 within its margin.

    On edges of the frame, whose height and width are given, it is 1.

    Args:
        window: in pixels of the frame.
        size: h and w at which the window is seen.
        height: of the frame.
        width: of the frame.
    """
    x, y, wide, tall = window
    margin = max(1.0, _MARGIN * max(size))
    down = np.arange(size[0], dtype=np.float32)
    right = np.arange(size[1], dtype=np.float32)
    far = np.float32(margin)
    from_top = down if y > 0 else np.full_like(down, far)
    from_bottom = down[::-1] if y + tall < height else np.full_like(down, far)
    from_left = right if x > 0 else np.full_like(right, far)
    from_right = right[::-1] if x + wide < width else np.full_like(right, far)
    rows = np.minimum(from_top, from_bottom)
    columns = np.minimum(from_left, from_right)
    nearest = np.minimum(rows[:, None], columns[None, :])
    return np.asarray(np.clip(nearest / far, 0, 1), np.float32)


def window_on(marks: Alpha, share: float) -> Box:
    """Return the window on a prompt, at least this share of the frame's side."""
    height, width = marks.shape
    box = bounds(marks)
    if box is None:
        return full_frame(height, width)
    return _centred(
        box, min(1.0, max(share, 1.3 * box[2] / width, 1.3 * box[3] / height)), height, width
    )


def _centred(box: Box, share: float, height: int, width: int) -> Box:
    wide = max(1, round(share * width))
    tall = max(1, round(share * height))
    left = int(np.clip(round(box[0] + box[2] / 2 - wide / 2), 0, width - wide))
    top = int(np.clip(round(box[1] + box[3] / 2 - tall / 2), 0, height - tall))
    return left, top, wide, tall


def crop_rgb(frame: Rgb8, window: Box, size: tuple[int, int]) -> Rgb8:
    """Return the window of a frame at another size (height, width)."""
    x, y, width, height = window
    part = frame[y : y + height, x : x + width]
    return np.asarray(
        cv2.resize(part, size[::-1], interpolation=_interpolation(window, size)), np.uint8
    )


def crop_alpha(alpha: Alpha, window: Box, size: tuple[int, int]) -> Alpha:
    """The window of an alpha at another size (height, width)."""
    x, y, width, height = window
    part = alpha[y : y + height, x : x + width]
    return np.asarray(
        cv2.resize(part, size[::-1], interpolation=_interpolation(window, size)), np.float32
    )


def _interpolation(window: Box, size: tuple[int, int]) -> int:
    return cv2.INTER_AREA if size[0] < window[3] else cv2.INTER_LINEAR


def paste(alpha: Alpha, window: Box, height: int, width: int) -> Alpha:
    """A window's alpha at its place in a frame of zeros."""
    x, y, wide, tall = window
    frame = np.zeros((height, width), np.float32)
    frame[y : y + tall, x : x + wide] = cv2.resize(
        alpha, (wide, tall), interpolation=cv2.INTER_LINEAR
    )
    return frame


def drop_far_components(alpha: Alpha, expected: Alpha, reach: float = MAX_DISTANCE) -> Alpha:
    """Drop pieces of a matte far from the expected object; all stay if none is near it."""
    pieces = (alpha > 0.3).astype(np.uint8)
    there = (expected > 0.3).astype(np.uint8)
    count, labels = cv2.connectedComponents(pieces)
    if count < 3 or not there.any():
        return alpha
    radius = 1 + round(reach * float(np.sqrt(there.sum())))
    distance = cv2.distanceTransform(1 - there, cv2.DIST_L2, 3)
    near = np.unique(labels[(distance <= radius) & (pieces > 0)])
    if not len(near):
        return alpha
    is_near = np.isin(labels, near) & (pieces > 0)
    # The soft fringe of a dropped piece goes with it.
    far = cv2.dilate(((pieces > 0) & ~is_near).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(far & ~is_near, np.float32(0), alpha)


def drop_left_behind(alpha: Alpha, flow: Flow) -> Alpha:
    """Drop pieces that stand with the background while the object moves away from them.

    A lookalike that the object touched in passing stays in its matte otherwise. Pieces near the
    largest one are kept, as a planted foot belongs to a leg that may not be seen.

    Args:
        alpha: (h, w) matte.
        flow: (h, w, 2) optical flow to the frame before, in pixels.

    Returns:
        (h, w) matte, the same array if nothing is dropped.
    """
    solid = (alpha > 0.3).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count < 3:
        return alpha
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = 1 + int(np.argmax(areas))
    body = labels == largest
    away = cv2.distanceTransform((~body).astype(np.uint8), cv2.DIST_L2, 3)
    body_flow = np.median(flow[body], axis=0)
    dropped = np.zeros(alpha.shape, bool)
    for piece in range(1, count):
        inside = labels == piece
        if piece == largest or away[inside].min() < _LEAST_GAP * np.sqrt(areas[largest - 1]):
            continue
        beside = cv2.dilate(inside.astype(np.uint8), _RING) > 0
        ground = beside & (alpha < 0.1)
        if not ground.any():
            continue
        ground_flow = np.median(flow[ground], axis=0)
        own = np.linalg.norm(np.median(flow[inside], axis=0) - ground_flow)
        of_body = np.linalg.norm(body_flow - ground_flow)
        if of_body > _LEAST_MOTION and own < _STANDING * of_body:
            # Its soft fringe goes with it.
            dropped |= beside & ~body
    return np.where(dropped, np.float32(0), alpha) if dropped.any() else alpha


def bounds(alpha: Alpha) -> Box | None:
    """Return the box around the object.

    The outermost hundredths of its area do not count, so that wires and specks do not enlarge it.
    """
    solid = alpha > 0.5
    if not solid.any():
        return None
    left, width = _span(solid.sum(axis=0))
    top, height = _span(solid.sum(axis=1))
    return left, top, width, height


def _span(counts: NDArray[np.int64]) -> tuple[int, int]:
    """First place and length of what holds all but a hundredth at each end."""
    share = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(share, [0.01, 0.99])
    return int(first), int(last - first + 1)
