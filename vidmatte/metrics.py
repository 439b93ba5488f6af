"""Errors of predicted mattes: one function for each published measure.

Every function takes `predicted` and `truth` as float arrays in 0..1, one matte (H, W) or a clip
(T, H, W); the value of a clip is the mean of its frames' values. `region` (bool, (H, W) or
(T, H, W)) limits an image measure to some pixels, such as the unknown area of a trimap; frames
without such a pixel do not count. Perfect is 0, but 1 for `region_overlap` and `contour_accuracy`.
Arrays with unequal sizes raise OptionError.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import OptionError

Alpha: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
FrameMeasure: TypeAlias = Callable[[Alpha, Alpha, Mask], float]

_GRADIENT_SIGMA = 1.4
"""Pixels; of the derivatives of `grad`."""
_CONNECTIVITY_STEPS = 10
"""Thresholds of `conn`, evenly from 0 to 1."""
_CONNECTIVITY_SLACK = 0.15
"""Excess of alpha over its connected level ignored by `conn`."""
_CONTOUR_TOLERANCE = 0.008
"""Distance between matching outlines in `contour_accuracy`, as a share of the diagonal."""


def sad(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the sum of absolute differences over 1000, as alpha matting papers print it.

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009,
    section 4.
    """
    return _mean_of_frames(_sum_abs, predicted, truth, region)


def mse(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the mean squared difference per pixel, not scaled (papers print it times 1000).

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009,
    section 4.
    """
    return _mean_of_frames(
        lambda p, t, inside: float(np.mean(np.square(p - t)[inside])), predicted, truth, region
    )


def mad(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the mean absolute difference per pixel, not scaled (papers print it times 1000).

    Lin et al., "Robust High-Resolution Video Matting with Temporal Guidance", WACV 2022,
    section 5.1.
    """
    return _mean_of_frames(
        lambda p, t, inside: float(np.mean(np.abs(p - t)[inside])), predicted, truth, region
    )


def grad(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the sum of squared differences of the gradient magnitudes over 1000.

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009,
    section 5: first order Gaussian derivatives, sigma 1.4, filters of unit L2 norm, replicated
    borders. Alphas are taken as they are. If one does not reach both 0 and 1, the authors' program
    stretches it first, hides errors by that, and differs from this.
    """
    return _mean_of_frames(_gradient_error, predicted, truth, region)


def conn(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the sum of differences in connectedness to the largest common solid part, over 1000.

    Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009,
    section 5, with the constants of the authors' program: thresholds in steps of 0.1, 4-connected
    parts, differences under 0.15 ignored, exponent 1.
    """
    return _mean_of_frames(_connectivity_error, predicted, truth, region)


def conn_research(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return the Conn of the research code of "In-Context Matting" (Guo et al., CVPR 2024).

    It differs from `conn` in one point: among the connected parts it also counts the background.
    If that is larger than the object, the roles change, and a matte without the object has no
    error. Only for comparison with figures computed this way.
    """
    return _mean_of_frames(_research_connectivity_error, predicted, truth, region)


def dtssd(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return 100 times the root mean square error of the change between frames, mean over the clip.

    Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015 (dtSSD); per
    pixel and times 100 as in Lin et al., WACV 2022. With `region` only the region of the later
    frame of each pair counts.

    Args:
        predicted: (T, H, W), at least two frames.
        truth: the same shape.
        region: counted pixels; default: all.
    """
    _check_clip(predicted, truth)
    values = []
    before = None
    for p, t, inside in _frames(predicted, truth, region):
        # Temporal errors compare a pixel with itself, whatever moves over it.
        error = p - t
        if before is not None and inside.any():
            values.append(math.sqrt(float(np.mean(np.square(error - before)[inside]))))
        before = error
    return 100.0 * _mean(values)


def messddt(
    predicted: Alpha, truth: Alpha, flow: NDArray[np.float32], *, region: Mask | None = None
) -> float:
    """Return 1000 times the mean change of the squared error along the motion.

    Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015 (MESSDdt), per
    pixel. Pixels with a motion out of the frame do not count.

    Args:
        predicted: (T, H, W), at least two frames.
        truth: the same shape.
        flow: (T-1, H, W, 2) displacement in pixels (x, y) from frame t to frame t + 1 of the source
            clip; see `vidmatte.imaging.optical_flow.optical_flow(frame t, frame t + 1)`.
        region: counted pixels, those of the earlier frame of each pair; default: all.
    """
    _check_clip(predicted, truth)
    if flow.shape != (len(predicted) - 1, *predicted.shape[1:], 2):
        raise OptionError(
            f"flow of shape {flow.shape} does not fit {len(predicted)} frames of shape "
            f"{predicted.shape[1:]}: give (T-1, H, W, 2)"
        )
    height, width = predicted.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    values = []
    for (p, t, inside), (next_p, next_t, _), motion in zip(
        _frames(
            predicted[:-1],
            truth[:-1],
            # One region serves for all frames, or each has its own.
            region if region is None or region.ndim == 2 else region[:-1],
        ),
        _frames(predicted[1:], truth[1:], None),
        flow,
        strict=True,
    ):
        x = columns + motion[..., 0]
        y = rows + motion[..., 1]
        # Pixels that leave the frame have no successor.
        stays = inside & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        arrived = cv2.remap(
            next_p - next_t, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        if stays.any():
            # Mean difference of squared errors along the motion.
            values.append(float(np.mean(np.abs(np.square(p - t) - np.square(arrived))[stays])))
    return 1000.0 * _mean(values)


def region_overlap(predicted: Alpha, truth: Alpha, *, region: Mask | None = None) -> float:
    """Return J: intersection over union of the pixels above one half; 1 if both are empty.

    Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
    (DAVIS), CVPR 2016.
    """
    return _mean_of_frames(_overlap, predicted, truth, region)


def contour_accuracy(predicted: Alpha, truth: Alpha) -> float:
    """Return F: harmonic mean of precision and recall of outlines at one half; 1 if there are none.

    Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
    (DAVIS), CVPR 2016: an outline pixel is right if the other outline comes within 0.8 % of the
    frame's diagonal, rounded up.
    """
    return _mean_of_frames(lambda p, t, _: _contour_score(p > 0.5, t > 0.5), predicted, truth, None)


def _mean_of_frames(
    measure: FrameMeasure, predicted: Alpha, truth: Alpha, region: Mask | None
) -> float:
    frames = _frames(predicted, truth, region)
    return _mean([measure(p, t, inside) for p, t, inside in frames if inside.any()])


def _mean(values: list[float]) -> float:
    if not values:
        raise OptionError(
            "the region holds no pixel in any frame: give a region that marks some, or none at all"
        )
    # fsum is exact, so the result does not depend on the order of frames.
    return math.fsum(values) / len(values)


def _frames(
    predicted: Alpha, truth: Alpha, region: Mask | None
) -> Iterator[tuple[Alpha, Alpha, Mask]]:
    if predicted.shape != truth.shape or predicted.ndim not in (2, 3) or predicted.size == 0:
        raise OptionError(
            f"cannot compare alphas of shape {predicted.shape} and {truth.shape}: "
            "give two of (H, W) or two of (T, H, W)"
        )
    inside = np.ones(predicted.shape[-2:], np.bool_) if region is None else region
    if inside.dtype != np.bool_ or inside.shape not in (predicted.shape, predicted.shape[-2:]):
        raise OptionError(
            f"a region of {inside.dtype} {inside.shape} does not fit alphas of shape "
            f"{predicted.shape}: give a bool array of the frame's or the clip's shape"
        )
    shape = (-1, *predicted.shape[-2:])
    clip = predicted.reshape(shape)
    truths = truth.reshape(shape)
    regions = np.broadcast_to(inside, clip.shape)
    for p, t, i in zip(clip, truths, regions, strict=True):
        # Frame by frame: a whole clip in float64 may not fit into memory.
        yield _as_float(p), _as_float(t), i


def _check_clip(predicted: Alpha, truth: Alpha) -> None:
    if predicted.shape != truth.shape or predicted.ndim != 3 or len(predicted) < 2:
        raise OptionError(
            f"flicker needs two clips of the same (T, H, W), T at least 2; got {predicted.shape} "
            f"and {truth.shape}"
        )


def _as_float(alpha: Alpha) -> Alpha:
    # uint8 0..255 compared with 0..1 would give plausible nonsense.
    if not np.issubdtype(alpha.dtype, np.floating):
        raise OptionError(f"an alpha of {alpha.dtype} was given: convert it to float in 0..1 first")
    return alpha.astype(np.float64, copy=False)


def _sum_abs(predicted: Alpha, truth: Alpha, inside: Mask) -> float:
    return float(np.sum(np.abs(predicted - truth)[inside])) / 1000


def _gradient_error(predicted: Alpha, truth: Alpha, inside: Mask) -> float:
    return (
        float(
            np.sum(np.square(_gradient_magnitude(predicted) - _gradient_magnitude(truth))[inside])
        )
        / 1000
    )


def _gradient_magnitude(alpha: Alpha) -> NDArray[np.float64]:
    # Beyond 4 pixels a Gaussian of sigma 1.4 is under 0.01: the cut of the authors' program.
    x = np.arange(-4, 5, dtype=np.float64)
    bell = np.exp(-np.square(x / _GRADIENT_SIGMA) / 2)
    # The derivative of the Gaussian, up to a factor that normalisation removes.
    slope = x * bell
    bell /= np.linalg.norm(bell)
    slope /= np.linalg.norm(slope)
    dx = cv2.sepFilter2D(alpha, cv2.CV_64F, slope, bell, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.sepFilter2D(alpha, cv2.CV_64F, bell, slope, borderType=cv2.BORDER_REPLICATE)
    magnitude: NDArray[np.float64] = np.hypot(dx, dy)
    return magnitude


def _connectivity_error(predicted: Alpha, truth: Alpha, inside: Mask) -> float:
    # Thresholds are compared in float32, so that 0.3 stored in either precision reaches 0.3.
    predicted32 = predicted.astype(np.float32)
    truth32 = truth.astype(np.float32)
    level = np.zeros(predicted.shape, np.float32)
    connected = np.ones(predicted.shape, np.bool_)
    for step in range(1, _CONNECTIVITY_STEPS + 1):
        threshold = np.float32(step / _CONNECTIVITY_STEPS)
        # Connected at this level only if connected at all lower ones.
        connected &= _largest_part((predicted32 >= threshold) & (truth32 >= threshold))
        level[connected] = threshold
    difference = _connectedness(predicted32 - level) - _connectedness(truth32 - level)
    return float(np.sum(np.abs(difference)[inside], dtype=np.float64)) / 1000


def _research_connectivity_error(predicted: Alpha, truth: Alpha, inside: Mask) -> float:
    # The thresholds of that code, in float64: 0.6 is a little more than 153 / 255.
    thresholds = np.arange(0, 1 + 1 / _CONNECTIVITY_STEPS, 1 / _CONNECTIVITY_STEPS)
    level = np.ones(predicted.shape)
    connected = np.ones(predicted.shape, np.bool_)
    for below, threshold in itertools.pairwise(thresholds):
        both = (predicted >= threshold) & (truth >= threshold)
        still_connected = connected & _largest_part_or_background(both)
        # A pixel keeps the last level at which it was still connected.
        level[connected & ~still_connected] = below
        connected = still_connected
    difference = _connectedness(predicted - level) - _connectedness(truth - level)
    return float(np.sum(np.abs(difference)[inside])) / 1000


def _connectedness(excess: NDArray[Any]) -> NDArray[Any]:
    """Return the degree of connectedness of alphas, by the excess over their connected level."""
    slack = excess.dtype.type(_CONNECTIVITY_SLACK)
    return np.asarray(1 - np.where(excess >= slack, excess, excess.dtype.type(0)))


def _largest_part(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    if count == 1:
        return np.zeros_like(mask)
    # Label 0 is everything outside of the mask.
    largest: Mask = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest


def _largest_part_or_background(mask: Mask) -> Mask:
    """Return the largest 4-connected part of `mask` together with everything outside of `mask`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    largest: Mask = labels == int(np.argmax(stats[:, cv2.CC_STAT_AREA]))
    return largest


def _overlap(predicted: Alpha, truth: Alpha, inside: Mask) -> float:
    a = (predicted > 0.5) & inside
    b = (truth > 0.5) & inside
    union = np.count_nonzero(a | b)
    # Two empty masks agree.
    return np.count_nonzero(a & b) / union if union else 1.0


def _contour_score(predicted: Mask, truth: Mask) -> float:
    tolerance = math.ceil(_CONTOUR_TOLERANCE * math.hypot(*truth.shape))
    a = _outline(predicted)
    b = _outline(truth)
    # An empty outline on one side only is a complete miss.
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = float(np.mean(_distance_to(b)[a] <= tolerance))
    recall = float(np.mean(_distance_to(a)[b] <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _outline(mask: Mask) -> Mask:
    """Return pixels that differ from their right, lower or lower right neighbour.

    The frame's edge is no outline.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    outline: Mask = (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])
    return outline


def _distance_to(outline: Mask) -> NDArray[np.float32]:
    distance = cv2.distanceTransform((~outline).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32, copy=False)
