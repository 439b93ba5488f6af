"""The matte of a marked frame, soon after each click: encoded frames are kept between clicks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from torch import Tensor

from vidmatte.model.display import with_display_transform
from vidmatte.model.interface import Model, Predictor, SupportsEncodedReferences
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Prompt
from vidmatte.web.frame_cache import FrameCache
from vidmatte.web.project import index_of

T = TypeVar("T")
_KEPT = 64
"""Mattes of earlier marks that are kept: undo, and returning to a frame, cost nothing."""


@dataclass(frozen=True)
class Still:
    """The matte of a frame, as the page takes it."""

    png: bytes
    """Gray, of the displayed frame's size."""
    confidence: float
    answers: tuple[Extent, ...] = ()
    """What the first mark may mean, smallest first; empty if the model has one answer."""
    answer: Extent | None = None
    """Which of them this is."""


class Stills:
    """Mattes of marked frames. Not thread-safe."""

    def __init__(self, model: Model, frame_cache: FrameCache) -> None:
        self._model, self._frame_cache = model, frame_cache
        self._stills: OrderedDict[Prompt, Still] = OrderedDict()
        self._encoded: OrderedDict[Prompt, Any] = OrderedDict()

    def use(self, model: Model) -> None:
        """Answer with another model from now on; what is known is forgotten."""
        self._model = model
        self._stills.clear()
        self._encoded.clear()

    def kept(self, prompt: Prompt) -> Still | None:
        """Return the matte of these marks if it is known already."""
        return self._stills.get(prompt)

    def still(self, prompt: Prompt) -> Still:
        """Return a frame's matte from its own marks. Raises VidmatteError, mostly PromptError."""
        if prompt not in self._stills:
            self._stills[prompt] = self._matte(prompt)
            _forget(self._stills)
        self._stills.move_to_end(prompt)
        return self._stills[prompt]

    def prepare(self, prompt: Prompt) -> None:
        """Encode these marks as `predictor` would, so that other work can run in between."""
        if isinstance(self._model, SupportsEncodedReferences):
            self._encode(self._model, prompt)

    def predictor(self, prompts: tuple[Prompt, ...]) -> Predictor:
        """Return the model with these references, as a run has it before adaptation."""
        if isinstance(self._model, SupportsEncodedReferences):
            model = self._model
            return model.with_encoded([self._encode(model, prompt) for prompt in prompts])
        return self._model.with_reference(
            [self._frame_cache.reference(prompt) for prompt in prompts]
        )

    def _encode(self, model: SupportsEncodedReferences, prompt: Prompt) -> Any:
        if prompt not in self._encoded:
            reference = self._frame_cache.reference(prompt)
            self._encoded[prompt] = model.encode(reference, after=self._before(prompt))
            _forget(self._encoded)
        self._encoded.move_to_end(prompt)
        return self._encoded[prompt]

    def _before(self, prompt: Prompt) -> Any | None:
        """Return an encoding of the same frame to begin from, best one with the first of the marks.

        Any other one still saves the encoding of the image: after a mark was moved, for instance,
        or if another answer to the first mark is wanted.
        """
        same = [known for known in self._encoded if known.frame == prompt.frame]
        begun = [known for known in same if _begins(known, prompt)]
        newest = (begun or same)[-1:]
        return self._encoded[newest[0]] if newest else None

    def _matte(self, prompt: Prompt) -> Still:
        # At full size and refined, as a run writes it: what is seen here is what one gets.
        frame, _ = self._frame_cache.whole(index_of(prompt))
        # A matter answers for a frame that it was given as a reference with the matte of its marks.
        matte = with_display_transform(
            self.predictor((prompt,)), self._frame_cache.video.info.color
        )(frame)
        clip_info = self._frame_cache.clip_info
        png = gray_png(matte.alpha, clip_info.width, clip_info.height)
        if not isinstance(self._model, SupportsEncodedReferences):
            return Still(png, matte.confidence[0])
        encoded = self._encode(self._model, prompt)
        return Still(png, matte.confidence[0], encoded.extents, encoded.extent)


def _begins(known: Prompt, prompt: Prompt) -> bool:
    """Return whether one prompt is the beginning of another one."""
    fixed = (known.box, known.mask, known.scribbles, known.extent)
    if fixed != (prompt.box, prompt.mask, prompt.scribbles, prompt.extent):
        return False
    strokes = prompt.strokes[: len(known.strokes)] == known.strokes
    points = prompt.points[: len(known.points)] == known.points
    # Points are answered after strokes.
    in_order = not known.points or len(known.strokes) == len(prompt.strokes)
    return strokes and points and in_order


def gray_png(alpha: Tensor, width: int, height: int) -> bytes:
    """Return alpha (1, 1, H, W) as a gray PNG of another size."""
    plane = alpha[0, 0].numpy()
    if plane.shape != (height, width):
        plane = np.asarray(
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.float32
        )
    _, data = cv2.imencode(
        ".png", (plane * 255 + 0.5).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    return data.tobytes()


def _forget(kept: OrderedDict[Prompt, T]) -> None:
    while len(kept) > _KEPT:
        kept.popitem(last=False)
