"""Self-attention maps of a diffusion U-Net, recorded while it runs and averaged at once.

A map of one head at 48 x 48 cells has 2304 x 2304 numbers. A noise ensemble of four with ten heads
and five layers would need 200 of them. They are summed as they come, a few heads or rows at a time,
to keep one map per frame and size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BYTES = {"cpu": 32 << 20, "cuda": 1 << 30}
"""Memory budget for the maps of single heads, by device.

A CPU is fastest if they fit into its cache, a GPU with few large steps.
"""
_BYTES_ELSEWHERE = 256 << 20


class AttentionTape:
    """Sums the self-attention maps of one run of the U-Net, by number of cells.

    Args:
        frames: N; the batch of the U-Net has the noisy latents of a frame next to each other.
        cells: numbers of cells of the wanted maps, such as 576 and 2304.
    """

    def __init__(self, frames: int, cells: Iterable[int]) -> None:
        self.frames = frames
        self.sums: dict[int, Tensor | None] = dict.fromkeys(cells)
        self.layers: dict[int, int] = dict.fromkeys(self.sums, 0)

    def record(self, query: Tensor, key: Tensor) -> None:
        """Add a layer's map, averaged over heads and noises, of query and key (B, heads, n, d)."""
        n = query.shape[2]
        # Layers of other sizes run under the same processor; their maps are not wanted.
        if n not in self.sums:
            return
        found = mean_attention(query, key, self.frames)
        before = self.sums[n]
        # Added in place: a map of 2304 cells takes 21 MB per frame.
        self.sums[n] = found if before is None else before.add_(found)
        self.layers[n] += 1

    def map(self, cells: int) -> Tensor:
        """Return (N, cells, cells) float32: how much each cell (second axis) attends to each other.

        Rows (third axis) have a sum of 1.
        """
        total = self.sums[cells]
        if total is None:
            raise ValueError(f"no layer attends over {cells} cells")
        # The mean over layers, as each layer's map sums to 1 over the keys.
        return total / self.layers[cells]


def mean_attention(query: Tensor, key: Tensor, frames: int) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)), averaged over heads and over the noises of each frame.

    Args:
        query, key: (N m, heads, n, d); the m noises of a frame are next to each other.
        frames: N.

    Returns:
        (N, n, n) float32, rows of sum 1.
    """
    # float16 ends at 65504, which logits of this U-Net may exceed; its configuration asks for
    # full precision here.
    if query.dtype == torch.float16:
        query = query.float()
        key = key.float()
    n, size = query.shape[2], query.shape[3]
    # Scaling the query is cheaper than scaling the logits.
    query = (query * size**-0.5).reshape(frames, -1, n, size)
    key = key.reshape(frames, -1, n, size)
    heads = query.shape[1]
    rows = _rows_at_once(n, query)
    total = torch.zeros(frames, n, n, device=query.device)
    for frame in range(frames):
        # Whole heads at a time if several fit into the budget.
        if rows >= n:
            step = rows // n
            for head in range(0, heads, step):
                part = slice(head, head + step)
                total[frame] += _summed_maps(query[frame, part], key[frame, part])
            continue
        # Not even one head fits into the budget: the rows of a softmax are independent.
        for head in range(heads):
            for first in range(0, n, rows):
                part = slice(first, first + rows)
                total[frame, part] += _summed_maps(
                    query[frame, head : head + 1, part], key[frame, head : head + 1]
                )
    return total.div_(heads)


def _rows_at_once(n: int, query: Tensor) -> int:
    """Return how many rows of n numbers, of any heads, may be computed together."""
    budget = _BYTES.get(query.device.type, _BYTES_ELSEWHERE)
    # Logits and their float32 softmax exist together; a CPU converts half precision in between.
    size = query.element_size() + 4 + (4 if query.element_size() < 4 else 0)
    return max(1, budget // (n * size))


def _summed_maps(query: Tensor, key: Tensor) -> Tensor:
    """Return softmax(Q K^T) of (heads, rows, d) and (heads, n, d), summed over heads: (rows, n)."""
    logits = query @ key.mT
    return logits.softmax(-1, dtype=torch.float32).sum(0)


class TapedAttention:
    """Attention processor for diffusers' `Attention`; it records maps on a tape if one is given.

    The tape comes with each call, through `cross_attention_kwargs` of diffusers, so nothing
    is kept between calls. It covers the attention of Stable Diffusion's U-Net: no mask, no
    normalisation of queries, no inner residual.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        tape: AttentionTape | None = None,
    ) -> Tensor:
        """Return (B, n, C) from the same; `encoder_hidden_states` is None for self-attention."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        key = split_heads(attn.to_k(source), attn.heads)
        value = split_heads(attn.to_v(source), attn.heads)
        # Cross-attention to the prompt says nothing about places in the image.
        if tape is not None and encoder_hidden_states is None:
            tape.record(query, key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        # to_out[1] is dropout, which does nothing in inference.
        projected: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return projected


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Return tokens (B, n, C) as (B, heads, n, C / heads)."""
    return torch.unflatten(tokens, -1, (heads, -1)).transpose(1, 2)
