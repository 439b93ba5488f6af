"""`--foreground source`: where alpha is 1, outputs hold the source's code values.

This holds for straight and for premultiplied outputs.
"""

import shutil
import subprocess
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from clips import write_movie

import vidmatte
from vidmatte.frames import MatteBatch
from vidmatte.write import create_outputs
from vidmatte.write.planes import output_tags, video_frame

SIZE = (64, 96)
NEARLY = 1 - 0.3 / 65535
"""Alpha that is stored as 1 in every depth."""


def alpha_plane():
    """Solid left of a ramp, nearly solid in the first rows, nothing on the right."""
    alpha = np.clip((80 - np.arange(SIZE[1])) / 20, 0, 1).astype(np.float32)
    alpha = np.repeat(alpha[None], SIZE[0], 0)
    alpha[:10][alpha[:10] == 1] = NEARLY
    return torch.from_numpy(alpha)[None, None]


def write(source, target, **options):
    """Write the first frame of a source as it is, with `alpha_plane`."""
    with (
        vidmatte.open_video(source) as video,
        create_outputs([target], like=video.info, **options) as out,
    ):
        for batch in video.batches(1, end=1):
            out.write(MatteBatch(batch, alpha_plane(), (1.0,)))


def read_with_ffmpeg(path, format_):
    """Planes or pixels as FFmpeg's decoder gives them (OpenCV writes the images)."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == format_, frame.format.name
        return frame.to_ndarray()


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("source_depth", [8, 16])
def test_png_is_bit_for_bit(tmp_path, source_depth, premultiplied):
    kind = np.uint8 if source_depth == 8 else np.uint16
    codes = np.random.default_rng(0).integers(0, 2**source_depth, (*SIZE, 3), kind, endpoint=False)
    codes[:20, :40] = 2**source_depth - 1
    cv2.imwrite(str(tmp_path / "in.0001.png"), codes[..., ::-1])
    write(tmp_path / "in.%04d.png", tmp_path / "out.%04d.png", premultiplied=premultiplied)
    pixels = read_with_ffmpeg(tmp_path / "out.0001.png", "rgba64be").astype(int)
    solid = pixels[..., 3] == 65535
    assert 0.5 < solid.mean() < 0.7
    assert np.array_equal(
        pixels[solid][:, :3], codes[solid].astype(int) * (257 if source_depth == 8 else 1)
    )
    if source_depth == 8:
        write(
            tmp_path / "in.%04d.png",
            tmp_path / "low.%04d.png",
            premultiplied=premultiplied,
            bit_depth=8,
        )
        pixels = read_with_ffmpeg(tmp_path / "low.0001.png", "rgba")
        solid = pixels[..., 3] == 255
        assert np.array_equal(pixels[solid][:, :3], codes[solid])


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize(
    "tags", [vidmatte.frames.ColorTags(1, 1, 1), vidmatte.frames.ColorTags(1, 13, 0, True)]
)
def test_codes_survive_the_half_floats_of_exr(tmp_path, bits, tags):
    OpenEXR = pytest.importorskip("OpenEXR")
    from vidmatte.write.exr import to_linear

    codes = torch.arange(2**bits)
    rgb = (codes / (2**bits - 1)).float().reshape(1, 1, 1, -1).expand(1, 3, 1, -1).contiguous()
    info = vidmatte.VideoInfo("c", 2**bits, 1, Fraction(25), Fraction(1, 25), color=tags)
    batch = MatteBatch(
        vidmatte.FrameBatch(rgb, (0,), (0,), (1,)), torch.full((1, 1, 1, 2**bits), NEARLY), (1.0,)
    )
    with create_outputs([tmp_path / "o.%d.exr"], like=info) as out:
        out.write(batch)
    pixels = OpenEXR.File(str(tmp_path / "o.0.exr"), separate_channels=True).channels()
    assert (pixels["A"].pixels == 1).all()
    linear = torch.from_numpy(pixels["G"].pixels[0].astype(np.float32))
    # The curve is monotonic: the code whose light lies nearest.
    wanted = to_linear(rgb, tags)[0, 1, 0]
    found = torch.bucketize(linear, (wanted[1:] + wanted[:-1]) / 2)
    assert (found - codes).abs().max() == (0 if bits <= 10 else 1)


def yuv_source(path, pixel_format, matrix=1):
    """A movie of smoothly varying codes that all lie within RGB, lossless; and its planes."""
    bits = 10 if "10" in pixel_format else 8
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    unit = 2 ** (bits - 8)
    planes = [
        (110 + 50 * np.sin(x / 9) * np.cos(y / 7)) * unit,
        (128 + 20 * np.sin(x / 13 + y / 5)) * unit,
        (128 + 20 * np.cos(x / 11 - y / 6)) * unit,
    ]
    planes = [np.round(plane).astype(np.uint8 if bits == 8 else np.uint16) for plane in planes]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
        frame = av.VideoFrame(SIZE[1], SIZE[0], pixel_format)
        frame.colorspace, frame.color_range = matrix, 1
        for plane, codes in zip(frame.planes, planes, strict=True):
            view = np.frombuffer(plane, codes.dtype).reshape(-1, plane.line_size // codes.itemsize)
            view[: SIZE[0], : SIZE[1]] = codes
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path, [codes.astype(int) for codes in planes]


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize(
    ("pixel_format", "matrix"), [("yuv444p", 1), ("yuv444p", 6), ("yuv444p10le", 1)]
)
def test_prores_is_given_the_codes_of_the_source(tmp_path, pixel_format, matrix, premultiplied):
    path, planes = yuv_source(tmp_path / "in.mkv", pixel_format, matrix)
    with vidmatte.open_video(path) as video:
        rgb = video.frame(0).rgb[0]
        tags = output_tags(video.info.color, alpha_only=False, full_range=False)
    frame = video_frame(rgb, torch.ones(SIZE), pixel_format="yuva444p10le", tags=tags)
    given = [
        np.frombuffer(p, np.uint16).reshape(-1, p.line_size // 2)[: SIZE[0], : SIZE[1]]
        for p in frame.planes
    ]
    for ours, codes in zip(given[:3], planes, strict=True):
        assert np.array_equal(ours.astype(int), codes * (4 if pixel_format == "yuv444p" else 1))
    # What the codec makes of them, read by another FFmpeg where there is one: off by a code or two
    # of 10 bits.
    if shutil.which("ffmpeg") is None:
        return
    write(path, tmp_path / "o.mov", premultiplied=premultiplied)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(tmp_path / "o.mov"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "yuva444p12le",
        "-",
    ]
    raw = np.frombuffer(
        subprocess.run(command, capture_output=True, check=True).stdout, "<u2"
    ).astype(float)
    decoded = raw.reshape(4, *SIZE) / 4
    inner = (slice(None), slice(0, 56))  # blocks that are solid throughout
    assert (decoded[3][inner] >= 1023.5).all()
    for theirs, codes in zip(decoded[:3], planes, strict=True):
        difference = np.abs(theirs - codes * (4 if pixel_format == "yuv444p" else 1))[inner]
        assert difference.max() <= 2
        assert difference.mean() <= 0.5


def test_codes_beyond_rgb_are_the_limit(tmp_path):
    """Luma above white is RGB above 1, which frames do not hold: it is written as white."""
    picture = np.full((*SIZE, 3), 255, np.uint8)
    path = write_movie(
        tmp_path / "in.mkv",
        frames=1,
        size=SIZE[::-1],
        pictures=[picture],
        codec="ffv1",
        pixel_format="yuv444p",
    )
    with vidmatte.open_video(path) as video:
        assert float(video.frame(0).rgb.max()) <= 1
