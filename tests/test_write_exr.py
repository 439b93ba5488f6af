"""EXR output: scene-linear, premultiplied, as another program would read it."""

from __future__ import annotations

import builtins
import os
from fractions import Fraction

import numpy as np
import pytest
import torch

from vidmatte import __version__
from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import FORMATS, OutputSpec, create_outputs
from vidmatte.write.exr import layer_names


def info(**changes):
    facts = {
        "frame_rate": Fraction(30000, 1001),
        "time_base": Fraction(1001, 30000),
        "color": ColorTags(1, 1, 1),
    }
    return VideoInfo("clip.mp4", 4, 2, **(facts | changes))


def save(path, color, alpha, *, alpha_only=False, like=None, choices=()):
    """Write one 4 x 2 frame of one colour and one alpha, the eighth of the source."""
    rgb = torch.tensor(color).reshape(1, 3, 1, 1).expand(1, 3, 2, 4).contiguous()
    batch = MatteBatch(FrameBatch(rgb, (7,), (7,), (1,)), torch.full((1, 1, 2, 4), alpha), (1.0,))
    with create_outputs(
        [OutputSpec(path, alpha_only, format_options=choices)], like=like or info()
    ) as outputs:
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


def test_header_keeps_rate_pixel_aspect_and_primaries(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    like = info(sample_aspect_ratio=Fraction(4, 3), color=ColorTags(9, 1, 9))
    save(tmp_path / "%04d.exr", (0.5, 0.5, 0.5), 1.0, like=like)
    header = OpenEXR.File(str(tmp_path / "0007.exr")).header()
    assert header["framesPerSecond"] == Fraction(30000, 1001)
    assert header["pixelAspectRatio"] == pytest.approx(4 / 3)
    assert header["chromaticities"][:2] == pytest.approx((0.708, 0.292))


def test_alpha_alone_is_one_channel_without_a_curve(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    save(
        tmp_path / "%04d.exr",
        (0.5, 0.5, 0.5),
        0.25,
        alpha_only=True,
        like=info(color=ColorTags(9, 16, 9)),
    )
    channels = OpenEXR.File(str(tmp_path / "0007.exr")).channels()
    assert list(channels) == ["Y"]
    assert (channels["Y"].pixels == 0.25).all()


@pytest.mark.parametrize("code", [0.25, 0.5, 0.58, 0.75, 1.0])
def test_light_of_pq_counts_from_203_candelas(tmp_path, code):
    """The EOTF of SMPTE ST 2084 as its rational constants give it; 0.58 is the code of about 203
    cd/m2 (BT.2408).
    """
    OpenEXR = pytest.importorskip("OpenEXR")
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = code ** (1 / m2)
    wanted = 10000 * (max(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) / 203
    save(tmp_path / "%04d.exr", (code, 0.0, 0.0), 0.5, like=info(color=ColorTags(9, 16, 9)))
    file = OpenEXR.File(str(tmp_path / "0007.exr"))
    assert np.allclose(file.channels()["RGBA"].pixels[..., 0], 0.5 * wanted, rtol=2e-3)
    assert file.header()["whiteLuminance"] == 203
    if code == 0.58:
        assert wanted == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("code", "scene"), [(0.25, 0.25**2 / 3), (0.5, 1 / 12), (0.75, 0.264965), (1.0, 1.0)]
)
def test_light_of_hlg_is_the_scene_with_75_percent_as_white(tmp_path, code, scene):
    """Pairs of signal and scene light as in ITU-R BT.2100-2, table 5, and BT.2408-7, table 1."""
    OpenEXR = pytest.importorskip("OpenEXR")
    save(tmp_path / "%04d.exr", (code, 0.0, 0.0), 1.0, like=info(color=ColorTags(9, 18, 9)))
    file = OpenEXR.File(str(tmp_path / "0007.exr"))
    assert np.allclose(file.channels()["RGBA"].pixels[..., 0], scene / 0.264965, rtol=2e-3)
    assert "whiteLuminance" not in file.header()


def test_unknown_transfers_are_refused_before_work(tmp_path):
    pytest.importorskip("OpenEXR")
    with pytest.raises(OptionError, match="transfer 17"):
        create_outputs([OutputSpec(tmp_path / "%d.exr")], like=info(color=ColorTags(9, 17, 9)))


def test_float_keeps_what_half_rounds(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    tags = ColorTags(1, 8, 0)
    alpha = 1 / 3
    written = save(
        tmp_path / "%04d.exr", (0.1, 0.2, 0.3), alpha, like=info(color=tags), choices=("float",)
    )
    assert written.pixel_format == "gbrapf32le"
    pixels = OpenEXR.File(str(tmp_path / "0007.exr")).channels()["RGBA"].pixels
    assert pixels.dtype == np.float32
    assert np.allclose(pixels, [0.1 / 3, 0.2 / 3, 0.1, alpha], rtol=1e-6)
    written = save(
        tmp_path / "a%04d.exr", (0.1, 0.2, 0.3), alpha, alpha_only=True, choices=("float", "zips")
    )
    assert written.pixel_format == "grayf32le"
    assert OpenEXR.File(str(tmp_path / "a0007.exr")).channels()["Y"].pixels[0, 0] == np.float32(
        alpha
    )


def test_colour_is_straight_if_asked_for(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    save(
        tmp_path / "%04d.exr",
        (0.5, 0.25, 1.0),
        0.25,
        like=info(color=ColorTags(1, 8, 0)),
        choices=("straight",),
    )
    pixels = OpenEXR.File(str(tmp_path / "0007.exr")).channels()["RGBA"].pixels
    assert (pixels == [0.5, 0.25, 1.0, 0.25]).all()


@pytest.mark.parametrize(
    "name", ["none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab"]
)
def test_images_have_the_chosen_compression(tmp_path, name):
    OpenEXR = pytest.importorskip("OpenEXR")
    save(
        tmp_path / "%04d.exr",
        (0.5, 0.25, 1.0),
        1.0,
        like=info(color=ColorTags(1, 8, 0)),
        choices=(name,),
    )
    file = OpenEXR.File(str(tmp_path / "0007.exr"))
    wanted = "NO" if name == "none" else name.upper()
    assert file.header()["compression"] == getattr(OpenEXR, f"{wanted}_COMPRESSION")
    assert np.allclose(file.channels()["RGBA"].pixels, [0.5, 0.25, 1.0, 1.0], rtol=0.02)


def test_every_compression_is_tested():
    marks = test_images_have_the_chosen_compression.pytestmark
    (tested,) = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    offered = {
        word
        for form in FORMATS
        if form.codec == "exr"
        for word, sets in form.presets.items()
        if "compression" in sets
    }
    assert offered == set(tested)


@pytest.mark.parametrize(
    ("timecode", "rate", "wanted"),
    [
        ("10:11:12:20", Fraction(25), (10, 11, 13, 2, False)),
        ("00:00:59;25", Fraction(30000, 1001), (0, 1, 0, 4, True)),
        ("01:00:00:45", Fraction(50), (1, 0, 1, 2, False)),
    ],
)
def test_each_image_has_its_timecode(tmp_path, timecode, rate, wanted):
    """The image written is frame 7 of the source."""
    OpenEXR = pytest.importorskip("OpenEXR")
    like = info(timecode=timecode, frame_rate=rate, time_base=1 / rate)
    save(tmp_path / "%04d.exr", (0.5, 0.5, 0.5), 1.0, like=like)
    found = OpenEXR.File(str(tmp_path / "0007.exr")).header()["timeCode"]
    assert (found.hours, found.minutes, found.seconds, found.frame, bool(found.dropFrame)) == wanted


def test_missing_library_is_named_before_work(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *arguments, **options):
        if name == "OpenEXR":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"vidmatte\[exr\]"):
        create_outputs([OutputSpec(tmp_path / "%d.exr")], like=info())
    assert os.listdir(tmp_path) == []


def save_layers(path, layers, *, alpha_only=False, choices=(), like=None, **options):
    """Write one 4 x 2 frame of several objects, by name: colour and alpha of each."""
    target = OutputSpec(path, alpha_only, layers=tuple(layers), format_options=choices)
    mattes = {}
    for name, (color, alpha) in layers.items():
        rgb = torch.tensor(color).reshape(1, 3, 1, 1).expand(1, 3, 2, 4).contiguous()
        source = FrameBatch(rgb, (7,), (7,), (1,))
        mattes[name] = MatteBatch(source, torch.full((1, 1, 2, 4), alpha), (1.0,))
    like = like or info(color=ColorTags(1, 8, 0))
    with create_outputs([target], like=like, **options) as outputs:
        outputs.write(mattes)


def planes_of(path):
    """The one value of each channel, by its full name."""
    OpenEXR = pytest.importorskip("OpenEXR")
    found = {}
    for name, channel in OpenEXR.File(str(path), separate_channels=True).channels().items():
        assert (channel.pixels == channel.pixels[0, 0]).all()
        found[name] = float(channel.pixels[0, 0])
    return found


TWO = {"person": ((1.0, 0.5, 0.0), 0.5), "dog": ((0.0, 0.5, 1.0), 0.25)}


def test_layered_image_shows_all_objects_in_its_main_channels(tmp_path):
    """Nuke and Resolve show R, G, B, A first: the light of all objects, which share alpha."""
    save_layers(tmp_path / "%04d.exr", TWO)
    found = planes_of(tmp_path / "0007.exr")
    assert [found[f"person.{channel}"] for channel in "RGBA"] == [0.5, 0.25, 0, 0.5]
    assert [found[f"dog.{channel}"] for channel in "RGBA"] == [0, 0.125, 0.25, 0.25]
    assert [found[channel] for channel in "RGBA"] == [0.5, 0.375, 0.25, 0.75]
    assert len(found) == 12


def test_main_channels_of_straight_layers_are_straight(tmp_path):
    save_layers(tmp_path / "%04d.exr", TWO, choices=("straight", "float"))
    found = planes_of(tmp_path / "0007.exr")
    assert [found[f"person.{channel}"] for channel in "RGBA"] == [1, 0.5, 0, 0.5]
    assert np.allclose([found[channel] for channel in "RGBA"], [2 / 3, 0.5, 1 / 3, 0.75], rtol=1e-6)
    nothing = {name: (color, 0.0) for name, (color, _) in TWO.items()}
    save_layers(tmp_path / "n%04d.exr", nothing, choices=("straight",))
    found = planes_of(tmp_path / "n0007.exr")
    assert [found[channel] for channel in "RGBA"] == [1, 0.5, 0, 0]


def test_main_channel_of_alpha_layers_is_their_sum(tmp_path):
    save_layers(tmp_path / "%04d.exr", TWO, alpha_only=True)
    assert planes_of(tmp_path / "0007.exr") == {"Y": 0.75, "person.A": 0.5, "dog.A": 0.25}


def test_layer_names_are_never_bare_numbers(tmp_path):
    save_layers(tmp_path / "%04d.exr", {"1": TWO["person"], "2": TWO["dog"]}, alpha_only=True)
    assert planes_of(tmp_path / "0007.exr") == {"Y": 0.75, "object_1.A": 0.5, "object_2.A": 0.25}
    assert layer_names(["1", "object_1", "2b"]) == ["object_1", "object_1_", "object_2b"]
    # A dot would be a layer of its own; letters of Nuke and Fusion are those of ASCII.
    assert layer_names(["Jürgen K.", "犬", "猫", "rgba", "left hand", ""]) == [
        "Jurgen_K",
        "object",
        "object_",
        "object_rgba",
        "left_hand",
        "",
    ]


def test_header_says_what_made_the_image(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    said = {"command": "vidmatte clip.mp4 --smooth 0.5", "weights": "a.safetensors sha256:0fe1"}
    save_layers(tmp_path / "a%04d.exr", TWO, **said)
    save_layers(tmp_path / "b%04d.exr", TWO, **said)
    header = OpenEXR.File(str(tmp_path / "a0007.exr")).header()
    assert header["software"] == f"vidmatte {__version__}"
    assert header["comments"] == "vidmatte clip.mp4 --smooth 0.5"
    assert header["vidmatteWeights"] == "a.safetensors sha256:0fe1"
    assert (tmp_path / "a0007.exr").read_bytes() == (tmp_path / "b0007.exr").read_bytes()
