"""The controls of a keyer on one alpha, in the order of `stages.finish`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.morphology import feather, grow, remove_dots
from vidmatte.options import FinishOptions


def finish_alpha(
    alpha: Tensor,
    options: FinishOptions,
    *,
    inside: Alpha | None = None,
    outside: Alpha | None = None,
    shown: Alpha | None = None,
    display_width: int,
    feathered: bool = True,
) -> Tensor:
    """Return an alpha with all controls applied.

    Args:
        alpha: (H, W) in 0..1.
        options: the controls; paths of masks in it are not read.
        inside: (H, W) the least alpha of each pixel, from the inside mask.
        outside: (H, W) alpha taken away from each pixel, by the outside mask.
        shown: (H, W) the alpha of the source; transparent pixels stay so, whatever the controls
            do.
        display_width: width of the displayed frame, for the region.
        feathered: whether the feather is applied.

    Raises:
        OptionError: If the region does not fit the frame.
    """
    plane = _finish_edges(alpha.detach().cpu().numpy(), options, feathered)
    if options.invert:
        plane = 1 - plane
    if inside is not None:
        plane = np.maximum(plane, inside)
    if outside is not None:
        plane = np.minimum(plane, 1 - outside)
    if options.region is not None:
        plane = plane * coverage(options.region, plane.shape, display_width)
    plane = np.asarray(plane, np.float32)
    if shown is not None:
        plane = plane * shown
    return torch.from_numpy(plane)


def _finish_edges(plane: Alpha, options: FinishOptions, feathered: bool) -> Alpha:
    """Clip, remove dots, fill holes, grow and feather."""
    if (options.clip_black, options.clip_white) != (0, 1):
        span = options.clip_white - options.clip_black
        plane = np.clip((plane - options.clip_black) / span, 0, 1)
    if options.remove_dots:
        plane = remove_dots(plane, options.remove_dots)
    if options.fill_holes:
        plane = 1 - remove_dots(1 - plane, options.fill_holes)
    if options.grow:
        plane = grow(plane, options.grow)
    if options.feather and feathered:
        plane = feather(plane, options.feather)
    return plane


def coverage(
    region: tuple[float, float, float, float], size: Sequence[int], display_width: int
) -> Alpha:
    """Return the share of each pixel inside the region, (H, W).

    Raises OptionError if the region does not fit.
    """
    x0, y0, x1, y1 = region
    height, width = size
    if not (0 <= x0 < x1 <= display_width and 0 <= y0 < y1 <= height):
        raise OptionError(
            f"region {x0:g},{y0:g},{x1:g},{y1:g} does not fit the frame of "
            f"{display_width}x{height}: give x0,y0,x1,y1 with x0 < x1 and y0 < y1 inside it"
        )
    scale = width / display_width
    rows = _covered(y0, y1, height)
    columns = _covered(x0 * scale, x1 * scale, width)
    return np.asarray(rows[:, None] * columns, np.float32)


def _covered(low: float, high: float, length: int) -> NDArray[np.float64]:
    """Return the share of each of `length` pixels in a row between `low` and `high`."""
    edges = np.clip(np.arange(length + 1), low, high)
    return np.diff(edges)
