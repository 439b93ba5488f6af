"""A trimap as a prompt of `compact`: its known areas hold, and colours fill the unknown one."""

import cv2
import numpy as np
import pytest
import torch

from vidmatte import load_model
from vidmatte.frames import FrameBatch
from vidmatte.imaging.color_lines import ColorLines
from vidmatte.model.compact.unknown_area import fill_unknown
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.stages.full_size import keep_given_areas

HEIGHT, WIDTH = 96, 128
FRONT, BACK = np.array([0.9, 0.3, 0.2]), np.array([0.1, 0.4, 0.7])


def scene(softness=10.0):
    """A soft disc of one colour over another: image (H, W, 3) 0-1, alpha, and known pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = 30 - np.hypot(columns - 64, rows - 48)
    alpha = np.clip(0.5 + depth / softness, 0, 1).astype(np.float32)
    # Waves in the unknown area, which a blend of its borders would not know.
    alpha = np.where(
        (alpha > 0) & (alpha < 1), np.clip(alpha + 0.3 * np.sin(columns / 2), 0, 1), alpha
    ).astype(np.float32)
    known = (np.abs(depth) > 10).astype(np.float32)
    image = alpha[..., None] * FRONT + (1 - alpha[..., None]) * BACK
    return image.astype(np.float32), alpha, known


def reference_of(image, alpha, known, frame=0):
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    planes = torch.from_numpy(np.stack([alpha * known, known]))[:, None, None]
    return Reference(rgb, planes[0], planes[1], frame)


def test_alpha_between_two_colours_is_found_exactly():
    # Of two colours alpha is a linear function of colour everywhere, so the answer is known.
    image, alpha, known = scene()
    codes = np.rint(image * 255).astype(np.uint8)
    found = fill_unknown(codes, alpha * known, known)
    assert np.array_equal(found[known > 0], alpha[known > 0])
    assert np.abs(found - alpha)[known == 0].max() < 0.03
    # What lies between the borders is no blend of them.
    assert np.abs(cv2.blur(alpha, (9, 9)) - alpha)[known == 0].max() > 0.1


def test_a_matte_that_is_known_everywhere_stays():
    image, alpha, _ = scene()
    codes = np.rint(image * 255).astype(np.uint8)
    assert np.array_equal(fill_unknown(codes, alpha, np.ones_like(alpha)), alpha)


def test_alpha_that_is_a_function_of_colour_passes_the_filter():
    rng = np.random.default_rng(0)
    planes = [rng.random((20, 30), np.float32) for _ in range(3)]
    alpha = 0.5 * planes[0] - 0.25 * planes[1] + 0.1 * planes[2] + 0.2
    lines = ColorLines(planes, radius=2, epsilon=1e-7)
    assert np.abs(lines.smooth(alpha) - alpha).max() < 1e-4
    weights = [float(plane.mean()) for plane in lines.fit(alpha)]
    assert weights == pytest.approx([0.5, -0.25, 0.1, 0.2], abs=1e-3)


def test_only_most_of_an_image_known_on_both_sides_is_a_trimap():
    image, alpha, known = scene()
    assert reference_of(image, alpha, known).is_trimap
    assert not reference_of(image, alpha, np.ones_like(known)).is_trimap
    few = np.zeros_like(known)
    few[48:60, 60:70] = 1
    assert not reference_of(image, alpha, few).is_trimap
    # A box knows the background around it alone.
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    box = Prompt(box=(30.0, 14.0, 98.0, 82.0)).reference(rgb, frame=0)
    assert float(box.known.mean()) > 0.5
    assert not box.is_trimap
    # A click inside of it makes it no trimap: it is answered as marks are.
    both = Prompt(box=(30.0, 14.0, 98.0, 82.0), points=((64, 48, 1),)).reference(rgb, frame=0)
    assert bool(both.roi.any())
    assert not both.is_trimap


def test_known_areas_hold_on_their_frame_and_the_unknown_one_is_matted():
    image, alpha, known = scene()
    reference = reference_of(image, alpha, known)
    predictor = load_model("compact", device="cpu").with_reference([reference])
    batch = FrameBatch(reference.rgb, (0,), (0,), (1,))
    mattes = keep_given_areas(predictor(batch), [reference])
    found = mattes.alpha[0, 0].numpy()
    assert np.array_equal(found[known > 0], alpha[known > 0])
    assert np.abs(found - alpha)[known == 0].mean() < 0.08
    other = FrameBatch(reference.rgb, (1,), (1,), (1,))
    unmarked = predictor(other)
    assert keep_given_areas(unmarked, [reference]) is unmarked
