"""Motion between two frames: dense optical flow, and pictures moved along it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha, Flow, Gray8, Pixels

_LUMA = (0.2126, 0.7152, 0.0722)
# OpenCV refuses frames of less than 12 pixels a side, or crashes on them.
_SMALLEST_SIDE = 16


def optical_flow(target: Gray8, source: Gray8) -> Flow:
    """Find the place of each pixel of `target` in `source`.

    Kroeger et al., "Fast Optical Flow Using Dense Inverse Search", ECCV 2016: OpenCV's
    implementation, preset medium. Frames with a side under 16 pixels are too small for its patches;
    their motion is taken as 0.

    Args:
        target: (H, W) gray.
        source: (H, W) gray.

    Returns:
        (H, W, 2) displacement (u, v) in pixels: source[y + v, x + u] shows target[y, x].

    Raises:
        OptionError: If the frames are not two gray uint8 pictures of the same size.
    """
    if (
        target.shape != source.shape
        or target.ndim != 2
        or target.dtype != np.uint8
        or source.dtype != np.uint8
    ):
        raise OptionError(
            f"cannot find the motion from {target.dtype} {target.shape} to {source.dtype} "
            f"{source.shape}: "
            "give two uint8 frames of the same (H, W)"
        )
    if min(target.shape) < _SMALLEST_SIDE:
        return np.zeros((*target.shape, 2), np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(target, source, None), np.float32)  # type: ignore[call-overload]


def flow_agreement(flow: Flow, backward: Flow) -> Alpha:
    """Return 1 for pixels that two opposite flows lead back to themselves, else 0.

    A pixel that is hidden in the other frame, or matched wrongly, does not get back (Sundaram et
    al., "Dense point trajectories by GPU-accelerated large displacement optical flow", ECCV 2010,
    equation 5).

    Args:
        flow: (H, W, 2) from the target to the source, as `optical_flow` returns it.
        backward: (H, W, 2) from the source to the target.

    Returns:
        (H, W); 0 also if the flow leads out of the frame.
    """
    # Farther than any real flow: flow out of the frame disagrees.
    outside = (1e4, 1e4)
    found = cv2.remap(
        backward,
        *_ends(flow),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )
    back: Flow = np.asarray(found, np.float32)
    lengths = _squared(flow) + _squared(back)
    return np.asarray(_squared(flow + back) < 0.01 * lengths + 0.5, np.float32)


def _ends(flow: Flow) -> tuple[Pixels, Pixels]:
    """Return the x and the y of the place where each pixel's motion ends."""
    height, width = flow.shape[:2]
    x = np.asarray(flow[..., 0] + np.arange(width, dtype=np.float32), np.float32)
    y = np.asarray(flow[..., 1] + np.arange(height, dtype=np.float32)[:, None], np.float32)
    return x, y


def _squared(flow: Flow) -> Pixels:
    # Sums over an axis of two numbers are slow in NumPy.
    x, y = flow[..., 0], flow[..., 1]
    return np.asarray(x * x + y * y, np.float32)


def warp(image: Pixels, flow: Flow) -> Pixels:
    """Move `image` along `flow`, so it lines up with the target of the flow.

    Bilinear. Pixels from outside the frame are 0: an object out of sight is not there yet.

    Args:
        image: (H, W) or (H, W, C), in the place of the flow's source.
        flow: (H, W, 2) displacement in pixels, as `optical_flow` returns it.

    Returns:
        Array of the image's shape: result[y, x] = image[y + v, x + u].

    Raises:
        OptionError: If the flow has another size than the image.
    """
    if flow.shape != (*image.shape[:2], 2):
        raise OptionError(
            f"flow of shape {flow.shape} does not fit an image of shape {image.shape}"
        )
    moved = cv2.remap(
        image, *_ends(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0.0,)
    )
    return np.asarray(moved, np.float32).reshape(image.shape)


def to_gray(rgb: Tensor, size: tuple[int, int] | None = None) -> Gray8:
    """Return the BT.709 luma of a display-referred frame, for `optical_flow`.

    Args:
        rgb: (3, H, W) float32 in 0..1.
        size: (height, width) of the result; None for that of the frame.

    Returns:
        (height, width) in 0..255.
    """
    planes: Any = rgb.detach().cpu().numpy()
    if size is not None and size != planes.shape[1:]:
        planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in planes]
    luma = sum(255 * weight * plane for weight, plane in zip(_LUMA, planes, strict=True))
    return np.asarray(np.clip(np.rint(luma), 0, 255), np.uint8)
