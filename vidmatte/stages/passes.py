"""Runs of frames over which a matte is carried from one reference frame, and how they overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_FADE_FRAMES = 4
"""Half-width of the cross-fade half-way between two references, to avoid a visible step."""


@dataclass(frozen=True)
class Pass:
    """A run of frames propagated from one reference frame, away from it.

    `first` and `last` are inclusive.
    """

    reference: int
    first: int
    last: int

    @property
    def is_backward(self) -> bool:
        """Whether the frames are before their reference."""
        return self.last < self.reference


def plan_passes(references: Sequence[int], start: int, end: int) -> list[Pass]:
    """Share frames `start` to `end` (exclusive) between reference frames: each goes to the nearest.

    Half-way between two references both passes overlap by a few frames, which are cross-faded. A
    forward pass begins at its reference even if that is before `start`. Passes without a wanted
    frame are left out.
    """
    ordered = sorted(set(references))
    passes = []
    for i, reference in enumerate(ordered):
        low = start
        # The passes overlap around the middle by the fade on both sides.
        high = end - 1
        if i > 0:
            low = max(
                start, _middle(ordered[i - 1], reference) - _fade(ordered[i - 1], reference) + 1
            )
        if i + 1 < len(ordered):
            high = min(
                end - 1, _middle(reference, ordered[i + 1]) + _fade(reference, ordered[i + 1])
            )
        if low < reference and low < end:
            passes.append(Pass(reference, low, reference - 1))
        if high >= max(reference, start):
            passes.append(Pass(reference, reference, high))
    return passes


def passes_of_object(frames: Iterable[int | None], start: int, end: int) -> list[Pass]:
    """Return the passes of an object from the frames of its references; see `plan_passes`.

    Without a marked frame in the clip (None: marked on another image), one pass covers it from its
    start.
    """
    marked = [frame for frame in frames if frame is not None]
    return plan_passes(marked, start, end) if marked else [Pass(start, start, end - 1)]


def _middle(a: int, b: int) -> int:
    return (a + b) // 2


def _fade(a: int, b: int) -> int:
    # References close together leave less room for the fade.
    return min(_FADE_FRAMES, (b - a) // 4)


def forward_share(frame: int, forward: Pass, backward: Pass) -> float:
    """Return the weight of the forward matte in an overlap; it falls from 1 to 0 across it."""
    overlap = forward.last - backward.first + 1
    # Never quite 0 or 1: both mattes count in every frame of the overlap.
    return 1 - (frame - backward.first + 1) / (overlap + 1)


def blend_passes(frame: int, found: Sequence[tuple[Pass, T]]) -> list[tuple[float, T]]:
    """Return the results of the passes for a frame with their shares, forward first.

    `found` is from one pass, or from a forward and a backward one that overlap; see
    `forward_share`.
    """
    # Most frames belong to one pass.
    if len(found) == 1:
        return [(1.0, found[0][1])]
    (forward, ahead), (backward, behind) = sorted(found, key=lambda item: item[0].is_backward)
    share = forward_share(frame, forward, backward)
    return [(share, ahead), (1 - share, behind)]
