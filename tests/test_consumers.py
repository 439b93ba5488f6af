"""Other programs read what we write: ffmpeg, mediainfo, Chromium, Blender, OpenImageIO.

Each test runs if its program is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import create_outputs, parse_output

WIDTH, HEIGHT, FRAMES = 256, 128, 10
PATCHES = (((1, 0, 0), 1), ((1, 1, 1), 0.5), ((0, 1, 0), 0), ((0.5, 0.5, 0.5), 0.25))
"""Straight colour and alpha of four columns."""
ON_BLUE = ((255, 0, 0), (128, 128, 255), (0, 0, 255), (32, 32, 223))
"""What each must look like over blue: colour times alpha, and 255 times what is left of blue."""
MIDDLES = [WIDTH * (2 * n + 1) // 8 for n in range(4)]


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def run(*command, timeout=120):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, check=True, timeout=timeout
    ).stdout


def write_patches(folder: Path, *targets: str, alpha_only: bool = False, **facts) -> list[Path]:
    """The patches in each target; returns the files, the fourth image of a sequence."""
    rgb, alpha = torch.zeros(1, 3, HEIGHT, WIDTH), torch.zeros(1, 1, HEIGHT, WIDTH)
    for n, (color, opacity) in enumerate(PATCHES):
        columns = slice(n * WIDTH // 4, (n + 1) * WIDTH // 4)
        rgb[..., columns] = torch.tensor(color, dtype=torch.float32).reshape(1, 3, 1, 1)
        alpha[..., columns] = opacity
    given = {
        "color": ColorTags(1, 1, 1),
        "time_base": Fraction(1, 25),
        "frame_rate": Fraction(25),
        **facts,
    }
    like = VideoInfo("clip", WIDTH, HEIGHT, **given)
    parsed = [parse_output(folder / target, alpha_only=alpha_only) for target in targets]
    with create_outputs(parsed, like=like) as outputs:
        for k in range(FRAMES):
            outputs.write(MatteBatch(FrameBatch(rgb, (k,), (k,), (1,)), alpha, (1.0,)))
    return [folder / str(target).replace("%04d", "0003") for target in parsed]


def middles(picture):
    return [tuple(picture[HEIGHT // 2, x].tolist()) for x in MIDDLES]


def assert_on_blue(path, *, tolerance):
    """A picture of the patches over blue shows what it must."""
    found = middles(cv2.imread(str(path))[..., ::-1])
    assert np.abs(np.array(found) - ON_BLUE).max() <= tolerance, found


@pytest.mark.browser
@needs("chromium")
@pytest.mark.parametrize(
    "target", ["a.webm", "a.webm:fast", "a.webm:lossless", "a.webp", "a.webp:lossless", "a.avif"]
)
def test_chromium_shows_exact_transparency(tmp_path, target):
    pytest.importorskip("PIL")
    (path,) = write_patches(tmp_path, target)
    tag = (
        f"<video autoplay muted src={path.name}>"
        if path.suffix == ".webm"
        else f"<img src={path.name}>"
    )
    page = tmp_path / "page.html"
    page.write_text(f"<body style='margin:0; background:#00f'>{tag}")
    shot = tmp_path / "shot.png"
    run(
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        f"--window-size={WIDTH},{HEIGHT}",
        f"--screenshot={shot}",
        "--virtual-time-budget=2000",
        page.as_uri(),
    )
    assert_on_blue(shot, tolerance=3)


BLENDER = """
import bpy, sys
folder, *paths = sys.argv[sys.argv.index("--") + 1 :]
scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = %d, %d, 100
scene.view_settings.view_transform = "Standard"
scene.render.image_settings.file_format = "PNG"
scene.frame_start = scene.frame_end = 3
strips = scene.sequence_editor_create().sequences
strips.new_effect("blue", "COLOR", 1, frame_start=1, frame_end=9).color = 0, 0, 1
for index, path in enumerate(paths):
    make = strips.new_image if path.endswith((".png", ".exr")) else strips.new_movie
    strip = make("matte", path, 2, 3)
    strip.blend_type = "ALPHA_OVER"
    scene.frame_set(3)
    scene.render.filepath = f"{folder}/over{index}.png"
    bpy.ops.render.render(write_still=True)
    strips.remove(strip)
"""  # noqa: E501


@pytest.mark.slow
@needs("blender")
def test_blender_lays_them_over_blue(tmp_path):
    """Blender takes EXR as scene-linear and premultiplied, the rest as straight.

    Light is encoded with sRGB's curve again.
    """
    pytest.importorskip("OpenEXR")
    targets = [
        "a.mov",
        "b.mov:prores-4444-xq",
        "c.mov:png",
        "d.mov:qtrle",
        "e.mkv",
        "f_%04d.png",
        "g_%04d.exr:float",
    ]
    paths = write_patches(tmp_path, *targets, color=ColorTags(1, 13, 0))
    script = tmp_path / "over.py"
    script.write_text(BLENDER % (WIDTH, HEIGHT))
    run(
        "blender",
        "-b",
        "--factory-startup",
        "--python-exit-code",
        1,
        "--python",
        script,
        "--",
        tmp_path,
        *paths,
    )
    for index in range(len(paths)):
        assert_on_blue(tmp_path / f"over{index}.png", tolerance=1)


@pytest.mark.slow
@needs("oiiotool")
@pytest.mark.parametrize(
    ("target", "straight", "tolerance"),
    [
        ("a.mov", True, 0.008),
        ("a_%04d.png", False, 1e-4),
        ("a_%04d.exr", False, 1e-3),
        ("a_%04d.exr:float,dwaa", False, 0.01),
        ("a_%04d.exr:straight,piz", True, 1e-3),
    ],
)
def test_openimageio_reads_the_values(tmp_path, target, straight, tolerance):
    """Chromium multiplies the colour of PNG with alpha itself, and ignores the alpha of movies."""
    pytest.importorskip("OpenEXR")
    (path,) = write_patches(
        tmp_path, target, color=ColorTags(1, 8, 0) if ".exr" in target else ColorTags(1, 1, 1)
    )
    run("oiiotool", path, "-d", "float", "-o", tmp_path / "read.tif")
    found = cv2.imread(str(tmp_path / "read.tif"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
    for (color, alpha), pixel in zip(PATCHES, middles(found), strict=True):
        assert pixel[3] == pytest.approx(alpha, abs=1e-3)
        if target == "a.mov" and len(set(color)) > 1:
            continue  # it takes every movie as BT.601
        if alpha or not straight:
            assert pixel[:3] == pytest.approx(
                [c * (1 if straight else alpha) for c in color], abs=tolerance
            )


@needs("oiiotool")
def test_openimageio_reads_the_header_of_exr(tmp_path):
    pytest.importorskip("OpenEXR")
    facts = {"timecode": "10:11:12:13", "sample_aspect_ratio": Fraction(4, 3), "first_number": 1000}
    (path,) = write_patches(tmp_path, "a_%04d.exr:dwab", color=ColorTags(9, 16, 9), **facts)
    header = run("oiiotool", "--info", "-v", path.with_name("a_1003.exr")).decode()
    for line in (
        'compression: "dwab',
        "PixelAspectRatio: 1.33333",
        "10:11:12:16",
        "framesPerSecond: 25/1",
        "chromaticities: 0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329",
    ):
        assert line in header


COLOURS = {
    "a.mov": "ProRes",
    "b.mov:prores-4444-xq": "ProRes",
    "c.webm": "VP9",
    "d.mov:on-black": "ProRes",
}


@needs("mediainfo")
@pytest.mark.parametrize("target", COLOURS)
def test_mediainfo_reads_the_tags(tmp_path, target):
    (path,) = write_patches(tmp_path, target, color=ColorTags(9, 16, 9), timecode="10:11:12:13")
    tracks = json.loads(run("mediainfo", "--Output=JSON", path))["media"]["track"]
    video = next(track for track in tracks if track["@type"] == "Video")
    assert video["Format"] == COLOURS[target]
    assert (video["Width"], video["Height"], video["FrameCount"]) == (
        str(WIDTH),
        str(HEIGHT),
        str(FRAMES),
    )
    assert video["colour_primaries"] == "BT.2020"
    assert video["transfer_characteristics"] == "PQ"
    assert video["matrix_coefficients"].startswith("BT.2020")
    if path.suffix == ".mov":
        assert "10:11:12:13" in json.dumps(tracks)
    profiles = {"a.mov": "4444", "b.mov:prores-4444-xq": "4444 XQ", "d.mov:on-black": "422 HQ"}
    assert video.get("Format_Profile", "") == profiles.get(target, video.get("Format_Profile", ""))


@needs("mediainfo")
@pytest.mark.parametrize(
    ("target", "wanted"), [("a.mkv", "Full"), ("a.mp4", "Full"), ("a.webm", "Full")]
)
def test_mediainfo_reads_the_range_of_mattes(tmp_path, target, wanted):
    (path,) = write_patches(tmp_path, target, alpha_only=True)
    tracks = json.loads(run("mediainfo", "--Output=JSON", path))["media"]["track"]
    video = next(track for track in tracks if track["@type"] == "Video")
    assert (video["colour_range"], video["transfer_characteristics"]) == (wanted, "BT.709")


@needs("ffmpeg")
@pytest.mark.parametrize(
    "target", ["a.mov", "a.mov:png", "a.mov:qtrle", "a.mkv", "a.webm:lossless"]
)
def test_another_ffmpeg_lays_them_over_blue(tmp_path, target):
    (path,) = write_patches(tmp_path, target)
    decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    blue = ["-f", "lavfi", "-i", f"color=c=blue:s={WIDTH}x{HEIGHT}:r=25,format=gbrp"]
    over = "[1:v]format=gbrap[over];[0:v][over]overlay=format=gbrp,format=rgb24"
    run(
        "ffmpeg",
        "-v",
        "error",
        *blue,
        *decoder,
        "-i",
        path,
        "-filter_complex",
        over,
        "-frames:v",
        1,
        "-sws_flags",
        "accurate_rnd+full_chroma_int",
        tmp_path / "over.png",
    )
    assert_on_blue(tmp_path / "over.png", tolerance=3)
