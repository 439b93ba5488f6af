"""Estimate how good a matte is by matching it back to the reference, whose matte is known.

A matte that lost parts, or took something along, finds other parts on the reference than were
marked: cycle consistency, as of tracks by Kalal et al. (Forward-Backward Error, ICPR 2010).
"""

from __future__ import annotations

from vidmatte.metrics import region_overlap
from vidmatte.model.compact.inference import WindowModel
from vidmatte.model.compact.reference import EncodedReference
from vidmatte.model.compact.similarity import Memory

_SLOPE, _OFFSET = 0.81, 0.22
"""Line from the product of agreement and confidence to J, fitted on clips of our own that were held
out from training (docs/training-log.md)."""


class CycleCheck:
    """Checks mattes against one reference, whose features are encoded once, when needed."""

    def __init__(self, model: WindowModel, reference: EncodedReference) -> None:
        self._model = model
        self._reference = reference
        self._features = model.see(reference.marked.rgb, reference.window)

    def agreement(self, memory: Memory) -> float:
        """Return the overlap J, 0-1, of the reference's matte with what a memory finds there.

        Args:
            memory: a frame with its matte.
        """
        found = self._model.infer_window(
            self._reference.marked.rgb,
            self._reference.window,
            [memory],
            features=self._features,
        )
        marked = self._reference.predicted
        # Nothing agrees with an empty matte, not even nothing.
        return region_overlap(found.alpha, marked) if (marked > 0.5).any() else 0.0


def expected_overlap(agreement: float, confidence: float) -> float:
    """Return the J, 0-1, that a matte is expected to have with the truth.

    Args:
        agreement: of the matte, or of one a few frames before, see `CycleCheck.agreement`.
        confidence: the network's own, in this matte.
    """
    return min(max(_SLOPE * agreement * confidence + _OFFSET, 0.0), 1.0)
