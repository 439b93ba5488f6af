"""Masks of another size than the frame: refused, scaled, or laid on its middle or corner."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError, PromptError
from vidmatte.frames import FrameBatch
from vidmatte.imaging.fit import fit_to_frame
from vidmatte.prompts.prompt import MarkedClip, Prompt
from vidmatte.read.mask import open_mask

FRAME = (96, 160)
"""Height and width of the movie that tests share."""


def fitted(image, size, fit, *, display=None, **beyond):
    pixels = np.array(image, np.float32)
    return fit_to_frame(pixels, size, display or size, fit, **beyond).tolist()


def test_too_few_lines_are_continued_by_the_outermost_one():
    assert fitted([[0, 1], [1, 0]], (4, 2), "top-left") == [[0, 1], [1, 0], [1, 0], [1, 0]]
    assert fitted([[0, 1], [1, 0]], (4, 2), "center") == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_too_many_lines_are_cut():
    lines = [[0.25], [0.5], [0.75], [1]]
    assert fitted(lines, (2, 1), "top-left") == [[0.25], [0.5]]
    assert fitted(lines, (2, 1), "center") == [[0.5], [0.75]]


def test_one_side_may_be_cut_and_the_other_continued():
    assert fitted([[0, 0.5, 1]], (2, 1), "center") == [[0.5], [0.5]]


def test_scaling_keeps_the_mean_of_pixels_and_spreads_them_evenly():
    assert fitted([[0, 1], [1, 0]], (1, 1), "scale") == [[0.5]]
    assert fitted([[0, 1]], (2, 4), "scale") == [[0, 0.25, 0.75, 1]] * 2


def test_painted_colours_are_not_mixed_and_nothing_is_painted_beyond():
    strokes = [[[1, 0], [0, 1]]]
    spread = [[[1, 0], [1, 0], [0, 1], [0, 1]]]
    assert fitted(strokes, (1, 4), "scale", beyond="empty") == spread
    assert fitted(strokes, (1, 3), "top-left", beyond="empty") == [[[1, 0], [0, 1], [0, 0]]]


def test_lines_are_laid_on_stored_pixels_if_the_width_says_so():
    """A frame of 2 stored columns is displayed 4 wide."""
    assert fitted([[0, 1]], (2, 2), "top-left", display=(2, 4)) == [[0, 1]] * 2
    assert fitted([[0, 0, 1, 1]], (2, 2), "top-left", display=(2, 4)) == [[0, 1]] * 2


def save(path, plane):
    assert cv2.imwrite(str(path), (np.asarray(plane, np.float32) * 255).round().astype(np.uint8))
    return path


@pytest.fixture
def short(tmp_path):
    """A mask of eight lines too few: the object stands in columns 40 to 80, to the lower edge."""
    plane = np.zeros((FRAME[0] - 8, FRAME[1]))
    plane[30:, 40:80] = 1
    return save(tmp_path / "short.png", plane)


def whole(first_line):
    plane = np.zeros(FRAME, np.float32)
    plane[first_line:, 40:80] = 1
    return plane


@pytest.mark.parametrize(("fit", "first_line"), [("top-left", 30), ("center", 34)])
def test_prompts_and_masks_of_frames_are_fitted_alike(short, fit, first_line):
    rgb = torch.zeros(1, 3, *FRAME)
    reference = Prompt(mask=short).reference(rgb, mask_fit=fit)
    assert np.array_equal(reference.alpha[0, 0].numpy(), whole(first_line))
    assert reference.is_complete
    with open_mask(short, fit) as mask:
        (plane,) = mask.read(FrameBatch(rgb, (0,), (0,), (1,)), FRAME, FRAME[1])
    assert np.array_equal(plane, whole(first_line))


def test_masks_in_memory_and_strokes_are_fitted(tmp_path):
    rgb = torch.zeros(1, 3, 4, 4)
    half = Prompt(mask=np.array([[1, 0], [1, 0]], bool))
    assert half.reference(rgb, mask_fit="scale").alpha[0, 0].tolist() == [[1, 0.75, 0.25, 0]] * 4
    bgra = np.zeros((2, 4, 4), np.uint8)
    bgra[:, 1] = 255
    cv2.imwrite(str(tmp_path / "strokes.png"), bgra)
    strokes = Prompt(scribbles=tmp_path / "strokes.png").reference(rgb, mask_fit="top-left")
    assert strokes.known[0, 0].tolist() == [[0, 1, 0, 0]] * 2 + [[0] * 4] * 2


def test_the_refusal_names_the_ways_that_fit(tmp_path):
    rgb = torch.zeros(1, 3, *FRAME)
    short = save(tmp_path / "short.png", np.ones((88, 160)))
    small = save(tmp_path / "small.png", np.ones((48, 80)))
    with pytest.raises(PromptError, match=r"is 160x88, but the frame is 160x96;.*'top-left' or"):
        Prompt(mask=short).reference(rgb)
    with pytest.raises(PromptError, match="mask_fit='scale' if it is of the whole frame"):
        Prompt(mask=small).reference(rgb)
    batch = FrameBatch(rgb, (0,), (0,), (1,))
    with open_mask(short) as mask, pytest.raises(OptionError, match="give mask_fit='top-left'"):
        mask.read(batch, FRAME, FRAME[1])


def test_a_prompt_file_of_another_size_is_taken_if_it_holds_images_alone(short):
    """Coordinates of another size mean other places; an image can be brought to the frame."""
    made_on = MarkedClip("clip.mp4", (160, 88))
    rgb = torch.zeros(1, 3, *FRAME)
    alone = Prompt(mask=short, made_on=made_on)
    assert alone.reference(rgb, mask_fit="top-left").alpha[0, 0, -1].sum() == 40
    for marks in (alone, Prompt(mask=short, points=((50, 50, 1),), made_on=made_on)):
        fit = "exact" if marks is alone else "top-left"
        with pytest.raises(PromptError, match=r"made on clip.mp4 \(160x88\)"):
            marks.reference(rgb, mask_fit=fit)


def run(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments), "--json"])


def test_the_command_takes_1080_lines_on_1088(movie, short, tmp_path):
    asked = [movie, "--mask", short, "--mask-edge", "hard", "--end", "0", "--working-size", 128]
    alpha = tmp_path / "alpha.%d.png"
    refused = run(*asked, "--alpha", alpha)
    assert refused.exit_code == 2
    message = json.loads(refused.stdout)["error"]["message"]
    assert "short.png: is 160x88, but the frame is 160x96" in message
    assert "--mask-fit top-left" in message
    done = run(*asked, "--alpha", alpha, "--mask-fit", "top-left")
    assert done.exit_code == 0, done.output
    written = cv2.imread(str(tmp_path / "alpha.0.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written / np.float32(65535), whole(30))
    assert json.loads(done.stdout)["options"]["mask_fit"] == "top-left"


def test_despeckle_is_another_name_of_remove_dots(movie, tmp_path):
    plane = np.zeros(FRAME)
    plane[20:60, 40:80] = plane[80:83, 10:13] = 1
    matte = save(tmp_path / "m.png", plane)
    asked = [movie, "--model", "none", "--matte", matte, "--end", "0", "--alpha"]
    assert run(*asked, tmp_path / "a.%d.png", "--despeckle", 20).exit_code == 0
    plane[80:83, 10:13] = 0
    written = cv2.imread(str(tmp_path / "a.0.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written / 65535, plane)


def test_mattes_and_garbage_mattes_are_fitted_by_the_library(movie, tmp_path):
    """A matte of half the size, and a garbage matte of eight lines too few."""
    half = np.zeros((48, 80))
    half[:, 20:] = 1
    garbage = np.zeros((88, 160))
    garbage[80:] = 1
    finish = vidmatte.FinishOptions(outside_mask=save(tmp_path / "garbage.png", garbage))
    matte = save(tmp_path / "half.png", half)

    def matted(**fit):
        options = vidmatte.MatteOptions(
            model="none", matte=matte, foreground="source", end="0", finish=finish, **fit
        )
        with vidmatte.Pipeline(movie, options=options) as pipeline:
            return next(iter(pipeline.frames())).alpha

    with pytest.raises(vidmatte.VidmatteError, match="give mask_fit='top-left' or"):
        matted()
    scaled = matted(mask_fit="scale")
    assert scaled[:80, 42:].min() == 1
    assert scaled[:, :38].max() == 0
    # The last of its 88 lines goes on for eight more; scaled by 96 / 88, they begin at 87.3.
    assert scaled[-1, 60] == 0
    assert scaled[86, 60] == 1
