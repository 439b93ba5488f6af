"""In-context similarity: find the marked object in a target by features and by self-attention.

IconMatting (Guo et al., CVPR 2024), sections 3.4 and 3.6. n is the number of fine cells of a target
(2304 = 48 x 48), Q the number of cells inside the regions of interest of all references: the
in-context query.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bounds the matrix of queries and targets.
_QUERIES_AT_ONCE = 2304


def inter_similarity(query: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return how much the object's cells match each cell of a target (equations 2 to 4).

    Each query is matched to all cells by a softmax of dot products over sqrt(d). The maps are
    summed over the queries as in the released model; equation 4 divides by their number.

    Args:
        query: (Q, d) normalised features of the references inside their regions of interest.
        target: (N, n, d) normalised features.
        valid: (n,) bool, False for empty cells, such as the bars of a letterbox; None for all.

    Returns:
        (N, n) float32.
    """
    query = query.float() * query.shape[-1] ** -0.5
    target = target.float()
    total = torch.zeros(target.shape[:2], device=target.device)
    for first in range(0, len(query), _QUERIES_AT_ONCE):
        logits = query[first : first + _QUERIES_AT_ONCE] @ target.mT
        if valid is not None:
            # Cells of bars get no share of the softmax.
            logits = logits.masked_fill(~valid, -torch.inf)
        # Each query distributes a weight of 1 over the target.
        total += logits.softmax(-1).sum(1)
    return total


def match(
    objects: Tensor, background: Tensor, target: Tensor, valid: Tensor | None, references: int
) -> Tensor:
    """Return the similarity to the object less that to the marked background.

    The sum over the queries of all references is divided by the number of references, so the
    same reference given twice counts once, and one reference is the released model. The average map
    of the background's queries, if there are any, is subtracted from the object's average map, and
    negative values become 0. A cell thus keeps the share 1 - b / o of its similarity, with the
    averages o and b.

    Args:
        objects, background: (Q, d) and (P, d); P may be 0.
        target, valid: as for `inter_similarity`.
        references: their number.

    Returns:
        (N, n) float32, about 1 on the object.
    """
    similarity = inter_similarity(objects, target, valid) / references
    if len(background):
        # Both sides are weighted as if they had equally many queries.
        scale = len(objects) / (len(background) * references)
        similarity = (similarity - scale * inter_similarity(background, target, valid)).clamp(min=0)
    return similarity


def resize_cells(similarity: Tensor, cells: int) -> Tensor:
    """Return (N, n) as (N, cells, cells): bilinear, corners aligned, as in the released model."""
    side = round(similarity.shape[1] ** 0.5)
    maps = torch.unflatten(similarity, 1, (1, side, side))
    # Corners of the maps correspond, as in the released code.
    return F.interpolate(maps, size=(cells, cells), mode="bilinear", align_corners=True)[:, 0]


class IntraSimilarity(nn.Module):
    """Attention weighted by the similarity of the attended cells (equation 5), as 256 channels.

    Args:
        cells: along the side of the map.
        channels: of the output.
    """

    def __init__(self, cells: int, channels: int) -> None:
        super().__init__()
        self.cells = cells
        self.ln = nn.LayerNorm(cells**2)
        self.conv = nn.Conv2d(cells**2, channels, 3, 1, 1, bias=False)

    def forward(self, similarity: Tensor, attention: Tensor | None) -> Tensor:
        """Return (N, channels, cells, cells).

        Similarity is (N, n), attention (N, cells^2, cells^2).

        Without attention (an ablation) each cell attends to itself alone.
        """
        weight = resize_cells(similarity, self.cells).flatten(1)
        # Without attention each cell passes its weight on to itself only.
        rows = torch.diag_embed(weight) if attention is None else attention * weight[:, None]
        rows = torch.unflatten(F.relu(self.ln(rows)), 1, (self.cells, self.cells))
        guidance: Tensor = self.conv(rows.permute(0, 3, 1, 2))
        return guidance


def spread(similarity: Tensor, attention: Tensor) -> Tensor:
    """Return similarity passed on once along attention, A x S: training-free propagation.

    Args:
        similarity: (N, n).
        attention: (N, c^2, c^2), rows of sum 1.

    Returns:
        (N, c, c).
    """
    cells = round(attention.shape[-1] ** 0.5)
    weight = resize_cells(similarity, cells).flatten(1)
    return torch.unflatten((attention @ weight[..., None])[..., 0], 1, (cells, cells))
