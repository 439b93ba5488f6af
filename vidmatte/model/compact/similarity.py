"""Inter- and intra-similarity: how a target frame is compared with the marked references and with itself.

The two blocks of in-context matting (IconMatting, Guo et al., CVPR 2024, section 3.2) at a small size. Inter-similarity
matches each cell of the target to the known cells of every reference and reads out their labels; here the background
is queried as well as the object, only marked cells take part, and several references are read together. A target
model solved in closed form (ridge regression on features, as in FRTM, Robinson et al., CVPR 2020) votes beside it.
Intra-similarity spreads what was read over the whole object with the target's own self-attention (equation 4).

A cell is one position of the feature map at 1/8 of the working size; n counts the target's cells, m a reference's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MASKED = -4.0
"""Added to a cosine similarity to take a cell out of a maximum: below any true cosine, and small enough for bf16."""

_UNKNOWN = -100.0
"""Added to an attention logit to take a cell out of a softmax."""


@dataclass(frozen=True)
class Memory:
    """What is kept of one reference frame: its keys, its labels where they are known, and a target model's sums.

    Attributes:
        keys: (N, m, C) unit-length features of the cells.
        labels: (N, m, 1) alpha of each cell over its known pixels, 0-1.
        known: (N, m, 1) 1 where any pixel of the cell was marked, else 0.
        values: (N, m, V) learned description of each cell given its label.
        gram: (N, D, D) class-balanced second moments of the features.
        moment: (N, D, 1) class-balanced correlation of the features with the label -1 or 1.
    """

    keys: Tensor
    labels: Tensor
    known: Tensor
    values: Tensor
    gram: Tensor
    moment: Tensor

    def __getitem__(self, index: slice) -> Memory:
        """The memories of a part of the batch."""
        return Memory(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def pool_labels(alpha: Tensor, known: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Alpha per cell over its known pixels, and whether the cell has any: both (N, m, 1).

    A single marked pixel makes its cell known. (The paper's code takes the minimum over a cell, so that a click
    vanishes.)

    Args:
        alpha: (N, 1, h, w) 0-1, read only where known.
        known: (N, 1, h, w) 0 or 1.
        size: rows and columns of cells.
    """
    weight = F.adaptive_avg_pool2d(known.float(), size)
    label = F.adaptive_avg_pool2d(alpha.float() * known.float(), size) / weight.clamp(min=1e-6)
    return _tokens(label), _tokens((weight > 0).float())


def balanced_weights(labels: Tensor, known: Tensor) -> Tensor:
    """Weights (N, m, 1) by which the known object cells and the known background cells count one half each."""
    inside, outside = labels * known, (1 - labels) * known
    share = [part / part.sum(1, keepdim=True).clamp(min=1.0) for part in (inside, outside)]
    return (share[0] + share[1]) / 2


class InterSimilarity(nn.Module):
    """Reads what references say about each cell of a target (IconMatting, equation 3, with the background queried).

    Args:
        channels: of the feature map.
        value_channels: V, length of the learned description that is read beside the label.
        model_channels: D - 1, features of the target model.
    """

    def __init__(self, channels: int, *, value_channels: int = 16, model_channels: int = 48) -> None:
        super().__init__()
        self.value = nn.Conv2d(channels + 2, value_channels, 1)
        self.model_features = nn.Conv2d(channels, model_channels, 1)
        self.sharpness = nn.Parameter(torch.tensor(3.1))
        self.ridge = nn.Parameter(torch.tensor(-4.0))
        self.out_channels = 10 + value_channels

    def encode_memory(self, keys: Tensor, features: Tensor, alpha: Tensor, known: Tensor) -> Memory:
        """Store a frame: `keys` (N, C, h/8, w/8), `features` (N, F, h/8, w/8), alpha and known (N, 1, h, w)."""
        size = (features.shape[-2], features.shape[-1])
        labels, given = pool_labels(alpha, known, size)
        described = torch.cat([features, _map(labels * given, size), _map(given, size)], 1)
        basis = self.basis(features)
        weights = balanced_weights(labels, given)
        with torch.autocast(features.device.type, enabled=False):
            gram = basis.mT @ (basis * weights)
            moment = basis.mT @ ((2 * labels - 1) * weights)
        return Memory(_tokens(keys), labels, given, _tokens(self.value(described)), gram, moment)

    def basis(self, features: Tensor) -> Tensor:
        """Features of the target model, (N, n, D) float32 with a constant last."""
        tokens = _tokens(self.model_features(features)).float()
        return torch.cat([tokens, torch.ones_like(tokens[..., :1])], -1)

    def target_model(self, features: Tensor, memories: Sequence[Memory]) -> Tensor:
        """Vote of the target model, (N, n, 1) about -1 for background to 1 for object.

        Solves min_w sum_i weight_i (x_i . w - y_i)^2 + exp(ridge) |w|^2. The first memory, which a person marked,
        counts as much as all others together.
        """
        share = [1.0] + [1.0 / max(1, len(memories) - 1)] * (len(memories) - 1)
        basis = self.basis(features)
        with torch.autocast(features.device.type, enabled=False):
            gram = torch.stack([s * memory.gram for s, memory in zip(share, memories, strict=True)]).sum(0) / sum(share)
            moment = torch.stack([s * memory.moment for s, memory in zip(share, memories, strict=True)]).sum(0) / sum(
                share
            )
            damping = self.ridge.float().exp() * torch.eye(gram.shape[-1], device=gram.device)
            vote: Tensor = basis @ torch.linalg.solve(gram + damping, moment)
        return vote

    def read(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Read one memory for the target's keys `query` (N, n, C).

        Returns:
            (N, n, 3 + V): label read by attention, best match to known object, best match to known background,
            learned values; and (N, n, 1) the attention's log-normaliser, by which memories are read together.
        """
        inside, outside = memory.labels * memory.known, (1 - memory.labels) * memory.known
        matches = [_similar(query, memory.keys, _MASKED * (1 - part)).max(-1).values for part in (inside, outside)]
        logits = _similar(query * self.sharpness.exp(), memory.keys, _UNKNOWN * (1 - memory.known))
        attention = logits.softmax(-1, dtype=logits.dtype)
        read = attention @ torch.cat([memory.labels, memory.values], -1).to(attention.dtype)
        # The log-normaliser from the largest weight, without another pass over all pairs.
        normaliser = (logits.amax(-1).float() - attention.amax(-1).float().log()).detach()
        nearest = torch.stack(matches, -1).clamp(min=-1.0).float()
        return torch.cat([read[..., :1].float(), nearest, read[..., 1:].float()], -1), normaliser[..., None]

    def forward(self, query: Tensor, features: Tensor, memories: Sequence[Memory]) -> Tensor:
        """Guidance tokens (N, n, 10 + V) from all memories.

        In order: first memory's label, object match, background match; last memory's the same; all together the
        same; the target model's vote; the learned values read from all.
        """
        reads = [self.read(query, memory) for memory in memories]
        share = torch.stack([normaliser for _, normaliser in reads]).softmax(0)
        stacked = torch.stack([read for read, _ in reads])
        averaged, best = (share * stacked).sum(0), stacked[..., 1:3].amax(0)
        vote = self.target_model(features, memories)
        first, last = reads[0][0], reads[-1][0]
        return torch.cat([first[..., :3], last[..., :3], averaged[..., :1], best, vote, averaged[..., 3:]], -1)


class IntraSimilarity(nn.Module):
    """Spreads guidance over the target with its own self-similarity (IconMatting, equation 4).

    Cells that move together attend to each other more: unlike motion lowers their similarity, at a learned rate.

    Args:
        steps: how often the guidance is passed on; one step is the paper's.
    """

    def __init__(self, *, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.sharpness = nn.Parameter(torch.tensor(2.6))
        self.fate = nn.Parameter(torch.tensor(-4.0))

    def forward(self, query: Tensor, guidance: Tensor, motion: Tensor) -> Tensor:
        """Spread `guidance` (N, n, G) along `query` (N, n, C) and `motion` (N, n, 2) of up to unit length.

        Returns it after one step and after all, (N, n, 2 G).
        """
        # -rate |p - q|^2 as a product: its part of the row's own cell drops out of the softmax.
        rate = self.fate.exp()
        aside = torch.cat([motion, -0.5 * motion.square().sum(-1, keepdim=True)], -1) * (2 * rate)
        here = torch.cat([motion, torch.ones_like(motion[..., :1])], -1)
        logits = torch.cat([query * self.sharpness.exp(), here], -1) @ torch.cat([query, aside], -1).mT
        attention = logits.softmax(-1, dtype=logits.dtype)
        spread = attention @ guidance.to(attention.dtype)
        far = spread
        for _ in range(self.steps - 1):
            far = attention @ far
        return torch.cat([spread, far], -1).float()


def _similar(query: Tensor, keys: Tensor, offset: Tensor) -> Tensor:
    """query (N, n, C) times keys (N, m, C), plus an offset (N, m, 1) for each key, (N, n, m).

    The offset rides along as one more channel of the product: n x m numbers are written once, not twice.
    """
    ones = torch.ones_like(query[..., :1])
    return torch.cat([query, ones], -1) @ torch.cat([keys, offset.to(keys.dtype)], -1).mT


def _tokens(maps: Tensor) -> Tensor:
    """(N, C, h, w) as (N, h w, C)."""
    return maps.flatten(2).mT


def _map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h w, C) as (N, C, h, w)."""
    return tokens.mT.reshape(tokens.shape[0], tokens.shape[2], *size)
