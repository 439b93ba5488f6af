"""The mattes of a tracker as they are shown: corrected at their edges, and held where all is still.

Nothing of this goes into the next frame's search, so a run does it beside the search.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vidmatte.imaging.arrays import Alpha
from vidmatte.model.compact.correct import FOLLOWED
from vidmatte.model.compact.inference import WindowModel, coarse_matte
from vidmatte.model.compact.still import held
from vidmatte.model.compact.window import Box, paste
from vidmatte.model.interface import CoarseMatte

MOST_WAITING = 4
"""Frames that may wait to be finished; a consumer that drops mattes must not fill the memory."""


@dataclass(eq=False)
class FollowedFrame:
    """A frame in which the object was found.

    Attributes:
        small: (h, w, 3) of `WindowModel.shrink`.
        window: the part of it that `alpha` covers.
        alpha: as the network found it.
        confidence: 0 to 1.
        still: (h, w) of `StillParts.hold`, 1 where the frame before is held; None if nothing is.
    """

    small: Tensor
    window: Box
    alpha: Alpha
    confidence: float
    still: Alpha | None
    _matte: CoarseMatte | None = field(default=None, init=False)


class ShownMattes:
    """Finishes the mattes of consecutive frames, in their order.

    Frames are added on one thread, and may be finished on another.
    """

    def __init__(self, model: WindowModel, before: Alpha | None) -> None:
        """Take the whole alpha (h, w) that was shown last; None before the first frame."""
        self._model = model
        self._before = before
        self._waiting: deque[FollowedFrame] = deque()
        self._finishing = threading.Lock()

    def add(self, frame: FollowedFrame) -> None:
        """Take the next frame."""
        self._waiting.append(frame)
        if len(self._waiting) > MOST_WAITING:
            self._finish(1)

    def matte(self, frame: FollowedFrame) -> CoarseMatte:
        """Return the matte of a frame that was added; those before it are finished first."""
        while frame._matte is None:
            self._finish(1)
        return frame._matte

    def last(self) -> Alpha | None:
        """Return the whole alpha (h, w) that is shown of the last frame; None before the first."""
        self._finish(len(self._waiting))
        return self._before

    def _finish(self, frames: int) -> None:
        # Whoever waits for the lock may find its frame finished.
        with self._finishing:
            for _ in range(min(frames, len(self._waiting))):
                frame = self._waiting.popleft()
                frame._matte = self._finished(frame)

    def _finished(self, frame: FollowedFrame) -> CoarseMatte:
        height, width = frame.small.shape[:2]
        alpha = self._model.corrected(frame.small, frame.window, frame.alpha, FOLLOWED)
        whole = paste(alpha, frame.window, height, width)
        if frame.still is not None and self._before is not None:
            alpha = held(frame.still, self._before, alpha, frame.window)
            # Held places are not resampled, which would blur them from frame to frame.
            whole = np.where(frame.still > 0, self._before, whole)
        self._before = whole
        return coarse_matte(alpha, frame.confidence, frame.window, height, width)
