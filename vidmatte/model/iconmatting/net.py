"""The trained part of IconMatting: 89 tensors under the names of the released checkpoint.

The released configuration (Guo et al., CVPR 2024) without Stable Diffusion: it is not in the
checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.errors import ModelError
from vidmatte.model.iconmatting.head import ConvNormRelu, DetailDecoder, Fusion
from vidmatte.model.iconmatting.similarity import IntraSimilarity
from vidmatte.model.iconmatting.stable_diffusion import InContextFeatures
from vidmatte.model.weights import load_strictly


@dataclass(frozen=True)
class Decoded:
    """Results for N images."""

    alpha: Tensor
    """(N, 1, S, S) float32 0-1; the training-free variant has its guidance here."""
    intra_similarity: Tensor
    """(N, c, c) float32 of any scale, for display."""


class _Fusions(nn.Module):
    """From the coarse scale to the fine one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A list of one, for the names in the checkpoint.
        self.module_list = nn.ModuleList([Fusion(2 * channels, channels)])


class _QueryNorm(nn.Module):
    """Normalises features of references and targets before they are matched."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)


class InContextFusion(nn.Module):
    """One map of guidance from similarity and features at both scales."""

    def __init__(
        self, feature_channels: int, cells: tuple[int, int], guidance_channels: int, channels: int
    ) -> None:
        super().__init__()
        self.attn_module = _QueryNorm(feature_channels)
        self.attn_module_list = nn.ModuleList(
            [IntraSimilarity(side, guidance_channels) for side in cells]
        )
        self.ft_module_list = nn.ModuleList(
            [ConvNormRelu(feature_channels, channels) for _ in cells]
        )
        self.ft_attn_module_list = nn.ModuleList(
            [ConvNormRelu(channels + guidance_channels, channels) for _ in cells]
        )
        self.fusion = _Fusions(channels)

    def forward(
        self, features: InContextFeatures, similarity: Tensor, *, intra: bool, multi_scale: bool
    ) -> tuple[Tensor, Tensor]:
        """Return guidance (N, channels, c, c), and mean intra-similarity over channels (N, c, c).

        Args:
            features: with attention maps if `intra` is on.
            similarity: (N, n).
            intra, multi_scale: see `IconMattingNet.forward`.
        """
        scales = (
            (features.coarse, features.coarse_attention),
            (features.fine, features.fine_attention),
        )
        fused, seen = [], []
        for i, (feature, attention) in enumerate(scales):
            guidance = self.attn_module_list[i](similarity, attention if intra else None)
            converted = self.ft_module_list[i](feature)
            fused.append(
                self.ft_attn_module_list[i](torch.cat([converted, guidance.to(converted.dtype)], 1))
            )
            seen.append(guidance.float().mean(1, keepdim=True))
        coarse, fine = fused
        if not multi_scale:
            # Table 5 of the paper: without multi-scale, only the fine map takes part.
            coarse, seen[0] = torch.zeros_like(coarse), seen[1]
        size = (fine.shape[-2], fine.shape[-1])
        maps = [
            F.interpolate(x, size=size, mode="bilinear", align_corners=False)[:, 0] for x in seen
        ]
        return self.fusion.module_list[0](coarse, fine), torch.stack(maps).mean(0)


class InContextDecoder(nn.Module):
    """Guidance and alpha."""

    def __init__(self, feature_channels: int, cells: tuple[int, int]) -> None:
        super().__init__()
        self.in_context_fusion = InContextFusion(
            feature_channels, cells, guidance_channels=256, channels=320
        )
        self.detail_decoder = DetailDecoder()


class IconMattingNet(nn.Module):
    """Similarity module and matting head.

    Args:
        feature_channels: of Stable Diffusion's features.
        cells: along the side, coarse and fine.
    """

    def __init__(self, feature_channels: int = 1280, cells: tuple[int, int] = (24, 48)) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        self.cells = cells
        self.in_context_decoder = InContextDecoder(feature_channels, cells)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Mapping[str, object],
        source: str,
        *,
        feature_channels: int = 1280,
        cells: tuple[int, int] = (24, 48),
    ) -> IconMattingNet:
        """Return the network with the tensors of a checkpoint, as `decoder_tensors` takes it.

        Raises ModelError if tensors are missing, surplus, of another shape, or not finite.
        """
        tensors = decoder_tensors(checkpoint, source)
        net = cls(feature_channels, cells)
        load_strictly(net, tensors, source)
        return net.eval().requires_grad_(False)

    def tokens(self, features: InContextFeatures) -> Tensor:
        """Return the features to match, (N, n, C) float32, normalised."""
        normalised: Tensor = self.in_context_decoder.in_context_fusion.attn_module.norm(
            features.fine.flatten(2).mT
        )
        return normalised

    def forward(
        self,
        rgb: Tensor,
        features: InContextFeatures,
        similarity: Tensor,
        *,
        intra: bool = True,
        multi_scale: bool = True,
    ) -> Decoded:
        """Decode images.

        Args:
            rgb: (N, 3, S, S) 0-1.
            features: theirs, with attention maps unless `intra` is off.
            similarity: (N, n) to the references; see `similarity.match`.
            intra: whether attention maps take part (an ablation; table 5).
            multi_scale: whether the coarse scale takes part (likewise).
        """
        decoder = self.in_context_decoder
        guidance, seen = decoder.in_context_fusion(
            features, similarity, intra=intra, multi_scale=multi_scale
        )
        # The head expects -1..1, unlike the features.
        image = (rgb * 2 - 1).contiguous(memory_format=torch.channels_last)
        return Decoded(decoder.detail_decoder(guidance, image), seen)


def decoder_tensors(checkpoint: Mapping[str, object], source: str) -> dict[str, Tensor]:
    """Return the decoder's tensors of a checkpoint, with or without Lightning's `state_dict`.

    Other content of Lightning's checkpoints is ignored, and so are the tensors of the frozen
    feature extractor. Raises ModelError if there are no tensors at all.
    """
    inner = checkpoint.get("state_dict", checkpoint)
    if not isinstance(inner, Mapping):
        raise ModelError(
            f"{source}: its state_dict is {type(inner).__name__}; a checkpoint of IconMatting "
            f"holds tensors"
        )
    is_wrapped = inner is not checkpoint
    # The authors' checkpoint also holds the frozen extractor, under its own prefix.
    found = {
        str(key): value
        for key, value in inner.items()
        if isinstance(value, Tensor)
        and not (is_wrapped and str(key).startswith("feature_extractor."))
    }
    if not found:
        raise ModelError(
            f"{source}: holds no tensors; give the checkpoint of IconMatting's authors"
        )
    return found
