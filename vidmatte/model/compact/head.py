"""The matting head: guidance and features to alpha at the working size, and how sure the network is of it.

IconMatting's head (section 3.3) at a small size: guidance is fused with the features at 1/8, set in context at 1/16
by the target's own attention, and refined up to full size with the encoder's detail features and the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3x3 convolutions with group normalisation around a shortcut (He et al., CVPR 2016).

    Group normalisation, since training batches are as small as two clips.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = (
            nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, h, w) to (N, channels_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class SelfAttention(nn.Module):
    """Multi-head self-attention over a small map, each head fading with distance at a learned rate.

    The distance penalty (ALiBi, Press et al., ICLR 2022, in two dimensions) needs no table of positions, so that any
    working size fits.
    """

    def __init__(self, channels: int, *, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.fade = nn.Parameter(torch.linspace(-1.0, -5.0, heads))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same, added to the input."""
        height, width = x.shape[-2:]
        shape = (len(x), 3, self.heads, x.shape[1] // self.heads, height * width)
        query, key, value = (
            self.query_key_value(self.norm(x)).flatten(2).reshape(shape).mT.unbind(1)
        )
        bias = -F.softplus(self.fade)[:, None, None] * _distances(height, width, x.device)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype)[None]
        )
        change: Tensor = self.project(mixed.mT.reshape(x.shape))
        return x + change


class Context(nn.Module):
    """Sees the whole object: works at 1/16 on the fused guidance and the encoder's deepest features."""

    def __init__(self, channels: int, deep_channels: int) -> None:
        super().__init__()
        self.enter = Residual(channels + deep_channels, deep_channels)
        self.attention = SelfAttention(deep_channels)
        self.leave = Residual(deep_channels, deep_channels)
        self.project = nn.Conv2d(deep_channels, channels, 1)
        # Starts as nothing, so that a network trained without this block keeps its behaviour when it is grafted in.
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, fused: Tensor, deep: Tensor) -> Tensor:
        """fused (N, C, h/8, w/8), deep (N, D, h/16, w/16) to (N, C, h/8, w/8), added to `fused`."""
        y = self.enter(torch.cat([F.avg_pool2d(fused, 2), deep], 1))
        y = self.project(self.leave(self.attention(y)))
        return fused + resize(y, fused)


class MattingHead(nn.Module):
    """Guidance to alpha logits, coarse to fine.

    Args:
        channels: of the encoder's maps at 1/2, 1/4, 1/8, 1/16.
        guidance_channels: of the similarity guidance; two more of the prior are added at every size.
        motion_channels: of the motion cue, seen at 1/8 and 1/4: optical flow is no finer.
    """

    def __init__(
        self, channels: Sequence[int], *, guidance_channels: int, motion_channels: int
    ) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        self.fuse1 = Residual(eighth + 2 + guidance_channels + motion_channels, eighth)
        self.fuse2 = Residual(eighth, eighth)
        self.context = Context(eighth, sixteenth)
        self.coarse = nn.Conv2d(eighth, 1, 1)
        self.to_quarter = Residual(eighth + quarter + 2 + motion_channels, 48)
        self.to_half = Residual(48 + half, 24)
        self.to_full = nn.Sequential(
            nn.Conv2d(24 + 3 + 2, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )

    def forward(
        self, rgb: Tensor, maps: Sequence[Tensor], guidance: Tensor, prior: Tensor, motion: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one frame.

        Args:
            rgb: (N, 3, h, w) 0-1.
            maps: the encoder's features at 1/2, 1/4, 1/8, 1/16.
            guidance: (N, G, h/8, w/8).
            prior: (N, 2, h, w) expected alpha where known, and where it is.
            motion: (N, M, h, w).

        Returns:
            alpha logits (N, 1, h, w), coarse logits (N, 1, h/8, w/8), fused map (N, C, h/8, w/8).
        """
        half, quarter, eighth, sixteenth = maps
        rgb, prior = (x.contiguous(memory_format=torch.channels_last) for x in (rgb, prior))
        z = self.fuse1(
            torch.cat(
                [eighth, shrink(prior, eighth), guidance.to(eighth.dtype), shrink(motion, eighth)],
                1,
            )
        )
        z = self.context(self.fuse2(z), sixteenth)
        y = self.to_quarter(
            torch.cat(
                [resize(z, quarter), quarter, shrink(prior, quarter), shrink(motion, quarter)], 1
            )
        )
        y = self.to_half(torch.cat([resize(y, half), half], 1))
        y = self.to_full(torch.cat([resize(y, rgb), rgb.to(y.dtype), prior.to(y.dtype)], 1))
        return y.float(), self.coarse(z).float(), z


class ConfidenceHead(nn.Module):
    """One number per frame: the overlap that the network expects between its matte and the truth.

    Looks at the fused features averaged over the object, over its edge and over the frame, and at a few plain facts:
    how decided the matte is, how large, how well it agrees with the prior and with the similarity's votes. It does
    not steer the rest of the network: its inputs are cut off from the gradient.
    """

    def __init__(self, channels: int, *, votes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * channels + votes + 5, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, fused: Tensor, votes: Tensor, alpha_logits: Tensor, prior: Tensor) -> Tensor:
        """Expected overlap as a logit, (N,).

        Args:
            fused: (N, C, h/8, w/8) from the head.
            votes: (N, K, h/8, w/8) similarity guidance.
            alpha_logits: (N, 1, h, w).
            prior: (N, 2, h, w) as for the head.
        """
        fused, votes, alpha = (
            fused.detach().float(),
            votes.detach().float(),
            alpha_logits.detach().sigmoid(),
        )
        prior = prior.float()
        inside = F.adaptive_avg_pool2d(alpha, (fused.shape[-2], fused.shape[-1]))
        edge = 4 * inside * (1 - inside)
        pooled = [
            _average(fused, inside),
            _average(fused, edge),
            fused.mean((2, 3)),
            _average(votes, inside),
        ]
        known = prior[:, 1:].mean((1, 2, 3))
        agreed = (torch.minimum(alpha, prior[:, :1]).sum((1, 2, 3)) + 1) / (
            torch.maximum(alpha, prior[:, :1]).sum((1, 2, 3)) + 1
        )
        decided = (alpha * (2 * alpha - 1).abs()).sum((1, 2, 3)) / alpha.sum((1, 2, 3)).clamp(
            min=1.0
        )
        area = alpha.mean((1, 2, 3))
        border = _average(_frame_edge(inside), inside)[:, 0]
        facts = torch.stack([agreed * known, known, decided, area.sqrt(), border], 1)
        logit: Tensor = self.layers(torch.cat([*pooled, facts], 1))[:, 0]
        return logit


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of `x` to the rows and columns of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def shrink(x: Tensor, like: Tensor) -> Tensor:
    """`x` averaged down to the rows and columns of `like`, in its dtype."""
    return F.adaptive_avg_pool2d(x, (like.shape[-2], like.shape[-1])).to(like.dtype)


def _average(x: Tensor, weight: Tensor) -> Tensor:
    """(N, C) average of x (N, C, h, w) under weight (N, 1, h, w)."""
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-2)


def _frame_edge(like: Tensor) -> Tensor:
    """(N, 1, h, w) 1 on the outermost cells of the frame: objects cut by it are judged with less context."""
    inner = F.pad(torch.zeros_like(like[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0)
    return inner


def _distances(height: int, width: int, device: torch.device) -> Tensor:
    """(h w, h w) distance between cells."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    points = torch.stack([y.flatten(), x.flatten()], -1).float()
    distances: Tensor = torch.linalg.vector_norm(points[:, None] - points[None], dim=-1)
    return distances
