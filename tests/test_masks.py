"""Masks as tools write them: label images, alpha that shows nothing, other sizes, pipes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from vidmatte.cli import cli
from vidmatte.errors import PromptError, ReadError
from vidmatte.frames import FrameBatch
from vidmatte.imaging.arrays import Alpha
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.segments.fingerprint import fingerprint
from vidmatte.prompts.files import load_prompts
from vidmatte.prompts.prompt import Prompt
from vidmatte.read.labels import split_label
from vidmatte.read.mask import open_mask
from vidmatte.read.plane import labels_of

SIZE = (48, 64)
DAVIS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
FIRST, SECOND = np.s_[8:30, 4:24], np.s_[20:44, 36:60]


def indices(first=1, second=0, dtype=np.uint8):
    """Two rectangles that do not touch."""
    image = np.zeros(SIZE, dtype)
    image[FIRST], image[SECOND] = first, second
    return image


def coverage(place):
    plane = np.zeros(SIZE, np.float32)
    plane[place] = 1
    return plane


def save_palette(path, image, colors=DAVIS):
    picture = Image.fromarray(image).convert("L")
    picture.putpalette(list(np.ravel(colors)))
    picture.save(path)
    return path


def prompt_alpha(path) -> Alpha:
    alpha = Prompt(mask=path).reference(torch.zeros(1, 3, *SIZE)).alpha
    return alpha[0, 0].numpy()


def mask_alpha(path) -> Alpha:
    with open_mask(path) as mask:
        batch = FrameBatch(torch.zeros(1, 3, *SIZE), (0,), (0,), (1,))
        return mask.read(batch, SIZE, SIZE[1])[0]


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_only_object_of_a_palette_is_opaque(tmp_path, number):
    path = save_palette(tmp_path / "m.png", indices(number))
    assert np.array_equal(prompt_alpha(path), coverage(FIRST))
    assert np.array_equal(mask_alpha(path), coverage(FIRST))


@pytest.mark.parametrize("code", [1, 2, 38, 127, 128, 200])
def test_one_flat_gray_marks_the_object(tmp_path, code):
    cv2.imwrite(str(tmp_path / "m.png"), indices(code))
    assert np.array_equal(prompt_alpha(tmp_path / "m.png"), coverage(FIRST))


@pytest.mark.parametrize("kind", ["palette", "dark grays", "16 bits", "colours"])
def test_several_labels_are_chosen_by_number(tmp_path, kind):
    path = tmp_path / "m.png"
    labels = indices(1, 2)
    if kind == "palette":
        save_palette(path, labels)
    elif kind == "colours":
        cv2.imwrite(str(path), np.array(DAVIS, np.uint8)[labels][..., ::-1])
    else:
        cv2.imwrite(str(path), labels.astype(np.uint16 if kind == "16 bits" else np.uint8))
    assert labels_of(path) == (1, 2)
    assert np.array_equal(prompt_alpha(f"{path}:1"), coverage(FIRST))
    assert np.array_equal(prompt_alpha(f"{path}:2"), coverage(SECOND))
    assert np.array_equal(mask_alpha(f"{path}:2"), coverage(SECOND))
    with pytest.raises(ReadError, match=r"several objects \(1, 2\); choose one, as in m\.png:2"):
        prompt_alpha(path)
    with pytest.raises(ReadError, match=r"has no label 3; its labels are 1, 2"):
        prompt_alpha(f"{path}:3")


def test_a_label_of_a_sequence_may_leave_the_picture(tmp_path):
    for number, image in enumerate([indices(1, 2), indices(1, 0), indices(1, 2)]):
        save_palette(tmp_path / f"m.{number:03}.png", image)
    with open_mask(f"{tmp_path / 'm.%03d.png'}:2") as mask:
        planes = list(mask._video.opacity())
    wanted = [coverage(SECOND), np.zeros(SIZE), coverage(SECOND)]
    assert np.array_equal(np.stack(planes), np.stack(wanted))


def test_a_file_named_like_a_label_is_itself(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), indices(255))
    path = (tmp_path / "m.png").rename(tmp_path / "m.png:2")
    assert split_label(path) == (path, None)
    assert split_label(f"{path}:3") == (path, 3)


def test_soft_edges_stay_shades(tmp_path):
    soft = cv2.GaussianBlur(indices(255), (0, 0), 2)
    cv2.imwrite(str(tmp_path / "m.png"), soft)
    assert np.allclose(prompt_alpha(tmp_path / "m.png"), soft / 255)
    # An edge through the middle of pixels has a single shade.
    half = indices(255)
    half[8:30, 24] = 128
    cv2.imwrite(str(tmp_path / "h.png"), half)
    assert np.allclose(prompt_alpha(tmp_path / "h.png"), half / 255)


def test_shades_of_mattes_and_trimaps_are_no_labels(tmp_path):
    for second in (128, 50):
        cv2.imwrite(str(tmp_path / "m.png"), indices(255, second))
        assert np.allclose(mask_alpha(tmp_path / "m.png"), indices(255, second) / 255)
    cv2.imwrite(str(tmp_path / "t.png"), indices(255, 128))
    assert np.allclose(prompt_alpha(tmp_path / "t.png"), indices(255, 128) / 255)


@pytest.mark.parametrize("hole", [254, 0])
def test_alpha_that_shows_nothing_does_not_count(tmp_path, hole):
    image = np.dstack([indices(255)] * 3 + [np.full(SIZE, 255, np.uint8)])
    image[0, 0, 3] = hole
    cv2.imwrite(str(tmp_path / "m.png"), image)
    for read in (prompt_alpha, mask_alpha):
        assert np.array_equal(read(tmp_path / "m.png"), coverage(FIRST))


def test_alpha_of_a_cut_out_counts(tmp_path):
    image = np.dstack([np.full(SIZE, 200, np.uint8)] * 3 + [indices(255)])
    cv2.imwrite(str(tmp_path / "m.png"), image)
    for read in (prompt_alpha, mask_alpha):
        assert np.array_equal(read(tmp_path / "m.png"), coverage(FIRST))


def test_idle_alpha_of_exr_does_not_count(tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    gray = indices(1).astype(np.float16)
    header = {"type": openexr.scanlineimage, "compression": openexr.ZIP_COMPRESSION}
    openexr.File(header, {"RGBA": np.dstack([gray] * 3 + [np.ones_like(gray)])}).write(
        str(tmp_path / "m.exr")
    )
    assert np.array_equal(mask_alpha(tmp_path / "m.exr"), coverage(FIRST))


def test_gray_sequences_with_idle_alpha_are_mattes(tmp_path):
    for number in range(3):
        image = np.dstack([indices(255)] * 3 + [np.full(SIZE, 255, np.uint8)])
        cv2.imwrite(str(tmp_path / f"m.{number}.png"), image)
    with open_mask(tmp_path / "m.%d.png") as mask:
        assert np.array_equal(next(mask._video.opacity()), coverage(FIRST))


def test_green_on_red_is_the_object_on_its_background(tmp_path):
    image = np.full((*SIZE, 3), (0, 0, 255), np.uint8)
    image[FIRST] = (0, 255, 0)
    cv2.imwrite(str(tmp_path / "m.png"), image)
    assert np.array_equal(prompt_alpha(tmp_path / "m.png"), coverage(FIRST))


def test_a_mask_of_the_whole_frame_is_noted(tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "m.png"), np.full(SIZE, 255, np.uint8))
    prompt_alpha(tmp_path / "m.png")
    assert "covers 100.0 % of the frame" in caplog.text


def test_the_size_of_a_mask_is_compared_before_it_is_decoded(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((96, 128, 4), np.uint8))
    monkeypatch.setattr("vidmatte.read.images.decode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("vidmatte.read.plane.decode", lambda *_: pytest.fail("decoded"))
    for key in ("mask", "scribbles"):
        with pytest.raises(PromptError, match="is 128x96, but the frame is 64x48"):
            Prompt(**{key: tmp_path / "m.png"}).reference(torch.zeros(1, 3, *SIZE))
    with open_mask(tmp_path / "m.png") as mask:
        assert mask.size == (96, 128)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ReadError, match="expected a file, got a pipe or a device"):
            prompt_alpha(path)


def test_several_labels_become_objects(movie, tmp_path, monkeypatch):
    labels = np.zeros((96, 160), np.uint8)
    labels[20:60, 10:60], labels[30:90, 90:150] = 1, 2
    path = save_palette(tmp_path / "m.png", labels)
    monkeypatch.chdir(tmp_path)
    command = [str(movie), "--mask", str(path), "--adapt-steps", "0", "--end", "1", "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    names = {Path(output["path"]).name for output in json.loads(result.stdout)["outputs"]}
    assert names == {f"clip_{n}_{kind}.mov" for n in (1, 2) for kind in ("matte", "alpha")}
    refused = CliRunner().invoke(cli, [*command, "--points", "20,40"])
    assert refused.exit_code == 2
    assert "is a label mask of several objects" in refused.stderr


def test_another_label_is_another_render(movie, tmp_path):
    """What is read of a label mask counts for `--resume` as for any other input."""
    path = save_palette(tmp_path / "m.png", indices(1, 2))
    request = Request.of(movie, Prompt(mask=Path(f"{path}:2")), alpha=tmp_path / "a.mov")
    assert path in request.inputs()
    before = fingerprint(request).key
    save_palette(path, indices(2, 1))
    assert fingerprint(request).key != before


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_prompt_files_that_are_pipes_or_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", "/dev/zero"):
        with pytest.raises(PromptError, match="expected a file, got a pipe or a device"):
            load_prompts(path)
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(1 << 30)  # sparse
    with pytest.raises(PromptError, match="is larger than a prompt file can be"):
        load_prompts(tmp_path / "large.json")
