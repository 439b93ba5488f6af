"""Foreground colour of soft pixels: what the object itself looks like where the background shines through.

A pixel's colour is I = alpha F + (1 - alpha) B. F and B are estimated as in Germer et al., "Fast Multi-Level Foreground
Estimation", ICPR 2020: minimise per channel, over all pixels i and all pairs ij of neighbours (up, down, left, right),

    sum_i (alpha_i F_i + (1 - alpha_i) B_i - I_i)^2 + sum_ij w_ij ((F_i - F_j)^2 + (B_i - B_j)^2)
    w_ij = epsilon + omega |alpha_i - alpha_j|

level by level from a single pixel up, each level starting from the enlarged result of the one below. With the weighted
means F', B' of the neighbours held fixed, the optimum of one pixel is F' and B' corrected by the residual r:

    F = F' + alpha r,  B = B' + (1 - alpha) r,  r = (I - alpha F' - (1 - alpha) B') / (w + alpha^2 + (1 - alpha)^2)

with w = sum_j w_ij. Differently from the paper the larger levels solve only the soft pixels, kept as index lists and
updated in red-black order; elsewhere F is the source's colour (alpha 1) or the enlarged coarse one (alpha 0), which is
smooth and therefore cheap for a codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import OptionError

Plane: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.intp]

_EPSILON = 1e-5
# A tenth of the paper's weight: two sweeps then meet the compositing equation better, at half the error of colour.
_OMEGA = 0.1
# Networks rarely say exactly 0 or 1. What a wrong colour does to a composite is alpha times its error: under _CLEAR the
# colour of the surroundings serves; above _SOLID the source is off by less than half a step of 8 bits.
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

    Where alpha is 1 the source's values are returned bit for bit; where it is 0, colours that continue those of the
    object smoothly.

    Args:
        rgb: (N, 3, H, W) float32 in 0..1.
        alpha: (N, 1, H, W) float32 in 0..1.

    Returns:
        (N, 3, H, W) float32 in 0..1 on the device of `rgb`.

    Raises:
        OptionError: the shapes or dtypes do not fit each other.
    """
    n, _, height, width = shape = tuple(rgb.shape) if rgb.ndim == 4 else (0, 0, 0, 0)
    if shape[1] != 3 or tuple(alpha.shape) != (n, 1, height, width):
        raise OptionError(
            f"cannot estimate the foreground of rgb {tuple(rgb.shape)} with alpha {tuple(alpha.shape)}: "
            "give (N, 3, H, W) and (N, 1, H, W) of the same frames"
        )
    if rgb.dtype != torch.float32 or alpha.dtype != torch.float32:
        raise OptionError(f"rgb is {rgb.dtype} and alpha is {alpha.dtype}: give both as float32 in 0..1")
    foreground = np.empty(shape, np.float32)
    for target, image, matte in zip(foreground, rgb.detach().cpu().numpy(), alpha.detach().cpu().numpy(), strict=True):
        _estimate_frame(np.ascontiguousarray(image), np.ascontiguousarray(matte[0]), target)
    return torch.from_numpy(foreground).to(rgb.device)


def _estimate_frame(image: Plane, alpha: Plane, target: Plane) -> None:
    """Solve level by level; write the (3, H, W) result into `target`."""
    levels = [(image, alpha)]
    while max(levels[-1][1].shape) > 1:
        # Picking pixels keeps some of them solid where averaging would make all of fine hair soft.
        levels.append((levels[-1][0][:, ::2, ::2].copy(), levels[-1][1][::2, ::2].copy()))
    foreground = background = levels[-1][0]
    for level_image, level_alpha in reversed(levels[1:]):
        foreground = _enlarge(foreground, np.empty_like(level_image))
        background = _enlarge(background, np.empty_like(level_image))
        if max(level_alpha.shape) > _WHOLE_SIDE:
            _solve_soft(level_image, level_alpha, foreground, background)
        else:
            foreground, background = _solve_whole(level_image, level_alpha, foreground, background)
    _enlarge(foreground, target)
    _solve_soft(image, alpha, target, _enlarge(background, np.empty_like(image)))
    np.copyto(target, image, where=alpha >= _SOLID)


def _enlarge(planes: Plane, target: Plane) -> Plane:
    for plane, larger in zip(planes, target, strict=True):
        cv2.resize(plane, larger.shape[::-1], dst=larger, interpolation=cv2.INTER_LINEAR)
    return target


def _solve_whole(image: Plane, alpha: Plane, foreground: Plane, background: Plane) -> tuple[Plane, Plane]:
    """Sweep over all pixels at once (Jacobi); planes are (3, H, W)."""
    height, width = alpha.shape
    windows = [(..., slice(y, y + height), slice(x, x + width)) for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    framed = np.pad(alpha, 1, mode="edge")
    weights = [_EPSILON + _OMEGA * np.abs(alpha - framed[window]) for window in windows]
    correction = _Correction.prepare(image, alpha, weights)
    for _ in range(_SWEEPS_SMALL if max(alpha.shape) <= _SMALL_SIDE else _SWEEPS_WHOLE):
        means = []
        for planes in (foreground, background):
            padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
            mean = weights[0] * padded[windows[0]]
            for weight, window in zip(weights[1:], windows[1:], strict=True):
                mean += weight * padded[window]
            means.append(mean)
        foreground, background = correction.apply(*means)
    return foreground, background


def _solve_soft(image: Plane, alpha: Plane, foreground: Plane, background: Plane) -> None:
    """Sweep over the soft pixels in red-black order (Gauss-Seidel), in place; planes are (3, H, W)."""
    soft = (alpha > _CLEAR) & (alpha < _SOLID)
    rows, columns = np.divmod(np.flatnonzero(soft), alpha.shape[1])
    if not len(rows):
        return
    # Work on the soft pixels and their neighbours only, side by side in memory: `place` says where each one went.
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    near = np.flatnonzero(cv2.dilate(soft.view(np.uint8), cross).view(np.bool_))
    place = np.empty(soft.size, np.intp)
    place[near] = np.arange(len(near))
    near_alpha = alpha.reshape(-1)[near]
    near_image = image.reshape(3, -1)[:, near]
    state = np.concatenate([foreground.reshape(3, -1)[:, near], background.reshape(3, -1)[:, near]])
    np.copyto(state[:3], near_image, where=near_alpha >= _SOLID)
    np.copyto(state[3:], near_image, where=near_alpha <= _CLEAR)
    red = (rows + columns) % 2 == 0
    colors = [
        _Pixels.gather(rows[half], columns[half], place.reshape(alpha.shape), near_image, near_alpha)
        for half in (red, ~red)
    ]
    for _ in range(_SWEEPS_SOFT):
        for pixels in colors:
            pixels.update(state)
    foreground.reshape(3, -1)[:, near] = state[:3]
    background.reshape(3, -1)[:, near] = state[3:]


@dataclass(frozen=True)
class _Correction:
    """The step from the neighbours' means to the optimum of each pixel."""

    image: Plane
    alpha: Plane
    gain: Plane

    @classmethod
    def prepare(cls, image: Plane, alpha: Plane, weights: list[Plane]) -> _Correction:
        """Normalise `weights` in place, so that they form means, and keep what every sweep needs."""
        total = weights[0] + weights[1] + weights[2] + weights[3]
        for weight in weights:
            weight /= total
        return cls(image, alpha, np.reciprocal(total + np.square(alpha) + np.square(1 - alpha)))

    def apply(self, foreground: Plane, background: Plane) -> tuple[Plane, Plane]:
        """Turn means into optima, in place."""
        residual = self.image - background
        residual -= self.alpha * (foreground - background)
        residual *= self.gain
        background += residual
        residual *= self.alpha
        foreground += residual
        background -= residual
        return np.clip(foreground, 0, 1, out=foreground), np.clip(background, 0, 1, out=background)


@dataclass(frozen=True)
class _Pixels:
    """Soft pixels of one colour of the checkerboard: all their neighbours have the other colour."""

    here: Indices
    neighbours: list[Indices]
    weights: list[Plane]
    correction: _Correction

    @classmethod
    def gather(cls, rows: Indices, columns: Indices, place: Indices, image: Plane, alpha: Plane) -> _Pixels:
        """Look up where each pixel and its neighbours lie; at the frame's edge a pixel neighbours itself."""
        height, width = place.shape
        here = place[rows, columns]
        neighbours = [
            place[np.maximum(rows - 1, 0), columns],
            place[np.minimum(rows + 1, height - 1), columns],
            place[rows, np.maximum(columns - 1, 0)],
            place[rows, np.minimum(columns + 1, width - 1)],
        ]
        own = alpha[here]
        weights = [_EPSILON + _OMEGA * np.abs(own - alpha[index]) for index in neighbours]
        return cls(here, neighbours, weights, _Correction.prepare(image[:, here], own, weights))

    def update(self, state: Plane) -> None:
        """Replace the pixels' columns of the (6, P) foreground and background colours."""
        mean = self.weights[0] * state[:, self.neighbours[0]]
        for weight, index in zip(self.weights[1:], self.neighbours[1:], strict=True):
            mean += weight * state[:, index]
        self.correction.apply(mean[:3], mean[3:])
        state[:, self.here] = mean
