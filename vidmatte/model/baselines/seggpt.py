"""`seggpt`: in-context segmentation by SegGPT (Wang et al., ICCV 2023).

`SegGptForImageSegmentation` of transformers takes two tall pictures: the reference above the image,
and the mask of the reference above a blank, which the network paints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidmatte.errors import OptionError
from vidmatte.model.baselines.images import inference, normalised, resized
from vidmatte.model.baselines.mask import BAND, FinishAlpha, MaskPredictor, check_band
from vidmatte.model.interface import CoarseMatte
from vidmatte.prompts.prompt import Reference


@dataclass(frozen=True)
class SegGptOptions:
    """Settings of `seggpt`."""

    matte: bool = False
    """Whether ViTMatte mattes the edge of its mask; otherwise the mask is the alpha, as in the
    paper's comparison."""
    band: float = BAND
    """Half-width of the unknown band around a mask, as a share of the image's longer side."""

    def __post_init__(self) -> None:
        check_band(self.band)


@dataclass(frozen=True)
class SegGptModel:
    """A loaded SegGPT."""

    net: nn.Module
    finish_alpha: FinishAlpha | None
    options: SegGptOptions
    name: str
    device: torch.device
    precision: torch.dtype

    def with_reference(self, references: Sequence[Reference]) -> MaskPredictor:
        """Encode references; the network averages them.

        Raises OptionError unless each has a mask.
        """
        if not references:
            raise ValueError("at least one reference is needed")
        if not all(reference.is_complete for reference in references):
            raise OptionError(
                f"model {self.name!r} learns from whole masks: mark the object with --mask"
            )
        size = self._size
        pictures = torch.cat([self._picture(reference.rgb) for reference in references])
        masks = torch.cat([resized(reference.roi, size) for reference in references])
        painted = normalised((masks > 0.5).float().expand(-1, 3, -1, -1).to(self.device))
        return MaskPredictor(
            lambda rgb, index: self._find(pictures, painted, rgb),
            self.finish_alpha if self.options.matte else None,
            self.options.band,
        )

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.net.config.image_size  # type: ignore[union-attr,misc]
        # The upper half of the network's input is the reference, the lower half the image.
        return int(height) // 2, int(width)

    def _picture(self, rgb: Tensor) -> Tensor:
        return normalised(resized(rgb.to(self.device), self._size))

    def _find(self, pictures: Tensor, painted: Tensor, rgb: Tensor) -> CoarseMatte:
        count = len(pictures)
        height, width = self._size
        with inference(self.device, self.precision, f"SegGPT on {width}x{2 * height} pixels"):
            seen = self.net(
                # The same image for each reference; their features are averaged inside.
                pixel_values=self._picture(rgb).expand(count, -1, -1, -1),
                prompt_pixel_values=pictures,
                prompt_masks=painted,
                feature_ensemble=count > 1,
                embedding_type="instance",
            )
            # The lower half belongs to the image. Before normalisation white is the object.
            found = _unnormalised(seen.pred_masks.float()[:, :, height:]).mean((0, 1)).clamp(0, 1)
        mask = found.cpu().clone()
        # A mean far from 0.5 means a clear mask.
        return CoarseMatte(mask, float((2 * mask - 1).abs().mean()))


def _unnormalised(picture: Tensor) -> Tensor:
    zero, one = (
        normalised(torch.full((1, 3, 1, 1), value, device=picture.device)) for value in (0.0, 1.0)
    )
    return (picture - zero) / (one - zero)
