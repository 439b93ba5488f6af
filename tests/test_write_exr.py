"""EXR output: scene-linear, premultiplied, as another program would read it."""

from __future__ import annotations

import builtins
import os
from fractions import Fraction

import numpy as np
import pytest
import torch

from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import Target, create_outputs


def info(**changes):
    facts = {"frame_rate": Fraction(30000, 1001), "time_base": Fraction(1001, 30000), "color": ColorTags(1, 1, 1)}
    return VideoInfo("clip.mp4", 4, 2, **(facts | changes))


def save(path, color, alpha, *, alpha_only=False, like=None):
    """Write one 4 x 2 frame of one colour and one alpha."""
    rgb = torch.tensor(color).reshape(1, 3, 1, 1).expand(1, 3, 2, 4).contiguous()
    batch = MatteBatch(FrameBatch(rgb, (7,), (7,), (1,)), torch.full((1, 1, 2, 4), alpha), (1.0,))
    with create_outputs([Target(path, alpha_only)], like=like or info()) as outputs:
        outputs.write(batch)
    return outputs.files[0]


@pytest.mark.parametrize(
    ("tags", "value", "linear"),
    [
        (ColorTags(1, 1, 1), 0.5, ((0.5 + 0.099) / 1.099) ** (1 / 0.45)),
        (ColorTags(1, 1, 1), 0.045, 0.01),
        (ColorTags(2, 2, 1), 1.0, 1.0),
        (ColorTags(1, 13, 1), 0.5, 0.21404),
        (ColorTags(2, 2, 0), 0.5, 0.21404),
        (ColorTags(2, 2, 0), 0.02, 0.02 / 12.92),
        (ColorTags(5, 4, 6), 0.5, 0.5**2.2),
        (ColorTags(1, 8, 0), 0.5, 0.5),
    ],
)
def test_color_is_linear_and_premultiplied(tmp_path, tags, value, linear):
    OpenEXR = pytest.importorskip("OpenEXR")
    written = save(tmp_path / "%04d.exr", (value, 0.0, 1.0), 0.25, like=info(color=tags))
    assert (written.codec, written.pixel_format, written.frames) == ("exr", "gbrapf16le", 1)
    pixels = OpenEXR.File(str(tmp_path / "0007.exr")).channels()["RGBA"].pixels
    assert pixels.dtype == np.float16
    assert pixels.shape == (2, 4, 4)
    assert np.allclose(pixels, [0.25 * linear, 0, 0.25, 0.25], rtol=1e-3)


def test_header(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    like = info(sample_aspect_ratio=Fraction(4, 3), color=ColorTags(9, 1, 9))
    save(tmp_path / "%04d.exr", (0.5, 0.5, 0.5), 1.0, like=like)
    header = OpenEXR.File(str(tmp_path / "0007.exr")).header()
    assert header["framesPerSecond"] == Fraction(30000, 1001)
    assert header["pixelAspectRatio"] == pytest.approx(4 / 3)
    assert header["chromaticities"][:2] == pytest.approx((0.708, 0.292))


def test_alpha_alone_is_one_channel_without_a_curve(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    save(tmp_path / "%04d.exr", (0.5, 0.5, 0.5), 0.25, alpha_only=True, like=info(color=ColorTags(9, 16, 9)))
    channels = OpenEXR.File(str(tmp_path / "0007.exr")).channels()
    assert list(channels) == ["Y"]
    assert (channels["Y"].pixels == 0.25).all()


def test_hdr_transfers_are_refused_before_work(tmp_path):
    pytest.importorskip("OpenEXR")
    with pytest.raises(OptionError, match="transfer 16"):
        create_outputs([Target(tmp_path / "%d.exr")], like=info(color=ColorTags(9, 16, 9)))


def test_missing_library_is_named_before_work(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *arguments, **options):
        if name == "OpenEXR":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"vidmatte\[exr\]"):
        create_outputs([Target(tmp_path / "%d.exr")], like=info())
    assert os.listdir(tmp_path) == []
