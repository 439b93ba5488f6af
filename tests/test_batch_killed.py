"""Power loss, killed workers, hundreds of shots, a cluster of two nodes, a farm's own queue.

Each test takes minutes and is therefore marked slow.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_movie

from vidmatte.pipeline.segments.journal import Journal

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
VIDMATTE = [sys.executable, "-m", "vidmatte"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def visible(folder):
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def write_mask(folder, size=(48, 64)):
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (size[1] // 2, size[0] // 2), min(size) // 3, 255, -1, cv2.LINE_AA)
    cv2.imwrite(str(folder / "mask.png"), mask)
    return str(folder / "mask.png")


class Zygote:
    """See zygote.py."""

    def __init__(self):
        script = str(Path(__file__).with_name("zygote.py"))
        self._process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )

    def run(self, *, kill_after=None, **asked):
        """Exit code of a run, which is killed after so many seconds, where it still lives."""
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        number = int(self._process.stdout.readline())
        if kill_after is not None:
            timer = threading.Timer(kill_after, lambda: os.kill(number, signal.SIGKILL))
            timer.start()
        code = int(self._process.stdout.readline())
        if kill_after is not None:
            timer.cancel()
        return code

    def close(self):
        with self._process:
            self._process.stdin.close()


@pytest.fixture
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.mark.parametrize("model", ["compact", "none"])
def test_killed_at_20_random_moments_and_resumed_writes_the_same(zygote, tmp_path, model):
    frames = 16 if model == "compact" else 60
    source = str(
        write_movie(tmp_path / "clip.mp4", frames=frames, size=(64, 48), options={"g": "6"})
    )
    mask = write_mask(tmp_path)
    options = {"segment_frames": 4, "smooth": 0.5}
    marks = [5, 13] if model == "compact" else []
    if model == "none":
        options |= {"model": "none", "matte": mask}
        mask = None
    else:
        options |= {"working_size": 128}
    whole = tmp_path / "whole"
    whole.mkdir()
    asked = {"source": source, "mask": mask, "frames": marks}
    for overwrite in (False, True):  # the first run includes the start of the process
        began = time.monotonic()
        assert (
            zygote.run(**asked, folder=str(whole), options={**options, "overwrite": overwrite}) == 0
        )
        seconds = time.monotonic() - began
    expected = contents(whole)
    draw = random.Random(7)
    killed = 0
    for attempt in range(100):
        if killed == 20:
            break
        folder = tmp_path / f"run{attempt}"
        folder.mkdir()
        again = {**asked, "folder": str(folder)}
        code = zygote.run(**again, options=options, kill_after=draw.uniform(0.02, seconds))
        for path in visible(folder):  # what has its final name is whole
            assert path.read_bytes() == expected[path.name]
        if code == -signal.SIGKILL:
            killed += 1
            # Outputs may be complete with only the work folder left to remove.
            if contents(folder) != expected:
                assert zygote.run(**again, options={**options, "resume": True}) == 0
        assert contents(folder) == expected
    assert killed == 20


def manifest(folder, names, defaults, shots=()):
    lines = ["[defaults]", *(f"{key} = {json.dumps(value)}" for key, value in defaults.items())]
    for name in names:
        lines += ["[[shots]]", f'input = "{name}.mp4"']
    for shot in shots:
        lines += ["[[shots]]", *(f"{key} = {json.dumps(value)}" for key, value in shot.items())]
    path = folder / "shots.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def batch(path, *options, check=True):
    command = [*VIDMATTE, "batch", str(path), *options]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def children(number):
    """All processes below one."""
    found = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    return [child for each in found for child in (int(each), *children(int(each)))]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_batch_that_is_killed_goes_on(tmp_path):
    names = [f"c{n}" for n in range(4)]
    for name in names:
        write_movie(tmp_path / f"{name}.mp4", frames=30, size=(64, 48))
    write_mask(tmp_path)
    path = manifest(
        tmp_path,
        names,
        {
            "model": "none",
            "matte": "mask.png",
            "alpha": "out/{shot}.mkv",
            "output": "out/{shot}.mov",
            "segment_frames": 5,
            "smooth": 0.5,
        },
    )
    batch(path)
    expected = contents(tmp_path / "out")
    for attempt in range(4):
        shutil.rmtree(tmp_path / "out")
        path.with_suffix(".results.jsonl").unlink()
        process = subprocess.Popen(
            [*VIDMATTE, "batch", str(path), "--quiet"],
            env=ENVIRONMENT,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(4 + attempt * 1.1)
        # All at once, as when the power goes, or the first process alone: its workers end with it.
        others = children(process.pid) if attempt % 2 else []
        for number in [process.pid, *others] if process.poll() is None else []:
            os.kill(number, signal.SIGKILL)
        process.wait()
        batch(path, "--resume")
        assert contents(tmp_path / "out") == expected


def bad_shots(folder):
    """Return 25 shots of 8 kinds that cannot be rendered, each with part of the expected reason."""
    whole = (folder / "good.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_bytes(b"this is no movie at all " * 50)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "broken.json").write_text('{"version": 1')
    cv2.imwrite(str(folder / "large.png"), np.full((64, 64), 255, np.uint8))
    (folder / "file").write_text("in the way")
    kinds = [
        ({"input": "missing.mp4", "points": "3,3"}, "no such file"),
        ({"input": "empty.mp4", "points": "3,3"}, "is empty (0 bytes)"),
        ({"input": "text.mp4", "points": "3,3"}, "text.mp4"),
        ({"input": "cut.mp4", "points": "3,3"}, "cut.mp4"),
        ({"input": "good.mp4", "prompts": "broken.json"}, "is not JSON"),
        ({"input": "good.mp4", "points": "300,3"}, "outside the frame"),
        ({"input": "good.mp4", "mask": "large.png"}, "is 64x64, but the frame is 32x32"),
        ({"input": "good.mp4", "points": "3,3", "start": "99"}, "there are 6 frames"),
    ]
    return [({"name": f"bad{n}", **kinds[n % 8][0]}, kinds[n % 8][1]) for n in range(25)]


def test_500_shots_of_which_25_are_bad(tmp_path):
    write_movie(tmp_path / "good.mp4", frames=6, size=(32, 32))
    write_mask(tmp_path, (32, 32))
    bad = bad_shots(tmp_path)
    good = [
        {"name": f"s{n}", "input": "good.mp4", "model": "none", "matte": "mask.png"}
        for n in range(475)
    ]
    mixed = good[:]
    for n, (shot, _) in enumerate(bad):
        mixed.insert(n * 19, shot)
    path = manifest(tmp_path, (), {"alpha": "out/{shot}.mkv"}, mixed)
    done = batch(path, "--json", "--quiet", check=False)
    assert done.returncode == 1
    shots = {shot["shot"]: shot for shot in json.loads(done.stdout)["shots"]}
    assert sum(shot["state"] == "done" for shot in shots.values()) == 475
    for shot, reason in bad:
        assert shots[shot["name"]]["state"] == "failed"
        assert reason in shots[shot["name"]]["reason"]
        assert f"Failed: {shot['name']}: " in done.stderr
    assert len(visible(tmp_path / "out")) == len(list((tmp_path / "out").iterdir())) == 475


def test_an_exported_job_runs_in_the_tool_of_open_job_description(tmp_path):
    openjd = shutil.which(
        "openjd", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if openjd is None:
        pytest.skip("the openjd command is not installed (pip install openjd-cli)")
    write_mask(tmp_path)
    for name, frames in (("long", 12), ("short", 4)):
        write_movie(tmp_path / f"{name}.mp4", frames=frames, size=(64, 48))
    path = manifest(
        tmp_path,
        ("long", "short"),
        {
            "mask": "mask.png",
            "alpha": "out/{shot}.mkv",
            "segment_frames": 5,
            "working_size": 128,
            "adapt_steps": 0,
        },
    )
    batch(path)
    expected = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    batch(path, "--export", "openjd", str(tmp_path / "job"))
    command = tmp_path / "vidmatte.sh"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vidmatte "$@"\n')
    command.chmod(0o755)
    template = str(tmp_path / "job/template.json")
    subprocess.run([openjd, "check", template], check=True, capture_output=True, env=ENVIRONMENT)
    steps = [step["name"] for step in json.loads(Path(template).read_text())["steps"]]
    assert steps == ["Prepare", "Render", "Join"]
    for step in steps:
        done = subprocess.run(
            [openjd, "run", template, "--step", step, "-p", f"Vidmatte={command}"],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert contents(tmp_path / "out") == expected


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_cluster_of_two_nodes_whose_workers_are_killed(tmp_path):
    pytest.importorskip("ray")
    names = [f"c{n}" for n in range(12)]
    for name in names:
        write_movie(tmp_path / f"{name}.mp4", frames=6, size=(64, 48), sound=True)
    write_movie(tmp_path / "long.mp4", frames=60, size=(64, 48), sound=True)
    write_mask(tmp_path)
    path = manifest(
        tmp_path,
        ("long", *names),
        {
            "mask": "mask.png",
            "alpha": "out/{shot}.mkv",
            "output": "out/{shot}.%04d.png",
            "segment_frames": 10,
            "working_size": 128,
            "adapt_steps": 0,
            "smooth": 0.5,
        },
    )
    batch(path)
    expected = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    path.with_suffix(".results.jsonl").unlink()
    cluster = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cluster.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    with cluster:
        address = cluster.stdout.readline().strip()
        process = subprocess.Popen(
            [*VIDMATTE, "batch", str(path), "--engine", "ray", "--address", address],
            env=ENVIRONMENT,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        killed = 0
        journal = Journal(tmp_path / "out" / ".long.%04d.png.vidmatte".replace("%", "_"))
        while process.poll() is None and killed < 2:
            # Once while the long clip is rendered, and once more further on.
            if sum(1 for _ in journal.done()) > 3 * killed:
                workers = [child for child in children(cluster.pid) if _is_worker(child)]
                if workers:
                    os.kill(workers[0], signal.SIGKILL)
                    killed += 1
            time.sleep(0.05)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert killed == 2
        cluster.stdin.close()
    assert contents(tmp_path / "out") == expected


def _is_worker(number):
    try:
        return b"ClusterWorker" in Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False
