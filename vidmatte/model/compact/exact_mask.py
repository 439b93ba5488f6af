"""A mask that is exact to the pixel counts at full size, on the frame that it marks.

The model sees a mask at its working size, where the wires of a net are lost. A mask with such
detail is worth keeping; one that was drawn beside the edge is not. They are told apart by how far
the edge that was found in the image lies from that of the mask.
"""

from __future__ import annotations

import cv2
import numpy as np

from vidmatte.imaging.arrays import Alpha

_EXACT, _ROUGH = 0.65, 0.95
"""Mean distance in pixels of the two edges up to which a mask counts in full, and from which it
does not. Of nine photographs, masks of the true alpha are at 0.1 to 0.6; the same two pixels
larger, smaller or beside their place are at 0.9 to 2.1."""
_SHARE = 0.5
"""Share of an exact mask in the result; the rest is what was found in the image."""
_SOFTNESS = 1.0
"""Standard deviation in pixels of the blur of a hard mask: no lens shows a harder edge."""


def with_exact_mask(found: Alpha, mask: Alpha) -> Alpha:
    """Return the alpha that was found for a masked frame, nearer to its mask if that is exact.

    Args:
        found: (H, W) 0-1, found in the image from the mask.
        mask: (H, W) 0-1, as it was given.
    """
    share = _SHARE * exactness(found, mask)
    if not share:
        return found
    is_hard = bool(((mask == 0) | (mask == 1)).all())
    soft = cv2.GaussianBlur(mask, (0, 0), _SOFTNESS) if is_hard else mask
    return np.asarray(found + np.float32(share) * (soft - found), np.float32)


def exactness(found: Alpha, mask: Alpha) -> float:
    """Return how far a mask (H, W) can be trusted to the pixel, 0-1, by the alpha found from it."""
    inside = (mask > 0.5).astype(np.uint8)
    length = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).sum() / 2
    if not length:
        return 0.0
    # The area between the two edges over their length.
    distance = float(((found > 0.5) != inside).sum() / length)
    return float(np.clip((_ROUGH - distance) / (_ROUGH - _EXACT), 0, 1))
