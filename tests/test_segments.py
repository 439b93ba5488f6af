"""Long clips in segments: cut, rendered piece by piece, joined; stopped anywhere, the result is the same."""

import hashlib
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import read_number, write_movie

import vidmatte
from vidmatte.segments.journal import Journal

OPTIONS = vidmatte.MatteOptions(working_size=128, rehearsal=0, segment_frames=5)
FRAMES = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of variable rate, with sound, whose frames show their number."""
    times = [0, 3, 5, 9, 14, 15, 18, 22, 23, 27, 31, 36]
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_movie(path, frames=FRAMES, times=times, time_base=Fraction(1, 100), sound=True, options={"g": "4"})


def prompt(frame=0):
    return vidmatte.Prompt(frame=frame, box=(20, 10, 140, 80), points=((80, 24, 1),))


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outputs(folder):
    folder.mkdir(exist_ok=True)
    return {
        "output": [folder / "c.mov", folder / "c.webm", folder / "c.%04d.png"],
        "alpha": [folder / "a.mkv", folder / "a.mov", folder / "a.mp4", folder / "a.webm", folder / "a.%04d.png"],
    }


def gray(path):
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        frames = [(frame.pts * base, frame.to_ndarray(format="gray16le")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], np.stack([picture for _, picture in frames])


def stop_after(monkeypatch, units):
    """Make the journal fail when so many units are done, as a process that is killed there leaves it."""
    add, done = Journal.add, []

    def count(journal, record):
        add(journal, record)
        done.append(record)
        if len(done) == units + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", count)


def test_every_format_of_a_clip_in_segments_is_that_of_the_clip_at_once(clip, tmp_path):
    summary = vidmatte.matte(clip, prompt(), **outputs(tmp_path / "cut"), options=OPTIONS)
    whole = vidmatte.matte(
        clip, prompt(), **outputs(tmp_path / "whole"), options=replace(OPTIONS, segment_frames=FRAMES)
    )
    assert (summary.frames, whole.frames) == (FRAMES, FRAMES)
    assert [file.frames for file in summary.outputs] == [FRAMES] * 8
    cut, at_once = hashes(tmp_path / "cut"), hashes(tmp_path / "whole")
    assert cut.keys() == at_once.keys()  # and nothing hidden is left
    for name in ("a.mkv", "a.mov", "a.mp4", "a.webm", "c.mov", "c.webm"):
        times, pictures = gray(tmp_path / "cut" / name)
        expected_times, expected = gray(tmp_path / "whole" / name)
        assert times == expected_times
        # The small mattes of a cut clip are kept with 16 bits, and VP9 begins anew.
        assert np.abs(pictures.astype(int) - expected).max() <= (40 if name == "a.mkv" else 1600)
        with av.open(str(tmp_path / "cut" / name)) as container:
            assert len(container.streams.audio) == 1
    assert summary.confidence == pytest.approx(whole.confidence, abs=1e-3)


def test_parts_are_joined_without_loss_in_the_right_order(clip, tmp_path):
    options = replace(OPTIONS, foreground="source")
    vidmatte.matte(clip, prompt(), output=tmp_path / "c.%04d.png", options=options)
    with vidmatte.open_video(clip) as video:
        for frame in video.decode():
            written = cv2.imread(str(tmp_path / f"c.{frame.index:04d}.png"), cv2.IMREAD_UNCHANGED)
            solid = written[..., 3] > 0
            rgb = written[..., 2::-1].transpose(2, 0, 1) / 65535
            assert np.abs(rgb - frame.rgb.clip(0, 1))[:, solid].max(initial=0) < 1e-4
            assert read_number(frame.rgb) == frame.index


@pytest.mark.parametrize(("marks", "smooth"), [([0], 0.5), ([6], 0), ([2, 10], 0.5)], ids=str)
def test_a_run_that_is_stopped_anywhere_and_goes_on_writes_the_same(clip, tmp_path, monkeypatch, marks, smooth):
    options = replace(OPTIONS, smooth=smooth)
    prompts = [prompt(frame) for frame in marks]

    def run(folder, **changes):
        folder.mkdir(exist_ok=True)
        return vidmatte.matte(
            clip, prompts, output=folder / "c.%04d.png", alpha=folder / "a.mkv", options=replace(options, **changes)
        )

    run(tmp_path / "whole")
    expected = hashes(tmp_path / "whole")
    stopped = 1
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, stopped)
            try:
                run(tmp_path / "stopped", resume=stopped > 1)
            except KeyboardInterrupt:
                assert not [path for path in (tmp_path / "stopped").iterdir() if path.name[0] != "."]
                stopped += 2
                # From each place on, and from the first one again: what is resumed is itself stopped.
                continue
        break
    assert stopped >= 5
    assert hashes(tmp_path / "stopped") == expected
