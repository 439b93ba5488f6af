"""What travels beside the picture: times, sound, colour tags, pixel aspect, timecode."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vidmatte.errors import WriteError
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.media.timecode import advance_timecode
from vidmatte.write import FORMATS, OutputSpec, create_outputs, formats_of
from vidmatte.write.matroska import with_display_aspect

WIDTH, HEIGHT = 64, 48
CONTAINERS = ("mov", "mp4", "matroska", "webm")
MOVIES = [
    pytest.param(form, id=f"{'alpha' if form.alpha_only else 'colour'} {form.name}{form.extension}")
    for form in FORMATS
    if form.container in CONTAINERS and form.smallest <= (WIDTH, HEIGHT)
]
EXACT = [movie for movie in MOVIES if movie.values[0].extension in (".mov", ".mp4")]
IN_MILLISECONDS = [movie for movie in MOVIES if movie not in EXACT]


def info(**changes):
    facts = {"source": "clip.mp4", "frame_rate": Fraction(24), "time_base": Fraction(1, 24)}
    return VideoInfo(width=WIDTH, height=HEIGHT, **(facts | changes))


def save(path, pts, *, alpha_only=False, form=None, like=None, durations=None, first=0, **options):
    """Write gray frames at the given times, two per batch."""
    target = (
        OutputSpec(path, alpha_only)
        if form is None
        else OutputSpec(path, form.alpha_only, format_options=(form.name,))
    )
    with create_outputs([target], like=like or info(), **options) as outputs:
        for k in range(0, len(pts), 2):
            times = tuple(pts[k : k + 2])
            n = len(times)
            frames = tuple(range(first + k, first + k + n))
            lengths = tuple(durations[k : k + 2]) if durations else (0,) * n
            source = FrameBatch(torch.full((n, 3, HEIGHT, WIDTH), 0.5), frames, times, lengths)
            outputs.write(MatteBatch(source, torch.full((n, 1, HEIGHT, WIDTH), 0.5), (1.0,) * n))
    return outputs


def video_times(path):
    """Presentation time and length of each video packet in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [packet.pts * stream.time_base for packet in packets], packets[
            -1
        ].duration * stream.time_base


def described(path):
    """Tags, pixel aspect and timecode of the first video stream, by ffprobe where there is one,
    else by PyAV.
    """
    if shutil.which("ffprobe"):
        command = [
            "ffprobe",
            "-v",
            "error",
            "-show_streams",
            "-of",
            "json",
            "-select_streams",
            "v:0",
            str(path),
        ]
        found = json.loads(
            subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
        )["streams"][0]
        aspect = Fraction(found.get("sample_aspect_ratio", "1:1").replace(":", "/"))
        tags = {key.lower(): value for key, value in found.get("tags", {}).items()}
        numbers = {
            "gbr": 0,
            "bt709": 1,
            "unknown": 2,
            "bt2020": 9,
            "smpte2084": 16,
            "bt2020nc": 9,
            "smpte170m": 6,
        }
        color = [
            found.get(key, "unknown")
            for key in ("color_primaries", "color_transfer", "color_space")
        ]
        return (
            [numbers[value] for value in color],
            found.get("color_range"),
            aspect,
            tags.get("timecode"),
        )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        tags = {key.lower(): value for key, value in stream.metadata.items()}
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        context = stream.codec_context
        color = [
            int(tag) for tag in (context.color_primaries, context.color_trc, context.colorspace)
        ]
        return color, {1: "tv", 2: "pc"}.get(int(context.color_range)), aspect, tags.get("timecode")


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (ColorTags(1, 1, 1), (1, 1, 1)),
        (ColorTags(2, 2, 1), (1, 1, 1)),
        (ColorTags(2, 13, 0, True), (1, 1, 1)),
        (ColorTags(9, 16, 9), (9, 16, 9)),
        (ColorTags(6, 1, 5), (6, 1, 6)),
        (ColorTags(9, 16, 0, True), (9, 16, 1)),
    ],
)
@pytest.mark.parametrize("extension", [".mov", ".webm"])
def test_color_tags_of_the_source_are_kept(tmp_path, extension, source, wanted):
    path = tmp_path / f"out{extension}"
    save(path, [0, 1], like=info(color=source))
    assert described(path)[:2] == (list(wanted), "tv")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)) == wanted
    if extension == ".mov":
        data = path.read_bytes()
        at = data.index(b"colrnclc") + 8
        assert struct.unpack(">3H", data[at : at + 6]) == wanted


@pytest.mark.parametrize("ending", [".mov:png", ".mov:qtrle", ".mkv:ffv1"])
@pytest.mark.parametrize(
    ("source", "in_mov", "in_mkv"),
    [
        ((1, 1, 1), (1, 1, 0), (1, 1, 2)),
        ((9, 16, 9), (9, 16, 0), (9, 16, 2)),
        ((6, 1, 6), (6, 1, 0), (6, 1, 2)),
    ],
)
def test_rgb_is_not_tagged_with_the_matrix_of_the_source(tmp_path, ending, source, in_mov, in_mkv):
    """A matrix other than that of RGB is applied by some readers; .mov holds all three tags or
    none.
    """
    extension, name = ending.split(":")
    path = tmp_path / f"out{extension}"
    (form,) = (form for form in formats_of(extension, alpha_only=False) if form.name == name)
    save(path, [0, 1], form=form, like=info(color=ColorTags(*source)))
    color, color_range = described(path)[:2]
    assert color == list(in_mov if extension == ".mov" else in_mkv)
    assert color_range in ("pc", None)  # qtrle has no place for it, and RGB no other range


def test_transfer_of_601_is_named_as_prores_names_it(tmp_path):
    path = tmp_path / "out.mov"
    save(path, [0], like=info(color=ColorTags(6, 6, 6)))
    assert described(path)[0] == [6, 1, 6]


@pytest.mark.parametrize("form", [movie for movie in MOVIES if movie.values[0].alpha_only])
def test_mattes_are_tagged_by_their_format_not_by_the_source(tmp_path, form):
    path = tmp_path / f"out{form.extension}"
    save(path, [0, 1], form=form, like=info(color=ColorTags(9, 16, 9)))
    range_name = "pc" if form.full_range else "tv"
    assert described(path)[:2] == ([1, 1, 1], range_name)


def test_matte_in_mp4_stays_in_a_common_profile(tmp_path):
    path = tmp_path / "out.mp4"
    save(path, [0, 1], alpha_only=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].profile == "High"


@pytest.mark.parametrize("form", MOVIES)
@pytest.mark.parametrize(
    ("wanted", "square_width"),
    [(Fraction(4, 3), 85), (Fraction(16, 15), 68), (Fraction(10, 11), 58)],
)
def test_pixel_aspect_is_kept(tmp_path, form, wanted, square_width):
    path = tmp_path / f"out{form.extension}"
    outputs = save(path, [0, 1], form=form, like=info(sample_aspect_ratio=wanted))
    aspect = described(path)[2]
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    if form.extension == ".webm":
        assert (aspect, frame.width, frame.height) == (1, square_width, HEIGHT)
    else:
        assert (aspect, frame.width, frame.height) == (wanted, WIDTH, HEIGHT)
    assert frame.rotation == 0
    assert outputs.notes == ()


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
def test_checksum_of_matroska_tracks_is_right(tmp_path, aspect):
    """The square one is as FFmpeg wrote it: it shows that the checksum is computed as FFmpeg
    computes it.
    """
    save(tmp_path / "out.mkv", [0], alpha_only=True, like=info(sample_aspect_ratio=aspect))
    data = (tmp_path / "out.mkv").read_bytes()
    found = re.search(
        rb"\x16\x54\xae\x6b(\x01.{7}|[\x40-\x7f].|[\x80-\xff])\xbf\x84(.{4})", data, re.DOTALL
    )
    size = int.from_bytes(found[1], "big") & ((1 << 7 * len(found[1])) - 1)
    content = data[found.end() : found.end() + size - 6]
    assert zlib.crc32(content).to_bytes(4, "little") == found[2]


def test_unknown_matroska_layout_is_refused():
    assert with_display_aspect(b"\x1a\x45\xdf\xa3" + bytes(200), Fraction(4, 3)) is None
    assert (
        with_display_aspect(bytes(20) + b"\x53\x6e\x8falpha matte    " + bytes(50), Fraction(4, 3))
        is None
    )


def test_square_pixels_in_webm_keep_values(tmp_path):
    path = tmp_path / "out.webm"
    save(path, [0], alpha_only=True, like=info(sample_aspect_ratio=Fraction(1, 2)))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)[
        :HEIGHT, :32
    ]
    assert frame.width == 32
    assert set(np.unique(luma)) == {128}


VARIABLE = [0, 1001, 2500, 2501, 7007, 9000]


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize("first", [0, 4004, 1])
def test_times_are_exact(tmp_path, form, first):
    path = tmp_path / f"out{form.extension}"
    like = info(time_base=Fraction(1, 30000), frame_rate=Fraction(20))
    pts = [time + first for time in VARIABLE]
    save(path, pts, form=form, like=like, durations=[1001, 1499, 1, 4506, 1993, 777])
    times, last = video_times(path)
    assert times == [Fraction(time, 30000) for time in pts]
    assert last == Fraction(777, 30000)


@pytest.mark.parametrize("form", IN_MILLISECONDS)
@pytest.mark.parametrize("first", [0, 4004])
def test_times_are_exact_to_half_a_millisecond(tmp_path, form, first):
    path = tmp_path / f"out{form.extension}"
    like = info(time_base=Fraction(1, 30000), frame_rate=Fraction(20))
    pts = [first, first + 1001, first + 2500, first + 7007]
    save(path, pts, form=form, like=like)
    times, _ = video_times(path)
    assert len(times) == len(pts)
    assert max(abs(a - Fraction(b, 30000)) for a, b in zip(times, pts, strict=True)) <= Fraction(
        1, 2000
    )


@pytest.mark.parametrize(
    "time_base", [Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1_000_000_000)]
)
def test_unusual_time_bases_are_kept(tmp_path, time_base):
    step = max(1, round(Fraction(1001, 30000) / time_base))
    save(
        tmp_path / "out.mov",
        [0, step, 3 * step],
        like=info(time_base=time_base, frame_rate=Fraction(30000, 1001)),
    )
    assert video_times(tmp_path / "out.mov")[0] == [0, step * time_base, 3 * step * time_base]


@pytest.mark.parametrize("form", MOVIES)
def test_times_of_a_part_and_negative_times_begin_at_zero(tmp_path, form):
    part, negative = tmp_path / f"part{form.extension}", tmp_path / f"negative{form.extension}"
    save(part, [48, 49, 51], form=form, start=Fraction(2), first=48)
    save(negative, [-2, -1, 1], form=form)
    for path in (part, negative):
        times, _ = video_times(path)
        assert [round(time * 24) for time in times] == [0, 1, 3]


@pytest.mark.parametrize(
    ("timecode", "frames", "rate", "wanted"),
    [
        ("10:11:12:13", 0, Fraction(25), "10:11:12:13"),
        ("00:00:59:24", 1, Fraction(25), "00:01:00:00"),
        ("23:59:59:23", 1, Fraction(24), "00:00:00:00"),
        ("01:00:00:00", 24 * 90, Fraction(24000, 1001), "01:01:30:00"),
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:01:00;02", 1798, Fraction(30000, 1001), "00:02:00;02"),
        ("00:00:00;00", 17982, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:00;00", 107892, Fraction(30000, 1001), "01:00:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("00:00:00;00", 1800, Fraction(2997, 100), "00:01:00;02"),
        ("23:59:59;29", 1, Fraction(30000, 1001), "00:00:00;00"),
        ("00:00:59:29", 1, Fraction(30000, 1001), "00:01:00:00"),
        ("00:00:00;00", 0, Fraction(25), None),
        ("00:00:00;00", 0, Fraction(30), None),
        ("00:00:00:25", 0, Fraction(25), None),
        ("00:00:00:00", 5, Fraction(349, 17), None),
        ("noon", 0, Fraction(25), None),
    ],
)
def test_timecode_advances_by_frames(timecode, frames, rate, wanted):
    assert advance_timecode(timecode, frames, rate) == wanted


def test_every_drop_frame_number_of_an_hour_follows_the_rule():
    counted = (
        f"00:{minute:02}:{second:02};{number:02}"
        for minute in range(60)
        for second in range(60)
        for number in range(30)
        if second or number > 1 or minute % 10 == 0
    )
    for frames, wanted in enumerate(counted):
        if frames % 7 == 0 or wanted[6:8] in ("00", "59"):
            assert advance_timecode("00:00:00;00", frames, Fraction(30000, 1001)) == wanted


@pytest.mark.parametrize(
    ("rate", "timecode", "first", "wanted"),
    [
        (Fraction(24), "10:11:12:13", 0, "10:11:12:13"),
        (Fraction(24), "10:11:12:13", 11, "10:11:13:00"),
        (Fraction(30000, 1001), "01:00:59;28", 0, "01:00:59;28"),
        (Fraction(2997, 100), "01:00:59;28", 2, "01:01:00;02"),
    ],
)
def test_start_timecode_is_that_of_the_first_frame(tmp_path, rate, timecode, first, wanted):
    like = info(frame_rate=rate, time_base=Fraction(1, 30000), timecode=timecode)
    step = round(30000 / rate)
    start = None if first == 0 else first / rate
    outputs = save(
        tmp_path / "out.mov",
        [first * step, (first + 1) * step],
        like=like,
        first=first,
        start=start,
    )
    assert described(tmp_path / "out.mov")[3] == wanted
    assert outputs.notes == ()


def test_timecode_that_would_be_wrong_is_left_out_and_said(tmp_path):
    outputs = save(tmp_path / "out.mov", [0, 1], like=info(timecode="00:00:00;00"))
    assert described(tmp_path / "out.mov")[3] is None
    assert (
        "start timecode 00:00:00;00 not written: it does not fit 24.000 frames/s"
        in outputs.notes[0]
    )


SECONDS, BEEP = 4, 2.25


def clip_with_sound(
    path, codec="aac", *, rate=48000, layout="stereo", streams=1, beep=BEEP, title=""
):
    """A clip of 4 s at 24 frames/s, silent until a tone begins at 2.25 s; returns the payload of
    its audio packets.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=24)
        video.width, video.height = WIDTH, HEIGHT
        sounds = [container.add_stream(codec, rate=rate) for _ in range(streams)]
        for sound, language in zip(sounds, ("deu", "fra"), strict=False):
            sound.layout = layout
            sound.metadata["language"] = language
            if title:
                sound.metadata["title"] = title
        for k in range(24 * SECONDS):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(rate * SECONDS) / rate
        tone = (0.5 * np.sin(2 * np.pi * 440 * time) * (time >= beep)).astype(np.float32)
        for sound in sounds:
            context = sound.codec_context
            samples = np.stack([tone] * context.channels)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            resampler = av.AudioResampler(context.format, layout, rate, context.frame_size or 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return packets_of(path)


def packets_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def sound_of(path, index=0):
    """Codec, language, time of the first sample, time at which the tone begins, time of the end;
    in seconds.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[index]
        begin, beep, end = None, None, None
        for frame in container.decode(stream):
            samples = np.abs(frame.to_ndarray().astype(np.float64))
            samples = (
                samples.max(axis=0)
                if frame.format.is_planar
                else samples.reshape(frame.samples, -1).max(axis=1)
            )
            peak = {"s16": 2**15, "s32": 2**31}.get(frame.format.packed.name, 1.0)
            time = float(frame.pts * frame.time_base)
            begin = time if begin is None else begin
            loud = np.flatnonzero(samples / peak > 0.1)
            if beep is None and len(loud):
                beep = time + loud[0] / frame.sample_rate
            end = time + frame.samples / frame.sample_rate
        return stream.codec_context.codec.canonical_name, stream.language, begin, beep, end


def like_clip(path, streams=1):
    return info(source=str(path), audio_streams=streams)


@pytest.mark.parametrize("form", MOVIES)
def test_sound_is_carried_in_sync(tmp_path, form):
    source, path = tmp_path / "clip.mp4", tmp_path / f"out{form.extension}"
    payload = clip_with_sound(source)
    outputs = save(path, range(24 * SECONDS), form=form, like=like_clip(source))
    codec, language, begin, beep, end = sound_of(path)
    # One language, two names in ISO 639-2.
    assert language == ("ger" if form.extension == ".mov" else "deu")
    assert codec == ("opus" if form.extension == ".webm" else "aac")
    assert abs(begin) < 0.03
    assert abs(beep - BEEP) < 0.004
    assert abs(end - SECONDS) < 0.06
    assert video_times(path)[0][0] == 0
    if form.extension == ".webm":
        assert "sound converted from aac to libopus" in outputs.notes[0]
    else:
        assert outputs.notes == ()
        assert packets_of(path) == payload[-len(packets_of(path)) :]
        assert len(payload) == len(packets_of(path))


@pytest.mark.parametrize("form", MOVIES)
def test_sound_is_cut_and_shifted_with_the_picture(tmp_path, form):
    source, path = tmp_path / "clip.mp4", tmp_path / f"out{form.extension}"
    clip_with_sound(source)
    start, end = Fraction(25, 24), Fraction(73, 24)
    save(path, range(25, 73), form=form, like=like_clip(source), start=start, end=end, first=25)
    _, _, begin, beep, last = sound_of(path)
    assert abs(beep - (BEEP - float(start))) < 0.004
    assert abs(begin) < 0.03
    assert abs(last - 2) < 0.05
    assert video_times(path)[0][0] == 0


def samples_from_zero(path):
    """(channels, samples) of the sound from time 0 on, frames joined without a look at their
    rounded times.
    """
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    before = round(-float(frames[0].pts * frames[0].time_base) * frames[0].sample_rate)
    planar = [
        frame.to_ndarray()
        if frame.format.is_planar
        else frame.to_ndarray().reshape(frame.samples, -1).T
        for frame in frames
    ]
    # Matroska's times are milliseconds: what is hidden begins up to half of one early or late.
    before = 1024 if abs(before - 1024) <= 24 else before
    return np.concatenate(planar, axis=1)[:, before:].astype(np.float64)


@pytest.mark.parametrize(
    ("ending", "largest"), [(".mov", 0), (".mkv", 0), (".mp4", 0), (".webm", 0.05)]
)
def test_first_samples_of_aac_are_there(tmp_path, ending, largest):
    """The codec needs 1024 samples to get going, which belong before time 0: neither heard, nor
    late, nor missing.
    """
    source, path = tmp_path / "clip.mp4", tmp_path / f"out{ending}"
    clip_with_sound(source, beep=0)
    save(path, range(24 * SECONDS), alpha_only=ending != ".mov", like=like_clip(source))
    wanted, found = samples_from_zero(source)[:, :9000], samples_from_zero(path)[:, :9000]
    assert np.abs(wanted[:, :1024]).max() > 0.3
    assert np.abs(found - wanted).max() <= largest
    assert video_times(path)[0][0] == 0


@pytest.mark.parametrize("title", ["Director", "", "é" * 60])
def test_titles_of_sound_are_kept(tmp_path, title):
    source, path = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    clip_with_sound(source, title=title, streams=2)
    save(path, range(24 * SECONDS), alpha_only=True, like=like_clip(source, 2))
    with av.open(str(path)) as container:
        assert [stream.metadata.get("title", "") for stream in container.streams.audio] == [
            title,
            title,
        ]
    assert abs(sound_of(path, 1)[3] - BEEP) < 0.004
    data = path.read_bytes()
    found = re.search(
        rb"\x16\x54\xae\x6b(\x01.{7}|[\x40-\x7f].|[\x80-\xff])\xbf\x84(.{4})", data, re.DOTALL
    )
    size = int.from_bytes(found[1], "big") & ((1 << 7 * len(found[1])) - 1)
    assert zlib.crc32(data[found.end() : found.end() + size - 6]).to_bytes(4, "little") == found[2]


@pytest.mark.parametrize(
    ("ending", "codec", "wanted"),
    [
        (".mov", "pcm_s16le", "pcm_s16le"),
        (".mkv", "pcm_s16le", "pcm_s16le"),
        (".mov", "flac", "pcm_s24le"),
    ],
)
@pytest.mark.parametrize("start", [0, 25])
def test_each_sample_lies_at_the_frame_it_lay_at(tmp_path, ending, codec, wanted, start):
    """Every sample says its own number: number 0, or that of the cut, lies at frame 0; the last
    frame is there.
    """
    source, path = tmp_path / "clip.mkv", tmp_path / f"out{ending}"
    numbers = np.arange(48000 * SECONDS) % 30000
    with av.open(str(source), "w") as container:
        sound = container.add_stream(codec, rate=48000)
        sound.layout, sound.format = "mono", "s16"
        frame = av.AudioFrame.from_ndarray(
            numbers[None].astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for piece in av.AudioResampler("s16", "mono", 48000, 1000).resample(frame):
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    seconds = Fraction(start, 24)
    save(
        path,
        range(start, 96),
        alpha_only=ending == ".mkv",
        like=like_clip(source),
        first=start,
        start=seconds if start else None,
    )
    times, last = video_times(path)
    assert len(times) == 96 - start
    assert abs(times[-1] + last - (SECONDS - seconds)) <= Fraction(1, 1000)
    checked = 0
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == wanted
        # Half a millisecond in the source, and half in the output.
        off = 48 if ending == ".mkv" else 0
        for frame in container.decode(audio=0):
            values = frame.to_ndarray()[0] // (1 if "16" in wanted else 2**16)
            first = float(frame.pts * frame.time_base + seconds) * 48000
            expected = numbers[(round(first) + np.arange(len(values))) % len(numbers)]
            checked += len(values)
            assert np.median(np.abs(values - expected)) <= off
    assert checked > 48000 * (SECONDS - seconds) - 1100


def test_sound_long_before_the_cut_is_skipped_not_lost(tmp_path):
    source, path = tmp_path / "clip.mp4", tmp_path / "out.mov"
    clip_with_sound(source)
    save(path, range(52, 96), like=like_clip(source), start=Fraction(52, 24), first=52)
    _, _, _, beep, last = sound_of(path)
    assert abs(beep - (BEEP - 52 / 24)) < 0.004
    assert abs(last - (SECONDS - 52 / 24)) < 0.05


@pytest.mark.parametrize(
    ("container", "codec", "output", "wanted"),
    [
        (".mov", "pcm_s16le", ".mov", "pcm_s16le"),
        (".mov", "pcm_s16le", ".mkv", "pcm_s16le"),
        (".mov", "pcm_s16le", ".mp4", "aac"),
        (".mkv", "flac", ".mov", "pcm_s24le"),
        (".mkv", "libopus", ".mov", "pcm_s24le"),
        (".mkv", "libopus", ".webm", "opus"),
        (".mkv", "libopus", ".mp4", "opus"),
        (".mkv", "ac3", ".mp4", "ac3"),
        (".mov", "adpcm_ima_qt", ".mkv", "pcm_s24le"),
    ],
)
def test_codecs_that_a_container_holds_are_copied(tmp_path, container, codec, output, wanted):
    source, path = tmp_path / f"clip{container}", tmp_path / f"out{output}"
    clip_with_sound(source, codec)
    save(path, range(24 * SECONDS), alpha_only=output != ".mov", like=like_clip(source))
    found, _, begin, beep, _ = sound_of(path)
    assert found == wanted
    assert abs(begin) < 0.03
    assert abs(beep - BEEP) < 0.01


@pytest.mark.parametrize("layout", ["mono", "5.1(side)"])
def test_opus_is_written_in_any_layout(tmp_path, layout):
    source, path = tmp_path / "clip.mkv", tmp_path / "out.webm"
    clip_with_sound(source, "flac", rate=44100, layout=layout)
    save(path, range(24 * SECONDS), like=like_clip(source))
    with av.open(str(path)) as container:
        assert (
            container.streams.audio[0].codec_context.channels == {"mono": 1, "5.1(side)": 6}[layout]
        )
    assert abs(sound_of(path)[3] - BEEP) < 0.004


def test_all_languages_are_kept(tmp_path):
    source, path = tmp_path / "clip.mp4", tmp_path / "out.mov"
    clip_with_sound(source, streams=2)
    save(path, range(24 * SECONDS), like=like_clip(source, 2))
    assert [sound_of(path, index)[1] for index in (0, 1)] == ["ger", "fra"]
    assert abs(sound_of(path, 1)[3] - BEEP) < 0.004


def test_sound_is_interleaved(tmp_path):
    """Neither stream runs ahead of the other in the file by more than a second."""
    source, path = tmp_path / "clip.mp4", tmp_path / "out.mkv"
    clip_with_sound(source)
    save(path, range(24 * SECONDS), alpha_only=True, like=like_clip(source))
    reached = {"video": 0.0, "audio": 0.0}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                reached[packet.stream.type] = float(packet.pts * packet.time_base)
                assert abs(reached["video"] - reached["audio"]) < 1
    assert min(reached.values()) > SECONDS - 0.2


def test_outputs_are_silent_if_sound_is_not_wanted_or_not_there(tmp_path):
    source = tmp_path / "clip.mp4"
    clip_with_sound(source)
    save(tmp_path / "quiet.mov", [0, 1], like=like_clip(source), audio=False)
    save(tmp_path / "none.mov", [0, 1], like=like_clip(source, 0))
    for name in ("quiet.mov", "none.mov"):
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams.audio) == 0


def test_sound_that_cannot_be_read_names_the_source(tmp_path):
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"not a movie")
    with pytest.raises(WriteError, match=r"clip\.mp4: its sound cannot be read"):
        save(tmp_path / "out.mov", [0, 1], like=like_clip(source))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def interlaced(path, order):
    """Reading of an output by ffprobe: field order of the stream, and of its first frame."""
    show = [
        "-show_entries",
        "stream=field_order:frame=interlaced_frame,top_field_first",
        "-read_intervals",
        "%+#1",
    ]
    command = ["ffprobe", "-v", "error", *show, "-select_streams", "v:0", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    frame = found["frames"][0]
    return found["streams"][0]["field_order"], frame["interlaced_frame"], frame["top_field_first"]


KEEPING = [movie for movie in MOVIES if movie.values[0].keeps_fields]


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed")
@pytest.mark.parametrize("form", KEEPING)
@pytest.mark.parametrize(
    ("order", "coded", "top"), [("top first", "tt", 1), ("bottom first", "bb", 0)]
)
def test_field_order_is_kept(tmp_path, form, order, coded, top):
    path = tmp_path / f"out{form.extension}"
    outputs = save(path, [0, 1, 2], form=form, like=info(field_order=order))
    stream, *frame = interlaced(path, order)
    assert stream == coded
    if form.codec == "prores_ks":
        assert frame == [1, top]
    assert outputs.notes == ()
    assert len(video_times(path)[0]) == 3


@pytest.mark.parametrize("ending", [".webm", ".webp"])
def test_outputs_without_a_field_order_say_so(tmp_path, ending):
    outputs = save(tmp_path / f"out{ending}", [0, 1], like=info(field_order="top first"))
    assert "cannot say that its frames are interlaced, top first" in outputs.notes[0]


def test_fields_of_an_interlaced_prores_are_its_lines(tmp_path):
    """Lines come back where they were, although both fields are coded apart."""
    path = tmp_path / "out.mov"
    lines = torch.zeros(1, 1, HEIGHT, WIDTH)
    lines[:, :, ::2] = 1
    source = FrameBatch(torch.full((1, 3, HEIGHT, WIDTH), 0.5), (0,), (0,), (1,))
    with create_outputs([OutputSpec(path)], like=info(field_order="bottom first")) as outputs:
        outputs.write(MatteBatch(source, lines, (1.0,)))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.interlaced_frame
    alpha = np.frombuffer(frame.planes[3], np.uint16).reshape(-1, frame.planes[3].line_size // 2)[
        :HEIGHT, :WIDTH
    ]
    assert (alpha[::2] == 4095).all()
    assert (alpha[1::2] == 0).all()
