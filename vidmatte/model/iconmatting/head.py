"""Matting heads: alpha from in-context guidance and the image.

The detail decoder is that of ViTMatte (Yao et al., 2023), as in IconMatting (Guo et al., CVPR 2024,
section 3.5). The names of the attributes are those of the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormRelu(nn.Module):
    """3x3 convolution without bias, batch normalisation, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        # Names of modules are those of the published checkpoint.
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, h, w) to (N, channels_out, h / stride, w / stride)."""
        return F.relu(self.bn(self.conv(x)))


class Fusion(nn.Module):
    """A coarse map, enlarged to twice its size, joined with a fine one."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = ConvNormRelu(channels_in, channels_out)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (N, A, h, w) and (N, B, 2h, 2w) to (N, channels_out, 2h, 2w); A + B = channels_in."""
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        # Under autocast the coarse map may be float32 and the fine one half precision.
        fused: Tensor = self.conv(torch.cat([fine, enlarged.to(fine.dtype)], 1))
        return fused


class ImageStream(nn.Module):
    """The image at 1/2, 1/4 and 1/8 of its size."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [ConvNormRelu(before, after, stride=2) for before, after in pairwise(channels)]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the image and its maps, fine to coarse."""
        # The image itself is the finest map.
        maps = [image]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        return maps


class AlphaHead(nn.Module):
    """The last two convolutions."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.matting_convs = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, 1, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, h, w) to alpha (N, 1, h, w) float32 0-1."""
        x = self.matting_convs[:-1](x)
        weight, bias = self.matting_convs[-1].parameters()
        # Written out to stay float32 under autocast: half precision makes steps in flat alpha.
        return torch.sigmoid((x.float() * weight).sum(1, keepdim=True) + bias)


class DetailDecoder(nn.Module):
    """Features at 1/16 of the image's size, and the image, to alpha at the image's size.

    Args:
        channels: of the features.
        image_channels: 3, or 4 with a trimap.
        stream: channels of the image's maps at 1/2, 1/4, 1/8.
        fusion: channels after each fusion, coarse to fine.
    """

    def __init__(
        self,
        channels: int = 320,
        image_channels: int = 3,
        stream: Sequence[int] = (48, 96, 192),
        fusion: Sequence[int] = (256, 128, 64, 32),
    ) -> None:
        super().__init__()
        maps = (image_channels, *stream)
        self.convstream = ImageStream(maps)
        before = (channels, *fusion[:-1])
        self.fusion_blks = nn.ModuleList(
            [Fusion(a + b, out) for a, b, out in zip(before, reversed(maps), fusion, strict=True)]
        )
        self.matting_head = AlphaHead(fusion[-1], 16)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        """Return alpha (N, 1, S, S) 0-1.

        Args:
            features: (N, channels, S/16, S/16).
            image: (N, image_channels, S, S) in -1..1.
        """
        for fuse, detail in zip(self.fusion_blks, reversed(self.convstream(image)), strict=True):
            features = fuse(features, detail)
        alpha: Tensor = self.matting_head(features)
        return alpha


class TrimapHead(nn.Module):
    """The head for a trimap instead of a reference (supplement, section 8.2): no similarity module.

    Args:
        feature_channels: of Stable Diffusion's features.
        channels: of the features after conversion.
    """

    def __init__(self, feature_channels: int = 1280, channels: int = 320) -> None:
        super().__init__()
        self.ft_module_list = nn.ModuleList(
            [ConvNormRelu(feature_channels, channels) for _ in range(2)]
        )
        self.fusion = Fusion(2 * channels, channels)
        self.detail_decoder = DetailDecoder(channels, image_channels=4)

    def forward(self, rgb: Tensor, trimap: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return alpha (N, 1, S, S) 0-1.

        Args:
            rgb: (N, 3, S, S) 0-1.
            trimap: (N, 1, S, S) of 0, 0.5 and 1.
            coarse: features (N, feature_channels, S/32, S/32).
            fine: features (N, feature_channels, S/16, S/16).
        """
        maps = [convert(x) for convert, x in zip(self.ft_module_list, (coarse, fine), strict=True)]
        alpha: Tensor = self.detail_decoder(self.fusion(*maps), torch.cat([rgb * 2 - 1, trimap], 1))
        return alpha
