"""Sequences of EXR, DPX and TIFF, made by other libraries or by hand, read back to known values."""

from __future__ import annotations

import struct
import sys
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

import vidmatte
from vidmatte.errors import MissingExtraError, ReadError
from vidmatte.media.limits import header_size
from vidmatte.read import open_video
from vidmatte.read.images import read_image
from vidmatte.read.mask import open_mask


@pytest.fixture
def openexr():
    return pytest.importorskip("OpenEXR")


def save_exr(openexr, path, channels, **header):
    header = {"type": openexr.scanlineimage, "compression": openexr.ZIP_COMPRESSION, **header}
    openexr.File(header, channels).write(str(path))


def light(shape=(48, 64), dtype=np.float32):
    """Scene-linear values from below 0 to far above 1."""
    return np.random.default_rng(3).uniform(-0.1, 40, (*shape, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_values_are_those_of_the_file(tmp_path, openexr, dtype):
    pixels = light(dtype=dtype)
    for number in (1001, 1002):
        save_exr(
            openexr,
            tmp_path / f"shot.{number}.exr",
            {"RGB": pixels},
            framesPerSecond=Fraction(24000, 1001),
            pixelAspectRatio=2.0,
        )
    with open_video(tmp_path) as video:
        assert np.array_equal(
            video.frame(1).rgb[0].numpy(), pixels.transpose(2, 0, 1).astype(np.float32)
        )
        info = video.info
    assert (info.first_number, info.frame_rate, info.sample_aspect_ratio) == (
        1001,
        Fraction(24000, 1001),
        2,
    )
    assert (info.color.transfer, info.color.primaries, info.bit_depth) == (
        8,
        1,
        8 * np.dtype(dtype).itemsize,
    )


def test_a_given_rate_goes_before_that_of_the_header(tmp_path, openexr):
    save_exr(openexr, tmp_path / "a.1.exr", {"RGB": light()}, framesPerSecond=Fraction(30))
    with open_video(tmp_path, frame_rate=Fraction(25)) as video:
        assert video.info.frame_rate == 25


def test_exr_is_cut_and_filled_to_its_display_window(tmp_path, openexr):
    pixels = light((20, 30))
    box = (np.array([-4, 2], np.int32), np.array([25, 21], np.int32))
    display = (np.array([0, 0], np.int32), np.array([31, 15], np.int32))
    save_exr(openexr, tmp_path / "a.exr", {"RGB": pixels}, dataWindow=box, displayWindow=display)
    rgb = read_image(tmp_path / "a.exr").rgb
    assert rgb.shape == (3, 16, 32)
    assert np.array_equal(rgb[:, 2:, :26], pixels.transpose(2, 0, 1)[:, :14, 4:])
    assert not rgb[:, :2].any()
    assert not rgb[:, :, 26:].any()


def test_exr_layers_and_gray_are_found(tmp_path, openexr):
    planes = {
        f"beauty.{name}": np.full((4, 5), value, np.float16)
        for name, value in (("R", 1), ("G", 2), ("B", 3))
    }
    save_exr(openexr, tmp_path / "a.exr", {**planes, "Z": np.zeros((4, 5), np.float32)})
    assert read_image(tmp_path / "a.exr").rgb[:, 0, 0].tolist() == [1, 2, 3]
    save_exr(openexr, tmp_path / "gray.exr", {"Y": np.full((4, 5), 0.25, np.float16)})
    assert read_image(tmp_path / "gray.exr").rgb[:, 0, 0].tolist() == [0.25] * 3
    save_exr(openexr, tmp_path / "depth.exr", {"Z": np.zeros((4, 5), np.float32)})
    with pytest.raises(ReadError, match="has no part with the flat channels R, G and B"):
        read_image(tmp_path / "depth.exr")


def test_values_that_are_no_numbers_do_not_spread(tmp_path, openexr):
    pixels = np.ones((4, 4, 3), np.float32)
    pixels[0, 0], pixels[1, 1] = np.nan, np.inf
    save_exr(openexr, tmp_path / "a.exr", {"RGB": pixels})
    rgb = read_image(tmp_path / "a.exr").rgb
    assert (rgb[0, 0, 0], rgb[0, 1, 1], rgb[0, 2, 2]) == (0, 65504, 1)


@pytest.mark.parametrize(
    ("chromaticities", "number"),
    [
        ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290), 9),
        ((0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767), 3),
    ],
    ids=["BT.2020", "ACES"],
)
def test_primaries_of_the_header_are_kept_or_noted(tmp_path, openexr, chromaticities, number):
    save_exr(openexr, tmp_path / "a.1.exr", {"RGB": light()}, chromaticities=chromaticities)
    with open_video(tmp_path) as video:
        assert video.info.color.primaries == number
        assert any("primaries" in note for note in video.info.notes) == (number == 3)


def test_damaged_exr_is_a_clear_error(tmp_path, openexr, capfd):
    save_exr(openexr, tmp_path / "whole.exr", {"RGB": light()})
    whole = (tmp_path / "whole.exr").read_bytes()
    for size in (0, 10, 200, len(whole) // 2):
        (tmp_path / "cut.exr").write_bytes(whole[:size])
        with pytest.raises(ReadError, match=r"cut\.exr: is not an EXR image, or is damaged"):
            read_image(tmp_path / "cut.exr")
    # Standard output may be the JSON of a run.
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("drop", "text"), [(False, "10:20:30:05"), (True, "10:20:30;05")])
def test_exr_timecode_is_read(tmp_path, openexr, drop, text):
    code = openexr.TimeCode(10, 20, 30, 5, drop, *[0] * 13)
    save_exr(openexr, tmp_path / "a.1.exr", {"RGB": light()}, timeCode=code)
    with open_video(tmp_path) as video:
        assert video.info.timecode == text


def test_light_stays_linear_and_whole_from_exr_to_exr(tmp_path, openexr):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    pixels = light(dtype=np.float16)
    for number in (7, 8):
        save_exr(openexr, tmp_path / "in" / f"a.{number:04}.exr", {"RGB": pixels})
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((48, 64), 255, np.uint8))
    summary = vidmatte.matte(
        tmp_path / "in",
        vidmatte.Prompt(mask=tmp_path / "mask.png"),
        output=[str(tmp_path / "out" / "b.%04d.exr"), str(tmp_path / "out" / "b.mov")],
        options=vidmatte.MatteOptions(adapt_steps=0, foreground="source"),
    )
    written = openexr.File(str(tmp_path / "out" / "b.0007.exr")).channels()["RGBA"].pixels
    solid = written[..., 3] == 1
    assert solid.any()
    assert np.array_equal(written[solid][:, :3], pixels[solid])
    assert any("scene-linear" in note for note in summary.notes)
    with av.open(str(tmp_path / "out" / "b.mov")) as movie:
        frame = next(movie.decode(video=0))
        assert int(frame.color_trc) == 1


def save_dpx(path, picture, pixel_format):
    height, width = picture.shape[:2]
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("dpx", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        frame = av.VideoFrame(width, height, pixel_format)
        for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
            np.frombuffer(plane, np.uint16).reshape(height, -1)[:, :width] = picture[..., channel]
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("pixel_format", "bits"), [("gbrp10le", 10), ("gbrp10be", 10), ("gbrp12le", 12)]
)
def test_dpx_code_values_are_those_of_the_file(tmp_path, pixel_format, bits):
    picture = np.random.default_rng(5).integers(0, 2**bits, (33, 66, 3)).astype(np.uint16)
    stored = picture.byteswap() if pixel_format.endswith("be") else picture
    for number in (86400, 86401):
        save_dpx(tmp_path / f"plate.{number}.dpx", stored, pixel_format)
    with open_video(tmp_path / "plate.#####.dpx") as video:
        assert (video.info.bit_depth, video.info.first_number) == (bits, 86400)
        rgb = video.frame(1).rgb[0].numpy().transpose(1, 2, 0)
    assert np.abs(rgb - picture / (2**bits - 1)).max() < 1e-5


def test_dpx_header_tells_rate_timecode_and_logarithm(tmp_path):
    save_dpx(tmp_path / "a.1.dpx", np.zeros((8, 8, 3), np.uint16), "gbrp10be")
    data = bytearray((tmp_path / "a.1.dpx").read_bytes())
    order = ">" if data[:4] == b"SDPX" else "<"
    (begins,) = struct.unpack_from(order + "I", data, 4)
    # Film and television headers, all fields undefined.
    data[begins:begins] = b"\xff" * (2048 - begins)
    struct.pack_into(order + "I", data, 4, 2048)
    struct.pack_into(order + "I", data, 1920, 0x10203005)  # timecode 10:20:30:05
    struct.pack_into(order + "f", data, 1940, 24000 / 1001)
    data[801] = 1  # printing density
    (tmp_path / "a.1.dpx").write_bytes(data)
    with open_video(tmp_path) as video:
        assert (video.info.timecode, video.info.frame_rate) == (
            "10:20:30:05",
            Fraction(24000, 1001),
        )
        assert "logarithmic" in video.info.notes[0]


@pytest.mark.parametrize("size", [0, 100, 2100])
def test_damaged_dpx_is_a_clear_error(tmp_path, size):
    save_dpx(tmp_path / "a.dpx", np.zeros((64, 64, 3), np.uint16), "gbrp10le")
    (tmp_path / "a.dpx").write_bytes((tmp_path / "a.dpx").read_bytes()[:size])
    with pytest.raises(ReadError, match=r"a\.dpx"):
        read_image(tmp_path / "a.dpx")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_values_are_those_of_the_file(tmp_path, dtype):
    peak = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    pixels = (
        light(dtype=np.float32)
        if dtype == np.float32
        else np.rint(light().clip(0, 40) / 40 * peak).astype(dtype)
    )
    cv2.imwrite(str(tmp_path / "a.0005.tif"), pixels)
    with open_video(tmp_path) as video:
        rgb = video.frame(0).rgb[0].numpy()
        assert (video.info.color.transfer == 8) == (dtype == np.float32)
        assert video.info.first_number == 5
    assert np.abs(rgb - pixels[..., ::-1].transpose(2, 0, 1) / peak).max() < 1e-6


def test_a_stray_number_far_away_is_a_gap_and_no_memory(tmp_path):
    for number in (1, 2, 9_999_999_999):
        cv2.imwrite(str(tmp_path / f"a.{number}.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ReadError, match=r"9999999996 are missing: 3, 4, .*\.\.\."):
        open_video(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"])
def test_sizes_are_found_in_headers(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.zeros((37, 53, 3), np.uint8))
    assert header_size((tmp_path / name).read_bytes()) == (53, 37)


def test_a_huge_declared_size_is_refused_before_memory_is_taken(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((37, 53, 3), np.uint8))
    data = bytearray((tmp_path / "a.png").read_bytes())
    struct.pack_into(">II", data, 16, 30000, 30000)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ReadError, match="says that it has 30000x30000 pixels"):
        read_image(tmp_path / "a.png")


DURATIONS = [40, 80, 40, 40, 100]


def write_animation(path):
    """Five frames of one red each, more transparent from left to right."""
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    frames = []
    for n in range(5):
        red = np.full((48, 64), 40 * n, np.uint8)
        frames.append(Image.fromarray(np.dstack([red, red // 2, red // 4, 255 - alpha // 2 - n])))
    exact = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    exact |= {"quality": 100, "subsampling": "4:4:4"} if path.suffix == ".avif" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=DURATIONS, **exact)
    return path, [np.asarray(frame) for frame in frames]


@pytest.mark.parametrize("name", ["a.webp", "a.avif", "a.png"])
def test_animations_are_read_frame_by_frame(tmp_path, name):
    path, frames = write_animation(tmp_path / name)
    tolerance = 3 / 255 if name == "a.avif" else 1e-6
    with open_video(path) as video:
        found = list(video.decode())
        assert video.count_frames() == 5
        assert [frame.pts * video.info.time_base for frame in found] == [
            Fraction(sum(DURATIONS[:n]), 1000) for n in range(5)
        ]
        assert [frame.duration * video.info.time_base * 1000 for frame in found] == DURATIONS
        for frame, wanted in zip(found, frames, strict=True):
            rgb = wanted[..., :3].transpose(2, 0, 1) / 255
            assert np.abs(frame.rgb - rgb).max() <= tolerance
        assert np.array_equal(video.frame(3).rgb[0].numpy(), found[3].rgb)
    with open_mask(path) as mask:
        assert mask.frames == 5
        for plane, wanted in zip(mask._video.opacity(), frames, strict=True):
            assert np.abs(plane - wanted[..., 3] / 255).max() <= tolerance


@pytest.mark.parametrize("name", ["o.webp", "o.avif"])
def test_animations_that_are_written_come_back_as_mattes(movie, tmp_path, name):
    ramp = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (96, 1))
    cv2.imwrite(str(tmp_path / "m.png"), ramp)
    options = vidmatte.MatteOptions(model="none", matte=tmp_path / "m.png")
    vidmatte.matte(movie, output=tmp_path / name, options=options)
    again = vidmatte.MatteOptions(model="none", matte=tmp_path / name)
    summary = vidmatte.matte(movie, alpha=tmp_path / "a.mkv", options=again)
    assert summary.frames == 12
    with open_video(tmp_path / "a.mkv") as video:
        for plane in video.opacity():
            assert np.abs(plane - ramp / 255).max() <= 3 / 255


def test_an_animation_is_no_mask_of_a_frame(tmp_path):
    path, _ = write_animation(tmp_path / "a.webp")
    with pytest.raises(ReadError, match="holds several pictures, where one is expected"):
        read_image(path)


def test_avif_stills_are_read(tmp_path):
    picture = np.full((48, 64, 4), (200, 100, 50, 128), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    rgb = read_image(tmp_path / "a.avif").rgb
    assert np.abs(rgb[:, 20, 20] * 255 - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("exif", [1, 6])
def test_heic_photographs_are_read_upright(tmp_path, exif):
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:, :40] = (220, 120, 40)
    tags = Image.Exif()
    tags[0x0112] = exif
    heif = pillow_heif.from_pillow(Image.fromarray(picture))
    heif.save(tmp_path / "a.heic", quality=95, exif=tags.tobytes())
    rgb = read_image(tmp_path / "a.heic").rgb.transpose(1, 2, 0)
    wanted = picture if exif == 1 else np.rot90(picture, -1)
    assert rgb.shape == wanted.shape
    assert np.abs(rgb - wanted / 255).mean() < 0.03
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(ReadError, match=r"b\.heic"):
        read_image(tmp_path / "b.heic")


def test_heic_without_its_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(MissingExtraError, match=r"vidmatte\[heif\]"):
        read_image(tmp_path / "a.heic")


def test_a_damaged_jpeg_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3)
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(whole)
    read_image(tmp_path / "a.jpg")
    # Data that is lost in the middle, in an otherwise complete file.
    middle = len(whole) // 2
    (tmp_path / "a.jpg").write_bytes(whole[:middle] + whole[middle + 300 :])
    with pytest.raises(ReadError, match=r"a\.jpg: is damaged \(Corrupt JPEG data"):
        read_image(tmp_path / "a.jpg")
