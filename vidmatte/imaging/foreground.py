"""Foreground: the object's own colour in soft pixels, mixed there with the background.

A pixel's colour is I = alpha F + (1 - alpha) B. F and B are estimated as in Germer et al., "Fast
Multi-Level Foreground Estimation", ICPR 2020: minimise per channel, over all pixels i and all pairs
ij of neighbours (up, down, left, right),

    sum_i (alpha_i F_i + (1 - alpha_i) B_i - I_i)^2 + sum_ij w_ij ((F_i - F_j)^2 + (B_i - B_j)^2)
    w_ij = epsilon + omega |alpha_i - alpha_j|

level by level from a single pixel up, each level starting from the enlarged result of the one
below. With the weighted means F', B' of the neighbours held fixed, the optimum of one pixel is F'
and B' corrected by the residual r:

    F = F' + alpha r,  B = B' + (1 - alpha) r
    r = (I - alpha F' - (1 - alpha) B') / (w + alpha^2 + (1 - alpha)^2)

with w = sum_j w_ij. Unlike the paper, larger levels solve only the soft pixels, kept as index lists
and updated in red-black order. Elsewhere F is the source's colour (alpha 1) or the enlarged coarse
one (alpha 0), smooth and therefore cheap for a codec.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.imaging.frame_memory import frame_memory

_EPSILON = 1e-5
# A tenth of the paper's weight: two sweeps then meet the compositing equation better, at half the
# error of colour.
_OMEGA = 0.1
# Networks rarely say exactly 0 or 1. The error of a composite is alpha times that of the colour:
# under _CLEAR the colour of the surroundings is good enough; above _SOLID the source is off by less
# than half a step of 8 bits.
_CLEAR = 1 / 128
_SOLID = 1 - 1 / 512
# Levels up to this long side are solved whole; they spread the colour under alpha 0.
_WHOLE_SIDE = 300
_SMALL_SIDE = 32
_SWEEPS_SMALL = 10
_SWEEPS_WHOLE = 3
_SWEEPS_SOFT = 2


def estimate_foreground(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Estimate the straight colour of the foreground, display-referred like the source.

    If alpha is 1 the source's values are returned bit for bit; if it is 0, smooth continuations of
    the object's colours.

    Args:
        rgb: (N, 3, H, W) float32 in 0..1.
        alpha: (N, 1, H, W) float32 in 0..1.

    Returns:
        (N, 3, H, W) float32 in 0..1, computed on the device of `rgb` and `alpha`. Devices agree to
        rounding errors.

    Raises:
        OptionError: If the shapes, dtypes or devices do not fit each other.
    """
    n, channels, height, width = rgb.shape if rgb.ndim == 4 else (0, 0, 0, 0)
    if channels != 3 or tuple(alpha.shape) != (n, 1, height, width):
        raise OptionError(
            f"cannot estimate the foreground of rgb {tuple(rgb.shape)} with alpha "
            f"{tuple(alpha.shape)}: "
            "give (N, 3, H, W) and (N, 1, H, W) of the same frames"
        )
    if rgb.dtype != torch.float32 or alpha.dtype != torch.float32:
        raise OptionError(
            f"rgb is {rgb.dtype} and alpha is {alpha.dtype}: give both as float32 in 0..1"
        )
    if rgb.device != alpha.device:
        raise OptionError(
            f"rgb is on {rgb.device} and alpha on {alpha.device}: give both on one device"
        )
    with torch.no_grad():
        frames = [_estimate_frame(image, matte[0]) for image, matte in zip(rgb, alpha, strict=True)]
    return torch.stack(frames) if len(frames) > 1 else frames[0][None]


def _estimate_frame(image: Tensor, alpha: Tensor) -> Tensor:
    """Solve level by level: (3, H, W) image and (H, W) alpha to (3, H, W) colour."""
    levels = [(image.contiguous(), alpha.contiguous())]
    while max(levels[-1][1].shape) > 1:
        # Picking pixels keeps some of them solid; averaging would make all of fine hair soft.
        levels.append(
            (levels[-1][0][:, ::2, ::2].contiguous(), levels[-1][1][::2, ::2].contiguous())
        )
    foreground = background = levels[-1][0]
    for level_image, level_alpha in reversed(levels[1:-1]):
        size = level_alpha.shape[0], level_alpha.shape[1]
        if max(size) > _WHOLE_SIDE:
            foreground = _enlarge(foreground, size)
            soft = _solve_soft(level_image, level_alpha, foreground, background)
            background = _enlarge(background, size)
            background.view(3, -1)[:, soft.near] = soft.background.t()
        else:
            colors = torch.cat([_enlarge(foreground, size), _enlarge(background, size)])
            colors = _solve_whole(level_image, level_alpha, colors)
            foreground, background = colors[:3], colors[3:]
    # New memory costs most at this size, so the background is never enlarged as a whole.
    foreground = _enlarge(foreground, (alpha.shape[0], alpha.shape[1]), is_last=True)
    _solve_soft(*levels[0], foreground, background)
    return _put(levels[0][0], alpha >= _SOLID, foreground)


def _on_processor(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _enlarge(planes: Tensor, size: tuple[int, int], *, is_last: bool = False) -> Tensor:
    """Return planes (C, h, w) at another size; `is_last` says that it is that of the frame."""
    if not _on_processor(planes):
        return F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False)[0]
    shape = (len(planes), *size)
    larger = frame_memory(shape) if is_last else torch.empty(shape)
    # On the processor OpenCV and NumPy take a tenth of torch's time, here and below.
    for plane, target in zip(planes.numpy(), larger.numpy(), strict=True):
        cv2.resize(plane, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return larger


def _put(image: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Copy the image into the target at the pixels of the mask."""
    if not _on_processor(target):
        return torch.where(mask, image, target, out=target)
    for source, plane in zip(image.numpy(), target.numpy(), strict=True):
        cv2.copyTo(source, mask.view(torch.uint8).numpy(), plane)
    return target


def _indices(mask: Tensor) -> Tensor:
    """Return the indices of the set pixels, counted through the rows."""
    if not _on_processor(mask):
        return mask.view(-1).nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def _solve_whole(image: Tensor, alpha: Tensor, colors: Tensor) -> Tensor:
    """Sweep over all pixels at once (Jacobi)."""
    weights = _EPSILON + _OMEGA * (alpha - _around(alpha[None])[:, 0]).abs_()
    correction = _Correction.prepare(image, alpha, weights)
    for _ in range(_SWEEPS_SMALL if max(alpha.shape) <= _SMALL_SIDE else _SWEEPS_WHOLE):
        colors = correction.apply((weights[:, None] * _around(colors)).sum(0))
    return colors


def _around(planes: Tensor) -> Tensor:
    """Return the neighbours (4, C, H, W) of each pixel; at the edge it neighbours itself."""
    height, width = planes.shape[1:]
    framed = F.pad(planes[None], (1, 1, 1, 1), mode="replicate")[0]
    return torch.stack(
        [framed[:, y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    )


def _solve_soft(image: Tensor, alpha: Tensor, foreground: Tensor, coarse: Tensor) -> _Soft:
    """Sweep over the soft pixels in red-black order (Gauss-Seidel).

    `foreground` is changed in place. `coarse` (3, h, w) is the background of the level below.
    """
    height, width = alpha.shape
    soft = (alpha > _CLEAR) & (alpha < _SOLID)
    where = _indices(soft)
    is_red = (where // width + where % width) % 2 == 0
    # Work on the soft pixels and their neighbours only, side by side in memory: red ones, black
    # ones, the rim.
    red, black = where[is_red], where[~is_red]
    where = torch.cat([red, black])
    near = torch.cat([where, _indices(_rim(soft))])
    place = torch.empty(alpha.numel(), dtype=torch.int32, device=alpha.device)
    place[near] = torch.arange(len(near), dtype=torch.int32, device=alpha.device)
    around = place[_neighbours(where, height, width)]
    pixels = image.view(3, -1).index_select(1, near)
    opacity = alpha.view(-1)[near]
    state = torch.empty(len(near), 6, device=alpha.device)
    state[:, :3] = torch.where(
        opacity >= _SOLID, pixels, foreground.view(3, -1).index_select(1, near)
    ).t()
    state[:, 3:] = torch.where(
        opacity <= _CLEAR, pixels, _look_up(coarse, near, (height, width))
    ).t()
    halves = [
        _Half.prepare(first, around[first : first + count], pixels, opacity)
        for first, count in ((0, len(red)), (len(red), len(black)))
        if count
    ]
    for _ in range(_SWEEPS_SOFT):
        for half in halves:
            half.update(state)
    foreground.view(3, -1).index_copy_(1, near, state[:, :3].t())
    return _Soft(near, state[:, 3:])


@dataclass(frozen=True)
class _Soft:
    """The background of the soft pixels and their neighbours."""

    near: Tensor
    """(P,) indices into the frame."""
    background: Tensor
    """(P, 3)."""


def _look_up(planes: Tensor, where: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (3, P) values of `_enlarge` to a size at indices into the enlarged frame."""
    height, width = planes.shape[1:]
    (top, bottom, low), (left, right, near) = (
        _between(where // size[1], size[0], height),
        _between(where % size[1], size[1], width),
    )
    corners = torch.stack(
        [top * width + left, top * width + right, bottom * width + left, bottom * width + right], 1
    )
    weights = torch.stack(
        [(1 - low) * (1 - near), (1 - low) * near, low * (1 - near), low * near], 1
    )
    rows = planes.reshape(3, -1).t().contiguous()
    return F.embedding_bag(corners, rows, mode="sum", per_sample_weights=weights).t()


def _between(position: Tensor, length: int, coarse_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coarse pixels before and after each pixel of a row, and the latter's share."""
    at = ((position + 0.5) * (coarse_length / length) - 0.5).clamp_(0, coarse_length - 1)
    before = at.long()
    return before, (before + 1).clamp_(max=coarse_length - 1), at - before


def _rim(soft: Tensor) -> Tensor:
    """Return the neighbours of soft pixels, if they are not soft themselves."""
    near = soft.clone()
    near[1:] |= soft[:-1]
    near[:-1] |= soft[1:]
    near[:, 1:] |= soft[:, :-1]
    near[:, :-1] |= soft[:, 1:]
    return near & ~soft


def _neighbours(where: Tensor, height: int, width: int) -> Tensor:
    """Return (P, 4) indices into the frame; at its edge a pixel neighbours itself."""
    columns = where % width
    return torch.stack(
        [
            torch.where(where >= width, where - width, where),
            torch.where(where < (height - 1) * width, where + width, where),
            torch.where(columns > 0, where - 1, where),
            torch.where(columns < width - 1, where + 1, where),
        ],
        dim=1,
    )


@dataclass(frozen=True)
class _Correction:
    """The step from the neighbours' means to the optimum of each pixel."""

    image: Tensor
    alpha: Tensor
    gain: Tensor

    @classmethod
    def prepare(cls, image: Tensor, alpha: Tensor, weights: Tensor) -> _Correction:
        """Normalise `weights` (4, ...) in place to form means, and prepare the sweeps."""
        total = weights.sum(0)
        weights /= total
        return cls(image, alpha, (total + alpha.square() + (1 - alpha).square()).reciprocal_())

    def apply(self, means: Tensor) -> Tensor:
        """Turn means (6, ...) of foreground and background into optima, in place."""
        foreground, background = means[:3], means[3:]
        # See the formulas at the top: r is the residual, with the gain as its denominator.
        residual = self.image - background
        residual -= self.alpha * (foreground - background)
        residual *= self.gain
        background += residual
        residual *= self.alpha
        foreground += residual
        background -= residual
        return means.clamp_(0, 1)


@dataclass(frozen=True)
class _Half:
    """Soft pixels of one colour of the checkerboard: all their neighbours have the other colour."""

    here: slice
    around: Tensor
    """(P, 4) places of the neighbours."""
    weights: Tensor
    """(P, 4) of the means."""
    correction: _Correction

    @classmethod
    def prepare(cls, first: int, around: Tensor, image: Tensor, alpha: Tensor) -> _Half:
        """Return the half with pixels at places `first` and on.

        `image` (3, P) and `alpha` (P) are those of all places.
        """
        here = slice(first, first + len(around))
        weights = _EPSILON + _OMEGA * (alpha[here] - alpha[around.t()]).abs_()
        correction = _Correction.prepare(image[:, here], alpha[here], weights)
        return cls(here, around, weights.t().contiguous(), correction)

    def update(self, state: Tensor) -> None:
        """Replace the pixels' rows of the (P, 6) foreground and background colours."""
        means = F.embedding_bag(self.around, state, mode="sum", per_sample_weights=self.weights)
        state[self.here] = self.correction.apply(means.t().contiguous()).t()
