"""In-context similarity: where the marked object is in a target image, by features and by the target's own attention.

IconMatting (Guo et al., CVPR 2024), section 3.4 and 3.6. n counts the fine cells of a target (2304 = 48 x 48), Q the
cells inside the regions of interest of all references: the in-context query.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_QUERIES_AT_ONCE = 2304


def inter_similarity(query: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """How much the object's cells match each cell of a target (equations 2 to 4), (N, n) float32.

    Each query is matched to all cells by a softmax of dot products over sqrt(d); the maps are summed over the queries,
    as the released model has it (the paper's equation 4 divides by their number).

    Args:
        query: (Q, d) normalised features of the references inside their regions of interest.
        target: (N, n, d) normalised features.
        valid: (n,) bool, False for cells that show nothing, such as the bars of a letterbox; None for all.
    """
    query, target = query.float() * query.shape[-1] ** -0.5, target.float()
    total = torch.zeros(target.shape[:2], device=target.device)
    for first in range(0, len(query), _QUERIES_AT_ONCE):
        logits = query[first : first + _QUERIES_AT_ONCE] @ target.mT
        if valid is not None:
            logits = logits.masked_fill(~valid, -torch.inf)
        total += logits.softmax(-1).sum(1)
    return total


def match(
    objects: Tensor, background: Tensor, target: Tensor, valid: Tensor | None, references: int
) -> Tensor:
    """Similarity to the object less that to what was marked as background, (N, n) float32, about 1 on the object.

    The queries of all references act together; their sum is divided by the number of references, so that the same
    reference given twice says no more than once, and one reference is the released model. Background queries, where
    there are any, have an average map too: it is taken from the object's average map, and what falls below zero is
    nothing. So a cell keeps the share 1 - b / o of its similarity, o and b being the averages.

    Args:
        objects, background: (Q, d) and (P, d); P may be 0.
        target, valid: as for `inter_similarity`.
    """
    similarity = inter_similarity(objects, target, valid) / references
    if len(background):
        scale = len(objects) / (len(background) * references)
        similarity = (similarity - scale * inter_similarity(background, target, valid)).clamp(min=0)
    return similarity


def resize_cells(similarity: Tensor, cells: int) -> Tensor:
    """(N, n) as (N, cells, cells): bilinear, corners on corners, as the released model has it."""
    side = round(similarity.shape[1] ** 0.5)
    maps = torch.unflatten(similarity, 1, (1, side, side))
    return F.interpolate(maps, size=(cells, cells), mode="bilinear", align_corners=True)[:, 0]


class IntraSimilarity(nn.Module):
    """Attention rows weighted by the similarity of what they attend to (equation 5), as 256 channels.

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
        """similarity (N, n), attention (N, cells^2, cells^2) to (N, channels, cells, cells).

        Without attention (an ablation) each cell attends to itself alone.
        """
        weight = resize_cells(similarity, self.cells).flatten(1)
        rows = torch.diag_embed(weight) if attention is None else attention * weight[:, None]
        rows = torch.unflatten(F.relu(self.ln(rows)), 1, (self.cells, self.cells))
        guidance: Tensor = self.conv(rows.permute(0, 3, 1, 2))
        return guidance


def spread(similarity: Tensor, attention: Tensor) -> Tensor:
    """Similarity passed on once along attention, A x S, (N, c, c): training-free propagation.

    similarity (N, n); attention (N, c^2, c^2), rows of sum 1.
    """
    cells = round(attention.shape[-1] ** 0.5)
    weight = resize_cells(similarity, cells).flatten(1)
    return torch.unflatten((attention @ weight[..., None])[..., 0], 1, (cells, cells))
