"""The motion cue against flows whose parts are known."""

import math

import pytest
import torch

from vidmatte.model.compact.motion import motion_cue, no_motion

HEIGHT, WIDTH = 96, 160
UNIT = HEIGHT / 80


@pytest.fixture
def box():
    """(1, 1, h, w) 1 in a box of about a sixth of the frame."""
    inside = torch.zeros(1, 1, HEIGHT, WIDTH)
    inside[..., 20:60, 40:100] = 1
    return inside


def camera(shift=(3.0, -2.0), zoom=0.05, turn=0.02):
    """Flow (1, h, w, 2) of a camera that shifts, zooms and turns."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) - 48.0, torch.arange(WIDTH) - 80.0, indexing="ij")
    return torch.stack([shift[0] + zoom * x - turn * y, shift[1] + zoom * y + turn * x], -1)[None]


def moving(flow, box, motion):
    return torch.where(box[0, 0, ..., None] > 0, flow + torch.tensor(motion), flow)


def inner(values, box, margin=6):
    """Values well inside or outside the box: cells of the fit straddle its edge."""
    grown = torch.nn.functional.max_pool2d(box, 2 * margin + 1, 1, margin)
    shrunk = -torch.nn.functional.max_pool2d(-box, 2 * margin + 1, 1, margin)
    return values[:, :, shrunk[0, 0] > 0], values[:, :, grown[0, 0] == 0]


def test_what_moves_against_the_camera_stands_out_and_the_rest_does_not(box):
    flow = moving(camera(), box, (6.0, 8.0))
    cue = motion_cue(flow, torch.zeros_like(box), torch.ones_like(box))
    on, off = inner(cue, box)
    length = 10 / (10 + UNIT)
    assert torch.allclose(on[0, 0], torch.tensor(0.6 * length), atol=0.02)
    assert torch.allclose(on[0, 1], torch.tensor(0.8 * length), atol=0.02)
    assert off[0, :2].abs().max() < 0.05
    assert (cue[:, 2] == 0.5).all()
    assert (cue[:, 3] == 1).all()


def test_what_moves_with_a_few_marks_is_near_them(box):
    flow = moving(camera(zoom=0.0, turn=0.0), box, (0.0, 5.0))
    marks = torch.zeros_like(box)
    marks[..., 38:42, 48:52] = 1
    marks[..., 30:34, 80:84] = 1
    on, off = inner(motion_cue(flow, marks, 1 - marks), box)
    assert on[0, 2].max() < 0.02
    assert torch.allclose(off[0, 2], torch.tensor(5 / (5 + UNIT)), atol=0.02)


def test_a_still_clip_has_no_motion(box):
    cue = motion_cue(
        torch.zeros(2, HEIGHT, WIDTH, 2), box.repeat(2, 1, 1, 1), 1 - box.repeat(2, 1, 1, 1)
    )
    assert cue[:, :3].abs().max() < 1e-6
    assert not math.isnan(cue.sum())


def test_images_without_a_neighbour_have_an_unknown_motion():
    cue = no_motion(torch.ones(2, 3, 32, 48, dtype=torch.bfloat16))
    assert cue.shape == (2, 4, 32, 48)
    assert not cue.any()
