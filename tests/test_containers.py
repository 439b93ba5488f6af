"""Files that are not what they say, interlaced ones, frame times and places in many containers."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from clips import numbered_picture, read_number, write_movie

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.read import open_video
from vidmatte.read.movie import MovieVideo

FRAMES = 40

PLAYLIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:10
#EXTINF:10,
{target}
#EXT-X-ENDLIST
"""
CONCAT = "ffconcat version 1.0\nfile {name}\n"
SESSION = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP 96
a=rtpmap:96 H264/90000
"""
MANIFEST = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"
profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>
"""  # noqa: E501


@pytest.fixture
def listener():
    """A server that nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv", ".ts", ".m3u8", ".ffconcat"])
@pytest.mark.parametrize(
    "text", [PLAYLIST, CONCAT, SESSION, MANIFEST], ids=["m3u8", "ffconcat", "sdp", "dash"]
)
def test_files_that_name_others_open_none(tmp_path, listener, text, extension):
    secret = write_movie(tmp_path / "secret.ts", frames=4)
    port = listener.getsockname()[1]
    for target in (secret.name, str(secret), f"file:{secret}", f"http://127.0.0.1:{port}/a.ts"):
        dressed = tmp_path / f"clip{extension}"
        dressed.write_text(text.format(target=target, name=secret.name, port=port))
        read_before = secret.stat().st_atime_ns
        os.utime(secret, ns=(1, 1))
        with pytest.raises(ReadError, match=r"clip\..*(not a supported movie|cannot be opened)"):
            open_video(dressed)
        assert secret.stat().st_atime_ns == 1, f"read before: {read_before}"


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    for path in (tmp_path / "clip.mp4", "/dev/zero"):
        with pytest.raises(ReadError, match="neither a file nor a folder"):
            open_video(path)


def test_more_frames_than_bytes_are_refused(tmp_path):
    movie = write_movie(tmp_path / "clip.mp4", frames=4)
    data = bytearray(movie.read_bytes())
    place = data.rindex(b"stsz") + 8
    # Every sample has one byte, and there are many.
    struct.pack_into(">II", data, place, 1, 50_000_000)
    movie.write_bytes(data)
    with pytest.raises(
        ReadError, match=r"50,000,000 frames in|cannot be (opened|decoded)|truncated or damaged"
    ):
        open_video(movie)


def test_huge_frames_are_refused_before_memory_is_taken(tmp_path):
    movie = write_movie(tmp_path / "clip.mkv", frames=2, codec="ffv1", options={"level": "1"})
    data = movie.read_bytes()
    # PixelWidth 160 and PixelHeight 96: elements B0 and BA of one byte each.
    wide = data.replace(b"\xb0\x81\xa0", b"\xb0\x82\x75\x30", 1).replace(
        b"\xba\x81\x60", b"\xba\x82\x75\x30", 1
    )
    if wide == data:
        pytest.fail("the sizes were not found in the header")
    (tmp_path / "wide.mkv").write_bytes(wide)
    with pytest.raises(ReadError, match=r"30000x30000 pixels|cannot be (opened|decoded)"):
        open_video(tmp_path / "wide.mkv")


def write_interlaced(path, *, codec="libx264", frames=12, **changes):
    """Fields of two moments: even lines show a bar at 8 n, odd lines the bar 4 pixels right."""
    pictures = []
    for n in range(frames):
        picture = np.full((96, 160, 3), 40, np.uint8)
        picture[0::2, 8 * n : 8 * n + 20] = 220
        picture[1::2, 8 * n + 4 : 8 * n + 24] = 220
        pictures.append(picture)
    options = {
        "libx264": {"x264-params": "interlaced=1:tff=1", "crf": "4"},
        "mpeg2video": {"flags": "+ildct+ilme", "q": "2"},
    }
    return write_movie(
        path, frames=frames, codec=codec, options=options[codec], pictures=pictures, **changes
    )


def combing(rgb):
    """How much lines differ from the mean of the lines above and below."""
    luma = rgb.mean(0)
    return np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean()


def test_interlaced_movies_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(ReadError, match=r"is interlaced \(frame 0\).*use deinterlace"):
        open_video(write_interlaced(tmp_path / "clip.mp4"))


@pytest.mark.parametrize("method", ["bwdif", "yadif"])
def test_deinterlaced_frames_keep_count_times_and_the_first_field(tmp_path, method):
    times = [7 * i * i + 300 * i for i in range(12)]
    movie = write_interlaced(
        tmp_path / "clip.mkv", times=[t // 90 for t in times], time_base=Fraction(1, 1000)
    )
    with (
        open_video(movie, deinterlace="keep") as kept,
        open_video(movie, deinterlace=method) as whole,
    ):
        raw, made = list(kept.decode()), list(whole.decode())
        assert [frame.pts for frame in made] == [frame.pts for frame in raw]
        assert [frame.index for frame in made] == list(range(12))
        for index in (11, 0, 5):
            assert np.array_equal(whole.frame(index).rgb[0].numpy(), made[index].rgb)
        assert f"deinterlaced with {method}" in " ".join(whole.info.notes)
        assert "is interlaced" in " ".join(kept.info.notes)
    for n, frame in enumerate(made[2:-2], 2):
        assert combing(frame.rgb) < 0.25 * combing(raw[n].rgb)
        bar = np.flatnonzero(frame.rgb[:, 40:56].mean((0, 1)) > 0.5)
        # The odd lines, which x264 flags as shown first here.
        assert abs(bar.mean() - (8 * n + 13.5)) < 1


@pytest.mark.parametrize(
    ("name", "codec", "order"),
    [("a.mp4", "libx264", "top first"), ("a.mkv", "mpeg2video", "bottom first")],
)
def test_field_order_is_known_where_fields_are_kept(tmp_path, name, codec, order):
    """x264 gets tff=1; FFmpeg's MPEG-2 codes the bottom field first unless frames say otherwise."""
    movie = write_interlaced(tmp_path / name, codec=codec)
    with (
        open_video(movie, deinterlace="keep") as kept,
        open_video(movie, deinterlace="bwdif") as whole,
    ):
        assert kept.info.field_order == order
        assert whole.info.field_order is None


def test_deinterlacing_what_is_not_flagged_is_done_and_said(tmp_path):
    movie = write_movie(tmp_path / "clip.mp4", frames=5)
    with open_video(movie, deinterlace="bwdif") as video:
        assert [read_number(frame.rgb) for frame in video.decode()] == list(range(5))
        assert "not flagged as interlaced" in " ".join(video.info.notes)


def test_sequences_have_no_fields(tmp_path):
    with pytest.raises(OptionError, match="for movies only"):
        open_video(tmp_path, deinterlace="bwdif")


CONTAINERS = {
    "b.ts": dict(options={"g": "12", "bf": "2"}),
    "b.m2ts": dict(options={"g": "12", "bf": "2"}),
    "open.ts": dict(options={"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "hevc.ts": dict(
        codec="libx265", options={"x265-params": "log-level=none:keyint=12:open-gop=1"}
    ),
    "mpeg2.ts": dict(codec="mpeg2video", options={"g": "12", "bf": "2"}),
    "mpeg2.mpg": dict(codec="mpeg2video", options={"g": "12", "bf": "2"}),
    "mpeg2.vob": dict(codec="mpeg2video", options={"g": "12"}),
    "mpeg4.avi": dict(codec="mpeg4", options={"g": "12"}),
    "mpeg2.mxf": dict(codec="mpeg2video", options={"g": "12", "bf": "2"}),
    "dnxhr.mxf": dict(
        codec="dnxhd", pixel_format="yuv422p", options={"profile": "dnxhr_sq"}, size=(256, 128)
    ),
    "flv1.flv": dict(codec="flv1", options={"g": "12"}),
    "mpeg4.asf": dict(codec="mpeg4", options={"g": "12"}),
    "h264.nut": dict(options={"g": "12", "bf": "2"}),
    "vp9.ivf": dict(codec="libvpx-vp9", options={"g": "12"}),
    "raw.264": dict(options={"g": "12", "bf": "2"}),
}


@pytest.fixture(scope="module", params=CONTAINERS)
def container(request, tmp_path_factory):
    return write_movie(
        tmp_path_factory.mktemp("containers") / request.param,
        frames=FRAMES,
        **CONTAINERS[request.param],
    )


def test_any_frame_is_found_in_any_container(container):
    with open_video(container) as video:
        frames = list(video.decode())
        assert [read_number(frame.rgb) for frame in frames] == list(range(FRAMES))
        assert all(a.pts < b.pts for a, b in pairwise(frames))
        for index in (FRAMES - 1, 0, 13, 12, 11, 25, 24, 1):
            found = video.frame(index)
            assert (read_number(found.rgb[0].numpy()), found.pts[0]) == (index, frames[index].pts)


@pytest.mark.parametrize(
    "name", ["b.ts", "open.ts", "mpeg2.ts", "mpeg2.mpg", "mpeg2.mxf", "flv1.flv"]
)
def test_late_frames_are_found_without_decoding_the_start(tmp_path, monkeypatch, name):
    movie = write_movie(tmp_path / name, frames=FRAMES, size=(320, 192), **CONTAINERS[name])

    def from_start(video):
        pytest.fail("decoded from the start")

    with open_video(movie) as video:
        video.count_frames()
        monkeypatch.setattr(MovieVideo, "_decode_from_start", from_start)
        assert read_number(video.frame(38).rgb[0].numpy()) == 38


def test_the_first_time_need_not_be_zero(tmp_path):
    times = [40 * n for n in range(1000, 1010)]
    movie = write_movie(tmp_path / "clip.mkv", frames=10, times=times, time_base=Fraction(1, 1000))
    with open_video(movie) as video:
        frames = list(video.decode())
        assert [read_number(frame.rgb) for frame in frames] == list(range(10))
        assert [frame.pts * video.info.time_base for frame in frames] == [
            Fraction(time, 1000) for time in times
        ]
        assert video.seconds_of(5) == Fraction(5, 25)
        assert read_number(video.frame(7).rgb[0].numpy()) == 7


@pytest.fixture
def edited(tmp_path):
    """A copy cut between key frames: the file holds frames that its edit list leaves out."""
    whole = write_movie(tmp_path / "whole.mp4", frames=FRAMES, options={"g": "12", "bf": "2"})
    cut = tmp_path / "cut.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-ss", "0.68", "-i", str(whole), "-c", "copy", str(cut)],
        check=True,
    )
    return cut


def needs_ffmpeg():
    try:
        return subprocess.run(["ffmpeg", "-version"], capture_output=True).returncode != 0
    except FileNotFoundError:
        return True


@pytest.mark.skipif(
    needs_ffmpeg(), reason="needs the ffmpeg program, as an independent writer of edit lists"
)
def test_edit_lists_are_obeyed(edited):
    with open_video(edited) as video:
        numbers = [read_number(frame.rgb) for frame in video.decode()]
        assert numbers == list(range(17, FRAMES))
        assert video.count_frames() == len(numbers)
        for index in (len(numbers) - 1, 0, 6, 7, 8):
            assert read_number(video.frame(index).rgb[0].numpy()) == numbers[index]


@pytest.mark.skipif(
    needs_ffmpeg(), reason="needs the ffmpeg program, as an independent writer of edit lists"
)
def test_decord_is_refused_for_edit_lists(edited):
    pytest.importorskip("decord")
    with pytest.raises(OptionError, match=r"edit list.*use reader='pyav'"):
        open_video(edited, reader="decord")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("b.ts", "no MP4, MOV or Matroska"),
        ("mpeg4.avi", "no MP4, MOV or Matroska"),
        ("open.mkv", "open groups"),
    ],
)
def test_decord_is_refused_where_it_is_wrong(tmp_path, name, why):
    pytest.importorskip("decord")
    movie = write_movie(
        tmp_path / name, frames=FRAMES, **CONTAINERS.get(name, CONTAINERS["open.ts"])
    )
    with pytest.raises(OptionError, match=rf"{why}.*use reader='pyav'"):
        open_video(movie, reader="decord")


def test_decord_is_refused_where_it_would_take_too_much_memory(tmp_path, monkeypatch):
    pytest.importorskip("decord")
    movie = write_movie(tmp_path / "clip.mp4", frames=FRAMES)
    # 40 frames of 160 x 96 are 1.8 MB.
    monkeypatch.setattr("vidmatte.read.decord._AHEAD_BYTES", 1_000_000)
    with pytest.raises(OptionError, match=r"decodes the whole clip ahead.*use reader='pyav'"):
        open_video(movie, reader="decord")


def write_streams(path, sizes, *, default=None, frames=4):
    """One video stream of each size; those of `default` have the flag."""
    with av.open(str(path), "w") as out:
        streams = []
        for number, (width, height) in enumerate(sizes):
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            is_default = default is not None and number in default
            stream.disposition = stream.disposition.default if is_default else 0
            streams.append(stream)
        for n in range(frames):
            for stream in streams:
                picture = numbered_picture(n, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("default", "chosen"), [((1,), 1), ((0, 1, 2), 2), ((), 2), ((0,), 0)], ids=str
)
def test_the_default_video_stream_is_read_or_the_largest(tmp_path, default, chosen):
    sizes = [(64, 48), (96, 64), (160, 96)]
    movie = write_streams(tmp_path / "clip.mkv", sizes, default=default)
    with open_video(movie) as video:
        assert (video.info.width, video.info.height) == sizes[chosen]
        assert [read_number(frame.rgb) for frame in video.decode()] == [0, 1, 2, 3]
        assert f"{chosen} ({sizes[chosen][0]}x{sizes[chosen][1]}) is read" in video.info.notes[0]
    for number, size in enumerate(sizes):
        with open_video(movie, stream=number) as video:
            assert (video.info.width, video.info.height) == size
            assert video.frame(3).rgb.shape[2:] == size[::-1]
    with pytest.raises(ReadError, match=r"no video stream 7; its video streams are 0 \(64x48\), 1"):
        open_video(movie, stream=7)


def test_a_thumbnail_is_not_the_film(tmp_path):
    movie = tmp_path / "clip.mov"
    with av.open(str(movie), "w") as out:
        thumbnail, film = out.add_stream("mjpeg", rate=25), out.add_stream("libx264", rate=25)
        thumbnail.width, thumbnail.height, thumbnail.pix_fmt = 320, 192, "yuvj420p"
        film.width, film.height, film.pix_fmt = 160, 96, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((192, 320, 3), np.uint8))
        out.mux([*thumbnail.encode(picture.reformat(format="yuvj420p")), *thumbnail.encode(None)])
        for n in range(4):
            frame = av.VideoFrame.from_ndarray(numbered_picture(n, 160, 96))
            out.mux(film.encode(frame.reformat(format="yuv420p")))
        out.mux(film.encode(None))
    with open_video(movie) as video:
        assert [read_number(frame.rgb) for frame in video.decode()] == [0, 1, 2, 3]


def test_streams_that_are_left_out_are_noted(tmp_path):
    movie = write_streams(tmp_path / "clip.mkv", [(64, 48)] * 2)
    with open_video(movie) as video:
        (note,) = video.info.notes
    assert "0 (64x48) is read, not 1 (64x48); stream chooses" in note


LATE = {
    # A transport stream begins at 1.4 s; the others are recordings of a clock that stood at 10 h.
    "broadcast.ts": 0,
    "capture.ts": 36000,
    "capture.mkv": 36000,
    "capture.mov": 36000,
}


def write_late(path, begins, *, sound_delay=Fraction(0), frames=12):
    """Write numbered frames at 25/s from `begins` seconds on, with sound that much later."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream("mp2", rate=48000, layout="mono")
        for n in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(n, 64, 48)).reformat(
                format="yuv420p"
            )
            frame.time_base, frame.pts = Fraction(1, 25), begins * 25 + n
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        first = round((begins + sound_delay) * 48000)
        for n in range(20):
            samples = np.zeros((1, 1152), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
            frame.pts = first + 1152 * n
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


def starts_of(path):
    """First time in seconds of picture and sound."""
    starts = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None:
                kind = packet.stream.type
                time = packet.pts * packet.time_base
                starts[kind] = min(starts.get(kind, time), time)
    return starts


@pytest.mark.parametrize("name", LATE)
def test_outputs_begin_at_zero_however_late_the_clock_of_the_source_stood(tmp_path, name):
    movie = write_late(tmp_path / name, LATE[name])
    wanted = starts_of(movie)
    earliest = min(wanted.values())
    options = vidmatte.MatteOptions(model="none", matte=movie)
    vidmatte.matte(movie, output=tmp_path / "o.mov", alpha=tmp_path / "a.mkv", options=options)
    for output in ("o.mov", "a.mkv"):
        found = starts_of(tmp_path / output)
        assert min(found.values()) < Fraction(1, 100)
        for kind, start in found.items():
            # Matroska lets the first packet of sound begin earlier, by the delay of the codec.
            assert abs(start - (wanted[kind] - earliest)) < Fraction(1152, 48000), kind


@pytest.mark.parametrize("delay", [Fraction(1, 5), Fraction(-1, 5)], ids=["later", "earlier"])
def test_the_delay_between_picture_and_sound_stays(tmp_path, delay):
    movie = write_late(tmp_path / "clip.ts", 3, sound_delay=delay)
    wanted = starts_of(movie)
    options = vidmatte.MatteOptions(model="none", matte=movie)
    vidmatte.matte(movie, output=tmp_path / "o.mov", options=options)
    found = starts_of(tmp_path / "o.mov")
    difference = wanted["audio"] - wanted["video"]
    assert abs(found["audio"] - found["video"] - difference) < Fraction(2, 1000)
    assert abs(difference - delay) < Fraction(3, 100)


@pytest.mark.parametrize(
    ("name", "location", "settings"),
    [
        ("full.mp4", 0, dict(pixel_format="yuvj420p")),
        ("plain.mkv", 0, dict(codec="libx265", options={"x265-params": "log-level=none"})),
        ("h264.mp4", 3, dict(options={"x264-params": "chromaloc=2"})),
        ("h264.ts", 2, dict(options={"x264-params": "chromaloc=1"})),
        (
            "hevc.mkv",
            3,
            dict(codec="libx265", options={"x265-params": "log-level=none:chromaloc=2"}),
        ),
        ("photo.mov", 2, dict(codec="mjpeg", pixel_format="yuvj420p")),
        ("old.mpg", 2, dict(codec="mpeg1video")),
        ("wide.mov", 0, dict(codec="prores_ks", pixel_format="yuv422p10le")),
    ],
)
def test_chroma_location_is_that_of_codec_and_headers(tmp_path, name, location, settings):
    with open_video(write_movie(tmp_path / name, frames=12, **settings)) as video:
        assert video.info.color.chroma_location == location


def transport_packets(data):
    """Offsets of the packets of the stream with the most of them."""
    by_stream = {}
    for offset in range(0, len(data), 188):
        number = (data[offset + 1] & 31) << 8 | data[offset + 2]
        by_stream.setdefault(number, []).append(offset)
    return max(by_stream.values(), key=len)


@pytest.fixture(scope="module")
def transport(tmp_path_factory):
    """Frames of many packets: textured, so that lost data shows."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (192, 320, 3), dtype=np.uint8)
    pictures = [numbered_picture(n, 320, 192) // 2 + np.roll(noise, 5 * n, 1) for n in range(40)]
    path = tmp_path_factory.mktemp("damage") / "clip.ts"
    options = {"g": "10", "bf": "2", "crf": "18"}
    return write_movie(path, frames=40, size=(320, 192), pictures=pictures, options=options)


def test_a_counter_that_jumps_is_no_damage_if_all_is_there(tmp_path, transport):
    data = bytearray(transport.read_bytes())
    packets = transport_packets(data)
    starts = [offset for offset in packets if data[offset + 1] & 0x40]
    # As at the seam of two joined segments: from a new frame on, all counters are others.
    for offset in packets[packets.index(starts[22]) :]:
        data[offset + 3] = data[offset + 3] & 0xF0 | (data[offset + 3] + 5) & 15
    (tmp_path / "joined.ts").write_bytes(data)
    with open_video(tmp_path / "joined.ts") as video, open_video(transport) as whole:
        for found, wanted in zip(video.decode(), whole.decode(), strict=True):
            assert np.array_equal(found.rgb, wanted.rgb)


@pytest.mark.parametrize("place", ["key frame", "other frame"])
def test_lost_packets_are_damage(tmp_path, transport, place):
    data = bytearray(transport.read_bytes())
    packets = transport_packets(data)
    starts = [n for n, offset in enumerate(packets) if data[offset + 1] & 0x40]
    lost = starts[20 if place == "key frame" else 25] + 3
    del data[packets[lost] : packets[lost] + 188]
    (tmp_path / "lost.ts").write_bytes(data)
    with open_video(tmp_path / "lost.ts") as video, pytest.raises(ReadError, match="damaged at"):
        list(video.decode())


@pytest.fixture
def broken(tmp_path):
    """An MP4 whose frame 8 does not decode; key frames are 0, 6, 12, 18."""
    movie = write_movie(tmp_path / "clip.mp4", frames=24, options={"g": "6", "bf": "0"})
    with av.open(str(movie)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][8]
        place, size = packet.pos, packet.size
    data = bytearray(movie.read_bytes())
    data[place + 4 : place + size] = b"\xff" * (size - 4)
    movie.write_bytes(data)
    return movie


def test_a_damaged_frame_is_refused_with_its_number(broken):
    with open_video(broken) as video, pytest.raises(ReadError, match="damaged at frame"):
        list(video.decode())


def test_damaged_frames_are_held_or_left_out(broken):
    with open_video(broken, on_damage="hold") as video:
        frames = list(video.decode())
        assert [frame.index for frame in frames] == list(range(24))
        assert [video.seconds_of(n) for n in (7, 8, 9)] == [Fraction(n, 25) for n in (7, 8, 9)]
        assert np.array_equal(frames[8].rgb, frames[7].rgb)
        assert [read_number(frames[n].rgb) for n in (7, 12, 23)] == [7, 12, 23]
        assert np.array_equal(video.frame(8).rgb[0].numpy(), frames[7].rgb)
        assert "1 damaged frames of the source were replaced" in video.info.notes[-1]
    with open_video(broken, on_damage="skip") as video:
        frames = list(video.decode())
        assert [frame.index for frame in frames] == list(range(23))
        assert video.count_frames() == 23
        times = [frame.pts * video.info.time_base for frame in frames]
        assert times == [Fraction(n, 25) for n in range(24) if n != 8]
        assert read_number(video.frame(22).rgb[0].numpy()) == 23
        assert ": 8;" in video.info.notes[-1]
    with open_video(broken, on_damage="stop") as video:
        assert 0 < len(list(video.decode())) <= 24
