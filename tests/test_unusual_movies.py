"""Movies that are legal and rare: times below zero, data that lies in another file."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import numbered_picture, read_number, write_movie

import vidmatte
from vidmatte.errors import ReadError
from vidmatte.read import open_video

FRAMES = 8


@pytest.fixture(scope="module")
def before_zero(tmp_path_factory):
    """A movie whose third frame has time 0 and whose fourth is late; Matroska, in milliseconds."""
    path = tmp_path_factory.mktemp("negative") / "clip.mkv"
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered_picture(index, 64, 48), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = index - 2 + (index > 2), Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_frames_before_time_zero_are_read_and_found(before_zero):
    with open_video(before_zero) as video:
        assert [frame.pts for frame in video.decode()] == [-80, -40, 0, 80, 120, 160, 200, 240]
        assert video.count_frames() == FRAMES
        assert [video.seconds_of(n) for n in (0, 2, 3)] == [
            0,
            Fraction(80, 1000),
            Fraction(160, 1000),
        ]
        for index in (5, 0, 1, 3):
            batch = video.frame(index)
            assert read_number(batch.rgb[0].numpy()) == index


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_outputs_of_it_begin_at_zero_with_all_frames(before_zero, tmp_path, suffix):
    options = vidmatte.MatteOptions(model="none", matte=before_zero)
    summary = vidmatte.matte(before_zero, alpha=tmp_path / f"a{suffix}", options=options)
    assert summary.frames == FRAMES
    with open_video(tmp_path / f"a{suffix}") as video:
        times = [frame.pts * video.info.time_base for frame in video.decode()]
    assert times == [Fraction(t, 1000) for t in (0, 40, 80, 160, 200, 240, 280, 320)]


def boxes(data, start, end):
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], start, start + size
        start += size


def alias(path):
    """Return a Macintosh alias record with an absolute path: QuickTime's data reference."""
    text = str(path).encode()
    text += b"\0" * (len(text) % 2)
    name = path.name.encode()
    record = (
        bytes(10)
        + b"\4disk".ljust(28, b"\0")
        + bytes(12)
        + bytes([len(name)])
        + name.ljust(63, b"\0")
    )
    record += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    return record + struct.pack(">HH", 2, len(text)) + text + struct.pack(">hH", -1, 0)


def with_reference(data, path):
    """The movie, its own data blank, that of another file named instead."""
    record = alias(path)
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    reference = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry

    def rebuilt(start, end):
        done = b""
        for kind, low, high in boxes(data, start, end):
            if kind == b"dref":
                done += reference
            elif kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                inner = rebuilt(low + 8, high)
                done += struct.pack(">I4s", 8 + len(inner), kind) + inner
            else:
                done += data[low : low + 8] + (
                    bytes(high - low - 8) if kind == b"mdat" else data[low + 8 : high]
                )
        return done

    return rebuilt(0, len(data))


def test_a_movie_that_refers_to_another_file_does_not_show_it(tmp_path):
    pictures = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8) for n in range(4)]
    secret = write_movie(tmp_path / "secret.mov", frames=4, size=(64, 48), pictures=pictures)
    outer = tmp_path / "outer.mov"
    outer.write_bytes(with_reference(secret.read_bytes(), secret))
    with av.open(str(outer), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        # FFmpeg would show the other file, if it were asked to.
        assert len(list(container.decode(video=0))) == 4
    with pytest.raises(ReadError, match=r"outer\.mov: holds a video stream but not a single frame"):
        open_video(outer)
