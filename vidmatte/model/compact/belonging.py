"""Tell which part of a picture a mark speaks for, where other marks say the opposite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.model.compact.maps import halve

_LARGEST = 1100
"""Cells of a map that is solved: the matrix is dense, and its factor costs their cube."""
_CONTRAST = 1.0
"""How much a difference of the features, in its mean over the map, slows a walker down."""
_SEED = 1e4
"""Weight that holds a marked cell at its value."""


def share_of_mark(keys: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    """Return how likely a random walker from each pixel meets a mark before the opposite ones.

    The walker goes from cell to cell, most easily between cells that look alike, so that the border
    between two marks runs along the outlines between them: Grady, "Random Walks for Image
    Segmentation", PAMI 2006.

    Args:
        keys: (1, C, h, w) features of unit length.
        mine: (H, W) 1 on the mark, else 0.
        theirs: (H, W) 1 on the opposite marks, else 0.

    Returns:
        (H, W) float32 0-1; 1 everywhere if there is no opposite mark.
    """
    size = (mine.shape[-2], mine.shape[-1])
    if not bool(theirs.any()):
        return torch.ones(size)
    keys = keys.float()
    while keys.shape[-2] * keys.shape[-1] > _LARGEST:
        keys = halve(keys)
    keys = F.normalize(keys, dim=1)[0].double()
    rows, columns = keys.shape[-2:]
    mine, theirs = (
        F.adaptive_max_pool2d(each[None, None].float(), (rows, columns))[0, 0]
        for each in (mine, theirs)
    )
    # A cell under both marks tells nothing; the newer mark, which is `mine`, has it.
    theirs = theirs * (1 - mine)
    if not bool(theirs.any()):
        return torch.ones(size)

    matrix = _laplacian(keys)
    held = ((mine + theirs).flatten() > 0).double() * _SEED
    matrix.diagonal().add_(held + 1e-9)
    wanted = (held * mine.flatten())[:, None]
    found = torch.cholesky_solve(wanted, torch.linalg.cholesky(matrix))
    share = found.reshape(1, 1, rows, columns).float().clamp(0, 1)
    return F.interpolate(share, size=size, mode="bilinear", align_corners=False)[0, 0]


def _laplacian(keys: Tensor) -> Tensor:
    """Return the graph Laplacian (n, n) of a map (C, h, w): each cell and its eight neighbours."""
    rows, columns = keys.shape[-2:]
    number = torch.arange(rows * columns).reshape(rows, columns)
    here, there, apart = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = (slice(0, rows - down), slice(max(0, -right), columns - max(0, right)))
        second = (slice(down, rows), slice(max(0, right), columns + min(0, right)))
        unlike = 1 - (keys[:, first[0], first[1]] * keys[:, second[0], second[1]]).sum(0)
        # Diagonal neighbours are farther away by the root of two.
        apart.append((unlike * (2**0.5 if down and right else 1)).flatten())
        here.append(number[first].flatten())
        there.append(number[second].flatten())
    differences = torch.cat(apart)
    # The small constant lets a walker leave a cell that is unlike all of its neighbours.
    weights = torch.exp(-_CONTRAST * differences / differences.mean().clamp(min=1e-6)) + 1e-5
    matrix = weights.new_zeros(rows * columns, rows * columns)
    from_cell = torch.cat(here)
    to_cell = torch.cat(there)
    matrix[from_cell, to_cell] = -weights
    matrix[to_cell, from_cell] = -weights
    matrix.diagonal().copy_(-matrix.sum(1))
    return matrix


def alike_to_mark(keys: Tensor, mine: Tensor) -> Tensor:
    """Return how much each pixel looks like what a mark covers.

    Args:
        keys: (1, C, h, w) features of unit length.
        mine: (H, W) 1 on the mark, else 0.

    Returns:
        (H, W) float32: 1 like the mark, 0 no more alike than the mean of the map, or less.
    """
    keys = keys.float()
    size = (mine.shape[-2], mine.shape[-1])
    cells = F.adaptive_max_pool2d(mine[None, None].float(), (keys.shape[-2], keys.shape[-1]))
    if not bool(cells.any()):
        return torch.zeros(size)
    own = F.normalize((keys * cells).sum((2, 3)), dim=1)
    similar = (keys * own[:, :, None, None]).sum(1, keepdim=True)
    mean = similar.mean()
    alike = ((similar - mean) / (1 - mean).clamp(min=1e-6)).clamp(0, 1)
    return F.interpolate(alike, size=size, mode="bilinear", align_corners=False)[0, 0]
