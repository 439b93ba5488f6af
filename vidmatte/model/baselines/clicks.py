"""Marks of one image answered one after the other, as the image predictors of SAM 2.1 and EdgeTAM.

An image predictor is the video network without its memory: the image is encoded once, and each
correction is answered from all marks so far and the logits of the last answer (Ravi et al., SAM 2,
ICLR 2025, and `SAM2ImagePredictor` beside it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidmatte.model.baselines.prompts import PointPrompt, point_prompt
from vidmatte.options import Extent
from vidmatte.prompts.prompt import Mark, Reference

_LARGEST_LOGIT = 32.0
"""As SAM 2 limits the logits that it is given again, so that no answer is beyond correction."""
# Labels by which the prompt encoder recognises the two corners of a box among the points.
_BOX_LABELS = (2, 3)


@dataclass(frozen=True)
class SeenImage:
    """An image as the decoder of masks sees it.

    Attributes:
        picture: (1, 3, S, S) uint8, of `Sam2Model.picture`.
        features: of the image encoder, as a session keeps them.
    """

    picture: Tensor
    features: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the marks so far show.

    Attributes:
        marks: those that were answered; empty if only their drawing is known.
        logits: (h, w) of the mask, above 0 on the object.
        score: overlap with the true mask that the network expects, 0-1.
        memory: of the frame with this mask, for later frames.
        extents: what the first mark may have meant, smallest first.
        extent: what this answer takes it for.
    """

    marks: tuple[Mark, ...]
    logits: Tensor
    score: float
    memory: Mapping[str, Any]
    extents: tuple[Extent, ...] = ("object",)
    extent: Extent = "object"


@dataclass(frozen=True)
class Marking:
    """How the mask of a marked image was found, so that further marks begin from it.

    Attributes:
        image: its encoding.
        answer: to its marks.
        asked: the extent that was asked for; None for what the network is surest of.
    """

    image: SeenImage
    answer: Answer
    asked: Extent | None


def continued(
    after: Marking | None, reference: Reference, picture: Tensor
) -> tuple[SeenImage | None, Answer | None]:
    """Return the encoding and the answer of earlier marks, as far as they hold for a reference."""
    if after is None or not torch.equal(after.image.picture, picture):
        return None, None
    done = after.answer.marks
    is_begun = len(done) <= len(reference.steps) and all(
        mark.is_same(now) for mark, now in zip(done, reference.steps, strict=False)
    )
    if not done or not is_begun or after.asked != reference.extent:
        return after.image, None
    return after.image, after.answer


def prompts_of(
    reference: Reference, *, done: int, most: int
) -> Iterator[tuple[tuple[Mark, ...], PointPrompt]]:
    """Yield marks of a reference with the prompt of all of them, each time with one mark more.

    They begin with the first that shows the object, or is a box, and go on after the first `done`.
    `most` is the largest number of points of each kind.
    """
    if not reference.steps:
        yield (), point_prompt(reference, most=most)
        return
    alpha, known = torch.zeros_like(reference.alpha), torch.zeros_like(reference.known)
    for number, mark in enumerate(reference.steps, 1):
        mark.draw(alpha[0, 0], known[0, 0])
        if number <= done:
            continue
        prompt = point_prompt(replace(reference, alpha=alpha, known=known), most=most)
        if prompt.box is not None or (prompt.labels == 1).any():
            yield reference.steps[:number], prompt


@contextmanager
def masks_of(net: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect what the mask decoder answers meanwhile: logits (K, h, w) and scores (K,)."""
    found: list[tuple[Tensor, Tensor]] = []

    def collect(module: nn.Module, given: Any, answer: Any) -> None:
        masks, scores = answer[0], answer[1]
        found.append((masks[0, 0].detach().float(), scores[0, 0].detach().float()))

    decoder: Any = net.mask_decoder
    handle = decoder.register_forward_hook(collect)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def expecting(net: nn.Module, logits: Tensor | None) -> Iterator[None]:
    """Give the prompt encoder the logits (h, w) of the last mask meanwhile; None for nothing."""
    if logits is None:
        yield
        return
    mask = logits.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)[None, None]

    # The video network takes such logits inside, but offers no way to hand them in.
    def insert(module: nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "input_masks": mask}

    encoder: Any = net.prompt_encoder
    handle = encoder.register_forward_pre_hook(insert, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def nested(masks: Tensor, scores: Tensor) -> dict[Extent, int]:
    """Return the place of the mask with the best score as the object, a smaller and a larger one.

    Args:
        masks: (K, h, w) logits, of `masks_of`.
        scores: (K,); a single mask is the object, with no other beside it.
    """
    area = (masks > 0).sum((1, 2))
    best = int(scores.argmax())
    order = [int(place) for place in scores.argsort(descending=True)]
    smaller = [place for place in order if 0 < area[place] < area[best]]
    larger = [place for place in order if area[place] > area[best]]
    offered: dict[Extent, int] = {}
    if smaller:
        offered["part"] = smaller[0]
    offered["object"] = best
    if larger:
        offered["group"] = larger[0]
    return offered


def points_for(prompt: PointPrompt, side: int) -> dict[str, Tensor]:
    """Return a prompt as the input of a session for pictures of a square `side`."""
    points = prompt.points
    labels = prompt.labels
    if prompt.box is not None:
        # A box is two points with labels of their own.
        corners = np.array(prompt.box, np.float32).reshape(2, 2)
        points = np.concatenate([corners, points])
        labels = np.concatenate([np.array(_BOX_LABELS), labels])
    return {
        "point_coords": torch.from_numpy(points * np.float32(side))[None, None],
        "point_labels": torch.from_numpy(labels.astype(np.int32))[None, None],
    }
