"""From a mask to alpha: a pseudo-trimap by erosion and dilation, then a trimap network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.baselines.images import resized
from vidmatte.model.interface import CoarseMatte
from vidmatte.model.trimap import make_trimap

FinishAlpha: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Return alpha (1, 1, H, W) 0-1 of an image (1, 3, H, W) 0-1 and a trimap of 0, 0.5 and 1."""
FindMask: TypeAlias = Callable[[Tensor, "int | None"], CoarseMatte]
"""Return the object's probability map for an image (1, 3, H, W) and its frame's index."""

BAND = 0.01
WIDEST_BAND = 0.25


def pseudo_trimap(mask: Tensor, *, band: float = BAND) -> Tensor:
    """Return the trimap of a mask (N, 1, H, W).

    The mask eroded by `band` is object, everything outside of the dilated mask is background.
    `band` is a share of the image's longer side; small pieces keep a core, see `make_trimap`.
    """
    return make_trimap((mask > 0.5).float(), inside=band, outside=band)


def check_band(band: float) -> None:
    """Raise OptionError unless a band is 0 to 0.25."""
    if not 0 <= band <= WIDEST_BAND:
        raise OptionError(
            f"band {band:g} is not valid: it is a share of the image's longer side, 0 to "
            f"{WIDEST_BAND}"
        )


@dataclass(frozen=True)
class MaskPredictor:
    """A predictor for single frames: finds a mask and mattes its edge."""

    find: FindMask
    finish_alpha: FinishAlpha | None
    """None if the mask itself is the alpha."""
    band: float

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return mattes of images."""
        found = [self.find(batch.rgb[i : i + 1], index) for i, index in enumerate(batch.frames)]
        alphas = [self.finish(batch.rgb[i : i + 1], coarse) for i, coarse in enumerate(found)]
        return MatteBatch(batch, torch.cat(alphas), tuple(coarse.confidence for coarse in found))

    def tracker(self) -> None:
        """Return None: each frame is matted alone."""
        return None

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the frame as it is."""
        return rgb

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return alpha (1, 1, H, W) at full size from the mask of the whole frame."""
        return matte_mask(rgb, coarse.alpha, self.finish_alpha, self.band)


def matte_mask(rgb: Tensor, mask: Tensor, finish_alpha: FinishAlpha | None, band: float) -> Tensor:
    """Return float32 alpha (1, 1, H, W) of an image from the probability (h, w) of its object."""
    full = resized(mask[None, None].float(), (rgb.shape[-2], rgb.shape[-1])).clamp(0, 1)
    return full if finish_alpha is None else finish_alpha(rgb, pseudo_trimap(full, band=band))


def mean_of(values: Iterable[float]) -> float:
    """Return the mean of some numbers; 0 for none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
