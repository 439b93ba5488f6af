"""The interactive protocol: a simulated person clicks on the largest error until the matte is good.

Each click is placed in the middle of the largest error region of the last answer, where the
distance to the region's border is largest, as in the evaluation of RITM (Sofiiuk et al., "Reviving
Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022). Nothing is drawn at
random. The object of an answer is alpha above one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vidmatte.errors import ReadError
from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.method import PredictedMatte, SeenImage
from vidmatte.frames import FrameBatch
from vidmatte.metrics import region_overlap
from vidmatte.model.interface import Model, SupportsEncodedReferences
from vidmatte.prompts.prompt import Prompt
from vidmatte.synth.prompts import Click, next_click

DEFAULT_CLICKS = 20
AFTER = (1, 3, 5, 10)
"""Numbers of clicks with a reported J."""
WANTED = (0.85, 0.90)
"""J to be reached, for the number of clicks (NoC)."""
DROP = 0.02
"""Clicks are counted if they lower J by more than this."""

CLICKS = (
    *(Measure(f"J@{n}", f"J@{n}", 3, higher_is_better=True) for n in AFTER),
    *(Measure(f"NoC@{100 * j:.0f}", f"NoC@{100 * j:.0f}", 2) for j in WANTED),
    Measure("drops", "drops", 3),
)
"""J after so many clicks; clicks until J is reached; share of clicks that lower J by over 0.02."""


@dataclass(frozen=True)
class Session:
    """The clicks on one image, and how good the answers were."""

    clicks: tuple[Click, ...]
    overlaps: tuple[float, ...]
    """J after each click."""
    last: PredictedMatte

    def values(self, most: int) -> dict[str, float]:
        """Return the measures of `CLICKS`.

        Args:
            most: the largest number of clicks; NoC of images that never reach it.
        """
        values = {}
        for n in AFTER:
            # After a session ends early no click changes the answer.
            after = self.overlaps[min(n, len(self.overlaps)) - 1] if n <= most else math.nan
            values[f"J@{n}"] = after
        # A session that never reaches J counts as the largest number of clicks.
        for wanted in WANTED:
            reached = [n for n, overlap in enumerate(self.overlaps, 1) if overlap >= wanted]
            values[f"NoC@{100 * wanted:.0f}"] = float(reached[0] if reached else most)
        changes = np.diff(self.overlaps)
        values["drops"] = float(np.mean(changes < -DROP)) if len(changes) else 0.0
        return values


def click_through(model: Model, seen: SeenImage, *, index: int, most: int) -> Session:
    """Click on an image until there is no error left, or `most` times.

    It also ends once all figures are known: after the last of `AFTER` if J has reached the last
    of `WANTED`.

    Args:
        model: answers to the clicks so far.
        seen: the image, its truth and the counted pixels.
        index: of the image in its group or clip.
        most: largest number of clicks.

    Raises:
        ReadError: the truth shows no object.
    """
    truth = seen.truth > 0.5
    if not truth.any():
        raise ReadError("the truth shows no object, so that there is nothing to click on")
    clicks: list[Click] = []
    overlaps: list[float] = []
    # With an empty answer first, the first click falls into the middle of the object.
    answer = np.zeros(truth.shape, np.float32)
    last = None
    encoded = None
    while len(clicks) < most:
        click = next_click(answer, truth, seen.counted, clicks)
        if click is None:
            break
        clicks.append(click)
        last, encoded = _answer(model, seen, clicks, index, encoded)
        answer = last.alpha
        overlaps.append(region_overlap(answer, seen.truth, region=seen.counted))
        # Once the last figures are decided, further clicks change none of them.
        if len(clicks) >= AFTER[-1] and overlaps[-1] >= WANTED[-1]:
            break
    assert last is not None  # an empty answer has an error
    return Session(tuple(clicks), tuple(overlaps), last)


def _answer(
    model: Model, seen: SeenImage, clicks: Sequence[Click], index: int, before: Any | None
) -> tuple[PredictedMatte, Any | None]:
    """Return the answer to some clicks, and what the answer to more of them may begin from."""
    reference = Prompt(points=tuple(clicks)).reference(seen.rgb, frame=index)
    batch = FrameBatch(seen.rgb, frames=(index,), pts=(index,), durations=(1,))
    encoded = None
    with torch.inference_mode():
        if isinstance(model, SupportsEncodedReferences):
            encoded = model.encode(reference, after=before)
            matte = model.with_encoded([encoded])(batch)
        else:
            matte = model.with_reference([reference])(batch)
    alpha = np.asarray(matte.alpha[0, 0].numpy())
    confidence = matte.confidence[0]
    return (
        PredictedMatte(index, seen.rgb[0], alpha, seen.truth, seen.counted, reference, confidence),
        encoded,
    )
