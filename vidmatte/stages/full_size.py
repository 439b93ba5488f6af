"""Bring coarse mattes to the full size of their frames, and keep what prompts give exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.display import to_display
from vidmatte.imaging.packing import rounded_alpha
from vidmatte.model.interface import CoarseMatte, Predictor, SupportsMaskedFrames
from vidmatte.prompts.prompt import Reference

Weighted = Sequence[tuple[float, CoarseMatte]]
"""Coarse mattes of one frame with their shares: one matte, or two if passes overlap there."""


@dataclass(frozen=True)
class ShownBatch:
    """A batch, and its frames as a model sees them, converted once for all who look at them.

    Attributes:
        batch: the frames as they were read.
        frames: each frame (1, 3, H, W) after the display transform: for all objects the same
            tensors, by which models know them again.
    """

    batch: FrameBatch
    frames: tuple[Tensor, ...]

    @classmethod
    def of(cls, batch: FrameBatch, color: ColorTags) -> ShownBatch:
        """Convert the frames of a batch of this colour."""
        rgb = to_display(batch.rgb, color)
        return cls(batch, tuple(rgb[i : i + 1] for i in range(len(rgb))))

    def last(self, frames: int) -> ShownBatch:
        """Return the last frames of the batch."""
        return ShownBatch(self.batch[len(self.batch) - frames :], self.frames[-frames:])


def bring_to_full_size(
    predictor: Predictor, shown: ShownBatch, coarse: Sequence[Weighted]
) -> MatteBatch:
    """Return the mattes of a batch from the coarse ones of each of its frames."""
    alphas = []
    confidence = []
    for rgb, frame, weighted in zip(shown.frames, shown.batch.frames, coarse, strict=True):
        masked = None
        if isinstance(predictor, SupportsMaskedFrames):
            masked = predictor.finish_masked(rgb, frame)
        if masked is not None:
            alphas.append(masked)
        elif len(weighted) == 1:
            alphas.append(_at_full_size(predictor, rgb, weighted[0][1]))
        else:
            found = [share * _at_full_size(predictor, rgb, matte) for share, matte in weighted]
            alphas.append(torch.stack(found).sum(0))
        confidence.append(sum(share * matte.confidence for share, matte in weighted))
    # A single frame is not copied.
    alpha = alphas[0] if len(alphas) == 1 else torch.cat(alphas)
    return MatteBatch(shown.batch, alpha, tuple(confidence))


def _at_full_size(predictor: Predictor, rgb: Tensor, matte: CoarseMatte) -> Tensor:
    # Rounded as those that waited on the disk: a clip ends the same however it is cut.
    return predictor.finish(rgb, replace(matte, alpha=rounded_alpha(matte.alpha)))


def keep_given_areas(mattes: MatteBatch, references: Sequence[Reference]) -> MatteBatch:
    """Return mattes that are, on their own frames, what prompts give exactly.

    These are masks with a hard edge, and the known areas of trimaps.
    """
    given = {each.frame: each for each in references if _is_exact(each)}
    frames = mattes.source.frames
    if given.keys().isdisjoint(frames):
        return mattes
    alphas = []
    for frame, alpha in zip(frames, mattes.alpha, strict=True):
        found = alpha[None]
        if frame in given:
            known = given[frame].known.to(alpha) > 0
            found = torch.where(known, given[frame].alpha.to(alpha), found)
        alphas.append(found)
    return replace(mattes, alpha=torch.cat(alphas))


def _is_exact(reference: Reference) -> bool:
    """Tell whether the matte of a reference's own frame holds what was given for it."""
    is_hard_mask = reference.mask_edge == "hard" and reference.is_complete
    return is_hard_mask or reference.is_trimap
