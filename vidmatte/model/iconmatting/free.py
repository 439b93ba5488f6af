"""IconMatting without its trained part: Stable Diffusion alone gives the guidance.

Training-free propagation, A x S: similarity to the references is averaged over the cells that a
cell attends to. The guidance becomes a trimap, and a trimap network makes alpha from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.model.iconmatting.net import Decoded
from vidmatte.model.iconmatting.similarity import resize_cells, spread
from vidmatte.model.iconmatting.stable_diffusion import InContextFeatures
from vidmatte.model.trimap import make_trimap

FinishAlpha: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Return alpha (1, 1, H, W) 0-1 of an image (1, 3, H, W) 0-1 and a trimap of 0, 0.5 and 1."""

_FULL = 0.5
"""Similarity counted as certain.

It averages 1 on an object of as many cells as in its reference.
"""
_LOW, _HIGH = 0.2, 0.8
"""Largest guidance of background, and least guidance of the object."""


@dataclass(frozen=True)
class TrainingFreeDecoder:
    """Decoder without weights of its own: guidance from similarity, then alpha from guidance."""

    finish_alpha: FinishAlpha

    def tokens(self, features: InContextFeatures) -> Tensor:
        """Return the features to match, (N, n, C) float32, normalised without learned weights."""
        tokens = features.fine.flatten(2).mT.float()
        # Normalised like the tokens of the trained decoder, but without learned scale.
        return F.layer_norm(tokens, tokens.shape[-1:])

    def __call__(
        self,
        rgb: Tensor,
        features: InContextFeatures,
        similarity: Tensor,
        *,
        intra: bool,
        multi_scale: bool,
    ) -> Decoded:
        """Return guidance (N, 1, S, S) 0-1 of images; see `IconMattingNet.forward`."""
        maps = (features.fine_attention, features.coarse_attention if multi_scale else None)
        spreads = [
            spread(similarity, attention) for attention in maps if intra and attention is not None
        ]
        cells = features.cells
        parts = [resize_cells(x.flatten(1), cells) for x in spreads] or [
            resize_cells(similarity, cells)
        ]
        guided = torch.stack(parts).mean(0)
        size = (rgb.shape[-2], rgb.shape[-1])
        smooth = F.interpolate(guided[:, None], size=size, mode="bilinear", align_corners=False)
        return Decoded((smooth / _FULL).clamp(0, 1), guided)

    def finish(self, rgb: Tensor, coarse: Tensor) -> Tensor:
        """Return alpha (1, 1, H, W) of an image (1, 3, H, W) from its guidance (1, 1, h, w)."""
        trimap = make_trimap(coarse, low=_LOW, high=_HIGH)
        size = (rgb.shape[-2], rgb.shape[-1])
        return self.finish_alpha(rgb, F.interpolate(trimap, size=size, mode="nearest"))
