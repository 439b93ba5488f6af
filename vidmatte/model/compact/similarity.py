"""Where the reference's object is in the target.

Inter-similarity (IconMatting, Guo et al., CVPR 2024, equation 3) reads what the references say
about each cell of the target. Intra-similarity (equation 4) spreads it over the target. A cell is
one position of the feature map at 1/8 of the working size; n counts the target's cells, m those of
a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.model.compact.maps import in_autocast, join

_MASKED = -4.0
"""Added to a cosine similarity to take a cell out of a maximum. Small enough for bfloat16."""
_UNKNOWN = -100.0
"""Added to an attention logit to take a cell out of a softmax."""
_QUERIES = 256
"""Cells of a target that are matched at a time on a processor."""
_TRUNK_SCALE = 8.0
"""Taps of the trunk have unit length over their channels; single channels become about 1 by it."""


class EncodedCells(Protocol):
    """The part of `net.Features` that the similarities read."""

    @property
    def eighth(self) -> Tensor:
        """(N, F, h/8, w/8) features of the encoder."""
        ...

    @property
    def keys(self) -> Tensor:
        """(N, C, h/8, w/8) of unit length, for matching."""
        ...

    @property
    def taps(self) -> Tensor:
        """(N, T, h/8, w/8) features of the trunk."""
        ...

    @property
    def places(self) -> Tensor:
        """(N, n, 2) centres of the cells in pixels of the clip's frame."""
        ...

    @property
    def cell(self) -> Tensor:
        """(N, 1, 1) size of a cell in pixels of the clip's frame."""
        ...


@dataclass(frozen=True)
class Memory:
    """One encoded reference frame.

    Attributes:
        keys: (N, m, C) unit-length features of the cells.
        places: (N, m, 2) centres of the cells, in pixels of the clip's frame.
        labels: (N, m, 1) alpha of each cell over its known pixels, 0-1.
        known: (N, m, 1) 1 if any pixel of the cell was marked, else 0.
        values: (N, m, V) learned description of each cell given its label.
        gram: (N, D, D) class-balanced second moments of the encoder's features.
        moment: (N, D, 1) class-balanced correlation of those features with the label -1 or 1.
        trunk_gram: (N, T+1, T+1) second moments of the trunk's features.
        trunk_moment: (N, T+1, 1) correlation of the trunk's features with the label.
    """

    keys: Tensor
    places: Tensor
    labels: Tensor
    known: Tensor
    values: Tensor
    gram: Tensor
    moment: Tensor
    trunk_gram: Tensor
    trunk_moment: Tensor

    def __getitem__(self, index: slice) -> Memory:
        """Return the memories of a part of the batch."""
        return Memory(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def pool_labels(alpha: Tensor, known: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return alpha per cell over its known pixels, and whether the cell has any: both (N, m, 1).

    A single marked pixel makes its cell known. (The paper's code takes the minimum over a cell, so
    that a click vanishes.)

    Args:
        alpha: (N, 1, h, w) 0-1, read only where known.
        known: (N, 1, h, w) 0 or 1.
        size: rows and columns of cells.
    """
    weight = F.adaptive_avg_pool2d(known.float(), size)
    label = F.adaptive_avg_pool2d(alpha.float() * known.float(), size) / weight.clamp(min=1e-6)
    return _tokens(label), _tokens((weight > 0).float())


def balanced_weights(labels: Tensor, known: Tensor) -> Tensor:
    """Return weights (N, m, 1) by which known object and known background count one half each."""
    inside = labels * known
    outside = (1 - labels) * known
    inside = inside / inside.sum(1, keepdim=True).clamp(min=1.0)
    outside = outside / outside.sum(1, keepdim=True).clamp(min=1.0)
    return (inside + outside) / 2


class TargetModel(nn.Module):
    """A linear classifier of object and background, fitted to the references in closed form.

    Solves min_w sum_i weight_i (x_i . w - y_i)^2 + exp(ridge) |w|^2 for labels y of -1 and 1: the
    target model of Robinson et al. (FRTM, CVPR 2020), solved as by Bertinetto et al. (R2D2,
    ICLR 2019) instead of by steps.
    """

    def __init__(self, ridge: float) -> None:
        super().__init__()
        self.ridge = nn.Parameter(torch.tensor(ridge))

    @staticmethod
    def moments(basis: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums (N, D, D) and (N, D, 1) that a frame with `basis` (N, m, D) adds."""
        # Sums of products lose too much in half precision.
        with torch.autocast(basis.device.type, enabled=False):
            return basis.mT @ (basis * weights), basis.mT @ ((2 * labels - 1) * weights)

    def forward(self, basis: Tensor, grams: Sequence[Tensor], moments: Sequence[Tensor]) -> Tensor:
        """Return the vote (N, n, 1) on `basis` (N, n, D): about -1 for background to 1 for object.

        The first memory, which a person marked, counts as much as all others together.
        """
        with torch.autocast(basis.device.type, enabled=False):
            gram = _first_half(grams)
            moment = _first_half(moments)
            damping = self.ridge.float().exp() * torch.eye(gram.shape[-1], device=gram.device)
            # By Cholesky: the matrix is symmetric and positive. `torch.linalg.solve` never returned
            # for matrices of this size on two threads (PyTorch 2.13 on an x86-64 processor).
            factor = torch.linalg.cholesky(gram + damping)
            vote: Tensor = basis @ torch.cholesky_solve(moment, factor)
        return vote


class InterSimilarity(nn.Module):
    """Read what references say about each cell of a target (equation 3, background queried too).

    Args:
        channels: of the feature map.
        value_channels: V, length of the learned description that is read beside the label.
        model_channels: D - 1, features of the target model on the encoder.
    """

    def __init__(
        self, channels: int, *, value_channels: int = 16, model_channels: int = 48
    ) -> None:
        super().__init__()
        self.value = nn.Conv2d(channels + 2, value_channels, 1)
        self.model_features = nn.Conv2d(channels, model_channels, 1)
        # Logarithms: sharpness of the attention, and how fast nearby matches fade with distance.
        self.sharpness = nn.Parameter(torch.tensor(3.1))
        self.local_sharpness = nn.Parameter(torch.tensor(3.1))
        self.nearness = nn.Parameter(torch.tensor(-3.5))
        self.model = TargetModel(-4.0)
        self.trunk_model = TargetModel(-5.0)
        self.out_channels = 10 + value_channels + 3

    def encode_memory(self, features: EncodedCells, alpha: Tensor, known: Tensor) -> Memory:
        """Return the memory of a frame: alpha (N, 1, h, w), read where known (N, 1, h, w) is 1."""
        size = (features.eighth.shape[-2], features.eighth.shape[-1])
        labels, given = pool_labels(alpha, known, size)
        described = [features.eighth, _map(labels * given, size), _map(given, size)]
        weights = balanced_weights(labels, given)
        gram, moment = TargetModel.moments(self.basis(features.eighth), labels, weights)
        trunk_gram, trunk_moment = TargetModel.moments(trunk_basis(features.taps), labels, weights)
        return Memory(
            keys=_tokens(features.keys),
            places=features.places,
            labels=labels,
            known=given,
            values=_tokens(self.value(join(*described))),
            gram=gram,
            moment=moment,
            trunk_gram=trunk_gram,
            trunk_moment=trunk_moment,
        )

    def basis(self, features: Tensor) -> Tensor:
        """Return the target model's features, (N, n, D) float32 with a constant last."""
        return _with_constant(_tokens(self.model_features(features)).float())

    def read(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Read one memory for the target's keys `query` (N, n, C).

        Returns:
            (N, n, 3 + V): label read by attention, best match to known object, best match to known
            background, learned values; and (N, n, 1) the attention's log-normaliser, by which
            memories are read together.
        """
        keys = in_autocast(memory.keys)
        parts = [self._read(part, keys, memory) for part in _parts(query)]
        found, normaliser = zip(*parts, strict=True)
        return torch.cat(found, 1), torch.cat(normaliser, 1)

    def _read(self, query: Tensor, keys: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Read one memory, with its keys in the dtype of autocast, for some cells of the target."""
        inside = memory.labels * memory.known
        outside = (1 - memory.labels) * memory.known
        # One product for all three: n x m numbers are the larger part of the work.
        sharpness = self.sharpness.exp()
        similar = _products(query * sharpness, keys)
        masked = sharpness * _MASKED
        object_match = _largest(similar + _per_key(masked * (1 - inside), similar)) / sharpness
        background_match = _largest(similar + _per_key(masked * (1 - outside), similar)) / sharpness
        logits = similar + _per_key(_UNKNOWN * (1 - memory.known), similar)
        attention = logits.softmax(-1, dtype=logits.dtype)
        content = torch.cat([memory.labels, memory.values], -1).to(attention.dtype)
        found = (attention @ content).float()
        # The log-normaliser from the largest weight, without another pass over all pairs.
        normaliser = (logits.amax(-1).float() - attention.amax(-1).float().log()).detach()
        nearest = torch.stack([object_match, background_match], -1).clamp(min=-1.0).float()
        return torch.cat([found[..., :1], nearest, found[..., 1:]], -1), normaliser[..., None]

    def read_near(self, query: Tensor, features: EncodedCells, recent: Sequence[Memory]) -> Tensor:
        """Read the labels of recent frames near each cell of the target.

        Matches fade with the square of the distance, so that a lookalike elsewhere in the frame has
        no say: the space-time correspondence of Jabri et al. (NeurIPS 2020) with a soft radius.

        Returns:
            (N, n, 2): label, and how good the matches are, 0-1; both 0 without recent frames.
        """
        if not recent:
            return query.new_zeros((*query.shape[:2], 2), dtype=torch.float32)
        batch = len(query)
        keys = in_autocast(torch.cat([memory.keys.expand(batch, -1, -1) for memory in recent], 1))
        places = torch.cat([memory.places.expand(batch, -1, -1) for memory in recent], 1)
        labels = torch.cat([memory.labels.expand(batch, -1, -1) for memory in recent], 1)
        # Distances are in cells of the target, from its middle: the squares stay small so.
        middle = features.places.mean(1, keepdim=True)
        here = (features.places - middle) / features.cell
        there = (places - middle) / features.cell
        # -rate |p - q|^2 as a product: |p|^2 is the same along a row, so the softmax cancels it.
        rate = self.nearness.exp()
        rows = torch.cat([2 * rate * here, torch.ones_like(here[..., :1])], -1)
        columns = torch.cat([there, -rate * there.square().sum(-1, keepdim=True)], -1)
        sharpness = self.local_sharpness.exp()
        found = []
        for part, row in zip(_parts(query * sharpness), _parts(rows), strict=True):
            similar = _products(part, keys).float()
            with torch.autocast(query.device.type, enabled=False):
                # Squares of distances need more digits than bfloat16 has.
                attention = torch.baddbmm(similar, row, columns.mT).softmax(-1)
                label = attention @ labels.float()
                agreement = (attention * similar).sum(-1, keepdim=True) / sharpness
            found.append(torch.cat([label, agreement], -1))
        return torch.cat(found, 1)

    def forward(
        self,
        query: Tensor,
        features: EncodedCells,
        memories: Sequence[Memory],
        recent: Sequence[Memory],
    ) -> Tensor:
        """Return the guidance tokens (N, n, 13 + V) of all memories.

        In order: label, object match and background match of the first memory; the same of the last
        one; the same of all together; vote of the target model on the encoder; learned values read
        from all; vote of the target model on the trunk; label and agreement of `read_near`.
        """
        reads = [self.read(query, memory) for memory in memories]
        first, _ = reads[0]
        last, _ = reads[-1]
        share = torch.stack([normaliser for _, normaliser in reads]).softmax(0)
        stacked = torch.stack([read for read, _ in reads])
        averaged = (share * stacked).sum(0)
        best = stacked[..., 1:3].amax(0)

        basis = self.basis(features.eighth)
        vote = self.model(basis, [m.gram for m in memories], [m.moment for m in memories])
        trunk_vote = self.trunk_model(
            trunk_basis(features.taps),
            [m.trunk_gram for m in memories],
            [m.trunk_moment for m in memories],
        )
        near = self.read_near(query, features, recent)
        guidance = [first[..., :3], last[..., :3], averaged[..., :1], best, vote]
        return torch.cat([*guidance, averaged[..., 3:], trunk_vote, near], -1)


class IntraSimilarity(nn.Module):
    """Spread guidance over the target with its own self-similarity (equation 4).

    Cells that move together attend to each other more: unlike motion lowers their similarity, at a
    learned rate.

    Args:
        steps: how often the guidance is passed on; one step is the paper's.
    """

    def __init__(self, *, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.sharpness = nn.Parameter(torch.tensor(2.6))
        self.fate = nn.Parameter(torch.tensor(-4.0))

    def forward(self, query: Tensor, guidance: Tensor, motion: Tensor) -> Tensor:
        """Spread `guidance` (N, n, G) along `query` (N, n, C) and `motion` (N, n, 2), length 0-1.

        Returns:
            (N, n, 2 G): the guidance after one step and after all.
        """
        # -rate |p - q|^2 as a product: |p|^2 is the same along a row, so the softmax cancels it.
        rate = self.fate.exp()
        column_motion = torch.cat([motion, -0.5 * motion.square().sum(-1, keepdim=True)], -1)
        row_motion = torch.cat([motion, torch.ones_like(motion[..., :1])], -1)
        rows = torch.cat([query * self.sharpness.exp(), row_motion], -1)
        columns = torch.cat([query, column_motion * (2 * rate)], -1)
        attention = torch.cat([_attention(part, columns) for part in _parts(rows)], 1)
        # Transposed: a product with few rows is twice as fast as one with few columns.
        near = _products(guidance.to(attention.dtype).mT.contiguous(), attention)
        far = near
        for _ in range(self.steps - 1):
            far = _products(far, attention)
        return torch.cat([near, far], 1).mT.float()


def trunk_basis(taps: Tensor) -> Tensor:
    """Return the features of the target model on the trunk, (N, n, T + 1) with a constant last."""
    return _with_constant(_tokens(taps).float() * _TRUNK_SCALE)


def _first_half(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors in which the first counts as much as all others together."""
    if len(parts) == 1:
        return parts[0]
    return (parts[0] + torch.stack(list(parts[1:])).mean(0)) / 2


def _parts(query: Tensor) -> Sequence[Tensor]:
    """Return the cells of a target (N, n, C) in parts that are to be matched one after another.

    On a processor the numbers for a part's pairs of cells stay in its cache from one operation to
    the next, which takes half of the time.
    """
    size = _QUERIES if query.device.type == "cpu" else query.shape[1]
    return torch.split(query, size, 1)


def _attention(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the softmax (N, n, m) of the products of rows (N, n, C) and columns (N, m, C)."""
    logits = _products(rows, columns)
    return logits.softmax(-1, dtype=logits.dtype)


def _products(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows (N, n, C) times the transposed columns (N or 1, m, C): (N, n, m)."""
    if len(columns) == 1:
        # One matrix takes the columns as they are; a product of batches in bfloat16 would copy them
        # transposed first, and a linear layer in an order of its own.
        return (rows.flatten(0, 1) @ columns[0].mT).view(*rows.shape[:2], -1)
    return rows @ columns.mT


def _per_key(offset: Tensor, like: Tensor) -> Tensor:
    """Return an offset (N, m, 1) of each key as (N, 1, m) in the dtype of similarities."""
    return offset.mT.to(like.dtype)


def _largest(similar: Tensor) -> Tensor:
    """Return the largest of the last axis."""
    # `max` also finds the place, which its gradient needs; that takes four times as long.
    return similar.max(-1).values if torch.is_grad_enabled() else similar.amax(-1)


def _with_constant(tokens: Tensor) -> Tensor:
    return torch.cat([tokens, torch.ones_like(tokens[..., :1])], -1)


def _tokens(maps: Tensor) -> Tensor:
    """Return (N, C, h, w) as (N, h w, C)."""
    return maps.flatten(2).mT


def _map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, h w, C) as (N, C, h, w)."""
    return tokens.mT.reshape(tokens.shape[0], tokens.shape[2], *size)
