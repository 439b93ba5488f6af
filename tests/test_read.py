import struct
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import numbered_picture, read_number, write_movie
from PIL import Image

from vidmatte.errors import OptionError, ReadError
from vidmatte.media.limits import displayed_size
from vidmatte.read import open_video, parse_position
from vidmatte.read.images import read_image, read_pixels
from vidmatte.read.sequence import ImageSet

FRAMES = 40
VARIABLE = [7 * i * i + 300 * i for i in range(FRAMES)]

MOVIES = {
    "h264_b_frames.mp4": dict(options={"g": "12", "bf": "3"}),
    "h264_open_gop.mkv": dict(options={"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "h264_transport.ts": dict(options={"g": "12", "bf": "2"}),
    "hevc_10bit.mkv": dict(
        codec="libx265", pixel_format="yuv420p10le", options={"x265-params": "log-level=none"}
    ),
    "vp9.webm": dict(codec="libvpx-vp9"),
    "prores.mov": dict(codec="prores_ks", pixel_format="yuv422p10le"),
    "mpeg4.avi": dict(codec="mpeg4"),
    "mpeg2.mpg": dict(codec="mpeg2video"),
    "ffv1_rgb.mkv": dict(codec="ffv1", pixel_format="bgr0"),
    "png_rgb.mov": dict(codec="png", pixel_format="rgb24"),
    "mjpeg_full_range.mov": dict(codec="mjpeg", pixel_format="yuvj420p"),
    "variable_rate.mp4": dict(times=VARIABLE, time_base=Fraction(1, 90000)),
}


@pytest.fixture(scope="module", params=MOVIES)
def numbered(request, tmp_path_factory):
    return write_movie(
        tmp_path_factory.mktemp("movies") / request.param, frames=FRAMES, **MOVIES[request.param]
    )


def test_frames_come_in_order_and_complete(numbered):
    with open_video(numbered) as video:
        frames = list(video.decode())
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [read_number(frame.rgb) for frame in frames] == list(range(FRAMES))
    assert all(a.pts < b.pts for a, b in pairwise(frames))


def test_random_access_gives_the_frames_of_the_sequential_pass(numbered):
    with open_video(numbered) as video:
        times = [frame.pts for frame in video.decode()]
        assert video.count_frames() == FRAMES
        for index in (FRAMES - 1, 0, 13, 12, 11, 30, 1):
            frame = video.frame(index)
            assert frame.frames == (index,)
            assert frame.pts == (times[index],)
            assert read_number(frame.rgb[0].numpy()) == index


def test_variable_frame_times_are_exact(tmp_path):
    movie = write_movie(
        tmp_path / "vfr.mp4",
        frames=FRAMES,
        times=VARIABLE,
        time_base=Fraction(1, 90000),
        options={"video_track_timescale": "90000"},
    )
    with open_video(movie) as video:
        seconds = [frame.pts * video.info.time_base for frame in video.decode()]
        assert video.seconds_of(10) == seconds[10] - seconds[0]
    assert seconds == [Fraction(time, 90000) for time in VARIABLE]


def test_batches_split_without_loss(numbered):
    with open_video(numbered) as video:
        batches = list(video.batches(7, start=3, end=25))
    assert [len(batch) for batch in batches] == [7, 7, 7, 1]
    assert [index for batch in batches for index in batch.frames] == list(range(3, 25))


def test_ten_bit_movies_keep_more_than_eight_bits(tmp_path):
    # A ramp of 10-bit code values, written plane by plane: one code is a quarter of an 8-bit one.
    codes = np.tile(np.arange(64, 940, 1, dtype=np.uint16)[:640], (64, 1))
    path = tmp_path / "ramp.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 64, "yuv444p10le"
        stream.codec_context.colorspace = 1
        frame = av.VideoFrame(640, 64, "yuv444p10le")
        frame.colorspace, frame.color_range = 1, 1
        for plane, value in zip(
            frame.planes, (codes, np.full_like(codes, 512), np.full_like(codes, 512)), strict=True
        ):
            np.frombuffer(plane, np.uint16).reshape(64, -1)[:, :640] = value
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with open_video(path) as video:
        assert video.info.bit_depth == 10
        rgb = video.frame(0).rgb[0].numpy()
    expected = (codes.astype(np.float64) - 64) / 876
    assert np.abs(rgb - expected).max() < 0.01 / 255


# The display matrix counts its degrees counterclockwise, as np.rot90 counts its turns.
@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_display_rotation_is_applied(tmp_path, rotation, turns):
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:48, :80] = (250, 20, 20)
    movie = write_movie(
        tmp_path / "turned.mp4", frames=2, rotation=rotation, pictures=[picture] * 2
    )
    with open_video(movie) as video:
        rgb = video.frame(0).rgb[0].numpy().transpose(1, 2, 0)
        assert (video.info.height, video.info.width) == rgb.shape[:2]
    expected = np.rot90(picture, turns) / 255
    assert np.abs(rgb - expected).mean() < 0.02


def expected_view(picture, a, b, c, d):
    """The picture as the matrix [[a, b], [c, d]] of ISO/IEC 14496-12 shows it, pixel by pixel."""
    height, width = picture.shape[:2]
    corners = [(x * a + y * c, x * b + y * d) for x in (0, width - 1) for y in (0, height - 1)]
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    size = (height, width) if a else (width, height)
    shown = np.zeros((*size, 3), picture.dtype)
    for y in range(height):
        for x in range(width):
            shown[y * d + x * b - top, x * a + y * c - left] = picture[y, x]
    return shown


def with_display_matrix(movie, a, b, c, d):
    """Write a display matrix into the track header of an MP4."""
    data = bytearray(movie.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    struct.pack_into(">9i", data, place, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    movie.write_bytes(data)
    return movie


EIGHT = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (-1, 0, 0, -1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
    (0, -1, 1, 0),
]
"""Display matrices of the EXIF orientations 1 to 8."""


@pytest.fixture(scope="module")
def corners():
    """A picture that looks different in each of the eight orientations."""
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:16, :16], picture[:16, 64:] = (250, 20, 20), (20, 250, 20)
    picture[32:, :16] = (20, 20, 250)
    return picture


@pytest.mark.parametrize("matrix", EIGHT)
def test_all_display_matrices_are_applied(tmp_path, corners, matrix):
    movie = write_movie(
        tmp_path / "clip.mp4", frames=1, size=(80, 48), pictures=[corners], options={"crf": "4"}
    )
    with open_video(with_display_matrix(movie, *matrix)) as video:
        rgb = video.frame(0).rgb[0].numpy().transpose(1, 2, 0)
        assert (video.info.height, video.info.width) == rgb.shape[:2]
        (matte,) = video.opacity()
    wanted = expected_view(corners, *matrix) / 255
    assert np.abs(rgb - wanted).mean() < 0.02
    assert np.abs(matte - wanted.max(axis=2)).mean() < 0.02


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("exif", range(1, 9))
def test_exif_turns_photographs_masks_and_scribbles_alike(tmp_path, corners, exif, name):
    tags = Image.Exif()
    tags[0x0112] = exif
    quality = {"lossless": True} if name == "a.webp" else {"quality": 95}
    Image.fromarray(corners).save(tmp_path / name, exif=tags, **quality)
    wanted = expected_view(corners, *EIGHT[exif - 1]) / 255
    tolerance = 0.02 if name == "a.jpg" else 1e-6
    found = read_image(tmp_path / name).rgb.transpose(1, 2, 0)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).mean() < tolerance
    assert np.abs(read_pixels(tmp_path / name)[..., ::-1] - wanted).mean() < tolerance
    assert displayed_size(tmp_path / name) == wanted.shape[1::-1]


def test_pixel_aspect_is_known_and_turns_with_the_frame(tmp_path):
    wide = write_movie(tmp_path / "wide.mp4", frames=2, aspect=Fraction(4, 3))
    with open_video(wide) as video:
        assert video.info.sample_aspect_ratio == Fraction(4, 3)
        assert video.info.display_width == round(160 * 4 / 3)
    turned = write_movie(tmp_path / "turned.mp4", frames=2, aspect=Fraction(4, 3), rotation=90)
    with open_video(turned) as video:
        assert video.info.sample_aspect_ratio == Fraction(3, 4)


def test_decord_gives_the_frames_of_pyav(tmp_path):
    pytest.importorskip("decord")
    movie = write_movie(
        tmp_path / "clip.mp4", frames=FRAMES, options={"g": "12", "bf": "3", "crf": "4"}
    )
    with open_video(movie) as pyav, open_video(movie, reader="decord") as decord:
        for wanted, found in zip(pyav.decode(5), decord.decode(5), strict=True):
            assert (found.index, found.pts) == (wanted.index, wanted.pts)
            # decord rounds to 8 bits and converts as swscale does by default: up to 2.2 codes too
            # dark (flat patches).
            difference = (wanted.rgb - found.rgb) * 255
            assert read_number(found.rgb) == read_number(wanted.rgb)
            assert np.percentile(np.abs(difference), 99) < 3
            assert abs(difference.mean()) < 1.5


def test_decord_turns_frames_as_pyav_does(tmp_path):
    pytest.importorskip("decord")
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:48, :80] = 250
    movie = write_movie(tmp_path / "turned.mp4", frames=3, rotation=-90, pictures=[picture] * 3)
    with open_video(movie) as pyav, open_video(movie, reader="decord") as decord:
        assert (pyav.frame(0).rgb - decord.frame(0).rgb).abs().mean() < 0.02


def test_decord_is_refused_for_more_than_eight_bits(tmp_path):
    pytest.importorskip("decord")
    movie = write_movie(
        tmp_path / "deep.mov", frames=2, codec="prores_ks", pixel_format="yuv422p10le"
    )
    with pytest.raises(OptionError, match=r"10-bit colour.*use reader='pyav'"):
        open_video(movie, reader="decord")


def test_unknown_reader_is_named_with_the_choices():
    with pytest.raises(OptionError, match="'cv2' is not valid: choose one of pyav, decord"):
        open_video("clip.mp4", reader="cv2")


def write_sequence(folder: Path, numbers, *, name="shot.{:04d}.png", dtype=np.uint8):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        picture = numbered_picture(abs(number) % 200, 64, 48).astype(dtype)
        cv2.imwrite(str(folder / name.format(number)), picture * (257 if dtype == np.uint16 else 1))
    return folder


@pytest.mark.parametrize("pattern", ["", "shot.%04d.png", "shot.####.png", "shot.%d.png"])
def test_sequence_takes_any_first_number(tmp_path, pattern):
    folder = write_sequence(tmp_path / "shot", range(1001, 1008))
    with open_video(folder / pattern) as video:
        assert video.info.first_number == 1001
        assert (video.info.frame_rate, video.info.time_base) == (24, Fraction(1, 24))
        assert [read_number(frame.rgb) for frame in video.decode()] == [
            n % 200 for n in range(1001, 1008)
        ]
        assert [frame.pts for frame in video.decode(2)] == [2, 3, 4, 5, 6]


def test_sixteen_bit_sequence_keeps_its_depth(tmp_path):
    ramp = np.tile(np.arange(0, 65536, 512, dtype=np.uint16), (8, 1))
    cv2.imwrite(str(tmp_path / "ramp.0001.png"), np.dstack([ramp] * 3))
    with open_video(tmp_path) as video:
        assert video.info.bit_depth == 16
        assert np.array_equal(video.frame(0).rgb[0, 0].numpy(), ramp / np.float32(65535))


def test_image_set_takes_sizes_as_they_come(tmp_path):
    for name, size in (("b", (30, 20)), ("a", (17, 33))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*size, 3), 100, np.uint8))
    with ImageSet([tmp_path]) as images:
        batches = list(images.batches(1))
    assert [(batch.names, tuple(batch.rgb.shape)) for batch in batches] == [
        (("a",), (1, 3, 17, 33)),
        (("b",), (1, 3, 30, 20)),
    ]


def test_photographs_are_turned_as_their_exif_says(tmp_path):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :10] = 255
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    # An APP1 segment with one entry: orientation (0x0112) 6, "turn clockwise to show".
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    marked = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    (tmp_path / "photo.jpg").write_bytes(marked)
    with ImageSet([tmp_path]) as images:
        rgb = images.frame(0).rgb[0, 0].numpy()
    assert rgb.shape == (30, 20)
    assert rgb[:9].mean() > 0.9
    assert rgb[11:].mean() < 0.1


def test_gaps_are_refused_with_the_missing_numbers(tmp_path):
    folder = write_sequence(tmp_path / "shot", [1, 2, 5, 6])
    with pytest.raises(ReadError, match="2 are missing: 3, 4;"):
        open_video(folder)


def test_hidden_files_are_no_frames(tmp_path):
    folder = write_sequence(tmp_path / "shot", [1, 2, 3])
    for name in ("._shot.0001.png", "._shot.0002.png", ".shot.0009.png"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    for source in (folder, folder / "shot.%04d.png", folder / "shot.####.png"):
        with open_video(source) as video:
            assert video.count_frames() == 3
    with ImageSet([folder]) as images:
        assert images.count_frames() == 3


@pytest.mark.parametrize("stray", ["mask.0004.png", "other.0004.png", "shot.0004.bmp"])
def test_frames_of_two_names_are_no_clip(tmp_path, stray):
    folder = write_sequence(tmp_path / "shot", [1, 2, 3])
    cv2.imwrite(str(folder / stray), numbered_picture(4, 64, 48))
    with pytest.raises(ReadError, match=r"files of 2 names: .*shot\.####\.png \(3\)"):
        open_video(folder)
    with open_video(folder / "shot.%04d.png") as video:
        assert video.count_frames() == 3


@pytest.mark.parametrize("pattern", ["take#2.%04d.png", "take#2.####.png"])
def test_a_hash_in_a_name_is_itself(tmp_path, pattern):
    folder = write_sequence(tmp_path / "shot", [0, 1, 2], name="take#2.{:04d}.png")
    with open_video(folder / pattern) as video:
        assert [read_number(frame.rgb) for frame in video.decode()] == [0, 1, 2]


@pytest.mark.parametrize("source", ["", "shot.%04d.png"])
def test_negative_frame_numbers_are_not_left_out(tmp_path, source):
    folder = write_sequence(tmp_path / "shot", [-2, -1, 0, 1], name="shot.{:04d}.png")
    with pytest.raises(ReadError, match="has the frame number -2"):
        open_video(folder / source)


def test_frames_that_change_size_are_named(tmp_path):
    folder = write_sequence(tmp_path / "shot", [1, 2])
    cv2.imwrite(str(folder / "shot.0003.png"), np.zeros((20, 20, 3), np.uint8))
    with (
        open_video(folder) as video,
        pytest.raises(ReadError, match=r"shot.0003.png: is 20x20.*64x48"),
    ):
        list(video.decode())


def test_frame_past_the_end_is_refused_with_the_count(numbered):
    with (
        open_video(numbered) as video,
        pytest.raises(OptionError, match=f"frame 400 does not exist: there are {FRAMES}"),
    ):
        video.frame(400)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("12", 12),
        ("1s", 25),
        ("0.5", 13),
        ("00:00:01:05", 30),
        ("00:00:01.2", 30),
        ("0s", 0),
        ("99s", FRAMES),
    ],
)
def test_positions_are_frames_seconds_times_and_timecodes(tmp_path, text, frame):
    with open_video(write_movie(tmp_path / "clip.mp4", frames=FRAMES)) as video:
        assert parse_position(text, video) == frame
        with pytest.raises(OptionError, match="give a frame"):
            parse_position("soon", video)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25)])
def test_timecode_counts_at_the_nominal_rate(tmp_path, rate):
    movie = write_movie(tmp_path / "clip.mov", frames=80, rate=rate)
    with open_video(movie) as video:
        # 2 s and 5 frames of timecode are 2 x 24 (25, 30) + 5 frames, whatever the clock says.
        assert parse_position("00:00:02:05", video) == 2 * round(rate) + 5


def test_timecode_is_that_of_the_clip(tmp_path):
    movie = write_movie(tmp_path / "clip.mov", frames=FRAMES, metadata={"timecode": "10:00:00:00"})
    with open_video(movie) as video:
        assert video.info.timecode == "10:00:00:00"
        assert parse_position("10:00:01:05", video) == 30
        with pytest.raises(OptionError, match="timecode begins at 10:00:00:00"):
            parse_position("00:00:01:05", video)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_matroska_cut_at_an_open_group_begins_with_its_first_whole_frame(tmp_path, codec):
    # Stream copies begin at a key frame and keep the frames that lead it, which no decoder can
    # show.
    parameters = {
        "libx264": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0",
        "libx265": "open-gop=1:keyint=12",
    }
    options = {
        codec.replace("lib", "") + "-params": parameters[codec]
        + (":log-level=none" if "265" in codec else "")
    }
    whole = write_movie(tmp_path / "whole.mkv", frames=FRAMES, codec=codec, options=options)
    cut = tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as out:
        stream, keys = out.add_stream_from_template(source.streams.video[0]), 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if keys >= 2 and packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with open_video(cut) as video:
        numbers = [read_number(frame.rgb) for frame in video.decode()]
        assert numbers == list(range(numbers[0], FRAMES))
        assert video.count_frames() == len(numbers)
        for index in (len(numbers) - 1, 1, 5, 0):
            assert read_number(video.frame(index).rgb[0].numpy()) == numbers[index]


def test_a_long_last_frame_is_no_damage(tmp_path):
    movie = write_movie(
        tmp_path / "slides.mkv",
        frames=10,
        times=list(range(0, 1000, 100)),
        durations=[100] * 9 + [5000],
        time_base=Fraction(1, 1000),
    )
    with open_video(movie) as video:
        assert len(list(video.decode())) == 10


@pytest.mark.parametrize("name", ["take#2.mp4", "take:1.mp4", "50%d.mp4", "ünïcode name.mp4"])
def test_unusual_file_names_are_read(tmp_path, name):
    with open_video(write_movie(tmp_path / "c.mp4", frames=2).rename(tmp_path / name)) as video:
        assert video.count_frames() == 2


def test_patterns_refuse_two_files_of_one_number(tmp_path):
    for name in ("a1.png", "a01.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ReadError, match="two files have the same number"):
        open_video(tmp_path / "a%d.png")


def test_leaving_the_block_stops_the_decoder_thread(tmp_path):
    with open_video(write_movie(tmp_path / "clip.mp4", frames=FRAMES)) as video:
        batches = video.batches(1)
        next(batches)
        assert any(thread.name == "vidmatte-prefetch" for thread in threading.enumerate())
    assert not any(thread.name == "vidmatte-prefetch" for thread in threading.enumerate())
