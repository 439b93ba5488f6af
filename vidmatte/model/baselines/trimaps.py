"""Models with a trimap of every image: the paper's upper bound, and closed-form matting."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.model.baselines.mask import FinishAlpha
from vidmatte.model.interface import CoarseMatte, Predictor, ReadTrimaps
from vidmatte.prompts.prompt import Reference
from vidmatte.threads import beside_numba

_log = logging.getLogger(__name__)
_NEAR = 0.05
"""How far from 0 and 1 a trimap's known pixels may be: codecs do not keep them exactly."""


@dataclass(frozen=True)
class TrimapModel:
    """Mattes images with a trimap each."""

    finish_alpha: FinishAlpha
    name: str
    device: torch.device
    precision: torch.dtype

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """Raise OptionError: such a model does not use references."""
        raise OptionError(
            f"model {self.name!r} mattes with a trimap of every frame: give --trimaps PATH, and "
            f"no marks"
        )

    def with_trimaps(self, trimaps: ReadTrimaps) -> TrimapPredictor:
        """Return the predictor with the trimap of each image from `trimaps`."""
        return TrimapPredictor(self.finish_alpha, trimaps)


@dataclass(frozen=True)
class TrimapPredictor:
    """Mattes images with the trimaps of a function."""

    finish_alpha: FinishAlpha
    trimaps: ReadTrimaps

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        """Return alpha of images. Confidence is the known share of the trimap's pixels."""
        trimaps = quantise(self.trimaps(batch))
        if trimaps.shape != (len(batch), 1, *batch.rgb.shape[-2:]):
            raise ValueError(
                f"trimaps of {tuple(batch.rgb.shape)} must not be {tuple(trimaps.shape)}"
            )
        alphas = [
            self.finish_alpha(batch.rgb[i : i + 1], trimaps[i : i + 1]) for i in range(len(batch))
        ]
        # The more is known, the surer the matte.
        known = 1 - (trimaps == 0.5).float().mean((1, 2, 3))
        return MatteBatch(batch, torch.cat(alphas), tuple(known.tolist()))

    def tracker(self) -> None:
        """Return None: each frame is matted alone."""
        return None

    def shrink(self, rgb: Tensor) -> Tensor:
        """Return the frame as it is."""
        return rgb

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        """Return the alpha itself: it has full size."""
        return coarse.alpha[None, None]


def quantise(trimap: Tensor) -> Tensor:
    """Return 0, 0.5 and 1 from gray values 0..1: all but nearly black and white is unknown."""
    return torch.where(trimap <= _NEAR, 0.0, torch.where(trimap >= 1 - _NEAR, 1.0, 0.5))


def closed_form(rgb: Tensor, trimap: Tensor) -> Tensor:
    """Return alpha by closed-form matting (Levin et al., TPAMI 2008) of PyMatting.

    Arguments are those of `FinishAlpha`. Without known object all unknown pixels become background,
    without known background they become object. Raises MissingExtraError without PyMatting.
    """
    try:
        with beside_numba():
            from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise MissingExtraError("closed-form matting", "baselines") from error
    unknown = trimap == 0.5
    inside = trimap == 1
    # Nothing to solve.
    if not unknown.any():
        return trimap.float()
    # Without both kinds of known pixels the system has no unique solution.
    if not inside.any() or not (trimap == 0).any():
        return torch.where(unknown, inside.any().float(), trimap.float())
    image = rgb[0].permute(1, 2, 0).clamp(0, 1).double().numpy()
    # It prints hints about its own speed to standard output, which `--json` needs for itself.
    with redirect_stdout(io.StringIO()) as printed, beside_numba():
        alpha = np.asarray(estimate_alpha_cf(image, trimap[0, 0].double().numpy()), np.float32)
    _log.debug(printed.getvalue().strip())
    return torch.from_numpy(alpha).clamp(0, 1)[None, None]
