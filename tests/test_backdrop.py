"""Outputs over a background."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.pipeline.request import Request
from vidmatte.write import parse_output, split_format_options
from vidmatte.write.backdrop import make_backdrop

SIZE = (64, 48)
RED = (200, 40, 30)


@pytest.fixture
def cut():
    """One frame: red, opaque on the left, half in the middle, transparent on the right."""
    frame = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    frame[..., :3] = RED
    frame[:, :22, 3] = 255
    frame[:, 22:42, 3] = 128
    return frame


def written(frame, path):
    options = vidmatte.MatteOptions(model="none", source_alpha="matte", foreground="source")
    vidmatte.matte(frame, output=path, options=options)
    with vidmatte.open_video(str(path).partition(":")[0]) as video:
        rgb = video.frame(0).rgb[0].permute(1, 2, 0).numpy() * 255
    return rgb[24, 10], rgb[24, 32], rgb[24, 54]


@pytest.mark.parametrize("name", ["p.mp4", "p.mov"])
def test_the_object_is_laid_over_a_colour(cut, tmp_path, name):
    inside, half, outside = written(cut, f"{tmp_path}/{name}:over=#4080c0")
    back = np.array([0x40, 0x80, 0xC0])
    share = 128 / 255
    assert np.allclose(inside, RED, atol=6)
    assert np.allclose(half, share * np.array(RED) + (1 - share) * back, atol=6)
    assert np.allclose(outside, back, atol=6)


def test_the_object_is_laid_over_an_image(cut, tmp_path):
    """Twice as wide as the frame: the middle of the image is seen."""
    image = np.zeros((48, 128, 3), np.uint8)
    image[:, 32:96] = (10, 200, 60)  # blue, green, red
    cv2.imwrite(str(tmp_path / "bg.png"), image)
    _, _, outside = written(cut, f"{tmp_path}/p.mp4:crf=8,over={tmp_path}/bg.png")
    assert np.allclose(outside, (60, 200, 10), atol=8)


def test_a_checkerboard_has_two_grays():
    plane = make_backdrop("checker", 40, 50)
    assert plane.shape == (3, 40, 50)
    assert len(torch.unique(plane)) == 2
    assert plane[0, 0, 0] != plane[0, 0, 16]
    assert plane[0, 0, 0] == plane[0, 16, 16]


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("a.mp4:over=#404040", "a.mp4", ("over=#404040",)),
        ("a/b.mov:over=checker", "a/b.mov", ("over=checker",)),
        ("a.mp4:crf=9,over=C:/bg/x.png", "a.mp4", ("crf=9", "over=C:/bg/x.png")),
        ("C:/a.mp4:over=bg.png", "C:/a.mp4", ("over=bg.png",)),
        ("a.mp4", "a.mp4", ()),
    ],
)
def test_backgrounds_are_format_options(text, path, words):
    assert split_format_options(text) == (path, words)
    spec = parse_output(text, alpha_only=False) if words else None
    if spec is not None:
        assert spec.argument == text
        assert spec.format.over_black


@pytest.mark.parametrize(
    ("text", "alpha_only", "message"),
    [
        ("a.mp4:over=blue", False, "write over=#404040"),
        ("a.mp4:over=#12", False, "write over=#404040"),
        ("a.mov:prores-4444,over=checker", False, "without alpha"),
        ("a.mp4:over=checker", True, "without alpha"),
    ],
)
def test_what_is_no_background_is_refused(text, alpha_only, message):
    with pytest.raises(OptionError, match=message):
        parse_output(text, alpha_only=alpha_only)


def test_a_background_that_is_not_there_is_found_before_any_work(cut, tmp_path):
    with pytest.raises(ReadError, match="no such image for the background"):
        written(cut, f"{tmp_path}/p.mp4:over={tmp_path}/no.png")
    assert list(tmp_path.iterdir()) == []


def test_a_background_is_an_input(tmp_path):
    request = Request.of("clip.mp4", vidmatte.Prompt(points=[(1, 1)]), output="p.mp4:over=bg.png")
    assert "bg.png" in map(str, request.inputs())
