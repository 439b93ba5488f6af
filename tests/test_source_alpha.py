"""Sources with alpha of their own: noted, multiplied into mattes, or taken as the matte."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError
from vidmatte.read import open_video

SIZE = (48, 64)
FRAMES = 4


def shape(number):
    """Alpha of a frame: a ramp, 8 pixels further right in each."""
    x = np.broadcast_to(np.arange(SIZE[1]), SIZE)
    return np.clip((x - 8 * number) * 10, 0, 255).astype(np.uint8)


def picture(number):
    return np.dstack([np.full(SIZE, code, np.uint8) for code in (200, 90, 40)] + [shape(number)])


def write_source(folder, kind):
    """The same frames in a container with alpha."""
    pictures = [picture(number) for number in range(FRAMES)]
    if kind == "%d.png":
        for number, image in enumerate(pictures):
            Image.fromarray(image).save(folder / f"s.{number}.png")
        return folder / "s.%d.png"
    path = folder / f"s.{kind}"
    if kind == "webp":
        frames = [Image.fromarray(image) for image in pictures]
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True, exact=True)
        return path
    codec, format_ = {
        "qtrle.mov": ("qtrle", "argb"),
        "prores.mov": ("prores_ks", "yuva444p10le"),
        "webm": ("libvpx-vp9", "yuva420p"),
    }[kind]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], format_
        if codec == "libvpx-vp9":
            stream.options = {"lossless": "1"}
        for image in pictures:
            frame = av.VideoFrame.from_ndarray(image, "rgba").reformat(format=format_)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


KINDS = ["%d.png", "webp", "qtrle.mov", "prores.mov", "webm"]


def stored(path):
    with open_video(path) as video:
        return np.stack(list(video.opacity()))


def matte(source, target, mask, **options):
    chosen = dict(model="none", matte=mask, **options)
    return vidmatte.matte(source, alpha=target, options=vidmatte.MatteOptions(**chosen))


@pytest.fixture
def left(tmp_path):
    """A matte of the left 3/4, all the same in each frame."""
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :48] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    return tmp_path / "left.png", mask / 255


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_the_source_is_noted_and_can_be_multiplied(tmp_path, left, kind):
    source = write_source(tmp_path, kind)
    path, mask = left
    ignored = matte(source, tmp_path / "a.mkv", path)
    assert any("alpha of the source was not used" in note for note in ignored.notes)
    assert np.abs(stored(tmp_path / "a.mkv") - mask).max() < 1e-4
    used = matte(source, tmp_path / "b.mkv", path, source_alpha="multiply")
    assert any("was multiplied into the mattes" in note for note in used.notes)
    wanted = np.stack([mask * shape(number) / 255 for number in range(FRAMES)])
    assert np.abs(stored(tmp_path / "b.mkv") - wanted).max() < 3 / 255


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_of_the_source_can_be_the_matte(tmp_path, kind):
    source = write_source(tmp_path, kind)
    options = ["--model", "none", "--source-alpha", "matte", "--json"]
    result = CliRunner().invoke(cli, [str(source), *options, "--alpha", str(tmp_path / "a.mkv")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == FRAMES
    wanted = np.stack([shape(number) / 255 for number in range(FRAMES)])
    assert np.abs(stored(tmp_path / "a.mkv") - wanted).max() < 3 / 255


def test_alpha_of_a_set_is_multiplied(tmp_path, left):
    (tmp_path / "set").mkdir()
    for number in range(2):
        Image.fromarray(picture(number)).save(tmp_path / "set" / f"p{number}.png")
    options = vidmatte.MatteOptions(
        model="none", matte=left[0], source_alpha="multiply", bit_depth=8
    )
    vidmatte.matte(tmp_path / "set", images=True, alpha=tmp_path / "{name}_a.png", options=options)
    for number in range(2):
        written = cv2.imread(str(tmp_path / f"p{number}_a.png"), cv2.IMREAD_UNCHANGED) / 255
        assert np.abs(written - left[1] * shape(number) / 255).max() <= 0.5 / 255


def test_alpha_that_is_not_there_cannot_be_used(movie, tmp_path):
    with pytest.raises(OptionError, match=r"has no alpha, and source_alpha 'multiply' was given"):
        vidmatte.matte(
            movie,
            vidmatte.Prompt(points=((20, 20, 1),)),
            alpha=tmp_path / "a.mov",
            options=vidmatte.MatteOptions(source_alpha="multiply"),
        )
    with pytest.raises(OptionError, match="give model='none' too, and no matte"):
        vidmatte.MatteOptions(source_alpha="matte")


@pytest.mark.parametrize("codec", ["qtrle", "prores_ks"])
def test_gray_movies_with_idle_alpha_are_mattes_by_brightness(tmp_path, codec):
    format_ = {"qtrle": "argb", "prores_ks": "yuva444p10le"}[codec]
    with av.open(str(tmp_path / "m.mov"), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], format_
        for number in range(FRAMES):
            gray = np.dstack([shape(number)] * 3 + [np.full(SIZE, 255, np.uint8)])
            frame = av.VideoFrame.from_ndarray(gray, "rgba").reformat(format=format_)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    wanted = np.stack([shape(number) / 255 for number in range(FRAMES)])
    assert np.abs(stored(tmp_path / "m.mov") - wanted).max() < 0.03
