"""Foreground colour on composites whose foreground, background and alpha are known."""

import cv2
import numpy as np
import pytest
import torch
from pymatting import estimate_foreground_ml
from skimage import data

from vidmatte.errors import OptionError
from vidmatte.imaging.foreground import estimate_foreground

HEIGHT, WIDTH = 360, 640


def photo(name: str) -> np.ndarray:
    picture = getattr(data, name)()[..., :3]
    return (
        cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    )


def flat(red: float, green: float, blue: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (red, green, blue), np.float32)


def hairy_alpha() -> np.ndarray:
    """An ellipse with an outline of 2 to 14 pixels and 150 strands of hair."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    y, x = (y - 200) / 140, (x - 320) / 130
    distance = (1 - np.hypot(y, x)) * 135
    alpha = np.clip(0.5 + distance / (8 + 6 * np.sin(4 * np.arctan2(y, x))), 0, 1)
    hair = np.zeros((HEIGHT, WIDTH), np.uint8)
    for angle in rng.uniform(-np.pi, 0, 150):
        root = np.array([320 + 126 * np.cos(angle), 200 + 136 * np.sin(angle)])
        bend = angle + rng.normal(0, 0.4) + np.linspace(0, 0.6, 8)
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * rng.uniform(1, 5)
        strand = np.round((root + np.cumsum(steps, axis=0)) * 16).astype(np.int32)
        cv2.polylines(hair, [strand], False, int(rng.uniform(90, 255)), 1, cv2.LINE_AA, 4)
    return np.maximum(alpha, cv2.GaussianBlur(hair.astype(np.float32) / 255, (0, 0), 0.6)).astype(
        np.float32
    )


def blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 12)


def composite(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return alpha[..., None] * foreground + (1 - alpha[..., None]) * background


def estimate(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return (
        estimate_foreground(rgb, torch.from_numpy(alpha)[None, None])[0].numpy().transpose(1, 2, 0)
    )


def color_error(estimated: np.ndarray, foreground: np.ndarray, alpha: np.ndarray) -> float:
    """Mean error in 1/255 of a composite over any new background, over the soft pixels."""
    soft = (alpha > 0.01) & (alpha < 0.99)
    return float(np.mean(np.abs(estimated - foreground)[soft] * alpha[soft][:, None])) * 255


SCENES = {
    "textured over photo": (photo("coffee"), photo("chelsea")),
    "textured over green": (photo("coffee"), flat(0.15, 0.7, 0.25)),
    "smooth over photo": (blurred(photo("coffee")), photo("chelsea")),
    "smooth over green": (blurred(photo("coffee")), flat(0.15, 0.7, 0.25)),
    "portrait over photo": (photo("astronaut"), photo("rocket")),
}


@pytest.mark.parametrize("scene", SCENES)
def test_colors_are_at_least_as_good_as_the_reference_implementation(scene: str) -> None:
    foreground, background = SCENES[scene]
    alpha = hairy_alpha()
    image = composite(foreground, background, alpha)
    ours = color_error(estimate(image, alpha), foreground, alpha)
    reference = estimate_foreground_ml(image.astype(np.float64), alpha.astype(np.float64))
    assert ours <= color_error(reference, foreground, alpha)
    assert ours <= 0.5 * color_error(image, foreground, alpha)


def test_an_alpha_that_is_a_little_off_costs_no_more_than_in_the_reference_implementation() -> None:
    foreground, background = SCENES["textured over green"]
    alpha = hairy_alpha()
    image = composite(foreground, background, alpha)
    for wrong in (
        cv2.GaussianBlur(alpha, (0, 0), 1),
        cv2.dilate(alpha, np.ones((3, 3))),
        cv2.erode(alpha, np.ones(3)),
    ):
        reference = estimate_foreground_ml(image.astype(np.float64), wrong.astype(np.float64))
        assert color_error(estimate(image, wrong), foreground, alpha) <= 1.02 * color_error(
            reference, foreground, alpha
        )


def test_flat_colors_are_recovered() -> None:
    alpha = hairy_alpha()
    foreground = flat(0.8, 0.2, 0.1)
    estimated = estimate(composite(foreground, flat(0.1, 0.6, 0.3), alpha), alpha)
    visible = alpha > 0.05
    assert np.abs(estimated - foreground)[visible].mean() < 1 / 255
    assert (
        np.percentile(np.abs(estimated - foreground)[visible] * alpha[visible][:, None], 99)
        < 6 / 255
    )


def exact_optimum(image: np.ndarray, alpha: np.ndarray, epsilon: float, omega: float) -> np.ndarray:
    """The energy of the paper minimised as one linear least-squares problem, for one channel."""
    height, width = alpha.shape
    index = np.arange(height * width).reshape(height, width)
    rows, right = [], []
    for y, x in np.ndindex(height, width):
        row = np.zeros(2 * alpha.size)
        row[index[y, x]], row[alpha.size + index[y, x]] = alpha[y, x], 1 - alpha[y, x]
        rows.append(row)
        right.append(image[y, x])
        for y2, x2 in ((y + 1, x), (y, x + 1)):
            if y2 < height and x2 < width:
                scale = np.sqrt(epsilon + omega * abs(alpha[y, x] - alpha[y2, x2]))
                for start in (0, alpha.size):
                    row = np.zeros(2 * alpha.size)
                    row[start + index[y, x]], row[start + index[y2, x2]] = scale, -scale
                    rows.append(row)
                    right.append(0.0)
    return np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0][: alpha.size].reshape(
        height, width
    )


def test_small_images_come_close_to_the_exact_optimum() -> None:
    y, x = np.mgrid[:8, :8]
    alpha = np.clip((x + 0.3 * y - 2) / 4, 0, 1).astype(np.float32)
    red = composite(np.full((8, 8, 3), 0.9), np.full((8, 8, 3), 0.2), alpha).astype(np.float32)
    red[..., 0] += (0.05 * np.sin(x + 2.0 * y)).astype(np.float32)
    optimum = exact_optimum(red[..., 0].astype(np.float64), alpha.astype(np.float64), 1e-5, 0.1)
    ours = estimate(red, alpha)[..., 0]
    visible = alpha > 0.1
    assert np.abs(ours - optimum)[visible].mean() < 0.03
    assert (
        np.abs(ours - optimum)[visible].mean() < 0.2 * np.abs(red[..., 0] - optimum)[visible].mean()
    )


def test_source_is_kept_bit_for_bit_where_alpha_is_one() -> None:
    alpha = hairy_alpha()
    image = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    solid = alpha == 1
    assert 0.1 < solid.mean() < 0.5
    assert np.array_equal(estimate(image, alpha)[solid], image[solid])
    assert np.array_equal(estimate(image, np.ones_like(alpha)), image)


def test_color_under_alpha_zero_continues_the_object_smoothly() -> None:
    foreground, background = SCENES["textured over photo"]
    alpha = hairy_alpha()
    image = composite(foreground, background, alpha)
    estimated = estimate(image, alpha)
    outside = cv2.dilate(alpha, np.ones((5, 5))) == 0
    step = np.abs(np.diff(estimated, axis=1)).max(axis=2)[outside[:, 1:] & outside[:, :-1]]
    source_step = np.abs(np.diff(image, axis=1)).max(axis=2)[outside[:, 1:] & outside[:, :-1]]
    assert step.mean() < 0.3 * source_step.mean()
    assert np.percentile(step, 99.9) < 0.05
    green = estimate(composite(flat(0.8, 0.2, 0.1), flat(0.1, 0.9, 0.3), alpha), alpha)
    assert np.abs(green - flat(0.8, 0.2, 0.1))[outside].mean() < 0.05


def test_a_hard_mask_has_its_source_inside_and_no_background_outside() -> None:
    alpha = (hairy_alpha() > 0.5).astype(np.float32)
    estimated = estimate(composite(flat(0.8, 0.2, 0.1), flat(0.1, 0.9, 0.3), alpha), alpha)
    assert np.abs(estimated - flat(0.8, 0.2, 0.1)).max() < 0.1


def test_frames_of_a_batch_are_independent_and_inputs_untouched() -> None:
    rng = np.random.default_rng(1)
    rgb = torch.from_numpy(rng.random((2, 3, 41, 67), np.float32))
    alpha = torch.from_numpy(cv2.GaussianBlur(rng.random((41, 67), np.float32), (0, 0), 3))
    alpha = torch.stack([(alpha - 0.45).clamp(0, 0.1) * 10, 1 - (alpha - 0.45).clamp(0, 0.1) * 10])[
        :, None
    ]
    kept = rgb.clone(), alpha.clone()
    both = estimate_foreground(rgb, alpha)
    assert torch.equal(rgb, kept[0])
    assert torch.equal(alpha, kept[1])
    for i in (0, 1):
        assert torch.equal(both[i : i + 1], estimate_foreground(rgb[i : i + 1], alpha[i : i + 1]))
    assert float(both.min()) >= 0
    assert float(both.max()) <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 37), (700, 1), (333, 517)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_foreground_takes_any_size_and_any_constant_alpha(
    height: int, width: int, level: float
) -> None:
    rgb = torch.full((1, 3, height, width), 0.25)
    estimated = estimate_foreground(rgb, torch.full((1, 1, height, width), level))
    assert estimated.shape == rgb.shape
    assert torch.allclose(estimated, rgb, atol=1e-6)


def scene_tensors() -> tuple[torch.Tensor, torch.Tensor]:
    foreground, background = SCENES["textured over photo"]
    alpha = hairy_alpha()
    image = composite(foreground, background, alpha)
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return rgb, torch.from_numpy(alpha)[None, None]


def test_what_other_devices_compute_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, alpha = scene_tensors()
    on_processor = estimate_foreground(rgb, alpha)
    monkeypatch.setattr("vidmatte.imaging.foreground._on_processor", lambda tensor: False)
    assert (estimate_foreground(rgb, alpha) - on_processor).abs().max() < 1e-4


@pytest.mark.gpu
def test_the_accelerator_computes_the_same() -> None:
    rgb, alpha = scene_tensors()
    found = estimate_foreground(rgb.cuda(), alpha.cuda())
    assert found.device.type == "cuda"
    assert (found.cpu() - estimate_foreground(rgb, alpha)).abs().max() < 1e-3


def test_inputs_that_do_not_fit_are_refused() -> None:
    rgb = torch.zeros(1, 3, 4, 5)
    with pytest.raises(OptionError, match=r"\(1, 1, 4, 4\)"):
        estimate_foreground(rgb, torch.zeros(1, 1, 4, 4))
    with pytest.raises(OptionError, match=r"\(3, 4, 5\)"):
        estimate_foreground(rgb[0], torch.zeros(1, 1, 4, 5))
    with pytest.raises(OptionError, match="float64"):
        estimate_foreground(rgb, torch.zeros(1, 1, 4, 5, dtype=torch.float64))
