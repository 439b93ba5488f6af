"""Batch renders: what they cost beside single runs, and how memory grows with their length.

    python benchmarks/batch.py overhead  batch over N clips beside N single runs, Ray beside local
    python benchmarks/batch.py driver    memory of the driver with 100 and 5,000 planned segments
    python benchmarks/batch.py long      a clip of 100,000 frames: memory, time to open its journal
    python benchmarks/batch.py scale     bytes and seconds of a unit, as used by docs/scale.md

Each prints one JSON object. `--frames`, `--shots` make them shorter or longer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

VIDMATTE = [sys.executable, "-m", "vidmatte"]
SMALL = ["--working-size", "128", "--adapt-steps", "0"]


def write_clip(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Noise that drifts: every frame is another one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size[1] + 64, size[0] + 64, 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "g": "50", "crf": "30"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for n in range(frames):
            picture = noise[n % 64 : n % 64 + size[1], n // 64 % 64 : n // 64 % 64 + size[0]]
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"))
            )
        out.mux(stream.encode(None))
    return path


def write_mask(path: Path, size: tuple[int, int]) -> Path:
    mask = np.zeros(size[::-1], np.uint8)
    cv2.circle(mask, (size[0] // 2, size[1] // 2), min(size) // 3, 255, -1, cv2.LINE_AA)
    cv2.imwrite(str(path), mask)
    return path


def write_manifest(folder: Path, shots: int) -> Path:
    lines = [
        "[defaults]",
        'mask = "mask.png"',
        'alpha = "batch/{shot}.mkv"',
        "adapt_steps = 0",
        "working_size = 128",
    ]
    for n in range(shots):
        lines += ["[[shots]]", f'input = "c{n}.mp4"']
    (folder / "shots.toml").write_text("\n".join(lines))
    return folder / "shots.toml"


def timed(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


def overhead(frames: int, shots: int) -> dict[str, object]:
    """Compare the wall time of a batch and of single runs on the same cores.

    Each worker loads the model once, and so does each single run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in range(shots):
            write_clip(folder / f"c{n}.mp4", frames, (320, 180))
        mask = write_mask(folder / "mask.png", (320, 180))
        manifest = write_manifest(folder, shots)
        single = sum(
            timed(
                [
                    *VIDMATTE,
                    str(folder / f"c{n}.mp4"),
                    "--mask",
                    str(mask),
                    "--alpha",
                    str(folder / f"s{n}.mkv"),
                    *SMALL,
                ]
            )
            for n in range(shots)
        )
        local = timed(
            [*VIDMATTE, "batch", str(manifest), "--set", f"alpha={folder}/local/{{shot}}.mkv"]
        )
        report: dict[str, object] = {
            "shots": shots,
            "frames_each": frames,
            "single_s": round(single, 2),
        }
        report |= {"batch_s": round(local, 2), "batch_over_single": round(local / single, 3)}
        try:
            import ray  # noqa: F401
        except ImportError:
            return report
        ray_options = [
            "--engine",
            "ray",
            "--workers",
            "1",
            "--set",
            f"alpha={folder}/ray/{{shot}}.mkv",
        ]
        began = _ray_start_seconds()
        on_ray = timed([*VIDMATTE, "batch", str(manifest), *ray_options])
        same = all(
            (folder / f"local/c{n}.mkv").read_bytes() == (folder / f"ray/c{n}.mkv").read_bytes()
            for n in range(shots)
        )
        return report | {
            "ray_s": round(on_ray, 2),
            "ray_start_s": round(began, 2),
            "ray_over_local": round(on_ray / local, 3),
            "ray_over_local_without_start": round((on_ray - began) / local, 3),
            "equal": same,
        }


def _ray_start_seconds() -> float:
    code = "import ray; ray.init(include_dashboard=False, logging_level='ERROR'); ray.shutdown()"
    return timed([sys.executable, "-c", code]) - timed([sys.executable, "-c", "import ray"])


def driver() -> dict[str, object]:
    """Measure the memory of a process that plans and records many segments with idle workers."""
    found = {}
    for segments in (100, 1000, 5000):
        done = subprocess.run(
            [sys.executable, __file__, "plan", "--frames", str(segments)],
            check=True,
            capture_output=True,
            text=True,
        )
        found[segments] = json.loads(done.stdout)
    return {"segments": found}


def plan(segments: int) -> dict[str, object]:
    from vidmatte.batch.engine import TaskDone
    from vidmatte.batch.manifest import ShotRequest
    from vidmatte.batch.results import Results
    from vidmatte.batch.run import BatchRun
    from vidmatte.batch.task import Outcome, Task
    from vidmatte.options import MatteOptions
    from vidmatte.pipeline.request import Request
    from vidmatte.pipeline.segments.long_render import journal_of
    from vidmatte.pipeline.segments.plan import Plan

    length = 500

    class Idle:
        """Answers as a worker would, with nothing done."""

        size = 8
        starting = 0
        machines = ("",)

        def __init__(self) -> None:
            self.events: list[TaskDone] = []

        @property
        def running(self) -> int:
            return len(self.events)

        @property
        def idle_machines(self) -> list[str]:
            return [""] * (self.size - self.running)

        def submit(self, task: Task, machines: object) -> None:
            if task.unit == "begin":
                journal = journal_of(task.request)
                journal.folder.mkdir()
                header = {"version": "", "threads": 1}
                journal.begin(header)
                outcome = Outcome("planned", header, Plan(0, segments * length, length))
            elif task.unit == "join":
                journal_of(task.request).remove()
                outcome = Outcome("completed", {"frames": segments * length})
            else:
                numbers = list(range(length))
                facts = {
                    "pts": numbers,
                    "durations": numbers,
                    "confidence": [0.123456789] * length,
                    "names": [],
                }
                outcome = Outcome(
                    "done", {"unit": task.unit, "first": 0, "frames": length, "notes": [], **facts}
                )
            self.events.append(TaskDone(task, outcome))

        def poll(self, seconds: float) -> list[TaskDone]:
            events = self.events
            self.events = []
            return events

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = MatteOptions(model="none", matte="m.png")
        request = Request.of("c.mp4", (), alpha=folder / "a.mkv", options=options)
        run = BatchRun(
            [ShotRequest("c", request)], Idle(), Results(folder / "results.jsonl"), threads=1
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        (ended,) = run.run()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert ended.state == "done", ended.reason
        return {
            "peak_mb": round(after / 1024, 1),
            "grown_mb": round((after - before) / 1024, 1),
            "ms_a_segment": round(1000 * (time.monotonic() - began) / segments, 2),
        }


def long(frames: int) -> dict[str, object]:
    """A long small clip with given mattes, in one process; its memory is looked at all along."""
    from vidmatte.pipeline.segments.journal import JOURNAL, Journal, work_folder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_clip(folder / "clip.mp4", frames, (32, 32))
        mask = write_mask(folder / "mask.png", (32, 32))
        output = folder / "a.mkv"
        command = [
            *VIDMATTE,
            str(clip),
            "--model",
            "none",
            "--matte",
            str(mask),
            "--alpha",
            str(output),
            "--quiet",
        ]
        began = time.monotonic()
        process = subprocess.Popen(command)
        memory: list[float] = []
        journal = Journal(work_folder(output))
        opened, size = 0.0, 0
        while process.poll() is None:
            memory.append(_resident(process.pid))
            with_size = journal.folder / JOURNAL
            if with_size.is_file() and with_size.stat().st_size >= size:
                size = with_size.stat().st_size
                at = time.monotonic()
                read = sum(1 for _ in journal.records())
                opened = time.monotonic() - at
            time.sleep(1)
        seconds = time.monotonic() - began
        assert process.returncode == 0
        quarter = len(memory) // 4
        return {
            "frames": frames,
            "seconds": round(seconds, 1),
            "mb_second_quarter": round(max(memory[quarter : 2 * quarter]), 1),
            "mb_last_quarter": round(max(memory[3 * quarter :]), 1),
            "journal_records": read,
            "journal_mb": round(size / 1e6, 2),
            "journal_opened_s": round(opened, 3),
        }


def _resident(number: int) -> float:
    """Megabytes of memory that a process has."""
    try:
        for line in Path(f"/proc/{number}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def scale(frames: int) -> dict[str, object]:
    """A 1080p clip in segments: processor time and bytes of following, rendering and joining."""
    from dataclasses import replace

    from vidmatte import MatteOptions, Prompt
    from vidmatte.pipeline.models import model_from_options
    from vidmatte.pipeline.progress import Work
    from vidmatte.pipeline.request import Request, open_shot
    from vidmatte.pipeline.segments.fingerprint import fingerprint
    from vidmatte.pipeline.segments.journal import Record
    from vidmatte.pipeline.segments.long_render import LongRender, do_units
    from vidmatte.pipeline.segments.plan import Unit

    size = (1920, 1080)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write_clip(folder / "clip.mp4", frames, size)
        prompt = Prompt(mask=write_mask(folder / "mask.png", size))
        options = replace(MatteOptions(), adapt_steps=0, segment_frames=max(2, frames // 2))
        request = Request.of(
            clip, prompt, output=folder / "c.mov", alpha=folder / "a.mov", options=options
        )
        seconds: dict[str, float] = {}
        sizes: dict[str, int] = {}
        with open_shot(request) as shot:
            render = LongRender(shot, model_from_options)

            def measured(unit: Unit) -> Record:
                before, began = _bytes(render.journal.folder), time.process_time()
                record = render.renderer.run(unit, Work())
                seconds[unit.kind] = seconds.get(unit.kind, 0) + time.process_time() - began
                grown = _bytes(render.journal.folder) - before
                sizes[unit.kind] = sizes.get(unit.kind, 0) + grown
                return record

            with render.begin(frames, fingerprint(request)):
                do_units(render.plan, render.journal, measured)
                began = time.process_time()
                render.join()
                seconds["join"] = time.process_time() - began
        sizes |= {
            "input": clip.stat().st_size,
            "output": sum((folder / path).stat().st_size for path in ("c.mov", "a.mov")),
        }
        return {
            "frames": frames,
            "processor_seconds_a_frame": {
                kind: round(spent / frames, 4) for kind, spent in seconds.items()
            },
            "kilobytes_a_frame": {
                kind: round(size / frames / 1000, 1) for kind, size in sizes.items()
            },
        }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["overhead", "driver", "plan", "long", "scale"])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--shots", type=int, default=5)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if given.what == "overhead":
        report = overhead(given.frames or 30, given.shots)
    elif given.what == "driver":
        report = driver()
    elif given.what == "plan":
        report = plan(given.frames or 100)
    else:
        report = (
            long(given.frames or 100_000) if given.what == "long" else scale(given.frames or 12)
        )
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
