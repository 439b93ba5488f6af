"""A watched folder: what is taken, when, by whom, and where it goes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.batch.run import ShotRun
from vidmatte.cli import cli
from vidmatte.errors import OptionError
from vidmatte.media.lock import exclusive
from vidmatte.prompts.files import save_prompts
from vidmatte.prompts.prompt import Prompt
from vidmatte.service import watch as watching
from vidmatte.service.render import CancelledError
from vidmatte.service.watch import Watch

ROOT = Path(__file__).parents[1]
SIZE = (64, 48)


class FakeRenderer:
    """Writes a byte in place of each output, or fails as its class says; remembers its shots."""

    shots: ClassVar[list] = []
    reason = ""
    waits = False

    def __init__(self, device):
        self.device = device

    def render(self, shot, results, *, cancelled, watch=None, retries=0):
        self.shots.append(shot)
        if self.waits and cancelled.wait(20):
            raise CancelledError
        run = ShotRun(shot)
        if self.reason:
            run.state = "failed"
            run.record = {"shot": shot.name, "state": "failed", "reason": self.reason}
            return run
        for spec in shot.request.outputs.specs:
            Path(spec.path).write_bytes(b"x")
        run.state = "done"
        run.record = {"shot": shot.name, "state": "done", "frames": 3, "seconds": 1.0}
        return run

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    class Renderer(FakeRenderer):
        shots: ClassVar[list] = []

    monkeypatch.setattr(watching, "Renderer", Renderer)
    return Renderer


def put(folder, name="clip.mp4", *, marks=True, **prompt):
    clip = write_movie(folder / name, frames=3, size=SIZE)
    if marks:
        prompt = prompt or {"points": ((32.0, 24.0, 1),)}
        save_prompts(folder / f"{clip.stem}.prompts.json", {"a": [Prompt(**prompt)]}, source=name)
    return clip


def watched(folder, **given):
    choices = {"settings": {}, "devices": ("auto",), "settle": 0.0, "interval": 0.02}
    return Watch(folder, **(choices | given)).run(once=True)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_clip_moves_on_with_everything_about_it(tmp_path, fake):
    masks = tmp_path / "clip.masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "1.png"), np.full((48, 64), 255, np.uint8))
    put(tmp_path, mask=masks / "1.png")
    (ended,) = watched(tmp_path)
    assert ended.is_done
    assert ended.folder == tmp_path / "done" / "clip"
    made = {"clip_matte.mov", "clip_alpha.mov", "result.json"}
    assert names(ended.folder) == {"clip.mp4", "clip.prompts.json", "clip.masks"} | made
    assert json.loads((ended.folder / "result.json").read_text())["state"] == "done"
    assert names(tmp_path) == {"done", "failed"} | (names(tmp_path) & {"watch.results.jsonl"})
    # The mask is found from where the prompts are now.
    from vidmatte.prompts.files import load_prompts

    assert load_prompts(ended.folder / "clip.prompts.json")["a"][0].mask.exists()


def test_a_name_may_come_again(tmp_path, fake):
    for expected in ("clip", "clip-2", "clip-3"):
        put(tmp_path)
        (ended,) = watched(tmp_path)
        assert ended.folder == tmp_path / "done" / expected
        assert "clip_matte.mov" in names(ended.folder)


def test_a_failed_clip_moves_on_too_with_the_reason(tmp_path, fake):
    fake.reason = "the disk is full"
    put(tmp_path)
    (ended,) = watched(tmp_path)
    assert not ended.is_done
    assert ended.folder == tmp_path / "failed" / "clip"
    assert names(ended.folder) == {"clip.mp4", "clip.prompts.json", "result.json"}
    assert json.loads((ended.folder / "result.json").read_text())["reason"] == "the disk is full"
    assert names(tmp_path / "done") == set()


def test_prompts_that_cannot_be_read_fail_and_the_others_are_rendered(tmp_path, fake):
    put(tmp_path, "a.mp4")
    put(tmp_path, "b.mp4", marks=False)
    (tmp_path / "b.prompts.json").write_text('{"version": 2, "objects": [{"name": "x"}]}')
    fake.reason = ""
    ended = {each.name: each for each in watched(tmp_path)}
    assert ended["a.mp4"].is_done
    # The fake renderer is told the problem; the real one fails by it.
    (shot,) = [shot for shot in fake.shots if shot.name == "b"]
    assert "layout of a prompt file" in shot.problem


def test_settings_and_outputs_of_all_clips(tmp_path, fake):
    put(tmp_path)
    watched(tmp_path, settings={"smooth": "0.5", "output": ["{shot}.webm"], "sidecar": []})
    (shot,) = fake.shots
    assert shot.request.options.smooth == 0.5
    assert shot.request.options.overwrite
    assert [str(spec.path) for spec in shot.request.outputs.specs] == [
        str(tmp_path / "done/clip/clip.webm")
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoth": "1"}, "did you mean 'smooth'"),
        ({"smooth": "7"}, "from 0 to 1"),
        ({"output": ["{shot}.xyz"]}, "cannot be written with"),
    ],
)
def test_wrong_settings_are_told_before_any_clip(tmp_path, fake, settings, message):
    put(tmp_path)
    with pytest.raises(OptionError, match=message):
        watched(tmp_path, settings=settings)
    assert (tmp_path / "clip.mp4").exists()


def test_a_clip_waits_for_its_marks(tmp_path, fake):
    put(tmp_path, "a.mp4", marks=False)
    put(tmp_path, "b.mp4", marks=False)
    # The picker was opened, and nothing is marked yet.
    (tmp_path / "b.prompts.json").write_text('{"version": 2, "source": "b.mp4", "objects": []}')
    told = []
    assert watched(tmp_path, on_waiting=told.append) == []
    assert {path.name for path in told} == {"a.mp4", "b.mp4"}
    assert not fake.shots


def test_a_folder_of_images_is_a_clip(tmp_path, fake):
    plate = tmp_path / "plate"
    plate.mkdir()
    for number in (7, 8):
        cv2.imwrite(str(plate / f"p.{number:04d}.png"), np.zeros((48, 64, 3), np.uint8))
    save_prompts(tmp_path / "plate.prompts.json", {"a": [Prompt(points=((1.0, 1.0, 1),))]})
    (ended,) = watched(tmp_path)
    assert (ended.folder / "plate" / "p.0007.png").exists()
    assert fake.shots[0].request.source.paths == (str(plate),) or fake.shots[
        0
    ].request.source.paths == (plate,)


def test_a_clip_that_still_grows_is_left_alone(tmp_path, fake):
    clip = put(tmp_path)
    whole = clip.read_bytes()
    clip.write_bytes(whole[:100])
    watch = Watch(tmp_path, settings={}, devices=("auto",), settle=0.6, interval=0.05)
    ended = []
    thread = threading.Thread(target=lambda: ended.extend(watch.run(once=True)))
    thread.start()
    # Something is added more often than the clip would settle.
    for size in range(200, len(whole), max(1, len(whole) // 6)):
        time.sleep(0.2)
        assert not fake.shots
        clip.write_bytes(whole[:size])
    clip.write_bytes(whole)
    thread.join(20)
    assert [each.is_done for each in ended] == [True]
    assert (ended[0].folder / "clip.mp4").read_bytes() == whole


def test_two_watchers_do_not_take_one_clip(tmp_path, fake):
    for number in range(6):
        put(tmp_path, f"c{number}.mp4")
    ended = []
    threads = [threading.Thread(target=lambda: ended.extend(watched(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(each.name for each in ended) == [f"c{number}.mp4" for number in range(6)]
    assert sorted(shot.name for shot in fake.shots) == [f"c{number}" for number in range(6)]
    assert not [path for path in names(tmp_path) if path.endswith(".lock")]


def test_a_clip_of_another_watcher_is_left_to_it(tmp_path, fake):
    clip = put(tmp_path)
    with exclusive(clip, "held by a test"):
        assert watched(tmp_path) == []
        assert not fake.shots
    assert clip.exists()
    assert [each.name for each in watched(tmp_path)] == ["clip.mp4"]


def test_each_device_renders_a_clip_at_the_same_time(tmp_path, monkeypatch):
    together = threading.Barrier(2, timeout=20)

    class Renderer(FakeRenderer):
        shots: ClassVar[list] = []

        def render(self, shot, results, **given):
            together.wait()
            return super().render(shot, results, **given)

    monkeypatch.setattr(watching, "Renderer", Renderer)
    put(tmp_path, "a.mp4")
    put(tmp_path, "b.mp4")
    ended = watched(tmp_path, devices=("cuda:0", "cuda:1"))
    assert {each.name for each in ended} == {"a.mp4", "b.mp4"}


def test_an_interrupt_leaves_the_clip_where_it_is(tmp_path, fake, monkeypatch):
    fake.waits = True
    put(tmp_path)
    watch = Watch(tmp_path, settings={}, devices=("auto",), settle=0, interval=0.05)

    def interrupted(self):
        if fake.shots:
            raise KeyboardInterrupt
        time.sleep(0.05)
        return []

    monkeypatch.setattr(Watch, "_collect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch.run()
    assert {"clip.mp4", "clip.prompts.json"} <= names(tmp_path)
    assert not (tmp_path / ".clip.mp4.lock").exists()


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    for words, message in (
        ([str(tmp_path / "none")], "is no folder"),
        ([str(tmp_path), "--set", "prompts=x.json"], "--set prompts is not for a watched folder"),
        ([str(tmp_path), "--set", "smooth"], "write KEY=VALUE"),
    ):
        result = CliRunner().invoke(cli, ["watch", *words, "--once"])
        assert result.exit_code == 2
        assert message in result.stderr


def command(folder, *words, **given):
    return subprocess.Popen(
        [sys.executable, "-m", "vidmatte", "watch", str(folder), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **given,
    )


def test_real_clips_are_rendered_and_bad_ones_told(tmp_path):
    put(tmp_path, "a.mp4")
    put(tmp_path, "b.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no movie")
    words = ("--once", "--settle", "0", "--interval", "0.1", "--json")
    process = command(tmp_path, *words, "--set", "working_size=128", "--alpha", "{shot}.mkv")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    records = {each["shot"]: each for each in map(json.loads, out.splitlines())}
    assert (records["a"]["state"], records["a"]["frames"]) == ("done", 3)
    assert records["a"]["folder"] == str(tmp_path / "done/a")
    assert names(tmp_path / "done" / "a") == {"a.mp4", "a.prompts.json", "a.mkv", "result.json"}
    assert records["b"]["state"] == "failed"
    assert "Failed: b.mp4: " in err
    assert names(tmp_path / "failed" / "b") == {"b.mp4", "b.prompts.json", "result.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_command_cleanly(tmp_path):
    process = command(tmp_path, "--interval", "0.1")
    while "Watching" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped; clips that were not finished stay in the folder." in err
    assert "Traceback" not in err
