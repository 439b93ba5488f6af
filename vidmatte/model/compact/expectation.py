"""What is expected of a window before it is looked at: the last frame's alpha, moved along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidmatte.imaging.arrays import Alpha, Flow
from vidmatte.imaging.optical_flow import warp
from vidmatte.model.compact.window import Box, crop_alpha


@dataclass(frozen=True)
class Expectation:
    """Knowledge about a window before the network has seen it.

    Attributes:
        alpha: (h, w) expected alpha, at the window's size for the network.
        known: (h, w) 1 for pixels with an expectation, else 0.
    """

    alpha: Alpha
    known: Alpha


@dataclass(frozen=True)
class Movement:
    """The motion in a window since the frame before.

    Attributes:
        flow: (h, w, 2) from the window, at its size for the network, to the frame before.
        agrees: (h, w) 1 where the flow back agrees with it; 0 where it is wrong, or where what is
            seen was hidden before.
    """

    flow: Flow
    agrees: Alpha

    def expect(self, last_alpha: Alpha, window: Box) -> Expectation:
        """Return what a window of a frame is expected to be by the alpha (h, w) of the last."""
        cropped = crop_alpha(last_alpha, window, self.flow.shape[:2])
        return Expectation(np.asarray(warp(cropped, self.flow), np.float32), self.agrees)
