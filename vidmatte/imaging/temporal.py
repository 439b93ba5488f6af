"""Smooth alpha over time: each matte is drawn towards its neighbours along the optical flow.

The weight of a neighbour depends on the pixel: it is 0 if the motion cannot be trusted (the
frames do not match after the move, or the way there and back ends elsewhere), if the two neighbours
disagree (occlusion, real change), or if the frame differs too much from both to be flicker. Frames
across a cut are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.imaging.arrays import Alpha, Flow, Gray8
from vidmatte.imaging.optical_flow import optical_flow, to_gray, warp

# Longer side at which motion is estimated: its errors stay under the width of a soft edge, at a
# twentieth of the time.
_FLOW_SIDE = 512
# If all three mattes are nearly 0, or all nearly 1, there is no flicker to remove.
_CLEAR, _SOLID = 1 / 256, 255 / 256
# Differences for which the weight of a neighbour is 1/e: of gray values, of the way there
# and back in small pixels (and as a share of the motion), of alpha between the neighbours, and of
# alpha between them and the frame itself.
_GRAY_TOLERANCE = 16.0
_RETURN_TOLERANCE, _RETURN_TOLERANCE_SHARE = 0.7, 0.1
_NEIGHBOUR_TOLERANCE = 0.6
_ALPHA_TOLERANCE = 0.8
# Mean trust of the whole frame: 0.68 and more on synthetic clips of fast motion, under 0.21 for 19
# of 20 pairs of unrelated photographs. Above it only the trust of each pixel keeps two similar
# shots apart.
_SAME_SHOT = 0.3
# In small pixels: how far inside the object its motion is free of the background, and how far that
# motion reaches.
_CORE_MARGIN = 2
_REACH = 12.0
_STIFFNESS = 0.01
# Thin parts without a core count little, but alone they decide; the floor avoids division by 0 in
# empty regions.
_THIN, _FLOOR = 1e-3, 1e-8
_NEAR = 0.05
_LIMB_SIGMA = 3.0
_MEETING_SIGMA, _MEETING_FLOOR, _MEETING_LIMIT = 4.0, 1e-4, 2.0
_ROW = 4096


def smooth_alphas(frames: Iterator[tuple[Tensor, Tensor]], strength: float) -> Iterator[Tensor]:
    """Yield the smoothed alpha of each frame, one frame behind.

    Args:
        frames: alpha (H, W) in 0..1 and rgb (3, H, W) of consecutive frames.
        strength: 0 (unchanged) to 1 (reliable pixels become the mean of three frames).
    """
    for alpha in _smoothed((_Frame.of(alpha, rgb) for alpha, rgb in frames), strength):
        yield torch.from_numpy(alpha)


def _smoothed(frames: Iterator[_Frame], strength: float) -> Iterator[Alpha]:
    """Yield the new (H, W) alpha of each frame, one frame behind."""
    here = next(frames, None)
    before: _Neighbour | None = None
    while here is not None:
        ahead = next(frames, None)
        after, back = (None, None) if ahead is None else _link(here, ahead)
        yield _blend(here, [n for n in (before, after) if n is not None], strength)
        here, before = ahead, back


@dataclass(frozen=True)
class _Frame:
    """One frame: its matte at full size, picture and matte at the size for optical flow."""

    alpha: Alpha
    gray: Gray8
    small_alpha: Alpha

    @classmethod
    def of(cls, matte: Tensor, rgb: Tensor) -> _Frame:
        alpha = matte.detach().cpu().numpy()
        # A whole divisor averages blocks of pixels, several times faster in OpenCV.
        divisor = math.ceil(max(alpha.shape) / _FLOW_SIDE)
        size = (math.ceil(alpha.shape[0] / divisor), math.ceil(alpha.shape[1] / divisor))
        small = cv2.resize(alpha, size[::-1], interpolation=cv2.INTER_AREA)
        return cls(alpha, to_gray(rgb, size), np.asarray(small, np.float32))


@dataclass(frozen=True)
class _Neighbour:
    """A frame's matte as seen from the frame before or after it."""

    frame: _Frame
    flow: Flow
    """(h, w, 2) to the object's place in `frame`, in small pixels."""
    trust: Alpha
    """(h, w) 0..1"""


def _link(first: _Frame, second: _Frame) -> tuple[_Neighbour | None, _Neighbour | None]:
    """Return `second` as seen from `first`, and `first` from `second`.

    Both are None across a cut or a change of size.
    """
    if first.alpha.shape != second.alpha.shape:
        return None, None
    there = optical_flow(first.gray, second.gray)
    back = optical_flow(second.gray, first.gray)
    trusts = _trust(first, second, there, back), _trust(second, first, back, there)
    if min(float(trust.mean()) for trust in trusts) < _SAME_SHOT:
        return None, None
    ahead = _neighbour(first, second, there, trusts[0])
    behind = _neighbour(second, first, back, trusts[1])
    return _agree(ahead, behind), _agree(behind, ahead)


def _agree(ahead: _Neighbour, behind: _Neighbour) -> _Neighbour:
    """Trust a pixel only as far as the neighbour, from its side, trusts the place it came from."""
    return replace(ahead, trust=np.minimum(ahead.trust, warp(behind.trust, ahead.flow)))


def _trust(here: _Frame, other: _Frame, flow: Flow, back: Flow) -> Alpha:
    """Return the trust in the flow at each pixel.

    It is 1 if the other frame is equal there, and the flow back ends at the same pixel.
    """
    missed = _squared_length(flow + warp(back, flow))
    tolerance = _RETURN_TOLERANCE**2 + _RETURN_TOLERANCE_SHARE**2 * _squared_length(flow)
    trust: Alpha = _likeness(here, other, flow) * np.exp(-missed / tolerance)
    return trust


def _likeness(here: _Frame, other: _Frame, flow: Flow) -> Alpha:
    moved = warp(other.gray.astype(np.float32), flow)
    difference = cv2.blur(np.abs(moved - here.gray.astype(np.float32)), (3, 3))
    likeness: Alpha = np.exp(-np.square(difference / _GRAY_TOLERANCE))
    return likeness


def _squared_length(flow: Flow) -> Alpha:
    squared: Alpha = np.square(flow[..., 0]) + np.square(flow[..., 1])
    return squared


def _neighbour(here: _Frame, other: _Frame, flow: Flow, trust: Alpha) -> _Neighbour:
    """Let the motion of the solid object reach over its soft edge.

    At the edge, flow is a mixture of object and background, but alpha moves with the object.
    """
    core = cv2.erode(here.small_alpha, np.ones((2 * _CORE_MARGIN + 1,) * 2, np.uint8))
    # The fourth power: half-transparent pixels count a sixteenth.
    own: Alpha = np.square(np.square(np.asarray(core, np.float32)))
    solid = np.square(np.square(here.small_alpha))
    solid *= _THIN
    solid += own + np.float32(_FLOOR)
    reached = _fit_motion(flow, solid * (trust + np.float32(_THIN)))
    trusted, near = (
        cv2.resize(plane, trust.shape[::-1], interpolation=cv2.INTER_LINEAR)
        for plane in _averages([trust * solid, solid])
    )
    flow = reached + own[..., None] * (flow - reached)
    # The soft edge is as trustworthy as the object beside it; pixels far from any solid part keep
    # their own trust.
    share = (1 - own) / (near + np.float32(_NEAR))
    trust = trust + share * (trusted - near * trust)
    # Limbs may move unlike the body beside them: the solid parts must fit the motion taken over.
    visible = np.square(np.square(here.small_alpha)) + np.float32(_FLOOR)
    likeness = _blur(visible * _likeness(here, other, flow), _LIMB_SIGMA) / _blur(
        visible, _LIMB_SIGMA
    )
    return _Neighbour(other, flow, np.minimum(trust, likeness))


def _fit_motion(flow: Flow, weight: Alpha) -> Flow:
    """Fit an affine motion around each pixel to the weighted flow (moving least squares)."""
    height, width = weight.shape
    x = (np.arange(width, dtype=np.float32) - width / 2) / _REACH
    y = ((np.arange(height, dtype=np.float32) - height / 2) / _REACH)[:, None]
    u = flow[..., 0] * weight
    v = flow[..., 1] * weight
    moments = [weight, weight * x, weight * y, weight * x * x, weight * x * y, weight * y * y]
    n, *means = _averages([*moments, u, u * x, u * y, v, v * x, v * y])
    mx, my, mxx, mxy, myy, *flows = (mean / n for mean in means)
    # A little stiffness: if all weight is in one place, its motion is carried over unchanged.
    cxx = mxx - mx * mx + _STIFFNESS
    cxy = mxy - mx * my
    cyy = myy - my * my + _STIFFNESS
    determinant = cxx * cyy - cxy * cxy
    result = np.empty_like(flow)
    for channel, (mean, with_x, with_y) in enumerate((flows[:3], flows[3:])):
        dx = with_x - mx * mean
        dy = with_y - my * mean
        slope_x = (cyy * dx - cxy * dy) / determinant
        slope_y = (cxx * dy - cxy * dx) / determinant
        level, slope_x, slope_y = (
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            for plane in (mean - slope_x * mx - slope_y * my, slope_x, slope_y)
        )
        result[..., channel] = level + slope_x * x + slope_y * y
    return result


def _averages(planes: list[Alpha]) -> list[Alpha]:
    """Return Gaussian means of each (h, w) plane over the motion range at a quarter of the size."""
    height, width = planes[0].shape
    size = (math.ceil(width / 4), math.ceil(height / 4))
    quarters = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    return [_blur(np.asarray(quarter, np.float32), _REACH / 4) for quarter in quarters]


def _blur(plane: Alpha, sigma: float) -> Alpha:
    return np.asarray(
        cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32
    )


def _meet(before: _Neighbour, after: _Neighbour) -> tuple[_Neighbour, _Neighbour]:
    """Shift both neighbours by opposite amounts, so that their edges fall together half way.

    A motion that was under- or overestimated errs in opposite directions on both sides. This is
    undone;
    the mean of the two stays.
    """
    earlier = warp(before.frame.small_alpha, before.flow)
    later = warp(after.frame.small_alpha, after.flow)
    difference = earlier - later
    gx = cv2.Sobel(earlier + later, cv2.CV_32F, 1, 0, scale=1 / 16)
    gy = cv2.Sobel(earlier + later, cv2.CV_32F, 0, 1, scale=1 / 16)
    products = (gx * gx, gx * gy, gy * gy, gx * difference, gy * difference)
    xx, xy, yy, xd, yd = (_blur(product, _MEETING_SIGMA) for product in products)
    xx = xx + np.float32(_MEETING_FLOOR)
    yy = yy + np.float32(_MEETING_FLOOR)
    determinant = 2 * (xx * yy - xy * xy)
    shift = np.dstack([(xy * yd - yy * xd) / determinant, (xy * xd - xx * yd) / determinant])
    shift = np.clip(shift, -_MEETING_LIMIT, _MEETING_LIMIT)
    return replace(before, flow=before.flow + shift), replace(after, flow=after.flow - shift)


def _blend(here: _Frame, neighbours: list[_Neighbour], strength: float) -> Alpha:
    """Draw the pixels that are soft or differ towards the neighbours."""
    result = here.alpha.copy()
    active = _active([here.alpha, *(n.frame.alpha for n in neighbours)])
    if not neighbours or not len(active):
        return result
    if len(neighbours) == 2:
        neighbours = list(_meet(*neighbours))
    rows, columns = np.divmod(active, here.alpha.shape[1])
    found = [_fetch(n, rows, columns) for n in neighbours]
    alphas = [alpha for alpha, _ in found]
    trust = np.minimum(found[0][1], found[-1][1])
    own = here.alpha.reshape(-1)[active]
    # With equal weights, flows with opposite errors shift no edge.
    mean = (alphas[0] + alphas[-1]) / 2
    trust = trust * np.exp(
        -np.square((alphas[0] - alphas[-1]) / _NEIGHBOUR_TOLERANCE)
        - np.square((mean - own) / _ALPHA_TOLERANCE)
    )
    share = np.float32(strength * len(neighbours) / 3) * trust
    result.reshape(-1)[active] = np.clip(own + share * (mean - own), 0, 1)
    return result


def _active(alphas: list[Alpha]) -> NDArray[np.intp]:
    """Return flat indices of the pixels that are not clear, or not solid, in all mattes."""
    highest, lowest = alphas[0].copy(), alphas[0].copy()
    for alpha in alphas[1:]:
        np.maximum(highest, alpha, out=highest)
        np.minimum(lowest, alpha, out=lowest)
    return np.flatnonzero((highest > _CLEAR) & (lowest < _SOLID))


def _fetch(
    adjacent: _Neighbour, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Alpha, Alpha]:
    """Return alpha of the neighbour at pixels of this frame, and its trust; 0 outside the frame."""
    height, width = adjacent.frame.alpha.shape
    x = columns.astype(np.float32)
    y = rows.astype(np.float32)
    scale_x = width / adjacent.flow.shape[1]
    scale_y = height / adjacent.flow.shape[0]
    small = np.dstack([adjacent.flow, adjacent.trust])
    motion = _sample(small, (x + 0.5) / scale_x - 0.5, (y + 0.5) / scale_y - 0.5)
    x = x + motion[:, 0] * scale_x
    y = y + motion[:, 1] * scale_y
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return _sample(adjacent.frame.alpha, x, y), motion[:, 2] * inside


def _sample(image: Alpha, x: Alpha, y: Alpha) -> Alpha:
    """Return bilinear values of (H, W) or (H, W, C) at P points, edges replicated: (P,) or (P,
    C)."""
    points = len(x)
    # OpenCV limits the sides of a map, so the list of points is folded into rows.
    folded = np.zeros((2, math.ceil(points / _ROW), _ROW), np.float32)
    folded[0].reshape(-1)[:points], folded[1].reshape(-1)[:points] = x, y
    values = cv2.remap(
        image, folded[0], folded[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(values, np.float32).reshape(-1, *image.shape[2:])[:points]
