"""IconMatting with a trimap instead of a reference (Guo et al., CVPR 2024, supplement 8.2)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidmatte.errors import ModelError
from vidmatte.model.iconmatting.fit import Fit
from vidmatte.model.iconmatting.full_size import to_full_size
from vidmatte.model.iconmatting.head import TrimapHead
from vidmatte.model.iconmatting.stable_diffusion import FeatureSettings, StableDiffusion
from vidmatte.model.memory import memory_errors
from vidmatte.model.weights import load_strictly

# How far from 0 and 1 a value may be after resizing to still count as known.
_EXACT = 1e-4


@dataclass(frozen=True)
class TrimapMatting:
    """Make alpha from an image and its trimap: a `FinishAlpha` of the baselines."""

    sd: StableDiffusion
    head: TrimapHead
    settings: FeatureSettings
    device: torch.device
    precision: torch.dtype

    def __call__(self, rgb: Tensor, trimap: Tensor) -> Tensor:
        """Return alpha (1, 1, H, W) float32 0..1; known pixels keep the value of the trimap.

        Args:
            rgb: (1, 3, H, W) 0..1.
            trimap: (1, 1, H, W) of 0, 0.5 and 1.
        """
        fit = Fit(rgb.shape[-2], rgb.shape[-1], self.sd.side)
        autocast = torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        )
        with torch.inference_mode(), memory_errors("matting with a trimap"):
            squares = fit.to_squares(rgb.to(self.device))
            known = _quantised(fit.trimap_to_squares(trimap.float().to(self.device)))
            features = self.sd(squares, self.settings, maps=False)
            with autocast:
                alpha = self.head(squares, known, features.coarse, features.fine)
            coarse = fit.assemble(alpha.float()).cpu()
        unknown = (trimap > 0) & (trimap < 1)
        return torch.where(unknown, to_full_size(rgb, coarse), trimap.float())


def is_trimap_head(names: Container[str]) -> bool:
    """Tell whether names of tensors are those of a `TrimapHead`."""
    return "ft_module_list.0.conv.weight" in names and "fusion.conv.conv.weight" in names


def load_trimap_head(
    tensors: Mapping[str, Tensor], source: Path, sd: StableDiffusion, device: torch.device
) -> TrimapHead:
    """Return a trained head for a Stable Diffusion.

    Raises ModelError if the tensors do not fit.
    """
    if not is_trimap_head(tensors):
        raise ModelError(f"{source}: is not a head of IconMatting that takes a trimap")
    head = TrimapHead(sd.channels)
    load_strictly(head, tensors, str(source))
    return head.eval().requires_grad_(False).to(device)


def _quantised(trimap: Tensor) -> Tensor:
    """Return 0, 0.5 and 1: a cell of a smaller trimap is known only if all of it is."""
    half = torch.full_like(trimap, 0.5)
    low = torch.where(trimap <= _EXACT, torch.zeros_like(trimap), half)
    return torch.where(trimap >= 1 - _EXACT, torch.ones_like(trimap), low)
