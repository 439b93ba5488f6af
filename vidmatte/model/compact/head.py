"""Decode guidance and features to alpha at the working size, and estimate the matte's quality.

IconMatting's head (section 3.3) at a small size: guidance is fused with the features at 1/8, set in
context at 1/16 by the target's own attention, and refined up to full size with the encoder's detail
features and the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.compact.maps import join, resize, shrink


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
        """Map (N, channels_in, h, w) to (N, channels_out, h / stride, w / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class SelfAttention(nn.Module):
    """Multi-head self-attention over a small map, each head fading with distance at a learned rate.

    The distance penalty (ALiBi, Press et al., ICLR 2022, in two dimensions) needs no table of
    positions, so any working size fits.
    """

    def __init__(self, channels: int, *, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.fade = nn.Parameter(torch.linspace(-1.0, -5.0, heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape; the result is added to the input."""
        height, width = x.shape[-2:]
        shape = (len(x), 3, self.heads, x.shape[1] // self.heads, height * width)
        stacked = self.query_key_value(self.norm(x)).flatten(2).reshape(shape)
        query, key, value = stacked.mT.unbind(1)
        # Softplus keeps the penalty positive: attention never grows with distance.
        bias = -F.softplus(self.fade)[:, None, None] * _distances(height, width, x.device)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype)[None]
        )
        change: Tensor = self.project(mixed.mT.reshape(x.shape))
        return x + change


class Context(nn.Module):
    """Sets the fused guidance in the context of the whole object, at 1/16."""

    def __init__(self, channels: int, deep_channels: int) -> None:
        super().__init__()
        self.enter = Residual(channels + deep_channels, deep_channels)
        self.attention = SelfAttention(deep_channels)
        self.leave = Residual(deep_channels, deep_channels)
        self.project = nn.Conv2d(deep_channels, channels, 1)
        # Starts at zero: a network trained without this block keeps its behaviour with it.
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, fused: Tensor, deep: Tensor) -> Tensor:
        """Add context to `fused` (N, C, h/8, w/8) from `deep` (N, D, h/16, w/16)."""
        y = self.enter(join(F.avg_pool2d(fused, 2), deep))
        y = self.project(self.leave(self.attention(y)))
        return fused + resize(y, fused)


class MattingHead(nn.Module):
    """Decodes guidance to alpha logits, coarse to fine.

    Args:
        channels: channels of the encoder's maps at 1/2, 1/4, 1/8, 1/16.
        guidance_channels: channels of the similarity guidance; the prior adds two at every size.
        motion_channels: channels of the motion cue, used at 1/8 and 1/4: optical flow is no finer.
            The marks, two more channels, are used there too: a mark is larger than a few pixels.
    """

    def __init__(
        self, channels: Sequence[int], *, guidance_channels: int, motion_channels: int
    ) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        self.fuse1 = Residual(eighth + 2 + guidance_channels + motion_channels + 2, eighth)
        self.fuse2 = Residual(eighth, eighth)
        self.context = Context(eighth, sixteenth)
        self.coarse = nn.Conv2d(eighth, 1, 1)
        self.to_quarter = Residual(eighth + quarter + 2 + motion_channels + 2, 48)
        self.to_half = Residual(48 + half, 24)
        self.to_full = nn.Sequential(
            nn.Conv2d(24 + 3 + 2, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )

    def forward(
        self,
        rgb: Tensor,
        maps: Sequence[Tensor],
        guidance: Tensor,
        prior: Tensor,
        motion: Tensor,
        marks: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one frame.

        Args:
            rgb: (N, 3, h, w) 0-1.
            maps: the encoder's features at 1/2, 1/4, 1/8, 1/16.
            guidance: (N, G, h/8, w/8).
            prior: (N, 2, h, w) expected alpha, and 1 if it is known, else 0.
            motion: (N, M, h, w).
            marks: (N, 2, h, w) 1 on a mark on the object, and on one off it, else 0.

        Returns:
            alpha logits (N, 1, h, w), coarse logits (N, 1, h/8, w/8), fused map (N, C, h/8, w/8).
        """
        half, quarter, eighth, sixteenth = maps
        cues = [shrink(cue, eighth) for cue in (motion, marks)]
        z = self.fuse1(join(eighth, shrink(prior, eighth), guidance.to(eighth.dtype), *cues))
        z = self.context(self.fuse2(z), sixteenth)

        cues = [shrink(cue, quarter) for cue in (prior, motion, marks)]
        y = self.to_quarter(join(resize(z, quarter), quarter, *cues))
        y = self.to_half(join(resize(y, half), half))
        y = self.to_full(join(resize(y, rgb), rgb.to(y.dtype), prior.to(y.dtype)))
        return y.float(), self.coarse(z).float(), z


class ConfidenceHead(nn.Module):
    """Estimates the overlap of a matte with the truth, one number per frame.

    Its inputs are the fused features averaged over the object, over its edge and over the frame,
    and a few measures of the matte: decidedness, size, agreement with the prior and with the
    similarity's votes. They are detached, so this loss does not steer the rest of the network.
    """

    def __init__(self, channels: int, *, votes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * channels + votes + 5, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, fused: Tensor, votes: Tensor, alpha_logits: Tensor, prior: Tensor) -> Tensor:
        """Return the expected overlap as a logit, (N,).

        Args:
            fused: (N, C, h/8, w/8) from the head.
            votes: (N, K, h/8, w/8) similarity guidance.
            alpha_logits: (N, 1, h, w).
            prior: (N, 2, h, w) as for the head.
        """
        fused = fused.detach().float()
        votes = votes.detach().float()
        alpha = alpha_logits.detach().sigmoid()
        prior = prior.float()
        expected = prior[:, :1]
        inside = F.adaptive_avg_pool2d(alpha, (fused.shape[-2], fused.shape[-1]))
        # Largest at alpha 1/2.
        edge = 4 * inside * (1 - inside)
        pooled = [
            _average(fused, inside),
            _average(fused, edge),
            fused.mean((2, 3)),
            _average(votes, inside),
        ]
        known = prior[:, 1:].mean((1, 2, 3))
        both = torch.minimum(alpha, expected).sum((1, 2, 3))
        either = torch.maximum(alpha, expected).sum((1, 2, 3))
        # One pixel more on both sides: two empty mattes agree.
        agreed = (both + 1) / (either + 1)
        sure = (alpha * (2 * alpha - 1).abs()).sum((1, 2, 3))
        decided = sure / alpha.sum((1, 2, 3)).clamp(min=1.0)
        area = alpha.mean((1, 2, 3))
        border = _average(_frame_edge(inside), inside)[:, 0]
        # The root of the area grows with the object's diameter.
        facts = torch.stack([agreed * known, known, decided, area.sqrt(), border], 1)
        logit: Tensor = self.layers(torch.cat([*pooled, facts], 1))[:, 0]
        return logit


def _average(x: Tensor, weight: Tensor) -> Tensor:
    """Return the average (N, C) of x (N, C, h, w) under weight (N, 1, h, w)."""
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-2)


def _frame_edge(like: Tensor) -> Tensor:
    """Return (N, 1, h, w) 1 on the outermost cells of the frame, else 0.

    An object on them may be cut by the frame, and then there is less to judge it by.
    """
    inner = F.pad(torch.zeros_like(like[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0)
    return inner


def _distances(height: int, width: int, device: torch.device) -> Tensor:
    """Return the distances (h w, h w) between cells."""
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([y.flatten(), x.flatten()], -1).float()
    distances: Tensor = torch.linalg.vector_norm(points[:, None] - points[None], dim=-1)
    return distances
