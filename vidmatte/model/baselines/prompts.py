"""From a reference back to the prompts of segmenters: points and a box."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import OptionError
from vidmatte.prompts.prompt import Reference
from vidmatte.synth.prompts import depth_of

Region = NDArray[np.bool_]
_IN_MASKS = 0.25
"""How close, in half-widths of a piece, points of a mask may lie."""


_MOST_POINTS = 64


def check_points(points: int) -> None:
    """Raise OptionError unless a segmenter can be prompted with this many points of each kind."""
    if not 1 <= points <= _MOST_POINTS:
        raise OptionError(f"points {points} is not valid: there are 1 to {_MOST_POINTS}")


@dataclass(frozen=True)
class PointPrompt:
    """Points and a box, as shares of the image's width and height."""

    points: NDArray[np.float32]
    """(K, 2) x, y; K may be 0."""
    labels: NDArray[np.int64]
    """(K,) 1 object, 0 background."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1"""


def point_prompt(reference: Reference, *, most: int) -> PointPrompt:
    """Return the points and the box of a reference.

    Points are in the middle of each mark, the object's first; a stroke gives several points along
    it, a mask points of the object alone. There is a box if everything outside a rectangle is
    background. `most` is the largest number of points of each kind.
    """
    alpha, known = (plane[0, 0].numpy() for plane in (reference.alpha, reference.known))
    inside = (alpha * known) > 0.5
    outside = (known > 0.5) & ~inside
    # A box is marked as background around it.
    box = None if reference.is_complete else _box(outside)
    if reference.is_complete:
        outside = np.zeros_like(outside)
    elif box is not None:
        # Background far away from the object would only use up the points.
        x0, y0, x1, y1 = box
        within = np.zeros_like(outside)
        within[y0:y1, x0:x1] = True
        outside = outside & within
    # Marks may be small, so points within them may be closer than in a whole mask.
    apart = _IN_MASKS if reference.is_complete else 1.0
    kinds = [spread_points(region, most, apart=apart) for region in (inside, outside)]
    height, width = inside.shape
    shares = np.concatenate([(points + 0.5) / (width, height) for points in kinds]).astype(
        np.float32
    )
    # 1 object, 0 background, in SAM's order.
    labels = np.repeat(np.array([1, 0]), [len(points) for points in kinds])
    if box is None:
        return PointPrompt(shares, labels)
    return PointPrompt(
        shares, labels, (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    )


def spread_points(region: Region, most: int, *, apart: float = 0.25) -> NDArray[np.int64]:
    """Return up to `most` pixels (x, y) of a region, far from its edge and from each other.

    The deepest pixel of each separate piece comes first, thick pieces before thin ones. Then comes
    the pixel of the inner halves of the pieces farthest from those chosen, as long as it is
    `apart` half-widths of its piece away: with 1 a click stays one point. The choice is
    deterministic.
    """
    count, labels = cv2.connectedComponents(region.astype(np.uint8))
    if count < 2:
        return np.zeros((0, 2), np.int64)
    depth = depth_of(region)
    thickness = np.zeros(count, np.float32)
    np.maximum.at(thickness, np.asarray(labels, np.int64).ravel(), depth.ravel())
    # Thickest pieces first, as the number of points is limited.
    pieces = sorted(range(1, count), key=lambda piece: -float(thickness[piece]))[:most]
    chosen = []
    for piece in pieces:
        y, x = np.unravel_index(np.argmax(np.where(labels == piece, depth, 0)), depth.shape)
        chosen.append((int(x), int(y)))
    # The inner half of each piece: its edge is uncertain.
    rows, columns = np.nonzero(region & (depth >= thickness[labels] / 2))
    places = np.stack([columns, rows], 1)
    thick = thickness[labels[rows, columns]]
    distance = np.full(len(places), np.inf)
    for point in chosen:
        distance = np.minimum(distance, np.hypot(*(places - point).T))
    while len(chosen) < most and (distance > apart * thick).any():
        farthest = int(np.argmax(np.where(distance > apart * thick, distance, 0)))
        chosen.append((int(places[farthest, 0]), int(places[farthest, 1])))
        distance = np.minimum(distance, np.hypot(*(places - chosen[-1]).T))
    return np.array(chosen, np.int64)


def _box(outside: Region) -> tuple[int, int, int, int] | None:
    """Return the corners of the rectangle surrounded by background; None if there is none."""
    rows, columns = (np.nonzero((~outside).any(axis))[0] for axis in (1, 0))
    if not len(rows):
        return None
    found = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    # Nothing is marked as background on any side.
    height, width = outside.shape
    return None if found == (0, 0, width, height) else found
