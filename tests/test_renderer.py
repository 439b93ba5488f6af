"""The worker of one device: it renders, is stopped in the middle, goes on, and survives a crash."""

import os
import signal
import sys
import threading

import pytest
from picker import write_disc

from vidmatte.batch.manifest import read_shot
from vidmatte.batch.results import Results
from vidmatte.service.render import CancelledError, Renderer, device_names

FRAMES, SEGMENT = 24, 4
pytestmark = pytest.mark.slow


@pytest.fixture
def shot(tmp_path):
    write_disc(tmp_path / "clip.mp4", frames=FRAMES)
    return read_shot(
        {
            "input": "clip.mp4",
            "points": "48,48",
            "alpha": "out/a.mkv",
            "working_size": 128,
            "segment_frames": SEGMENT,
        },
        where=tmp_path,
        folder=tmp_path,
        overwrite=True,
    )


def test_a_stopped_shot_leaves_only_segments_and_goes_on_with_them(tmp_path, shot):
    results = Results(tmp_path / "results.jsonl")
    cancelled = threading.Event()
    seen = []

    def watch(run):
        seen.append(run.frames)
        # Propagated frames count as well: this is in the middle of rendering.
        if run.frames > FRAMES + 2 * SEGMENT:
            cancelled.set()

    with Renderer(device_names()[0]) as renderer:
        with pytest.raises(CancelledError):
            renderer.render(shot, results, cancelled=cancelled, watch=watch)
        assert not (tmp_path / "out" / "a.mkv").exists()
        kept = [path.name for path in (tmp_path / "out").iterdir()]
        assert kept
        assert all(name.startswith(".") for name in kept)
        first = []
        run = renderer.render(
            shot, results, cancelled=threading.Event(), watch=lambda run: first.append(run.frames)
        )
    assert run.state == "done"
    assert run.record["frames"] == FRAMES
    # The second render began with what the first had finished.
    assert max(first[:3]) > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mkv"]
    assert results.last(shot.name)["state"] == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_replaced(tmp_path, shot):
    killed = []

    def watch(run):
        if run.frames > FRAMES and not killed:
            pid = renderer._engine._workers[0].process.pid
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    with Renderer(device_names()[0]) as renderer:
        run = renderer.render(
            shot, Results(tmp_path / "r.jsonl"), cancelled=threading.Event(), watch=watch
        )
    assert killed
    assert run.state == "done"
    assert (tmp_path / "out" / "a.mkv").exists()
