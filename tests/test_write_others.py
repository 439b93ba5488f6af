"""Containers with rules of their own: MXF has one frame rate, WebP and AVIF count milliseconds and
hold no sound.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import create_outputs, mxf, parse_output
from vidmatte.write.avif import AvifWriter

WIDTH, HEIGHT = 256, 120


def save(
    target,
    pts,
    *,
    alpha_only=False,
    durations=None,
    first=0,
    start=None,
    premultiplied=False,
    **facts,
):
    """Frames of one gray each, at the given times, and half transparent."""
    given = {"frame_rate": Fraction(25), "time_base": Fraction(1, 25), **facts}
    like = VideoInfo("clip.mp4", WIDTH, HEIGHT, **given)
    parsed = parse_output(target, alpha_only=alpha_only)
    with create_outputs([parsed], like=like, start=start, premultiplied=premultiplied) as outputs:
        for k, time in enumerate(pts):
            rgb = torch.full((1, 3, HEIGHT, WIDTH), k / len(pts))
            source = FrameBatch(rgb, (first + k,), (time,), (durations[k] if durations else 0,))
            outputs.write(MatteBatch(source, torch.full((1, 1, HEIGHT, WIDTH), 0.5), (1.0,)))
    return outputs


@pytest.mark.parametrize("target", ["a.mxf", "a.mxf:on-black"])
@pytest.mark.parametrize(
    ("rate", "base", "step"), [(25, 90000, 3600), (Fraction(30000, 1001), 1000, 33.37)]
)
def test_mxf_has_every_frame_at_its_place(tmp_path, target, rate, base, step):
    pts = [round(4000 + k * step) for k in range(6)]
    rate = Fraction(rate)
    facts = {"frame_rate": rate, "time_base": Fraction(1, base), "timecode": "10:00:00:00"}
    save(tmp_path / target, pts, alpha_only=target == "a.mxf", **facts)
    with av.open(str(tmp_path / "a.mxf")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert [frame.pts * frame.time_base for frame in frames] == [k / rate for k in range(6)]
        assert stream.average_rate == rate
        assert stream.codec_context.profile == "DNXHR 444"
        tags = {**container.metadata, **stream.metadata}
    assert tags.get("timecode") == "10:00:00:00"


def mxf_sets(path):
    """Key and content of each metadata set in the header, by its own reading of the file."""
    data = path.read_bytes()
    place, found = 0, []
    while place < 8192:
        key, size, start = data[place : place + 16], data[place + 16], place + 17
        if size >= 0x80:
            start += size - 0x80
            size = int.from_bytes(data[place + 17 : start], "big")
        found.append((key, data[start : start + size]))
        place = start + size
    return found


def descriptor_of(path):
    """Key and items of the picture's description (SMPTE ST 377-1: 28 is Y'CbCr, 29 RGB)."""
    sets = [(key[14], content) for key, content in mxf_sets(path) if key[4:14:9] == b"\x02\x01"]
    ((kind, content),) = [entry for entry in sets if entry[0] in (0x27, 0x28, 0x29)]
    items, place = {}, 0
    while place < len(content):
        tag, size = (
            content[place : place + 2].hex(),
            int.from_bytes(content[place + 2 : place + 4], "big"),
        )
        items[tag] = content[place + 4 : place + 4 + size]
        place += 4 + size
    return kind, items


@pytest.mark.parametrize("target", ["a.mxf", "a.mxf:on-black"])
@pytest.mark.parametrize("timecode", [None, "10:00:00:00"])
def test_mxf_describes_its_picture_as_limited_range_ycbcr(tmp_path, target, timecode):
    facts = {"timecode": timecode, "sample_aspect_ratio": Fraction(16, 15)}
    outputs = save(tmp_path / target, [0, 1], alpha_only=target == "a.mxf", **facts)
    kind, items = descriptor_of(tmp_path / "a.mxf")
    assert kind == 0x28
    numbers = {
        tag: int.from_bytes(items[tag], "big")
        for tag in ("3301", "3302", "3308", "3304", "3305", "3306")
    }
    assert numbers == {"3301": 10, "3302": 1, "3308": 1, "3304": 64, "3305": 940, "3306": 897}
    assert not {"3401", "3406", "3407"} & set(items)
    assert Fraction(*struct.unpack(">2I", items["320e"])) == Fraction(WIDTH, HEIGHT) * Fraction(
        16, 15
    )
    with av.open(str(tmp_path / "a.mxf")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(16, 15)
        assert len(list(container.decode(stream))) == 2
    assert outputs.notes == ()


def umids_of(path):
    """The material numbers of all packages, which are 32 bytes with a known label."""
    data = path.read_bytes()
    return {
        found[1]
        for found in re.finditer(
            rb"\x06\x0a\x2b\x34\x01\x01\x01\x05\x01\x01\x0d\x00\x13...(.{16})", data, re.DOTALL
        )
    }


def test_every_mxf_has_a_umid_of_its_own(tmp_path):
    """And the same content the same one, as two equal runs write equal bytes."""
    for name, pts in (("a", [0, 1]), ("b", [0, 1]), ("c", [0, 1, 2])):
        save(tmp_path / f"{name}.mxf", pts, alpha_only=True)
    a, b, c = (umids_of(tmp_path / f"{name}.mxf") for name in "abc")
    assert len(a) == 2  # the material package and the one of the file
    assert bytes(16) not in a
    assert a == b
    assert not a & c
    assert (tmp_path / "a.mxf").read_bytes() == (tmp_path / "b.mxf").read_bytes()


def test_unknown_mxf_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mxf, "_RGB_DESCRIPTOR", bytes(16))
    with pytest.raises(WriteError, match=r"a\.mxf.* lays out MXF in an unknown way; choose \.mov"):
        save(tmp_path / "a.mxf", [0, 1], alpha_only=True)
    assert not list(tmp_path.iterdir())


def test_mxf_refuses_what_comes_off_its_rate(tmp_path):
    with pytest.raises(
        WriteError, match=r"frame 2 comes \+0\.040 s off a constant rate of 25\.000 .* write \.mov"
    ):
        save(tmp_path / "a.mxf", [0, 1, 3], alpha_only=True)
    assert not list(tmp_path.iterdir())


def test_mxf_holds_sound_as_pcm(tmp_path):
    source = tmp_path / "clip.mov"
    with av.open(str(source), "w") as container:
        sound = container.add_stream("aac", rate=48000, layout="stereo")
        wave = (0.5 * np.sin(np.arange(48000) / 20)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for piece in av.AudioResampler("fltp", "stereo", 48000, 1024).resample(frame):
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    like = VideoInfo(str(source), WIDTH, HEIGHT, Fraction(25), Fraction(1, 25), audio_streams=1)
    with create_outputs([parse_output(tmp_path / "a.mxf", alpha_only=True)], like=like) as outputs:
        for k in range(25):
            rgb = torch.zeros(1, 3, HEIGHT, WIDTH)
            outputs.write(MatteBatch(FrameBatch(rgb, (k,), (k,), (1,)), rgb[:, :1].clone(), (1.0,)))
    with av.open(str(tmp_path / "a.mxf")) as container:
        assert container.streams.audio[0].codec_context.name == "pcm_s24le"
        heard = np.concatenate(
            [frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in container.decode(audio=0)]
        )
    assert abs(len(heard) - 48000) <= 1920
    assert np.abs(heard[:40000] / 2**31 - wave[:40000]).max() < 0.05


VARIABLE, LENGTHS = [0, 1001, 2500, 4501, 7007], [1001, 1499, 2001, 2506, 1993]
"""In 30000ths of a second."""


@pytest.mark.parametrize("target", ["a.webp", "a.webp:lossless", "a.avif"])
@pytest.mark.parametrize(
    ("first", "is_cut"), [(0, False), (4004, True), (4004, False), (300300, False)]
)
def test_animations_keep_times_to_the_millisecond(tmp_path, target, first, is_cut):
    """Whether the source begins at 0 or later, cut there or not."""
    Image = pytest.importorskip("PIL.Image")
    pts = [time + first for time in VARIABLE]
    start = Fraction(first, 30000) if is_cut else None
    facts = {"time_base": Fraction(1, 30000), "frame_rate": Fraction(20)}
    save(tmp_path / target, pts, durations=LENGTHS, start=start, first=first, **facts)
    lengths = []
    with Image.open(tmp_path / target.partition(":")[0]) as image:
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            lengths.append(image.info["duration"])
            if target != "a.webp":
                assert (
                    abs(int(np.asarray(image.convert("RGBA"))[60, 128, 0]) - 255 * index / 5) <= 3
                )
    edges = [round(time / 30) for time in (*VARIABLE, VARIABLE[-1] + LENGTHS[-1])]
    assert np.abs(np.cumsum([0, *lengths]) - edges).max() <= 1
    if target != "a.avif":
        assert image.info["loop"] == 0


@pytest.mark.parametrize(("premultiplied", "wanted"), [(False, 128), (True, 64)])
def test_webp_is_straight_or_premultiplied_as_asked(tmp_path, premultiplied, wanted):
    Image = pytest.importorskip("PIL.Image")
    save(tmp_path / "a.webp:lossless", [0, 1], premultiplied=premultiplied)
    with Image.open(tmp_path / "a.webp") as image:
        image.seek(1)
        pixel = np.asarray(image.convert("RGBA"))[60, 128].astype(int)
    assert np.abs(pixel - [wanted, wanted, wanted, 128]).max() <= 1


def test_avif_does_not_hold_the_time_of_day(tmp_path):
    pytest.importorskip("PIL")
    save(tmp_path / "a.avif", [0, 1])
    data = (tmp_path / "a.avif").read_bytes()
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        assert data.count(name) >= 1
        at = data.index(name)
        assert data[at + 4] == 1  # the version whose times have 8 bytes
        assert data[at + 8 : at + 24] == bytes(16)


def test_premultiplied_avif_is_refused(tmp_path):
    with pytest.raises(OptionError, match="straight colour only; leave out premultiplied=True"):
        save(tmp_path / "a.avif", [0, 1], premultiplied=True)


def test_frames_that_do_not_change_keep_their_time_in_webp(tmp_path):
    """The encoder makes one of them; the end of the last must not move."""
    Image = pytest.importorskip("PIL.Image")
    like = VideoInfo("clip.mp4", 16, 16, Fraction(10), Fraction(1, 10))
    with create_outputs([tmp_path / "a.webp"], like=like) as outputs:
        for k, gray in enumerate((0.2, 0.8, 0.8, 0.8)):
            rgb = torch.full((1, 3, 16, 16), gray)
            outputs.write(
                MatteBatch(FrameBatch(rgb, (k,), (k,), (1,)), torch.ones(1, 1, 16, 16), (1.0,))
            )
    with Image.open(tmp_path / "a.webp") as image:
        lengths = []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            lengths.append(image.info["duration"])
    assert sum(lengths) == 400
    assert lengths[0] == 100


@pytest.mark.parametrize("target", ["a.webp", "a.avif"])
def test_animations_have_square_pixels_and_no_sound(tmp_path, target):
    Image = pytest.importorskip("PIL.Image")
    outputs = save(tmp_path / target, [0, 1], sample_aspect_ratio=Fraction(1, 2), audio_streams=1)
    with Image.open(tmp_path / target) as image:
        assert image.size == (WIDTH // 2, HEIGHT)
    assert f"{target[1:]} holds no sound" in outputs.notes[0]


def test_avif_that_becomes_too_long_ends_in_one_error(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setattr("vidmatte.write.avif.MOST_BYTES", 3 * 4 * WIDTH * HEIGHT)
    with pytest.raises(WriteError, match=r"3 frames of 256x120 at most, and there are 4 or more"):
        save(tmp_path / "a.avif", range(6))
    assert not list(tmp_path.iterdir())


def test_avif_that_cannot_be_encoded_ends_in_one_error(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setattr(
        AvifWriter, "_durations", lambda self: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(
        WriteError, match=r"a\.avif: writing failed after 2 frames \(No space left\)"
    ):
        save(tmp_path / "a.avif", [0, 1])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed")
@pytest.mark.parametrize(
    ("target", "profile", "pixel_format"),
    [
        ("a.mov", "4444", "yuva444p12le"),
        ("a.mov:prores-4444-xq", "XQ", "yuva444p12le"),
        ("a.mov:png", None, "rgba64be"),
        ("a.mov:qtrle", None, "argb"),
        ("a.mkv", None, "gbrap16le"),
        ("a.mov:on-black", "HQ", "yuv422p10le"),
        ("a.mp4:on-black", "High", "yuv420p"),
        ("a.mxf:on-black", "DNXHR 444", "yuv444p10le"),
    ],
)
def test_ffprobe_names_the_format(tmp_path, target, profile, pixel_format):
    save(tmp_path / target, [0, 1])
    path = tmp_path / target.partition(":")[0]
    command = [
        "ffprobe",
        "-v",
        "error",
        "-show_streams",
        "-select_streams",
        "v:0",
        "-of",
        "json",
        str(path),
    ]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)[
        "streams"
    ][0]
    assert found["pix_fmt"] == pixel_format
    assert profile is None or found["profile"] == profile
