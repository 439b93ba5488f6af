"""The mattes of a tracker as they are shown: corrected, and unchanged where the picture is still.

The search in the next frame does not use them, so another thread can compute them meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vidmatte.imaging.arrays import Alpha
from vidmatte.model.compact.expectation import Expectation, Movement
from vidmatte.model.compact.inference import WindowModel, coarse_matte
from vidmatte.model.compact.still import held
from vidmatte.model.compact.window import Box, paste
from vidmatte.model.interface import CoarseMatte, LaterMatte

MOST_WAITING = 8
"""Frames that wait at most: mattes that nobody asks for must not fill the memory."""


@dataclass(frozen=True)
class SearchedFrame:
    """A frame that was searched, with its matte before correction.

    Attributes:
        small: (h, w, 3) of `WindowModel.shrink`.
        window: the part of it that `alpha` covers.
        alpha: as the tracker keeps it.
        confidence: 0 to 1.
        whole_still: (h, w) of `StillParts.hold`, 1 where the last frame's alpha stays; None if it
            stays nowhere.
        movement: since the frame before; None if the object was not followed from there.
    """

    small: Tensor
    window: Box
    alpha: Alpha
    confidence: float
    whole_still: Alpha | None
    movement: Movement | None

    def expected(self, before: Alpha | None) -> Expectation | None:
        """Return what the last shown alpha (h, w) of the whole frame tells of this window."""
        if self.movement is None or before is None:
            return None
        return self.movement.expect(before, self.window)

    def matte(self, alpha: Alpha) -> CoarseMatte:
        """Return the matte of the frame with this alpha (h, w) in its window."""
        height, width = self.small.shape[:2]
        return coarse_matte(alpha, self.confidence, self.window, height, width)


class ShownMattes:
    """Completes the mattes of consecutive frames in their order.

    `add` and `last` are called on one thread; what `add` returns may be called on any.
    """

    def __init__(self, model: WindowModel, before: Alpha | None) -> None:
        """Take the whole alpha (h, w) that was shown last; None before the first frame."""
        self._model = model
        self._before = before
        self._waiting: deque[tuple[SearchedFrame, Future[CoarseMatte]]] = deque()
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def add(self, frame: SearchedFrame) -> LaterMatte:
        """Take the next frame, and return a function that returns its matte.

        Called while too many wait, this completes the oldest itself.
        """
        matte: Future[CoarseMatte] = Future()
        with self._lock:
            self._waiting.append((frame, matte))
            while len(self._waiting) > MOST_WAITING:
                self._complete_first()
        return lambda: self._result(matte)

    def last(self) -> Alpha | None:
        """Return the whole alpha (h, w) that is shown of the last frame; None before the first."""
        with self._lock:
            while self._waiting:
                self._complete_first()
            return self._before

    def _result(self, matte: Future[CoarseMatte]) -> CoarseMatte:
        with self._lock:
            while not matte.done():
                self._complete_first()
        return matte.result()

    def _complete_first(self) -> None:
        frame, matte = self._waiting.popleft()
        if self._error is None:
            try:
                matte.set_result(self._completed(frame))
                return
            except Exception as error:  # noqa: BLE001 - raised again by the future
                self._error = error
        # Later mattes would be held from one that is missing.
        matte.set_exception(self._error)

    def _completed(self, frame: SearchedFrame) -> CoarseMatte:
        height, width = frame.small.shape[:2]
        expected = frame.expected(self._before)
        alpha = self._model.corrected(frame.small, frame.window, frame.alpha, expected)
        whole = paste(alpha, frame.window, height, width)
        if frame.whole_still is not None and self._before is not None:
            alpha = held(frame.whole_still, self._before, alpha, frame.window)
            # Held places are not resampled, which would blur them from frame to frame.
            np.copyto(whole, self._before, where=frame.whole_still > 0)
        self._before = whole
        return frame.matte(alpha)
