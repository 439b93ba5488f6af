"""Mattes from a file instead of a model: every written format comes back, and the run goes on."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from clips import write_movie

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch
from vidmatte.read import open_video
from vidmatte.write import OutputSpec, create_outputs

FRAMES = 12
SIZE = (96, 160)


def ramp(number):
    """An edge 50 pixels wide, 5 pixels further right in each frame."""
    x = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32), SIZE)
    return np.clip((x + 5 * number - 60) / 50, 0, 1).astype(np.float32)


def write_mattes(path, like, *, alpha_only, frames=range(FRAMES)):
    with (
        open_video(like) as video,
        create_outputs([OutputSpec(path, alpha_only)], like=video.info) as out,
    ):
        for batch in video.batches(1, start=frames[0], end=frames[-1] + 1):
            out.write(
                MatteBatch(batch, torch.from_numpy(ramp(batch.frames[0]))[None, None], (1.0,))
            )
    return path


@pytest.fixture(scope="module")
def lossless(movie, tmp_path_factory):
    return write_mattes(tmp_path_factory.mktemp("given") / "m.mkv", movie, alpha_only=True)


def take(source, target, matte, **options):
    return vidmatte.matte(
        source, alpha=target, options=vidmatte.MatteOptions(model="none", matte=matte, **options)
    )


def stored(path):
    with open_video(path) as video:
        return np.stack(list(video.opacity()))


def expected(frames=range(FRAMES)):
    return np.stack([ramp(number) for number in frames])


@pytest.mark.parametrize(
    ("name", "alpha_only", "codes"),
    [
        ("m.mov", True, 876),  # 10 bits in video range
        ("m.mp4", True, 255),
        ("m.webm", True, 255),
        ("m.%04d.png", True, 65535),
        ("m.mov", False, 819),  # the decoder of ProRes gives less than the 16 bits of the file
        ("m.webm", False, 255),
        ("m.%04d.png", False, 65535),
    ],
)
def test_what_is_written_can_be_given_back(movie, tmp_path, name, alpha_only, codes):
    matte = write_mattes(tmp_path / name, movie, alpha_only=alpha_only)
    summary = take(movie, tmp_path / "a.mkv", matte)
    assert np.abs(stored(tmp_path / "a.mkv") - expected()).max() <= 0.5 / codes + 1 / 65535
    assert (summary.model, summary.frames, summary.confidence) == ("none", FRAMES, (1.0,) * FRAMES)
    assert summary.suggested_reference_frames == ()


@pytest.mark.parametrize("alpha_only", [True, False])
def test_exr_can_be_given_back(movie, tmp_path, alpha_only):
    pytest.importorskip("OpenEXR")
    matte = write_mattes(tmp_path / "m.%04d.exr", movie, alpha_only=alpha_only)
    assert np.abs(stored(matte) - expected()).max() <= 2**-12  # half floats below 1


@pytest.mark.parametrize(
    ("pixel_format", "place", "channels", "dtype"),
    [
        ("argb", 0, 4, "u1"),
        ("rgba", 3, 4, "u1"),
        ("rgba64be", 3, 4, ">u2"),
        ("ya8", 1, 2, "u1"),
        ("ya16be", 1, 2, ">u2"),
    ],
)
def test_alpha_beside_the_colours_of_its_pixel(tmp_path, pixel_format, place, channels, dtype):
    peak = 255 if dtype == "u1" else 65535
    codes = np.round(ramp(0) * peak)
    pixels = np.full((*SIZE, channels), 90, dtype)
    pixels[..., place] = codes
    frame = av.VideoFrame(SIZE[1], SIZE[0], pixel_format)
    assert frame.planes[0].line_size == pixels.nbytes // SIZE[0]
    frame.planes[0].update(pixels.tobytes())
    with av.open(str(tmp_path / "m.mov"), "w") as out:
        stream = out.add_stream("qtrle" if pixel_format == "argb" else "png", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pixel_format
        out.mux([*stream.encode(frame), *stream.encode(None)])
    assert np.abs(stored(tmp_path / "m.mov") - codes / peak).max() < 1e-6


def test_an_image_is_the_matte_of_every_frame(movie, tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.round(ramp(3) * 65535).astype(np.uint16))
    take(movie, tmp_path / "a.mkv", tmp_path / "m.png")
    assert np.abs(stored(tmp_path / "a.mkv") - ramp(3)).max() <= 1 / 65535


def test_each_image_of_a_set_has_its_matte(tmp_path):
    (tmp_path / "set").mkdir()
    for number, size in enumerate([(20, 30), (24, 16)]):
        cv2.imwrite(str(tmp_path / "set" / f"p{number}.png"), np.full((*size, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f"p{number}_in.png"), np.full(size, 50 + number, np.uint8))
    options = vidmatte.MatteOptions(model="none", matte=tmp_path / "{name}_in.png", bit_depth=8)
    vidmatte.matte(
        tmp_path / "set", images=True, output=tmp_path / "{name}_cut.png", options=options
    )
    for number in range(2):
        cut = cv2.imread(str(tmp_path / f"p{number}_cut.png"), cv2.IMREAD_UNCHANGED)
        assert (cut[..., 3] == 50 + number).all()


def test_mattes_of_the_part_that_is_asked_for_begin_with_it(movie, lossless, tmp_path):
    part = write_mattes(tmp_path / "part.mkv", movie, alpha_only=True, frames=range(3, 8))
    for matte in (lossless, part):
        take(movie, tmp_path / "a.mkv", matte, start="3", end="7", overwrite=True)
        assert np.abs(stored(tmp_path / "a.mkv") - expected(range(3, 8))).max() <= 1 / 65535


def test_the_rest_of_the_flow_goes_on(movie, lossless, tmp_path):
    command = [
        str(movie),
        "--model",
        "none",
        "--matte",
        str(lossless),
        "--invert",
        "--region",
        "0,0,80,96",
    ]
    targets = ["-o", str(tmp_path / "o.%02d.png"), "--report", str(tmp_path / "report")]
    result = CliRunner().invoke(cli, [*command, *targets])
    assert result.exit_code == 0, result.output
    written = cv2.imread(str(tmp_path / "o.05.png"), cv2.IMREAD_UNCHANGED)
    wanted = np.where(np.arange(SIZE[1]) < 80, 1 - ramp(5), 0)
    assert np.abs(written[..., 3] / 65535 - wanted).max() <= 1 / 65535
    assert "confidence 1.00 on average" in result.stderr
    assert (tmp_path / "report" / "report.html").is_file()


def refused(message, source, matte, tmp_path, *arguments):
    command = [
        str(source),
        "--model",
        "none",
        "--matte",
        str(matte),
        "--alpha",
        str(tmp_path / "a.mkv"),
        *arguments,
    ]
    before = set(tmp_path.iterdir())
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert set(tmp_path.iterdir()) == before


def test_mattes_of_another_clip_are_refused(movie, lossless, tmp_path):
    small = write_movie(tmp_path / "small.mp4", frames=FRAMES, size=(80, 48))
    refused("small.mp4: is 80x48, but the frame is 160x96", movie, small, tmp_path)
    longer = write_movie(tmp_path / "longer.mp4", frames=FRAMES + 1)
    refused("longer.mp4: has 13 frames, but the clip has 12; give", movie, longer, tmp_path)
    part = write_movie(tmp_path / "part.mp4", frames=4)
    message = "part.mp4: has 4 frames, but the clip has 12, and the chosen part of it 5; give"
    refused(message, movie, part, tmp_path, "--start", "3", "--end", "7")
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((10, 20), np.uint8))
    refused("m.png: is 20x10, but the frame is 160x96", movie, tmp_path / "m.png", tmp_path)


def test_choices_that_have_no_meaning_beside_given_mattes(movie, lossless, tmp_path):
    refused("marks were given, and mattes too", movie, lossless, tmp_path, "--points", "80,20")
    refused("working size was given", movie, lossless, tmp_path, "--working-size", "256")
    refused("does not support adaptation", movie, lossless, tmp_path, "--adapt-steps", "20")
    refused(
        "would be written over an input",
        lossless,
        lossless,
        tmp_path,
        "--alpha",
        str(lossless),
        "--overwrite",
    )
    with pytest.raises(OptionError, match="give both, model='none' and matte=PATH"):
        vidmatte.MatteOptions(matte=lossless)
    result = CliRunner().invoke(
        cli, [str(movie), "--model", "none", "--alpha", str(tmp_path / "a.mkv")]
    )
    assert result.exit_code == 2
    assert "model 'none' was given: give both" in result.stderr


def test_a_sideways_movie_is_turned_and_pixels_may_be_square(tmp_path):
    clip = write_movie(tmp_path / "clip.mp4", frames=2, size=(60, 40), aspect=Fraction(2))
    wide = np.zeros((40, 120), np.uint8)
    wide[:, 80:] = 255
    cv2.imwrite(str(tmp_path / "m.png"), wide)
    take(clip, tmp_path / "a.mkv", tmp_path / "m.png")
    assert (stored(tmp_path / "a.mkv")[0] == (np.arange(60) >= 40)).all()
    turned = write_movie(
        tmp_path / "turned.mov",
        frames=1,
        size=(60, 40),
        rotation=90,
        codec="png",
        pixel_format="rgb24",
        pictures=[np.dstack([wide[:, ::2]] * 3)],
    )
    with open_video(turned) as video:
        (plane,) = video.opacity()
    assert plane.shape == (60, 40)
    assert plane.mean() == pytest.approx(20 / 60)
    assert plane.std(axis=1).max() == 0  # columns became rows
