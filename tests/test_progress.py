"""How far a run is: counts of each stage, the share that is done, and the time left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import vidmatte
from vidmatte.cli.progress import ProgressLine, duration
from vidmatte.pipeline import progress
from vidmatte.pipeline.progress import Progress, Work

FRAMES = 12
"""Of the clip that tests share."""
QUICK = {"working_size": 128, "threads": 1}
LEFT, RIGHT = vidmatte.Prompt(6, box=(10, 10, 60, 70)), vidmatte.Prompt(2, box=(90, 20, 150, 70))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_of_stages_to_come_is_estimated_from_those_before(clock):
    seen = []
    work = Work(seen.append)
    work.expect("adapting", 2)
    work.expect("matting", 4)
    work.begin("adapting")
    assert seen[-1] == Progress("adapting", 0, 2)
    clock[0] = 10.0
    work.add("adapting")
    # A frame usually takes two fifths of a step: 1 step of 10 s and 4 frames of 4 s are left.
    assert seen[-1] == Progress("adapting", 1, 2, 0.1, pytest.approx(10 / 36), pytest.approx(26))
    clock[0] = 14.0
    work.add("adapting")
    # The first step bore the start: all steps take 4 s, and frames 1.6 s.
    assert seen[-1].seconds_left == pytest.approx(4 * 1.6)
    assert seen[-1].share == pytest.approx(8 / (8 + 6.4))
    work.begin("matting")
    clock[0] = 15.0
    work.add("matting", 2)
    assert seen[-1] == Progress("matting", 2, 4, 2.0, pytest.approx(9 / 10), pytest.approx(1))
    clock[0] = 16.0
    work.add("matting", 2)
    assert seen[-1] == Progress("matting", 4, 4, 2.0, 1.0, 0.0)


def test_time_between_stages_belongs_to_no_unit(clock):
    seen = []
    work = Work(seen.append)
    work.expect("matting", 3)
    clock[0] = 100.0
    work.begin("matting")
    clock[0] = 101.0
    work.add("matting")
    assert seen[-1].seconds_left == pytest.approx(2)


def test_recent_units_count_more_than_old_ones(clock):
    seen = []
    work = Work(seen.append)
    work.expect("matting", 1000)
    for seconds in [0.1] * 200 + [1.0] * 200:
        clock[0] += seconds
        work.add("matting")
    # On the average of all, 0.55 s a frame would be left.
    assert seen[-1].seconds_left == pytest.approx(600, rel=0.01)


def test_the_share_never_falls(clock):
    seen = []
    work = Work(seen.append)
    work.expect("adapting", 1)
    work.expect("matting", 10)
    clock[0] = 1.0
    work.add("adapting")
    for _ in range(10):
        clock[0] += 5.0
        work.add("matting")
    shares = [now.share for now in seen]
    assert shares == sorted(shares)
    assert seen[1].seconds_left == pytest.approx(45)
    assert shares[-1] == 1


def test_units_of_an_earlier_run_are_done_but_not_timed(clock):
    seen = []
    work = Work(seen.append)
    work.expect("matting", 100, done=80)
    work.begin("matting")
    assert (seen[-1].done, seen[-1].seconds_left) == (80, None)
    clock[0] = 3.0
    work.add("matting")
    assert seen[-1] == Progress("matting", 81, 100, pytest.approx(1 / 3), 0.81, pytest.approx(57))


def test_more_frames_than_the_header_said_have_no_end():
    seen = []
    work = Work(seen.append)
    work.expect("matting", 2)
    work.add("matting", 3)
    assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (3, None, None)
    work.expect("matting", None)
    work.add("matting")
    assert (seen[-1].done, seen[-1].total, seen[-1].share) == (1, None, None)


def counted(reports):
    """The last count of each stage that has units, and all stages in their order."""
    last = {now.stage: (now.done, now.total) for now in reports if now.total is not None}
    return last, list(dict.fromkeys(now.stage for now in reports))


@pytest.mark.parametrize(
    ("prompts", "part", "propagated", "later"),
    [
        # Both objects over all frames; six and two of them lie before the marked frames.
        ({"left": LEFT, "right": RIGHT}, {}, 24, 8),
        # Frames 3 to 8. The object that is marked on 2 passes that on its way.
        ({"left": LEFT, "right": RIGHT}, {"start": "3", "end": "8"}, 13, 4),
        # Frames 6 to 8 lead to the first wanted one.
        ({"left": LEFT}, {"start": "9"}, 6, 3),
        # Frame 4 is the last wanted one, 5 lies between it and the mark.
        ({"left": LEFT}, {"start": "3", "end": "4"}, 3, 3),
    ],
)
def test_every_frame_of_a_stream_is_expected(movie, tmp_path, prompts, part, propagated, later):
    seen = []
    options = vidmatte.MatteOptions(**QUICK, **part)
    alpha = tmp_path / "{object}.mkv"
    summary = vidmatte.matte(movie, prompts, alpha=alpha, options=options, progress=seen.append)
    counts, stages = counted(seen)
    assert counts["matting"] == (summary.frames, summary.frames)
    assert counts["propagating"][1] == propagated
    # Frames that come out at once are reported as they are written.
    assert sum(now.stage == "propagating" for now in seen) == later
    assert stages[:3] == ["opening", "loading", "encoding"]
    assert stages[-1] == "finishing"
    assert seen[-1].share == 1


def test_every_unit_of_a_long_clip_is_expected_and_a_resumed_run_goes_on(movie, tmp_path):
    asked = {"alpha": tmp_path / "{object}.mkv"}
    objects = {"left": LEFT, "right": RIGHT}
    seen = []

    def stop(now):
        seen.append(now)
        if (now.stage, now.done) == ("matting", 5):
            raise KeyboardInterrupt

    long = vidmatte.MatteOptions(**QUICK, segment_frames=4, adapt_steps=1)
    with pytest.raises(KeyboardInterrupt):
        vidmatte.matte(movie, objects, options=long, progress=stop, **asked)
    assert counted(seen)[0]["adapting"] == (2, 2)
    # The next segment may be propagated beside the one that was interrupted.
    assert [now.total for now in seen if now.stage == "matting"][-1] == FRAMES
    resumed = replace(long, resume=True)
    again = []
    vidmatte.matte(movie, objects, options=resumed, progress=again.append, **asked)
    counts, stages = counted(again)
    # Each object is propagated over all frames.
    assert counts == {
        "propagating": (2 * FRAMES, 2 * FRAMES),
        "matting": (FRAMES, FRAMES),
        "joining": (3, 3),
    }
    assert next(now.done for now in again if now.stage == "matting") == 5
    assert "adapting" not in stages
    assert stages[:4] == ["opening", "counting", "identifying", "loading"]
    assert stages[-2:] == ["joining", "finishing"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_times_are_written_as_they_are_said(seconds, text):
    assert duration(seconds) == text


def test_lines_name_the_stage_and_the_time_of_the_whole_run(capsys, clock):
    line = ProgressLine()
    for second, now in [
        (6, Progress("loading")),
        (12, Progress("adapting", 3, 12, 0.5, 0.01, 400.0)),
        (18, Progress("propagating", 7, 50, 4.0, 0.1, 130.0)),
        (20, Progress("propagating", 15, 50, 4.0, 0.1, 128.0)),
        (24, Progress("matting", 7, None, 2.0)),
        (30, Progress("joining", 1, 3, 8.0, 0.99, 0.7)),
        (36, Progress("finishing", share=1.0, seconds_left=0.0)),
    ]:
        clock[0] = float(second)
        line.show(now)
    assert capsys.readouterr().err.splitlines() == [
        "loading the model",
        "adaptation: 3 of 12 steps, 0.50 steps/s, 6 min 40 s left",
        "following the object: 7 of 50 frames, 4.00 frames/s, 2 min 10 s left",
        "7 frames, 2.00 frames/s",
        "joining: 1 of 3 segments, 8.00 segments/s, 1 s left",
        "finishing the files",
    ]
    assert line.text == "7 frames, joining: 1 of 3 segments"


def test_wrong_usage_off_a_terminal_stays_one_line(capsys, monkeypatch):
    monkeypatch.setattr("vidmatte.cli.progress._FIRST_LINES_APART", 0.0)
    monkeypatch.setattr("vidmatte.cli.progress._TICK_SECONDS", 0.001)
    with ProgressLine() as line:
        time.sleep(0.05)
        assert capsys.readouterr().err == ""
        line.show(Progress("counting"))
        time.sleep(0.05)
    # Long stages without units are told of from time to time.
    assert set(capsys.readouterr().err.splitlines()) == {"counting frames"}


def test_lines_become_rare_in_a_long_run(capsys, clock):
    line = ProgressLine()
    for second in range(1, 7200):
        clock[0] = float(second)
        line.show(Progress("matting", second, 9000))
    assert len(capsys.readouterr().err.splitlines()) < 200


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
def test_a_terminal_has_one_line_from_the_start_to_the_end(movie, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-X", "importtime", "-m", "vidmatte", str(movie)]
    asked = ["--points", "80,48", "--working-size", "128", "--alpha", str(tmp_path / "a.mkv")]
    process = subprocess.Popen(
        [*command, *asked],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 1 << 16):
            said += part
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    text = said.decode()
    # Before the libraries that take long, and long before the bar.
    torch = re.search(r"\| +torch\r", text)
    assert torch is not None
    assert text.index("starting") < torch.start() < text.index("of 12 frames")
    assert "finishing the files" in text
    assert " left" in text
    # The bar was erased, and the summary stands alone.
    erased, _, summary = text.rpartition("\x1b[2K")
    assert "━" in erased
    assert "━" not in summary
    assert "a.mkv: alpha, ffv1" in summary
