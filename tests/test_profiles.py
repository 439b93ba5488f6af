"""Colour profiles of still images: converted as LittleCMS does it, and kept where they can be."""

from __future__ import annotations

import io
import struct
import zlib

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import vidmatte
from vidmatte.errors import ReadError
from vidmatte.imaging.display import describe_source, to_display
from vidmatte.imaging.profile import parse_profile
from vidmatte.read import open_video
from vidmatte.read.images import read_image
from vidmatte.read.sequence import ImageSet

# CIE XYZ of red, green and blue, adapted to D50, as ICC profiles hold them.
P3 = [(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)]
ADOBE = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + struct.pack(
    ">5i", *(round(65536 * v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * 563 / 256)) + b"\0\0"


def profile(colorants, curve, name):
    """An ICC profile of version 4 with three colorants and one curve."""
    text = name.encode("utf-16-be")
    description = b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text
    tags = {b"desc": description, b"cprt": description}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    for channel, xyz in zip(b"rgb", colorants, strict=True):
        letter = bytes([channel])
        values = (round(65536 * value) for value in xyz)
        tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *values)
        tags[letter + b"TRC"] = curve
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", key, start + len(data), len(value))
        data += padded
    size = start + len(data)
    header = struct.pack(">I4xI", size, 0x04300000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


PROFILES = {
    "Display P3": profile(P3, SRGB_CURVE, "Display P3"),
    "Adobe RGB": profile(ADOBE, GAMMA, "Adobe RGB"),
}
PATCHES = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)


def save(path, icc, pixels=PATCHES):
    Image.fromarray(pixels).save(path, icc_profile=icc, quality=100, subsampling=0)
    return path


def by_littlecms(pixels, icc):
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    done = ImageCms.profileToProfile(
        Image.fromarray(pixels), source, ImageCms.createProfile("sRGB"), renderingIntent=1
    )
    return np.asarray(done).astype(float)


@pytest.mark.parametrize("name", PROFILES)
def test_models_see_what_littlecms_makes_of_it(tmp_path, name):
    icc = PROFILES[name]
    with open_video(save(tmp_path / "a.png", icc)) as video:
        rgb = video.frame(0).rgb
        assert np.array_equal(rgb[0].numpy().transpose(1, 2, 0), PATCHES / np.float32(255))
        shown = to_display(rgb, video.info.color)[0].numpy().transpose(1, 2, 0) * 255
        assert f"the source has the colour profile '{name}'" in " ".join(
            describe_source(video.info)
        )
    difference = np.abs(shown - by_littlecms(PATCHES, icc))
    assert difference.max() < 1.6  # LittleCMS rounds to 8 bits
    assert np.abs(shown - PATCHES).max() > 20


def test_srgb_profiles_change_nothing(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert parse_profile(icc).is_srgb
    image = read_image(save(tmp_path / "a.png", icc))
    assert image.color.icc is None
    assert np.array_equal(image.rgb.transpose(1, 2, 0), PATCHES / np.float32(255))


@pytest.mark.parametrize("name", PROFILES)
def test_png_keeps_the_profile_and_the_code_values(tmp_path, name):
    source = save(tmp_path / "a.png", PROFILES[name])
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    options = vidmatte.MatteOptions(
        model="none", matte=tmp_path / "m.png", foreground="source", bit_depth=8
    )
    outputs = [tmp_path / "o.%d.png", tmp_path / "o.mov", tmp_path / "o.webp"]
    vidmatte.matte(source, output=outputs, options=options)
    with Image.open(tmp_path / "o.0.png") as written:
        assert written.info["icc_profile"] == PROFILES[name]
        assert np.array_equal(np.asarray(written)[:, :31, :3], PATCHES[:, :31])
    with av.open(str(tmp_path / "o.mov")) as movie:
        frame = next(movie.decode(video=0))
        primaries = int(frame.color_primaries)
        smooth = frame.to_ndarray(format="rgb24")[:, :24].mean((0, 1))
    # ProRes names P3; what it cannot name is converted.
    assert primaries == (12 if name == "Display P3" else 1)
    wanted = PATCHES if name == "Display P3" else by_littlecms(PATCHES, PROFILES[name])
    assert np.abs(smooth - wanted[:, :24].mean((0, 1))).max() < 4


def test_the_gamma_of_png_is_converted(tmp_path):
    data = cv2.imencode(".png", np.full((8, 8, 3), 128, np.uint8))[1].tobytes()
    content = b"gAMA" + struct.pack(">I", 100000)
    chunk = struct.pack(">I", 4) + content + struct.pack(">I", zlib.crc32(content))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    image = read_image(tmp_path / "a.png")
    light = 128 / 255
    assert np.allclose(image.rgb, 1.055 * light ** (1 / 2.4) - 0.055, atol=1e-5)
    assert "gamma 1" in image.notes[0]


def test_profiles_of_a_set_may_differ_and_those_of_a_clip_may_not(tmp_path):
    gray = np.full((8, 8, 3), (200, 90, 40), np.uint8)
    for number, icc in enumerate(PROFILES.values()):
        save(tmp_path / f"a.{number}.png", icc, gray)
    with ImageSet([tmp_path]) as images:
        assert images.info.color.icc is None
        for frame, icc in zip(images.decode(), PROFILES.values(), strict=True):
            found = frame.rgb.transpose(1, 2, 0) * 255
            assert np.abs(found - by_littlecms(gray, icc)).max() < 1
    with open_video(tmp_path) as video, pytest.raises(ReadError, match="another colour profile"):
        list(video.decode())


def test_references_are_seen_through_their_profile(tmp_path):
    image = read_image(save(tmp_path / "a.jpg", PROFILES["Display P3"]))
    assert image.color.primaries == 12
    prompt = vidmatte.Prompt(points=((10, 10, 1),))
    reference = prompt.reference(torch.from_numpy(image.rgb)[None], color=image.color)
    assert torch.equal(reference.rgb[0], to_display(torch.from_numpy(image.rgb), image.color))
    assert not torch.equal(reference.rgb[0], torch.from_numpy(image.rgb))
