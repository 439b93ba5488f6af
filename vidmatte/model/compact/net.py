"""`compact`, the embedded model: in-context matting by a small convolutional network.

The anatomy is that of IconMatting (Guo et al., CVPR 2024): shared features, inter-similarity to the
references, intra-similarity within the target, a matting head. Features come from two encoders: a
trunk that was trained to classify tells what a place is part of, a small one how it looks.
For clips three hints are added: the flow-warped previous alpha as a prior, which the network may
overrule; what moves with the object and what with the background; and the labels of the last frames
near each place. The same `decode` turns clicks into the reference's alpha: the reference is its own
memory, known only at the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.compact.head import ConfidenceHead, MattingHead, Residual
from vidmatte.model.compact.maps import join, resize
from vidmatte.model.compact.motion import CHANNELS
from vidmatte.model.compact.similarity import InterSimilarity, IntraSimilarity, Memory
from vidmatte.model.compact.trunk import TAP_CHANNELS, Trunk

RECENT_FRAMES = 3
"""How many of the last frames are read near each place, in training and in use."""
_CELL = 8
"""Side of a cell in pixels of the working size."""


@dataclass(frozen=True)
class Features:
    """The encoding of N frames of h x w; `features[i:j]` are those of some of the frames.

    Attributes:
        half, quarter, eighth, sixteenth: (N, C, h/s, w/s) maps at their share of the working size.
        keys: (N, K, h/8, w/8) of unit length, for matching.
        taps: (N, T, h/8, w/8) of the trunk, each tap of unit length.
        places: (N, n, 2) centres of the cells in pixels of the clip's frame.
        cell: (N, 1, 1) size of a cell in pixels of the clip's frame.
    """

    half: Tensor
    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor
    keys: Tensor
    taps: Tensor
    places: Tensor
    cell: Tensor

    def __getitem__(self, index: slice) -> Features:
        """Return the features of a part of the batch."""
        return Features(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True)
class Prediction:
    """The output of `CompactNet.decode` for N frames.

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
        """(N,) 0-1: the expected overlap J with the true matte."""
        return self.confidence_logits.sigmoid()


class Encoder(nn.Module):
    """Residual features of an rgb frame at 1/2, 1/4, 1/8 and 1/16."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 5, 2, 2, bias=False), nn.GroupNorm(8, half), nn.ReLU()
        )
        self.quarter = nn.Sequential(Residual(half, quarter, stride=2), Residual(quarter, quarter))
        self.eighth = nn.Sequential(Residual(quarter, eighth, stride=2), Residual(eighth, eighth))
        self.sixteenth = nn.Sequential(
            Residual(eighth, sixteenth, stride=2), Residual(sixteenth, sixteenth)
        )

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return four maps of `rgb` (N, 3, h, w) 0-1 with the channels given, fine to coarse."""
        half = self.stem((rgb - 0.5) * 4)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        return half, quarter, eighth, self.sixteenth(eighth)


class CompactNet(nn.Module):
    """In-context matting of clips, at a working size whose sides are multiples of `stride`."""

    stride = 16

    def __init__(
        self, channels: Sequence[int] = (24, 48, 96, 128), *, key_channels: int = 64
    ) -> None:
        super().__init__()
        eighth, sixteenth = channels[2:]
        self.trunk = Trunk()
        self.encoder = Encoder(channels)
        self.mix = nn.Conv2d(eighth + sixteenth, eighth, 1)
        self.lift = nn.Conv2d(sum(TAP_CHANNELS), eighth, 1)
        # Starts as nothing, so that weights trained without the trunk keep their behaviour.
        for parameter in self.lift.parameters():
            nn.init.zeros_(parameter)
        self.key = nn.Conv2d(eighth, key_channels, 1)
        self.trunk_key = nn.Conv2d(TAP_CHANNELS[0] + TAP_CHANNELS[2], key_channels, 1, bias=False)
        # Orthogonal rows nearly keep the angles between the trunk's features.
        nn.init.orthogonal_(self.trunk_key.weight)
        # Logit of the trunk's share in the similarity of two keys.
        self.trunk_share = nn.Parameter(torch.tensor(0.4))
        self.inter = InterSimilarity(eighth)
        self.intra = IntraSimilarity()
        guidance = self.inter.out_channels + 2 * _SPREAD
        self.head = MattingHead(channels, guidance_channels=guidance, motion_channels=CHANNELS - 1)
        self.confidence = ConfidenceHead(eighth, votes=guidance)

    def encode(self, rgb: Tensor, to_frame: Tensor | None = None) -> Features:
        """Return the features of frames.

        Args:
            rgb: (N, 3, h, w) 0-1, h and w multiples of `stride`.
            to_frame: (N, 2, 3) affine map from their pixels to those of the clip's frame, so that
                places seen through different windows can be compared; None if they are the same.
        """
        half, quarter, eighth, sixteenth = self.encoder(rgb)
        eighth = F.relu(self.mix(join(eighth, resize(sixteenth, eighth))))
        early, middle, late = self.tap_trunk(rgb)
        taps = join(early, middle, late)
        eighth = eighth + self.lift(taps)

        own = F.normalize(self.key(eighth).float(), dim=1)
        known = F.normalize(self.trunk_key(join(early, late)).float(), dim=1)
        share = self.trunk_share.sigmoid()
        keys = torch.cat([share.sqrt() * known, (1 - share).sqrt() * own], 1)
        places, cell = _places(eighth, to_frame)
        return Features(half, quarter, eighth, sixteenth, keys, taps, places, cell)

    def tap_trunk(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the taps of the trunk, each of unit length over its channels.

        No gradient is computed through a trunk that is frozen. One that learns on a processor does
        so in float32: gradients of its depthwise convolutions are slower in bfloat16 there.
        """
        kind = rgb.device.type
        learns = torch.is_grad_enabled() and next(self.trunk.parameters()).requires_grad
        autocast = torch.is_autocast_enabled(kind) and not (learns and kind == "cpu")
        with torch.autocast(kind, enabled=autocast), torch.set_grad_enabled(learns):
            early, middle, late = self.trunk(rgb)
        return F.normalize(early, dim=1), F.normalize(middle, dim=1), F.normalize(late, dim=1)

    def encode_memory(self, features: Features, alpha: Tensor, known: Tensor) -> Memory:
        """Return a reference of frames whose alpha is given where known: both (N, 1, h, w) 0-1."""
        return self.inter.encode_memory(features, alpha, known)

    def decode(
        self,
        rgb: Tensor,
        features: Features,
        memories: Sequence[Memory],
        prior: Tensor,
        prior_known: Tensor,
        motion: Tensor,
        recent: Sequence[Memory] = (),
        marks: Tensor | None = None,
    ) -> Prediction:
        """Return the alpha of frames from references, a prior and motion.

        Args:
            rgb: (N, 3, h, w) 0-1.
            features: the encoding of `rgb`.
            memories: one or more, each of batch N or 1; a person's reference first, the most recent
                one last.
            prior: (N, 1, h, w) 0-1, expected alpha: the flow-warped previous one, or the prompt on
                a reference frame.
            prior_known: (N, 1, h, w) 0 or 1, where the prior says anything; all 0 for none.
            motion: (N, 4, h, w) of `motion_cue`, or of `no_motion`.
            recent: memories of the last frames, whose labels are read nearby alone.
            marks: (N, 2, h, w) 1 on a mark on the object, and on one off it, else 0; None for none.
                They tell what a person said from what is only expected.
        """
        if marks is None:
            marks = torch.zeros_like(prior).expand(-1, 2, -1, -1)
        size = (features.eighth.shape[-2], features.eighth.shape[-1])
        query = features.keys.flatten(2).mT
        votes = self.inter(query, features, memories, recent)

        expected = torch.cat([prior * prior_known, prior_known], 1)
        small = F.adaptive_avg_pool2d(expected, size).flatten(2).mT
        against_background = F.adaptive_avg_pool2d(motion[:, :2], size).flatten(2).mT
        spread = self.intra(query, _to_spread(votes, small), against_background)

        guidance = torch.cat([spread, votes], -1).mT.reshape(len(rgb), -1, *size)
        maps = (features.half, features.quarter, features.eighth, features.sixteenth)
        logits, coarse, fused = self.head(
            rgb, maps, guidance, expected, _without_direction(motion), marks
        )
        return Prediction(logits, coarse, self.confidence(fused, guidance, logits, expected))


def mark_channels(labels: Tensor, known: Tensor) -> Tensor:
    """Return marks (N, 2, h, w) as `CompactNet.decode` takes them, on the object and off it.

    Args:
        labels: (N, 1, h, w) 1 for the object, read where known.
        known: (N, 1, h, w) 1 where a mark is, else 0.
    """
    return torch.cat([labels * known, (1 - labels) * known], 1)


_SPREAD = 6
"""Channels of the guidance that intra-similarity spreads, see `_to_spread`."""


def _to_spread(votes: Tensor, prior: Tensor) -> Tensor:
    """Return the channels of the votes (N, n, G) that are spread over the target: (N, n, 6).

    In order: label by attention, vote of the encoder's target model, best match to the object,
    prior (N, n, 2) about -1 to 1, vote of the trunk's target model, label nearby.
    """
    label = (votes[..., 0:1] + votes[..., 3:4]) / 2
    object_match = votes[..., 7:8]
    vote = votes[..., 9:10].clamp(-2, 2)
    trunk_vote = votes[..., -3:-2].clamp(-2, 2)
    label_nearby = votes[..., -2:-1]
    expected = 2 * prior[..., :1] - prior[..., 1:]
    return torch.cat([label, vote, object_match, expected, trunk_vote, label_nearby], -1)


def _places(like: Tensor, to_frame: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the centres (N, n, 2) of a map's cells in the clip's frame, and their size."""
    height, width = like.shape[-2:]
    y = torch.arange(height, device=like.device)
    x = torch.arange(width, device=like.device)
    y, x = torch.meshgrid(y, x, indexing="ij")
    middle = (_CELL - 1) / 2
    centres = torch.stack([x.flatten(), y.flatten()], -1).float() * _CELL + middle
    centres = centres.expand(len(like), -1, -1)
    if to_frame is None:
        return centres, centres.new_full((len(like), 1, 1), float(_CELL))
    turn = to_frame[..., :2].float()
    placed = torch.einsum("nkj,nij->nki", centres, turn) + to_frame[:, None, :, 2].float()
    scale = torch.linalg.det(turn).abs().sqrt()
    return placed, _CELL * scale[:, None, None]


def _without_direction(motion: Tensor) -> Tensor:
    """Return the motion cue (N, 3, h, w) without directions, which could be learnt by heart."""
    # A sum of squares: torch's vector norm over the channels is a hundred times slower on a CPU.
    length = motion[:, :2].square().sum(1, keepdim=True).sqrt()
    return torch.cat([length, motion[:, 2:]], 1)
