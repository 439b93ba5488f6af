"""What does not change in a picture keeps its alpha.

The matte of a frame is found from that of the frame before it, so small errors would add up and
creep, even where nothing happens. With a camera that stands still they must not.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.imaging.arrays import Alpha, Rgb8
from vidmatte.model.compact.window import Box, crop_alpha

_SCALE = 2
"""Places are compared at a half of the shrunk frame: grain averages out, edges do not."""
_NOISE = 2
"""Change of colour, in codes of 8 bits, up to which a place is still."""
_MARGIN = 7
"""Side of the surroundings that have to be still, too, as what moves there may reach in next."""
_WHOLLY_STILL = 0.999
"""Share from which a pixel of a window counts as wholly still."""


def smoothed(frame: Rgb8) -> Rgb8:
    """Return a shrunk frame (h, w, 3) as it is compared with others: half as large, and smooth."""
    size = (max(1, frame.shape[1] // _SCALE), max(1, frame.shape[0] // _SCALE))
    half = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(half, (3, 3)), np.uint8)


class StillParts:
    """Holds alpha from frame to frame where a picture is still.

    Each place is compared with the picture of when it last moved, so slow changes add up until they
    are seen.

    Attributes:
        anchor: that picture, of `smoothed`.
        alpha: (h, w) of the last frame.
    """

    def __init__(self, anchor: Rgb8, alpha: Alpha) -> None:
        self.anchor = anchor
        self.alpha = alpha

    def hold(self, frame: Rgb8, alpha: Alpha) -> Alpha:
        """Go to the next frame, and return where its alpha is held: 1 there, else 0, (h, w).

        Args:
            frame: (h, w, 3), shrunk.
            alpha: (h, w) as it was found in the frame. In `self.alpha` it is held.
        """
        now = smoothed(frame)
        red, green, blue = cv2.split(cv2.absdiff(now, self.anchor))
        change = cv2.max(cv2.max(red, green), blue)
        moves = cv2.dilate(
            (change > _NOISE).astype(np.uint8), np.ones((_MARGIN, _MARGIN), np.uint8)
        )
        # Where something moves, this frame is what the next ones are compared with.
        self.anchor = np.asarray(cv2.copyTo(now, moves, self.anchor.copy()), np.uint8)
        is_still = cv2.resize(1 - moves, alpha.shape[::-1], interpolation=cv2.INTER_NEAREST)
        self.alpha = np.asarray(cv2.copyTo(self.alpha, is_still, alpha.copy()), np.float32)
        return is_still.astype(np.float32)


def held(whole_still: Alpha, whole_before: Alpha, alpha: Alpha, window: Box) -> Alpha:
    """Return the alpha of a window, with the last frame's alpha where the picture is still.

    Args:
        whole_still: (h, w) of `StillParts.hold`, over the frame.
        whole_before: (h, w) alpha of the last frame.
        alpha: that of this frame's window.
        window: its place in the frame.
    """
    size = (alpha.shape[0], alpha.shape[1])
    still = crop_alpha(whole_still, window, size)
    if not still.any():
        return alpha
    before = crop_alpha(whole_before, window, size)
    # Shrinking ones may give a little less than 1; such pixels keep the old alpha to the bit.
    mixed = still * before + (1 - still) * alpha
    return np.asarray(np.where(still > _WHOLLY_STILL, before, mixed), np.float32)
