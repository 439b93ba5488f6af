import struct
from dataclasses import replace

import av
import numpy as np
import pytest

from vidmatte.errors import ReadError
from vidmatte.frames import ColorTags
from vidmatte.imaging import yuv

KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def analytic_rgb(codes, *, bits, matrix, full):
    """Return R'G'B' of a (Y, Cb, Cr) triple by the definitions of BT.601, 709 and 2020."""
    unit = 2 ** (bits - 8)
    kr, kb = KR_KB[matrix]
    if full:
        y, pb, pr = codes[0] / (2**bits - 1), *((c - 128 * unit) / (2**bits - 1) for c in codes[1:])
    else:
        y, pb, pr = (
            (codes[0] - 16 * unit) / (219 * unit),
            *((c - 128 * unit) / (224 * unit) for c in codes[1:]),
        )
    red, blue = y + 2 * (1 - kr) * pr, y + 2 * (1 - kb) * pb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.array([red, green, blue])


def flat_frame(codes, pixel_format, *, matrix, full, size=(38, 22)):
    dtype = np.uint16 if pixel_format.endswith("le") else np.uint8
    frame = av.VideoFrame(*size, pixel_format)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    for plane, code in zip(frame.planes, codes, strict=True):
        np.frombuffer(plane, dtype)[:] = code
    return frame


SITINGS = {
    0: (0.25, 0.0),
    2: (0.25, 0.25),
    3: (0.0, 0.0),
    4: (0.0, 0.25),
    5: (0.5, 0.0),
    6: (0.5, 0.25),
}
"""Place of the first sample of chroma in samples of chroma, down and across, by AVChromaLocation:
0, 1/2 or 1 pixel of luma behind the first sample of luma."""


def at_full_size(chroma, height, width, *, location=0):
    """Return chroma at every luma pixel in float64, interpolated linearly one pixel at a time."""
    for axis, size in ((0, height), (1, width)):
        samples = chroma.shape[axis]
        if samples == size:
            continue
        place = np.arange(size) / 2 - SITINGS[location][axis]
        low = np.floor(place).astype(int)
        share = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
        before, after = (np.take(chroma, np.clip(low + n, 0, samples - 1), axis) for n in (0, 1))
        chroma = (1 - share) * before + share * after
    return chroma


def random_frame(pixel_format, *, bits, matrix, full, size):
    """A frame of random code values over the whole scale, and its planes in float64."""
    rng = np.random.default_rng(bits + matrix + size[0])
    frame = av.VideoFrame(*size, pixel_format)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    dtype, planes = np.uint16 if bits > 8 else np.uint8, []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
        rows[:] = rng.integers(0, 2**bits, rows.shape)
        planes.append(rows.astype(np.float64))
    return frame, planes


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 6, 9], ids=["709", "601", "2020"])
@pytest.mark.parametrize(
    "size", [(98, 22), (97, 21), (5, 3), (1, 1)], ids=lambda size: "x".join(map(str, size))
)
@pytest.mark.parametrize("sampling", ["420", "422", "444"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_conversion_is_exact_to_a_hundredth_of_a_code(bits, sampling, size, matrix, full):
    pixel_format = f"yuv{sampling}p" + ("" if bits == 8 else f"{bits}le")
    frame, planes = random_frame(pixel_format, bits=bits, matrix=matrix, full=full, size=size)
    tags = yuv.tags_of(frame)
    assert (tags.matrix, tags.full_range, tags.assumed) == (matrix, full, False)
    codes = [at_full_size(plane, size[1], size[0]) for plane in planes]
    wanted = analytic_rgb(codes, bits=bits, matrix=matrix, full=full)
    rgb = yuv.to_rgb(frame, tags)
    assert rgb.shape == (3, size[1], size[0])
    assert np.abs(rgb - wanted).max() < 0.01 / 255


@pytest.mark.parametrize(
    "name", ["nv12", "p010le", "yuyv422", "uyvy422", "yuva444p10le", "yuv422p10be"]
)
def test_other_layouts_of_samples_hold_the_same_colour(name):
    bits = av.VideoFormat(name, 2, 2).components[0].bits
    sampling = {"nv12": "420", "p010le": "420", "yuva444p10le": "444"}.get(name, "422")
    suffix = "" if bits == 8 else f"{bits}le"
    frame, planes = random_frame(
        f"yuv{sampling}p{suffix}", bits=bits, matrix=1, full=False, size=(98, 22)
    )
    other = frame.reformat(format=name, threads=1)  # more of them overwrite pixels now and then
    codes = [at_full_size(plane, 22, 98) for plane in planes]
    wanted = analytic_rgb(codes, bits=bits, matrix=1, full=False)
    assert np.abs(yuv.to_rgb(other, yuv.tags_of(other)) - wanted).max() < 0.01 / 255


@pytest.mark.parametrize("location", SITINGS)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_chroma_lies_at_its_declared_location(location, full):
    name = "yuvj420p" if full else "yuv420p"
    frame, planes = random_frame(name, bits=8, matrix=6, full=full, size=(97, 21))
    codes = [at_full_size(plane, 21, 97, location=location) for plane in planes]
    wanted = analytic_rgb(codes, bits=8, matrix=6, full=full)
    tags = replace(yuv.tags_of(frame), chroma_location=location)
    assert np.abs(yuv.to_rgb(frame, tags) - wanted).max() < 0.01 / 255


def test_full_range_jpeg_formats_are_exact():
    codes = (200, 90, 150)
    frame = flat_frame(codes, "yuvj420p", matrix=6, full=True)
    rgb = yuv.to_rgb(frame, yuv.tags_of(frame))
    wanted = analytic_rgb(codes, bits=8, matrix=6, full=True)
    assert np.abs(rgb - wanted[:, None, None]).max() < 0.01 / 255


@pytest.mark.parametrize(
    ("size", "matrix"), [((1920, 1080), 1), ((1280, 720), 1), ((720, 576), 6), ((640, 480), 6)]
)
def test_untagged_sources_follow_the_usual_rule(size, matrix):
    tags = yuv.tags_of(av.VideoFrame(*size, "yuv420p"))
    assert (tags.matrix, tags.assumed) == (matrix, True)


@pytest.mark.parametrize("width", [5, 30, 99])
def test_rgb_sources_are_copied(width):
    picture = np.random.default_rng(1).integers(0, 256, (20, width, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    rgb = yuv.to_rgb(frame, yuv.tags_of(frame))
    assert np.abs(rgb - picture.transpose(2, 0, 1) / 255).max() < 1e-6


def test_paletted_sources_are_read_through_their_palette(tmp_path):
    # A 4 x 2 bitmap of 8-bit indices, all 7; entry 7 of the palette is red 0x33, green 0x66, blue
    # 0xcc.
    palette = bytearray(1024)
    palette[28:32] = bytes([0xCC, 0x66, 0x33, 0])
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 1086, 0, 0, 1078, 40, 4, 2, 1, 8, 0, 8, 0, 0, 256, 0
    )
    (tmp_path / "flat.bmp").write_bytes(header + palette + bytes([7] * 8))
    with av.open(str(tmp_path / "flat.bmp")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "pal8"
    rgb = yuv.to_rgb(frame, yuv.tags_of(frame))
    assert np.abs(rgb - (np.array([0x33, 0x66, 0xCC]) / 255)[:, None, None]).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "dtype"), [("gray", "u1"), ("gray16le", "<u2"), ("gray16be", ">u2")]
)
def test_untagged_gray_is_full_range(name, dtype):
    frame = av.VideoFrame(16, 16, name)
    peak = 255 if dtype == "u1" else 65535
    np.frombuffer(frame.planes[0], dtype)[:] = round(0.5 * peak)
    assert np.allclose(yuv.to_rgb(frame, yuv.tags_of(frame)), round(0.5 * peak) / peak, atol=1e-6)


def test_gray_with_alpha_is_gray():
    frame = av.VideoFrame(16, 16, "ya8")
    np.frombuffer(frame.planes[0], np.uint8)[:] = np.tile([51, 128], 16 * 16)
    assert np.allclose(yuv.to_rgb(frame, yuv.tags_of(frame)), 0.2, atol=1e-6)


def test_gray_sources_are_taken_as_luma():
    frame = av.VideoFrame(16, 16, "gray10le")
    frame.color_range = 1
    np.frombuffer(frame.planes[0], np.uint16)[:] = 64 + 438
    assert np.allclose(yuv.to_rgb(frame, yuv.tags_of(frame)), 0.5, atol=1e-6)


def test_unknown_matrices_are_refused():
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.colorspace = 8  # YCgCo
    with pytest.raises(ReadError, match="colour matrix 8"):
        yuv.tags_of(frame)


def test_self_test_notices_a_wrong_conversion(monkeypatch):
    yuv.exact_conversion_works.cache_clear()
    monkeypatch.setattr(yuv, "_EXACT_FLAGS", 2)  # swscale's default path
    assert yuv.exact_conversion_works() is False
    yuv.exact_conversion_works.cache_clear()
    monkeypatch.undo()
    assert yuv.exact_conversion_works() is True
    assert ColorTags().matrix == 1
