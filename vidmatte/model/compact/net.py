"""`compact`, the embedded model: in-context matting by a small convolutional network, trained from scratch.

The anatomy is IconMatting's (Guo et al., CVPR 2024): shared features, inter-similarity to the marked references,
intra-similarity within the target, a matting head. For clips two hints are added: the flow-warped previous alpha as
a prior, which the network may overrule, and what moves with the object and what with the background. The same
`decode` turns clicks into the reference's alpha: the reference is its own memory, known only where it was marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.compact.head import ConfidenceHead, MattingHead, Residual, resize
from vidmatte.model.compact.motion import CHANNELS
from vidmatte.model.compact.similarity import InterSimilarity, IntraSimilarity, Memory


@dataclass(frozen=True)
class Features:
    """One encoding of N frames of h x w; `features[i:j]` are those of some of the frames.

    Attributes:
        half, quarter, eighth, sixteenth: (N, C, h/s, w/s) maps at their share of the working size.
        keys: (N, K, h/8, w/8) unit-length, for matching.
    """

    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor
    keys: Tensor

    def __getitem__(self, index: slice) -> Features:
        """The features of a part of the batch."""
        return Features(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True)
class Prediction:
    """What `CompactNet.decode` says of N frames.

    Attributes:
        alpha_logits: (N, 1, h, w); their sigmoid is alpha.
        coarse_logits: (N, 1, h/8, w/8), supervised in training.
        confidence_logits: (N,); see `confidence`.
    """

    alpha_logits: Tensor
    coarse_logits: Tensor
    confidence_logits: Tensor

    @property
    def alpha(self) -> Tensor:
        """(N, 1, h, w) 0-1."""
        return self.alpha_logits.sigmoid()

    @property
    def confidence(self) -> Tensor:
        """(N,) 0-1: the overlap with the true matte that the network expects."""
        return self.confidence_logits.sigmoid()


class Encoder(nn.Module):
    """Residual features at 1/2, 1/4, 1/8 and 1/16 of an rgb frame."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        self.stem = nn.Sequential(nn.Conv2d(3, half, 5, 2, 2, bias=False), nn.GroupNorm(8, half), nn.ReLU())
        self.quarter = nn.Sequential(Residual(half, quarter, stride=2), Residual(quarter, quarter))
        self.eighth = nn.Sequential(Residual(quarter, eighth, stride=2), Residual(eighth, eighth))
        self.sixteenth = nn.Sequential(Residual(eighth, sixteenth, stride=2), Residual(sixteenth, sixteenth))

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """rgb (N, 3, h, w) 0-1 to four maps of the channels given, fine to coarse."""
        half = self.stem((rgb - 0.5) * 4)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        return half, quarter, eighth, self.sixteenth(eighth)


class CompactNet(nn.Module):
    """In-context matting of clips, at a working size whose sides are multiples of `stride`."""

    stride = 16

    def __init__(self, channels: Sequence[int] = (24, 48, 96, 128), *, key_channels: int = 64) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        self.mix = nn.Conv2d(channels[2] + channels[3], channels[2], 1)
        self.key = nn.Conv2d(channels[2], key_channels, 1)
        self.inter = InterSimilarity(channels[2])
        self.intra = IntraSimilarity()
        guidance = self.inter.out_channels + 2 * 4
        self.head = MattingHead(channels, guidance_channels=guidance, motion_channels=CHANNELS - 1)
        self.confidence = ConfidenceHead(channels[2], votes=guidance)

    def encode(self, rgb: Tensor) -> Features:
        """Features of frames `rgb` (N, 3, h, w) 0-1, h and w multiples of `stride`."""
        half, quarter, eighth, sixteenth = self.encoder(rgb)
        eighth = F.relu(self.mix(torch.cat([eighth, resize(sixteenth, eighth)], 1)))
        keys = F.normalize(self.key(eighth).float(), dim=1)
        return Features(half, quarter, eighth, sixteenth, keys)

    def encode_memory(self, features: Features, alpha: Tensor, known: Tensor) -> Memory:
        """Make a reference of frames whose alpha (N, 1, h, w) 0-1 is given where known (N, 1, h, w) is 1."""
        return self.inter.encode_memory(features.keys, features.eighth, alpha, known)

    def decode(
        self,
        rgb: Tensor,
        features: Features,
        memories: Sequence[Memory],
        prior: Tensor,
        prior_known: Tensor,
        motion: Tensor,
    ) -> Prediction:
        """Alpha of frames from references, a prior and motion.

        Args:
            rgb: (N, 3, h, w) 0-1, and `features`, its encoding.
            memories: one or more, each of batch N or 1; the one that a person marked first, the most recent last.
            prior: (N, 1, h, w) 0-1, expected alpha: the flow-warped previous one, or the marks on a reference frame.
            prior_known: (N, 1, h, w) 0 or 1, where the prior says anything; all 0 for none.
            motion: (N, 4, h, w) of `motion_cue`, or of `no_motion`.
        """
        expected = torch.cat([prior * prior_known, prior_known], 1)
        size = (features.eighth.shape[-2], features.eighth.shape[-1])
        query = features.keys.flatten(2).mT
        votes = self.inter(query, features.eighth, memories)
        small = F.adaptive_avg_pool2d(expected, size).flatten(2).mT
        label = (votes[..., 0:1] + votes[..., 3:4]) / 2
        source = [label, votes[..., 9:10].clamp(-2, 2), votes[..., 7:8], 2 * small[..., :1] - small[..., 1:]]
        against = F.adaptive_avg_pool2d(motion[:, :2], size).flatten(2).mT
        spread = self.intra(query, torch.cat(source, -1), against)
        guidance = torch.cat([spread, votes], -1).mT.reshape(len(rgb), -1, *size)
        maps = (features.half, features.quarter, features.eighth, features.sixteenth)
        logits, coarse, fused = self.head(rgb, maps, guidance, expected, _plain(motion))
        return Prediction(logits, coarse, self.confidence(fused, guidance, logits, expected))


def _plain(motion: Tensor) -> Tensor:
    """What the head sees of the motion cue, (N, 3, h, w): no directions, so that none can be learnt by heart."""
    return torch.cat([torch.linalg.vector_norm(motion[:, :2], dim=1, keepdim=True), motion[:, 2:]], 1)
