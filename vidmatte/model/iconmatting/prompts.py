"""From the prompt of a reference to the cells of the in-context query.

IconMatting (Guo et al., CVPR 2024), section 3.4 for masks and 3.6 for points and strokes. A cell is
16 x 16 of the 768 x 768 pixels of a square; a reference in k squares has k n cells.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.model.iconmatting.fit import Fit
from vidmatte.model.iconmatting.square_fit import SquareFit
from vidmatte.prompts.prompt import Reference


def query_cells(
    reference: Reference, fit: Fit | SquareFit, cells: int, attention: Tensor | None, positions: int
) -> tuple[Tensor, Tensor]:
    """Return the cells of the object and of the background, (k n,) bool each, disjoint.

    A mask gives cells of the object alone. Marks give the cells below them, extended by the image's
    own attention (see `claim`). If only background is marked, as by a box, all other cells are the
    object, except those most attended to by the background.

    Args:
        reference: the marked image.
        fit: its layout in squares.
        cells: along the side of a square.
        attention: (k, n, n) self-attention of the reference's squares; None for a mask.
        positions: number of the strongest positions added to a marked cell.
    """
    marked = fit.prompt_to_squares(reference.alpha * reference.known)[:, 0]
    # A complete reference has no background marks and needs no attention maps.
    if attention is None:
        return whole_cells(marked, cells), torch.zeros(fit.squares * cells**2, dtype=torch.bool)
    objects = cells_of_prompt(marked, cells)
    background = (
        cells_of_prompt(fit.prompt_to_squares((1 - reference.alpha) * reference.known)[:, 0], cells)
        & ~objects
    )
    # Cells that show only a bar stay out.
    shown = fit.valid_cells(cells)
    free = ~objects & ~background if shown is None else ~objects & ~background & shown
    wanted, claimed = (
        torch.cat(
            [
                claim(marks, maps, positions)
                for marks, maps in zip(part.chunk(fit.squares), attention, strict=True)
            ]
        )
        for part in (objects, background)
    )
    # Only background was marked: everything that it does not claim is the object.
    if not bool(objects.any()):
        left = free & (claimed == 0)
        return (left if bool(left.any()) else free), background
    # The object needs the larger attention; on a tie the background wins.
    return objects | (free & (wanted > claimed)), background | (
        free & (claimed > 0) & (claimed >= wanted)
    )


def whole_cells(marked: Tensor, cells: int) -> Tensor:
    """Return the cells wholly inside a region, or else those it covers best, (k n,) bool.

    The minimum over each cell decides, as in the released model. If that leaves no cell, as for a
    click or a wire, the cells are chosen that the region covers at least half as much as the cell
    it covers most.

    Args:
        marked: (k, S, S) share of each pixel inside the region, 0-1.
    """
    size = marked.shape[-1] // cells
    # The minimum over a cell, by max-pooling of the negative.
    inside = -F.max_pool2d(-(marked > 0.5).float(), size).flatten() > 0
    if bool(inside.any()):
        return inside
    coverage = F.avg_pool2d(marked.float(), size).flatten()
    return (coverage > 0) & (coverage >= coverage.max() / 2)


def cells_of_prompt(marked: Tensor, cells: int) -> Tensor:
    """Return the cells of each separate mark, (k n,) bool.

    `whole_cells` finds them for each mark alone: a broad stroke must not hide a click.
    """
    found = []
    for square in marked:
        # Each stroke or click is a component of its own.
        count, labels = cv2.connectedComponents((square > 0).numpy().astype(np.uint8))
        pieces = torch.from_numpy(labels)
        parts = [
            whole_cells((square * (pieces == piece))[None], cells) for piece in range(1, count)
        ]
        found.append(
            torch.stack(parts).any(0) if parts else torch.zeros(cells**2, dtype=torch.bool)
        )
    return torch.cat(found)


def claim(marked: Tensor, attention: Tensor, positions: int) -> Tensor:
    """Return how much marked cells attend to their strongest positions, 0 elsewhere, (n,).

    This is the reference-prompt extension. A cell claimed by marks of both kinds goes to the kind
    that attends to it more.

    Args:
        marked: (n,) bool.
        attention: (n, n) self-attention map.
        positions: m, the number of strongest positions of each marked cell.
    """
    rows = attention.cpu()[marked]
    if not len(rows) or not positions:
        return torch.zeros(attention.shape[-1])
    strongest = rows.topk(min(positions, rows.shape[-1]), dim=-1)
    # The best attention of any marked cell, 0 for positions that none of them chose.
    return torch.zeros_like(rows).scatter_(-1, strongest.indices, strongest.values).amax(0)
