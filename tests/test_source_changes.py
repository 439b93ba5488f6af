"""A source that is replaced, rewritten or cut off while it is read, and where the outputs end."""

import os
import shutil
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import write_movie

import vidmatte
from vidmatte.errors import ReadError
from vidmatte.pipeline.segments.render import Renderer
from vidmatte.read import index

FRAMES = 8
SIZE = (64, 48)


def write_mask(path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    cv2.imwrite(str(path), mask)
    return path


@pytest.fixture
def options(tmp_path):
    mask = write_mask(tmp_path / "mask.png")
    return vidmatte.MatteOptions(model="none", matte=mask, segment_frames=4)


@pytest.fixture
def clip(tmp_path):
    return write_movie(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE, options={"g": "4"})


def replace_file(path):
    """Put another file with the same content in the place of one, as an encoder or rsync does."""
    other = path.with_name(f"new-{path.name}")
    shutil.copyfile(path, other)
    os.replace(other, path)


def rewrite_file(path):
    """Write the same bytes again to the same file."""
    content = path.read_bytes()
    stamp = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(stamp, stamp + 1))


@pytest.mark.parametrize(
    ("change", "said"), [(replace_file, "replaced"), (rewrite_file, "written to")]
)
@pytest.mark.parametrize("segmented", [False, True])
def test_a_movie_that_changes_while_it_is_read_is_an_error(
    tmp_path, clip, options, change, said, segmented
):
    changed = []

    def change_once(mattes):
        if not changed:
            change(clip)
            changed.append(mattes)

    options = replace(options, segment_frames=4 if segmented else 500)
    with pytest.raises(ReadError, match=rf"clip\.mp4: was {said}.* while it was read"):
        vidmatte.matte(clip, alpha=tmp_path / "a.mkv", options=options, on_mattes=change_once)
    assert not (tmp_path / "a.mkv").exists()


def test_a_frame_that_changes_while_a_sequence_is_read_is_an_error(tmp_path, options):
    (tmp_path / "frames").mkdir()
    for number in range(FRAMES):
        cv2.imwrite(
            str(tmp_path / f"frames/{number:04d}.png"), np.full((48, 64, 3), number, np.uint8)
        )

    def change_first(mattes):
        rewrite_file(tmp_path / "frames/0000.png")

    with pytest.raises(ReadError, match=r"0000\.png: was written to while it was read"):
        vidmatte.matte(
            tmp_path / "frames",
            alpha=tmp_path / "a.mkv",
            options=replace(options, segment_frames=500),
            on_mattes=change_first,
        )


def test_a_movie_that_was_replaced_before_resuming_is_told_from_its_copy(
    tmp_path, clip, options, monkeypatch
):
    def stop(self, segment, on_frame):
        if segment:
            raise KeyboardInterrupt
        return render(self, segment, on_frame)

    render = Renderer._render
    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "_render", stop)
        with pytest.raises(KeyboardInterrupt):
            vidmatte.matte(clip, alpha=tmp_path / "a.mkv", options=options)
    rewrite_file(clip)  # a small file is known by its content
    summary = vidmatte.matte(clip, alpha=tmp_path / "a.mkv", options=replace(options, resume=True))
    assert summary.frames == FRAMES


def damaged(tmp_path, frame):
    """A clip with sound, of which one frame cannot be decoded."""
    path = tmp_path / "damaged.mov"
    write_movie(path, frames=50, size=SIZE, codec="png", pixel_format="rgb24", sound=True)
    with av.open(str(path)) as movie:
        packets = [packet for packet in movie.demux(video=0) if packet.size]
        position, size = packets[frame].pos, packets[frame].size
    content = bytearray(path.read_bytes())
    content[position : position + size] = bytes(size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("segment_frames", [500, 8])
def test_a_clip_that_ends_early_says_where_and_keeps_no_sound_beyond(
    tmp_path, options, segment_frames
):
    source = damaged(tmp_path, 20)
    options = replace(options, allow_truncated=True, segment_frames=segment_frames)
    summary = vidmatte.matte(source, output=tmp_path / "o.mov", options=options)
    assert (summary.frames, summary.truncated_at) == (20, 20)
    assert summary.as_json()["truncated_at"] == 20
    assert [note for note in summary.notes if note.startswith("the source ends early: frame 20")]
    with av.open(str(tmp_path / "o.mov")) as movie:
        (sound,) = movie.streams.audio
        packets = [packet for packet in movie.demux(sound) if packet.size]
        end = max((packet.pts + packet.duration) * packet.time_base for packet in packets)
    assert Fraction(20, 25) <= end <= Fraction(20, 25) + Fraction(1, 20)  # one packet more at most


def test_a_whole_clip_is_not_truncated(tmp_path, clip, options):
    options = replace(options, allow_truncated=True)
    summary = vidmatte.matte(clip, alpha=tmp_path / "a.mkv", options=options)
    assert summary.truncated_at is None
    assert summary.as_json()["truncated_at"] is None
    assert not [note for note in summary.notes if "ends early" in note]


@pytest.mark.parametrize(("end", "noted"), [("500", True), ("7", False), (None, False)])
def test_an_out_point_behind_the_last_frame_is_noted(tmp_path, clip, options, end, noted):
    summary = vidmatte.matte(clip, alpha=tmp_path / "a.mkv", options=replace(options, end=end))
    found = [
        note for note in summary.notes if "out point 500 lies behind the last frame, 7" in note
    ]
    assert bool(found) == noted
    assert summary.frames == FRAMES


@pytest.mark.parametrize(
    ("name", "codec", "is_indexed"),
    [("a.mov", "prores_ks", True), ("a.mp4", "libx264", False), ("a.mkv", "ffv1", False)],
)
def test_frames_are_counted_from_the_index_of_the_container(
    tmp_path, monkeypatch, name, codec, is_indexed
):
    formats = {"prores_ks": "yuv422p10le", "libx264": "yuv420p", "ffv1": "yuv420p"}
    times = [3 * index + index % 2 for index in range(60)]
    path = write_movie(
        tmp_path / name,
        frames=60,
        codec=codec,
        pixel_format=formats[codec],
        times=times,
        time_base=Fraction(1, 100),
    )
    read = []
    packets_of = index.packets_of
    monkeypatch.setattr(
        index,
        "packets_of",
        lambda *given: (read.append(each) or each for each in packets_of(*given)),
    )
    with vidmatte.open_video(path) as video:
        assert video.count_frames() == 60
        assert [video.seconds_of(n) for n in (1, 59)] == [Fraction(times[n], 100) for n in (1, 59)]
        assert (len(read) < 20) == is_indexed
        assert [frame.index for frame in video.decode(55)] == [55, 56, 57, 58, 59]
