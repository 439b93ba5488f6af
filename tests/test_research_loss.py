"""The losses of IconMatting's public code, against values computed by hand and by NumPy."""

import numpy as np
import pytest
import torch

from vidmatte.train.research_loss import (
    gaussian_laplacian,
    gradient_penalty,
    matting_terms,
    scaled_l1,
    scaled_smooth_l1,
    segmentation_terms,
)

PIXELS = 262144


def maps(*values):
    return torch.from_numpy(np.stack(values).astype(np.float32))[:, None]


def test_l1_counts_a_region_as_if_it_had_512_by_512_pixels():
    alpha = torch.zeros(2, 1, 4, 4)
    alpha[0, 0, 0, 0] = 0.5
    region = torch.zeros(2, 1, 4, 4)
    region[0, 0, 0, :2] = 1
    truth = torch.zeros_like(alpha)
    # 0.5 over 16 pixels, times 262144 over 2; an empty region counts nothing.
    assert scaled_l1(alpha, truth, region).tolist() == [0.5 / 16 * PIXELS / 2, 0]


def test_smooth_l1_is_quadratic_below_one():
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[0, 0, 2, 1] = 0.5
    region = torch.ones(1, 1, 4, 4)
    expected = 0.5 * 0.5**2 / 16 * PIXELS / 16
    assert scaled_smooth_l1(alpha, torch.zeros_like(alpha), region).item() == expected


def test_the_gradient_of_a_ramp_is_that_of_sobel():
    ramp = (torch.arange(8) * 0.1).expand(1, 1, 8, 8).contiguous()
    region = torch.zeros(1, 1, 8, 8)
    region[0, 0, 4, 4] = 1
    # Sobel answers 8 times the slope; a hundredth of it is the penalty on alpha's own gradient.
    found = gradient_penalty(ramp, torch.zeros_like(ramp), region).item()
    assert found == pytest.approx((0.8 + 0.008) / 64 * PIXELS, rel=1e-5)
    same = gradient_penalty(ramp, ramp, region).item()
    assert same == pytest.approx(0.008 / 64 * PIXELS, rel=1e-5)


def numpy_laplacian(image, levels=5):
    """The pyramid by matrices: blur and subsample are linear in each direction."""
    total = 0.0
    for level in range(levels):
        size = len(image)
        padded = np.pad(np.eye(size), ((2, 2), (0, 0)), mode="reflect")
        kernel = np.array([1, 4, 6, 4, 1]) / 16
        blur = sum(kernel[k] * padded[k : k + size] for k in range(5))
        down = blur[::2]
        up = 2 * blur[:, ::2]
        smaller = down @ image @ down.T
        total += 2**level * np.abs(image - up @ smaller @ up.T).mean()
        image = smaller
    return total / levels


def test_the_laplacian_has_five_gaussian_levels_of_doubling_weight():
    random = np.random.RandomState(0)
    alpha = random.random_sample((2, 64, 64))
    truth = random.random_sample((2, 64, 64))
    found = gaussian_laplacian(maps(*alpha), maps(*truth))
    expected = [numpy_laplacian(a - t) for a, t in zip(alpha, truth, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    # A constant difference has no bands.
    assert gaussian_laplacian(maps(alpha[0]), maps(alpha[0] - 0.3)).item() < 1e-5


def test_alpha_and_masks_have_the_terms_of_the_paper():
    alpha = torch.full((1, 1, 64, 64), 0.25)
    truth = torch.zeros(1, 1, 64, 64)
    unknown = torch.zeros(1, 1, 64, 64)
    unknown[..., :32] = 1
    matting = matting_terms(alpha, truth, unknown)
    assert list(matting) == ["l1 unknown", "l1 known", "laplacian", "gradient"]
    # Half of the pixels each: a mean of 0.125, times 262144 over 2048.
    assert matting["l1 unknown"].item() == matting["l1 known"].item() == 0.125 * PIXELS / 2048
    masks = segmentation_terms(alpha, truth, unknown)
    assert list(masks) == ["smooth l1 known"]
    assert masks["smooth l1 known"].item() == 0.5 * 0.25**2 / 2 * PIXELS / 2048
