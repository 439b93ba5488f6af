"""Every measure against hand-computed cases, and complex ones against a slow formulation."""

import math

import numpy as np
import pytest

from vidmatte import metrics
from vidmatte.errors import OptionError

ZERO = np.zeros((4, 4))
IMAGE_MEASURES = (metrics.sad, metrics.mse, metrics.mad, metrics.grad, metrics.conn)


def disk(height: int, width: int, radius: float, softness: float = 3.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - height / 2, x - width / 2)
    return np.clip((radius - distance) / softness + 0.5, 0, 1)


def noisy(alpha: np.ndarray, seed: int, amount: float = 0.3) -> np.ndarray:
    return np.clip(alpha + np.random.default_rng(seed).normal(0, amount, alpha.shape), 0, 1)


def test_differences_of_a_hand_computed_matte() -> None:
    predicted = ZERO.copy()
    predicted[0, 0], predicted[1, 2] = 0.5, 1.0
    assert metrics.sad(predicted, ZERO) == pytest.approx(1.5 / 1000)
    assert metrics.mad(predicted, ZERO) == pytest.approx(1.5 / 16)
    assert metrics.mse(predicted, ZERO) == pytest.approx(1.25 / 16)


def test_region_limits_what_counts() -> None:
    predicted = ZERO.copy()
    predicted[0, 0], predicted[1, 2] = 0.5, 1.0
    top = np.zeros((4, 4), bool)
    top[0] = True
    assert metrics.sad(predicted, ZERO, region=top) == pytest.approx(0.5 / 1000)
    assert metrics.mad(predicted, ZERO, region=top) == pytest.approx(0.5 / 4)
    assert metrics.mse(predicted, ZERO, region=top) == pytest.approx(0.25 / 4)


@pytest.mark.parametrize("measure", IMAGE_MEASURES)
def test_image_measures_are_zero_for_a_perfect_matte_and_grow_with_the_error(measure) -> None:
    truth = disk(40, 50, 12)
    errors = [measure(noisy(truth, 0, amount), truth) for amount in (0.0, 0.1, 0.3)]
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2]


@pytest.mark.parametrize("measure", IMAGE_MEASURES)
def test_a_clip_is_the_mean_of_its_frames(measure) -> None:
    truth = np.stack([disk(20, 30, 6), disk(20, 30, 8)])
    predicted = noisy(truth, 1)
    by_frame = [measure(p, t) for p, t in zip(predicted, truth, strict=True)]
    assert measure(predicted, truth) == pytest.approx(sum(by_frame) / 2)


def test_frames_outside_the_region_do_not_count() -> None:
    region = np.zeros((2, 4, 4), bool)
    region[1, 0, 0] = True
    predicted = np.stack([np.ones((4, 4)), np.full((4, 4), 0.25)])
    assert metrics.mad(predicted, np.zeros((2, 4, 4)), region=region) == 0.25
    with pytest.raises(OptionError, match="no pixel"):
        metrics.mad(predicted, predicted, region=np.zeros((2, 4, 4), bool))


def test_single_and_double_precision_agree() -> None:
    truth = disk(20, 30, 6)
    predicted = np.round(noisy(truth, 2), 1)
    for measure in IMAGE_MEASURES:
        assert measure(predicted.astype(np.float32), truth.astype(np.float32)) == pytest.approx(
            measure(predicted, truth), rel=1e-5
        )


def gradient_by_definition(alpha: np.ndarray, y: int, x: int) -> float:
    """Magnitude at one pixel: a plain double sum over the 9x9 neighbourhood."""

    def bell(d: int) -> float:
        return math.exp(-(d**2) / (2 * 1.4**2)) / (1.4 * math.sqrt(2 * math.pi))

    def slope(d: int) -> float:
        return -d * bell(d) / 1.4**2

    offsets = range(-4, 5)
    norm = math.sqrt(sum((bell(i) * slope(j)) ** 2 for i in offsets for j in offsets))
    dx = dy = 0.0
    for i in offsets:
        for j in offsets:
            value = alpha[
                min(max(y + i, 0), alpha.shape[0] - 1), min(max(x + j, 0), alpha.shape[1] - 1)
            ]
            dx += value * bell(i) * slope(j) / norm
            dy += value * slope(i) * bell(j) / norm
    return math.hypot(dx, dy)


def test_grad_equals_the_double_sum() -> None:
    truth = disk(13, 17, 4)
    predicted = noisy(truth, 3)
    expected = sum(
        (gradient_by_definition(predicted, y, x) - gradient_by_definition(truth, y, x)) ** 2
        for y in range(13)
        for x in range(17)
    )
    assert metrics.grad(predicted, truth) == pytest.approx(expected / 1000, rel=1e-9)


def test_grad_of_a_step_equals_the_filter_by_hand() -> None:
    """A step of height 1 against nothing gives the squared row sums of the filter by distance."""
    predicted = np.zeros((1, 40))
    predicted[:, 20:] = 1
    offsets = np.arange(-4, 5)
    bell = np.exp(-(offsets**2) / (2 * 1.4**2))
    slope = offsets * bell
    row = slope / np.linalg.norm(slope) * (bell / np.linalg.norm(bell)).sum()
    responses = [row[k:].sum() for k in range(1, 9)]
    assert metrics.grad(predicted, np.zeros((1, 40))) == pytest.approx(
        sum(r**2 for r in responses) / 1000
    )


def flood(mask: np.ndarray, background: bool = False) -> np.ndarray:
    """The largest 4-connected part, by a stack; of equal ones the first in reading order.

    With `background`, what is not in the mask counts as one part, and comes first.
    """
    seen = np.zeros_like(mask)
    best = list(zip(*np.nonzero(~mask), strict=True)) if background else []
    for start in zip(*np.nonzero(mask), strict=True):
        part, stack = [], [start]
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not seen[y, x]:
                seen[y, x] = True
                part.append((y, x))
                stack += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        best = max(best, part, key=len)
    largest = np.zeros_like(mask)
    for y, x in best:
        largest[y, x] = True
    return largest


def connectivity_by_definition(
    predicted: np.ndarray, truth: np.ndarray, background: bool = False
) -> float:
    solid = [np.ones(truth.shape, bool)]
    for k in range(1, 11):
        solid.append(flood((predicted >= k / 10) & (truth >= k / 10), background))
    total = 0.0
    for y, x in np.ndindex(truth.shape):
        level = 0
        while level < 10 and solid[level + 1][y, x]:
            level += 1
        degrees = []
        for alpha in (predicted, truth):
            excess = alpha[y, x] - level / 10
            degrees.append(1 - excess if excess >= 0.15 else 1)
        total += abs(degrees[0] - degrees[1])
    return total / 1000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_conn_equals_the_flood_fill(seed: int) -> None:
    truth = disk(22, 27, 7)
    predicted = noisy(truth, seed, 0.25)
    assert metrics.conn(predicted, truth) == pytest.approx(
        connectivity_by_definition(predicted, truth), rel=1e-5
    )
    assert metrics.conn(predicted, truth) > 0


@pytest.mark.parametrize("radius", [7, 14])
def test_conn_of_the_research_code_equals_the_flood_fill(radius: int) -> None:
    # The small disk is smaller than its background, the large one larger.
    truth = disk(22, 27, radius)
    predicted = noisy(truth, 0, 0.25)
    assert metrics.conn_research(predicted, truth) == pytest.approx(
        connectivity_by_definition(predicted, truth, background=True), rel=1e-9
    )


def test_conn_of_the_research_code_overlooks_what_a_large_background_hides() -> None:
    solid = np.ones((48, 48))
    empty = np.zeros((48, 48))
    # Nothing in common: all 2304 pixels are the largest part, which is the background.
    assert metrics.conn(empty, solid) == pytest.approx(2.304)
    assert metrics.conn_research(empty, solid) == 0
    # Haze of 0.3 over a background of 84 pixels, around an object of 16.
    truth = np.zeros((10, 10))
    truth[:4, :4] = 1
    hazy = np.maximum(truth, 0.3)
    assert metrics.conn(hazy, truth) == pytest.approx(0.3 * 84 / 1000, rel=1e-6)
    assert metrics.conn_research(hazy, truth) == 0


def test_conn_counts_an_island_as_disconnected() -> None:
    """A solid bar, and in the prediction a loose pixel of 0.8, connected to it only at level 0."""
    truth = np.zeros((5, 5))
    truth[0] = 1
    predicted = truth.copy()
    predicted[3, 3] = 0.8
    assert metrics.conn(predicted, truth) == pytest.approx(0.8 / 1000, rel=1e-5)
    predicted[3, 3] = 0.1
    assert metrics.conn(predicted, truth) == 0


def test_dtssd_of_a_hand_computed_clip() -> None:
    truth = np.zeros((3, 2, 2))
    predicted = truth.copy()
    predicted[1, 0, 0] = 0.5
    assert metrics.dtssd(predicted, truth) == pytest.approx(100 * math.sqrt(0.25 / 4))
    predicted[2, 0, 0] = 0.5
    assert metrics.dtssd(predicted, truth) == pytest.approx(100 * (math.sqrt(0.25 / 4) + 0) / 2)


def test_dtssd_ignores_a_constant_error_and_true_change() -> None:
    truth = np.stack([disk(20, 30, r) * 0.8 for r in (4, 6, 8)])
    assert metrics.dtssd(truth + 0.1, truth) == pytest.approx(0, abs=1e-9)
    frozen = np.broadcast_to(truth[:1], truth.shape)
    change = [math.sqrt(float(np.mean((truth[t + 1] - truth[t]) ** 2))) for t in (0, 1)]
    assert metrics.dtssd(frozen, truth) == pytest.approx(100 * sum(change) / 2)


def test_dtssd_region_is_that_of_the_later_frame() -> None:
    predicted = np.zeros((2, 2, 2))
    predicted[1, 0] = 1
    region = np.zeros((2, 2, 2), bool)
    region[0, 1], region[1, 0] = True, True
    assert metrics.dtssd(predicted, np.zeros((2, 2, 2)), region=region) == pytest.approx(100)


def test_messddt_follows_the_motion() -> None:
    """An error of 0.5 that moves one pixel right with the object is no flicker along the motion."""
    predicted = np.zeros((2, 1, 6))
    predicted[0, 0, 2], predicted[1, 0, 3] = 0.5, 0.5
    truth = np.zeros((2, 1, 6))
    flow = np.zeros((1, 1, 6, 2), np.float32)
    assert metrics.messddt(predicted, truth, flow) == pytest.approx(1000 * 2 * 0.25 / 6)
    flow[..., 0] = 1
    assert metrics.messddt(predicted, truth, flow) == 0


def test_messddt_leaves_out_what_leaves_the_frame() -> None:
    predicted = np.zeros((2, 1, 4))
    predicted[0, 0, 3], predicted[0, 0, 0] = 1.0, 0.5
    flow = np.zeros((1, 1, 4, 2), np.float32)
    flow[..., 0] = 1
    assert metrics.messddt(predicted, np.zeros((2, 1, 4)), flow) == pytest.approx(1000 * 0.25 / 3)


def test_region_overlap_of_hand_computed_masks() -> None:
    a, b = ZERO.copy(), ZERO.copy()
    a[:2, :2], b[1:3, :2] = 1, 0.6
    assert metrics.region_overlap(a, b) == pytest.approx(2 / 6)
    assert metrics.region_overlap(ZERO, ZERO) == 1
    assert metrics.region_overlap(a, ZERO) == 0


def test_contour_accuracy_of_shifted_squares() -> None:
    """Frame diagonal 100: the tolerance is one pixel."""
    truth = np.zeros((60, 80))
    truth[20:40, 20:40] = 1
    assert metrics.contour_accuracy(truth, truth) == 1
    assert metrics.contour_accuracy(np.roll(truth, 1, axis=1), truth) == 1
    # Shifted by 5 in x the upper and lower outlines still coincide over 15 + 1 of their pixels, the
    # sides do not.
    assert 0.3 < metrics.contour_accuracy(np.roll(truth, 5, axis=1), truth) < 0.5
    assert metrics.contour_accuracy(np.roll(truth, 30, axis=0), truth) == 0


def test_contour_accuracy_counts_a_missing_half() -> None:
    """Two equal squares far apart, one of them found: precision 1, recall 1/2."""
    truth = np.zeros((60, 80))
    truth[10:20, 10:20] = truth[40:50, 50:60] = 1
    predicted = truth.copy()
    predicted[30:] = 0
    assert metrics.contour_accuracy(predicted, truth) == pytest.approx(2 / 3)


def test_contour_accuracy_without_outlines() -> None:
    truth = np.zeros((30, 40))
    assert metrics.contour_accuracy(truth, truth) == 1
    truth[10:20, 10:20] = 1
    assert metrics.contour_accuracy(np.zeros((30, 40)), truth) == 0


def test_a_contour_agrees_with_the_dilated_outlines() -> None:
    """The original definition: outlines dilated by a disk, matched pixel by pixel."""
    truth, predicted = disk(90, 120, 30) > 0.5, disk(90, 120, 33) > 0.5
    predicted[:, :40] = truth[:, :40]
    tolerance = math.ceil(0.008 * 150)

    def outline(mask: np.ndarray) -> set[tuple[int, int]]:
        pairs = set()
        for y, x in np.ndindex(mask.shape):
            block = mask[y : y + 2, x : x + 2]
            if block.any() and not block.all():
                pairs.add((y, x))
        return pairs

    def share(found: set[tuple[int, int]], wanted: set[tuple[int, int]]) -> float:
        near = [any(math.dist(a, b) <= tolerance for b in wanted) for a in found]
        return sum(near) / len(near)

    precision, recall = (
        share(outline(predicted), outline(truth)),
        share(outline(truth), outline(predicted)),
    )
    expected = 2 * precision * recall / (precision + recall)
    assert 0.2 < expected < 0.9
    assert metrics.contour_accuracy(predicted.astype(float), truth.astype(float)) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "measure", [*IMAGE_MEASURES, metrics.region_overlap, metrics.contour_accuracy]
)
def test_alphas_that_do_not_fit_are_refused(measure) -> None:
    with pytest.raises(OptionError, match="shape"):
        measure(ZERO, np.zeros((4, 5)))
    with pytest.raises(OptionError, match="uint8"):
        measure(ZERO.astype(np.uint8), ZERO.astype(np.uint8))


def test_clips_and_regions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OptionError, match="T at least 2"):
        metrics.dtssd(ZERO[None], ZERO[None])
    with pytest.raises(OptionError, match="flow of shape"):
        metrics.messddt(
            np.zeros((2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 2), np.float32)
        )
    with pytest.raises(OptionError, match="bool array"):
        metrics.mad(ZERO, ZERO, region=np.zeros((3, 3), bool))
