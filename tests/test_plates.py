"""Plates as studios have them: parts, tiles, windows, views, gaps; built by other libraries."""

from __future__ import annotations

import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo, Windows
from vidmatte.media.patterns import refuse_tiles, with_view
from vidmatte.read import open_video
from vidmatte.read.exr import read_exr, read_exr_planes
from vidmatte.read.exr_channels import ExrChoice
from vidmatte.read.images import read_image
from vidmatte.read.mask import open_mask

OpenEXR = pytest.importorskip("OpenEXR")
oiio = pytest.importorskip("OpenImageIO")

HEIGHT, WIDTH = 24, 40


def light(seed=3):
    return np.random.default_rng(seed).uniform(0, 4, (HEIGHT, WIDTH, 3)).astype(np.float16)


def spec_of(pixels, names=("R", "G", "B"), **attributes):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], "half")
    spec.channelnames = list(names)
    for key, value in attributes.items():
        spec.attribute(key, value)
    return spec


def save(path, pixels, spec=None):
    """Write (H, W, C) halfs with OpenImageIO."""
    spec = spec or spec_of(pixels)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(np.ascontiguousarray(pixels)), out.geterror()
    out.close()
    return path


def save_parts(path, parts):
    """Write several parts with OpenImageIO: (pixels, spec) each."""
    out = oiio.ImageOutput.create(str(path))
    specs = [spec for _, spec in parts]
    assert out.open(str(path), specs), out.geterror()
    for number, (pixels, spec) in enumerate(parts):
        if number:
            assert out.open(str(path), spec, "AppendSubimage"), out.geterror()
        assert out.write_image(np.ascontiguousarray(pixels)), out.geterror()
    out.close()
    return path


def planar(pixels):
    return np.asarray(pixels, np.float32).transpose(2, 0, 1)


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize(
    "compression", ["none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab"]
)
def test_every_compression_and_tiles_are_read(tmp_path, compression, tile):
    # A ramp, since the lossy ones are for pictures and not for noise.
    row = np.linspace(0, 1, WIDTH, dtype=np.float16)
    pixels = np.stack([np.tile(row, (HEIGHT, 1))] * 3, -1) * np.float16([1, 0.5, 0.25])
    spec = spec_of(pixels, compression=compression)
    spec.tile_width = spec.tile_height = tile
    save(tmp_path / "a.exr", pixels, spec)
    found = read_exr(tmp_path / "a.exr").rgb
    is_lossy = compression[:3] in ("b44", "dwa")
    assert np.abs(found - planar(pixels)).max() <= (0.02 if is_lossy else 0)
    if is_lossy:
        # What another reader makes of the file, to the bit.
        other = oiio.ImageBuf(str(tmp_path / "a.exr")).get_pixels(oiio.FLOAT)
        assert np.array_equal(found, planar(other))


def test_the_full_size_of_a_mipmap_is_read(tmp_path):
    source = oiio.ImageBuf(str(save(tmp_path / "a.exr", light())))
    assert oiio.ImageBufAlgo.make_texture(oiio.MakeTxTexture, source, str(tmp_path / "mip.exr"))
    assert np.array_equal(read_exr(tmp_path / "mip.exr").rgb, planar(light()))


def test_the_picture_of_several_parts_is_found_by_name(tmp_path):
    albedo, beauty, depth = light(1), light(2), light(3)[..., :1]
    parts = [
        (depth, spec_of(depth, "Z", **{"oiio:subimagename": "depth"})),
        (albedo, spec_of(albedo, **{"oiio:subimagename": "albedo"})),
        (beauty, spec_of(beauty, **{"oiio:subimagename": "beauty"})),
    ]
    path = save_parts(tmp_path / "a.exr", parts)
    image = read_exr(path)
    assert np.array_equal(image.rgb, planar(beauty))
    assert image.notes == (
        "the EXR has the layers beauty, albedo; beauty was read, --layer chooses another one",
    )
    chosen = read_exr(path, ExrChoice(layer="albedo"))
    assert np.array_equal(chosen.rgb, planar(albedo))
    assert chosen.notes == ()
    with pytest.raises(ReadError, match=r"no layer 'specular'; its layers are beauty, albedo"):
        read_exr(path, ExrChoice(layer="specular"))


@pytest.mark.parametrize("prefix", ["rgba", "beauty", "ViewLayer.Combined", "zzz"])
def test_channels_of_a_layer_are_found(tmp_path, prefix):
    pixels = np.concatenate([light(1), light(2)], 2)
    # Sorted before the picture, as channels are in a file.
    names = [f"{layer}.{name}" for layer in ("aaa", prefix) for name in "RGB"]
    path = save(tmp_path / "a.exr", pixels, spec_of(pixels, names))
    wanted = light(1) if prefix == "zzz" else light(2)
    assert np.array_equal(read_exr(path).rgb, planar(wanted))
    assert np.array_equal(read_exr(path, ExrChoice(layer=prefix)).rgb, planar(light(2)))


def test_plain_channels_go_before_layers_and_alpha_belongs_to_its_layer(tmp_path):
    pixels = np.concatenate([light(1), light(2), light(3)[..., :2] / 8], 2)
    names = ["R", "G", "B", "beauty.R", "beauty.G", "beauty.B", "A", "beauty.A"]
    path = save(tmp_path / "a.exr", pixels, spec_of(pixels, names))
    for choice, place in ((ExrChoice(), 0), (ExrChoice(layer="beauty"), 1)):
        color, alpha = read_exr_planes(path, choice)
        assert np.array_equal(color, planar(pixels[..., 3 * place : 3 * place + 3]))
        assert np.array_equal(alpha, pixels[..., 6 + place].astype(np.float32))


def test_views_of_one_part_and_of_several(tmp_path):
    left, right = light(1), light(2)
    names = ["R", "G", "B", "right.R", "right.G", "right.B"]
    header = {"type": OpenEXR.scanlineimage, "multiView": ["left", "right"]}
    planes = np.concatenate([left, right], 2)
    channels = {name: np.ascontiguousarray(planes[..., index]) for index, name in enumerate(names)}
    OpenEXR.File(header, channels).write(str(tmp_path / "one.exr"))
    parts = [
        (pixels, spec_of(pixels, **{"oiio:subimagename": f"rgba.{view}", "view": view}))
        for view, pixels in (("left", left), ("right", right))
    ]
    save_parts(tmp_path / "two.exr", parts)
    for name in ("one.exr", "two.exr"):
        image = read_exr(tmp_path / name)
        assert np.array_equal(image.rgb, planar(left))
        assert any("views left, right; left was read" in note for note in image.notes)
        found = read_exr(tmp_path / name, ExrChoice(view="right"))
        assert np.array_equal(found.rgb, planar(right))
        assert found.notes == ()
        with pytest.raises(ReadError, match="no view 'middle'; its views are left, right"):
            read_exr(tmp_path / name, ExrChoice(view="middle"))


def test_deep_images_are_refused_by_name(tmp_path):
    spec = oiio.ImageSpec(8, 8, 4, "float")
    spec.channelnames, spec.deep = ["R", "G", "B", "A"], True
    deep = oiio.DeepData()
    deep.init(spec)
    for pixel in range(64):
        deep.set_samples(pixel, 2)
    out = oiio.ImageOutput.create(str(tmp_path / "deep.exr"))
    assert out.open(str(tmp_path / "deep.exr"), spec)
    assert out.write_deep_image(deep)
    out.close()
    with pytest.raises(ReadError, match=r"deep\.exr: is a deep image.*flatten it"):
        open_video(tmp_path / "deep.exr")


OVERSCAN = (-6, -4, 54, 36)
"""Data window around a display window of 48x32, half open."""
DISPLAY = (0, 0, 48, 32)


def plate(path, number, data=OVERSCAN, display=DISPLAY):
    """Write an EXR whose red channel is x, and green y, in the pixels of the display window."""
    left, top, right, bottom = data
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    pixels = np.stack([x + 100, y + 100, np.full_like(x, number)], -1).astype(np.float16)
    spec = spec_of(pixels)
    spec.x, spec.y = left, top
    spec.full_x, spec.full_y = display[:2]
    spec.full_width, spec.full_height = display[2] - display[0], display[3] - display[1]
    return save(path, pixels, spec)


def given(tmp_path, matte, **options):
    """Return options that take a matte from a file, without any network."""
    return vidmatte.MatteOptions(model="none", matte=matte, frame_rate=Fraction(24), **options)


def windows_of(path):
    """Return data and display window of a file as OpenImageIO reads them."""
    spec = oiio.ImageBuf(str(path)).spec()
    return (
        (spec.x, spec.y, spec.x + spec.width, spec.y + spec.height),
        (
            spec.full_x,
            spec.full_y,
            spec.full_x + spec.full_width,
            spec.full_y + spec.full_height,
        ),
    )


def save_matte(path, size, box):
    """Write a mask (PNG) with a white box of left, top, right and bottom."""
    mask = np.zeros(size, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    cv2.imwrite(str(path), mask)
    return path


def test_overscan_is_read_matted_and_written_where_it_lies(tmp_path):
    for number in (1001, 1002):
        plate(tmp_path / f"a.{number}.exr", number)
    with open_video(tmp_path / "a.%04d.exr") as video:
        assert video.info.windows == Windows(OVERSCAN, DISPLAY)
        assert (video.info.width, video.info.height) == (60, 40)
        # The corner of the frame is that of the data window.
        assert video.frame(0).rgb[0, :2, 0, 0].tolist() == [94, 96]
        assert any("overscan" in note and "begins at 6,4" in note for note in video.info.notes)
    # The box begins in the overscan: 2, 2 of the frame is -4, -2 of the display window.
    matte = save_matte(tmp_path / "m.png", (40, 60), (2, 2, 30, 20))
    outputs = [tmp_path / "b.%04d.exr:float", tmp_path / "b.%04d.png", tmp_path / "b.mov"]
    vidmatte.matte(
        tmp_path / "a.%04d.exr",
        output=outputs,
        alpha=[tmp_path / "c.%04d.exr", tmp_path / "c.mkv"],
        options=given(tmp_path, matte),
    )
    for name in ("b.1001.exr", "c.1002.exr"):
        assert windows_of(tmp_path / name) == (OVERSCAN, DISPLAY)
    rgba = OpenEXR.File(str(tmp_path / "b.1002.exr")).channels()["RGBA"].pixels
    assert rgba.shape == (40, 60, 4)
    assert rgba[2, 2].tolist() == [96, 98, 1002, 1]
    assert rgba[1, 2, 3] == 0
    # What is no EXR has the display window.
    png = cv2.imread(str(tmp_path / "b.1001.png"), cv2.IMREAD_UNCHANGED)
    assert png.shape == (32, 48, 4)
    assert (png[..., 3] > 0).sum() == 24 * 16
    with open_video(tmp_path / "c.mkv") as video:
        plane = video.frame(0).rgb[0, 0].numpy()
    assert plane.shape == (32, 48)
    assert plane[:16, :24].min() == 1
    assert plane.sum() == 24 * 16
    with open_video(tmp_path / "b.mov") as video:
        assert (video.info.width, video.info.height) == (48, 32)


def test_masks_may_have_the_size_of_the_display_window(tmp_path):
    plate(tmp_path / "a.1001.exr", 1)
    shown = save_matte(tmp_path / "m.png", (32, 48), (0, 0, 10, 10))
    vidmatte.matte(
        tmp_path / "a.%04d.exr", alpha=tmp_path / "c.%04d.exr", options=given(tmp_path, shown)
    )
    alpha = OpenEXR.File(str(tmp_path / "c.1001.exr")).channels()["Y"].pixels
    assert alpha[4:14, 6:16].min() == 1
    assert alpha.sum() == 100
    # Nothing is known of the overscan around a mask that marks.
    windows = Windows(OVERSCAN, DISPLAY)
    reference = vidmatte.Prompt(mask=shown).reference(torch.zeros(1, 3, 40, 60), windows=windows)
    assert reference.alpha[0, 0, 4:14, 6:16].min() == 1
    assert reference.known[0, 0, 4:36, 6:54].min() == 1
    assert reference.known.sum() == 32 * 48


def test_mattes_of_another_data_window_lie_where_they_say(tmp_path):
    plate(tmp_path / "a.1001.exr", 1)
    # A matte of 1 in a small box, partly in the overscan.
    box = (-3, -2, 9, 8)
    pixels = np.ones((10, 12, 1), np.float16)
    spec = spec_of(pixels, "A")
    spec.x, spec.y, spec.full_x, spec.full_y = *box[:2], 0, 0
    spec.full_width, spec.full_height = 48, 32
    save(tmp_path / "m.1001.exr", pixels, spec)
    vidmatte.matte(
        tmp_path / "a.%04d.exr",
        alpha=tmp_path / "c.%04d.exr",
        options=given(tmp_path, tmp_path / "m.%04d.exr"),
    )
    alpha = OpenEXR.File(str(tmp_path / "c.1001.exr")).channels()["Y"].pixels
    assert alpha[2:12, 3:15].min() == 1
    assert alpha.sum() == 120


def test_data_windows_that_differ_are_held_together(tmp_path):
    plate(tmp_path / "a.1.exr", 1, data=(4, 4, 20, 20))
    plate(tmp_path / "a.2.exr", 2, data=(10, 2, 30, 12))
    with open_video(tmp_path / "a.%d.exr") as video:
        assert video.info.windows == Windows((4, 2, 30, 20), DISPLAY)
        frames = [frame.rgb for frame in video.decode()]
    assert [frame.shape for frame in frames] == [(3, 32, 48)] * 2
    assert frames[1][:, 2, 10].tolist() == [110, 102, 2]
    assert not frames[1][:, 12:].any()
    matte = save_matte(tmp_path / "m.png", (32, 48), (0, 0, 48, 32))
    vidmatte.matte(
        tmp_path / "a.%d.exr", alpha=tmp_path / "c.%04d.exr", options=given(tmp_path, matte)
    )
    assert windows_of(tmp_path / "c.0001.exr") == ((4, 2, 30, 20), DISPLAY)
    plate(tmp_path / "a.3.exr", 3, display=(0, 0, 50, 32))
    with pytest.raises(ReadError, match=r"a\.3\.exr: has the display window"):
        open_video(tmp_path / "a.%d.exr")


def test_a_display_window_that_does_not_begin_at_0_is_kept(tmp_path):
    box = (100, 50, 148, 82)
    plate(tmp_path / "a.1.exr", 1, data=box, display=box)
    matte = save_matte(tmp_path / "m.png", (32, 48), (0, 0, 4, 4))
    vidmatte.matte(
        tmp_path / "a.%d.exr", alpha=tmp_path / "c.%04d.exr", options=given(tmp_path, matte)
    )
    assert windows_of(tmp_path / "c.0001.exr") == (box, box)


def test_batches_are_cut_to_a_window():
    windows = Windows((-1, -2, 5, 4), (0, 0, 4, 3))
    assert windows.raster == (-1, -2, 5, 4)
    assert windows.size == (3, 4)
    rgb = torch.arange(36.0).reshape(1, 1, 6, 6).expand(1, 3, 6, 6)
    source = FrameBatch(rgb, (0,), (0,), (1,))
    batch = MatteBatch(source, rgb[:, :1] / 36, (1.0,))
    cut = batch.within(windows.display, windows)
    assert cut.source.rgb[0, 0].tolist() == [
        [13, 14, 15, 16],
        [19, 20, 21, 22],
        [25, 26, 27, 28],
    ]
    info = VideoInfo("a", 6, 6, Fraction(24), Fraction(1, 24), windows=windows)
    assert (info.on_display.width, info.on_display.height) == (4, 3)
    filled = windows.filled(np.ones((2, 3, 4), np.float32))
    assert filled.shape == (2, 6, 6)
    assert filled[:, 2:5, 1:5].min() == 1
    assert filled.sum() == 24


def test_missing_frames_are_refused_or_held(tmp_path):
    for number in (1001, 1002, 1005, 1006):
        plate(tmp_path / f"a.{number}.exr", number)
    pattern = tmp_path / "a.####.exr"
    with pytest.raises(ReadError, match=r"2 are missing: 1003, 1004.*missing='hold'"):
        open_video(pattern)
    matte = save_matte(tmp_path / "m.png", (40, 60), (0, 0, 60, 40))
    summary = vidmatte.matte(
        pattern,
        output=tmp_path / "b.$F4.exr:float",
        options=given(tmp_path, matte, missing="hold"),
    )
    assert any("(2 in all): 1003, 1004" in note for note in summary.notes)
    assert summary.frames == 6
    blue = [
        OpenEXR.File(str(tmp_path / f"b.{number}.exr")).channels()["RGBA"].pixels[0, 0, 2]
        for number in range(1001, 1007)
    ]
    assert blue == [1001, 1002, 1002, 1002, 1005, 1006]


def test_a_sequence_that_is_mostly_missing_is_not_held(tmp_path):
    for number in (1, 900):
        plate(tmp_path / f"a.{number}.exr", number)
    with pytest.raises(ReadError, match="more than there are"):
        open_video(tmp_path / "a.%d.exr", missing="hold")


def test_the_view_stands_in_the_paths_of_inputs_and_outputs(tmp_path):
    for view in ("left", "right"):
        (tmp_path / view).mkdir()
        plate(tmp_path / view / f"a.{view[0]}.1001.exr", 7 if view == "left" else 9)
    matte = save_matte(tmp_path / "m.png", (40, 60), (0, 0, 60, 40))
    source, target = tmp_path / "%V" / "a.%v.%04d.exr", tmp_path / "b.%V.####.exr:float"
    with pytest.raises(OptionError, match=r"a\.%v.*: %V stands for the view of stereo footage"):
        vidmatte.matte(source, output=target, options=given(tmp_path, matte))
    vidmatte.matte(source, output=target, options=given(tmp_path, matte, view="right"))
    rgba = OpenEXR.File(str(tmp_path / "b.right.1001.exr")).channels()["RGBA"].pixels
    assert rgba[0, 0, 2] == 9
    assert with_view("a.%V.exr", "left") == "a.left.exr"
    # A file of this very name is no pattern.
    shutil.copy(matte, tmp_path / "%V.png")
    assert with_view(tmp_path / "%V.png", None) == tmp_path / "%V.png"


@pytest.mark.parametrize(
    "name", ["a.<UDIM>.exr", "a.<udim>.exr", "a.%(UDIM)d.exr", "a.<UVTILE>.tx"]
)
def test_tiles_of_textures_are_refused(tmp_path, name):
    with pytest.raises(OptionError, match="stands for tiles of a texture"):
        refuse_tiles(name)
    plate(tmp_path / "a.1001.exr", 1)
    matte = save_matte(tmp_path / "m.png", (40, 60), (0, 0, 60, 40))
    options = given(tmp_path, matte)
    with pytest.raises(OptionError, match="stands for tiles"):
        vidmatte.matte(tmp_path / name, alpha=tmp_path / "m.mkv", options=options)
    with pytest.raises(OptionError, match="stands for tiles"):
        vidmatte.matte(tmp_path / "a.1001.exr", alpha=tmp_path / name, options=options)


def test_layer_and_missing_frames_are_for_sequences(tmp_path, movie):
    with pytest.raises(OptionError, match="is no sequence of images"):
        open_video(movie, missing="hold")
    with pytest.raises(OptionError, match="is no sequence of images"):
        open_video(movie, choice=ExrChoice(layer="beauty"))


def save_log_dpx(path, pixels):
    """Write 10-bit printing density with OpenImageIO."""
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "uint16")
    for key, value in {
        "oiio:BitsPerSample": 10,
        "dpx:Transfer": "Printing density",
        "dpx:FrameRate": 24.0,
        "smpte:TimeCode": "01:02:03:04",
        "PixelAspectRatio": 2.0,
    }.items():
        spec.attribute(key, value)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    out.write_image(pixels)
    out.close()


def test_log_dpx_is_read_with_its_header_and_as_film(tmp_path):
    pytest.importorskip("PyOpenColorIO")
    codes = np.random.default_rng(4).integers(95, 1023, (HEIGHT, WIDTH, 3))
    save_log_dpx(tmp_path / "a.0001.dpx", (codes << 6 | codes >> 4).astype(np.uint16))
    image = read_image(tmp_path / "a.0001.dpx")
    assert np.abs(image.rgb - planar(codes / 1023)).max() < 2e-5
    assert (image.bit_depth, image.frame_rate) == (10, 24)
    matte = save_matte(tmp_path / "m.png", (HEIGHT, WIDTH), (0, 0, WIDTH, HEIGHT))
    summary = vidmatte.matte(
        tmp_path / "a.%04d.dpx",
        output=tmp_path / "b.%04d.png",
        options=given(tmp_path, matte, input_space="auto"),
    )
    assert any("is read as ADX10" in note for note in summary.notes)
    # Code values are kept.
    png = cv2.imread(str(tmp_path / "b.0001.png"), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    assert np.abs(png / 65535 - codes / 1023).max() < 1e-4


def test_a_mask_of_one_layer_of_an_overscan_clip_is_a_mask(tmp_path):
    pixels = np.zeros((32, 48, 4), np.float16)
    pixels[:10, :10] = 1
    save(tmp_path / "m.exr", pixels, spec_of(pixels, ["m.R", "m.G", "m.B", "m.A"]))
    with open_mask(tmp_path / "m.exr") as mask:
        assert mask.size == (32, 48)
