"""Speed and memory of a whole run beside its stages alone: `python benchmarks/end_to_end.py [speed|memory]`.

speed: one 1080p H.264 clip; decode, model, foreground and encode are timed alone and then all together, in one run, so
that a busy machine slows all of them. The figure to compare is the ratio of the slowest stage to the whole.
memory: peak resident size of the command on 150 and on 1500 frames of the same clip, each in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import click
import cv2
import numpy as np
import torch

import vidmatte
from vidmatte.read import Frame, Video
from vidmatte.stages import share_cores, with_foreground
from vidmatte.write import parse_target

SAMPLE = Path(__file__).parents[1] / "samples" / "portrait.mp4"
POINTS = ((720, 375, 1), (720, 840, 1))
"""On the face and the suit of the person in the first frame, at 1080p."""
SIZE = (1920, 1080)


def make_clip(path: Path, frames: int) -> Path:
    """The sample clip at 1080p with fresh grain, there and back again until there are enough frames."""
    with av.open(str(SAMPLE)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.colorspace = 1
        grain = rng.normal(0, 3, (SIZE[1] + 64, SIZE[0] + 64, 1)).astype(np.float32)
        for n in range(frames):
            picture = cv2.resize(pictures[order[n % len(order)]], SIZE, interpolation=cv2.INTER_CUBIC)
            y, x = rng.integers(0, 64, 2)
            picture = np.clip(picture + grain[y : y + SIZE[1], x : x + SIZE[0]], 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="yuv420p", dst_colorspace=1, threads=1)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


class Held(Video):
    """Frames held in memory, repeated until there are enough: a source that costs nothing."""

    def __init__(self, frames: list[Frame], info: vidmatte.VideoInfo, count: int) -> None:
        super().__init__()
        self._frames, self._count, self.info = frames, count, info

    def decode(self, start: int = 0) -> Iterator[Frame]:
        order = [*range(len(self._frames)), *range(len(self._frames) - 2, 0, -1)]
        for index in range(start, self._count):
            held = self._frames[order[index % len(order)]]
            yield Frame(held.rgb, index, index * held.duration, held.duration)

    def count_frames(self) -> int:
        return self._count

    def seconds_of(self, index: int) -> Fraction:
        return index / self.info.frame_rate


def timed(items: Iterable[object]) -> float:
    """Seconds per item, the first one (which warms up) left out."""
    iterator = iter(items)
    next(iterator)
    began = time.perf_counter()
    count = sum(1 for _ in iterator)
    return (time.perf_counter() - began) / count


def stage_times(clip: Path, folder: Path, frames: int) -> dict[str, float]:
    """Seconds per frame of each stage alone."""
    times = {}
    with vidmatte.open_video(clip) as video:
        times["decode"] = timed(video.batches(1, end=frames))
        held = Held([frame for frame, _ in zip(video.decode(), range(12), strict=False)], video.info, frames)
    reference = vidmatte.Prompt(points=POINTS).reference(held.frame(0).rgb, frame=0)
    matter = vidmatte.load_model().with_reference([reference])
    times["model"] = timed(vidmatte.matte_clip(matter, held, [reference]))
    mattes = list(vidmatte.matte_clip(matter, held, [reference], end=8))
    times["foreground"] = timed(map(with_foreground, mattes * 3))
    coloured = [with_foreground(matte) for matte in mattes]
    times["encode"] = encode_time(coloured, held.info, folder, frames)
    return times


def encode_time(mattes: list[vidmatte.MatteBatch], info: vidmatte.VideoInfo, folder: Path, frames: int) -> float:
    """Seconds per frame of writing colour and alpha as ProRes, as a run does by default."""
    targets = [parse_target(folder / "c.mov", alpha_only=False), parse_target(folder / "a.mov", alpha_only=True)]
    began = time.perf_counter()
    with vidmatte.create_outputs(targets, like=info, overwrite=True, audio=False) as out:
        for index in range(frames):
            held = mattes[index % len(mattes)]
            duration = held.source.durations[0]
            source = vidmatte.FrameBatch(held.source.rgb, (index,), (index * duration,), (duration,))
            out.write(vidmatte.MatteBatch(source, held.alpha, held.confidence, held.foreground))
    return (time.perf_counter() - began) / frames


def whole_time(clip: Path, folder: Path) -> tuple[float, int]:
    """Seconds per frame of a whole run, loading of the model left out by taking the time between progress reports."""
    marks = []
    summary = vidmatte.matte(
        clip,
        vidmatte.Prompt(points=POINTS),
        output=folder / "c.mov",
        alpha=folder / "a.mov",
        options=vidmatte.MatteOptions(overwrite=True),
        progress=lambda done, total: marks.append(time.perf_counter()),
    )
    return (marks[-1] - marks[0]) / (len(marks) - 1), summary.frames


@click.group()
def main() -> None:
    """Measure a whole run."""


@main.command()
@click.option("--frames", default=300, help="Frames of the clip.")
@click.option("--stage-frames", default=60, help="Frames that each stage is timed on.")
def speed(frames: int, stage_frames: int) -> None:
    """Stages alone, and all together."""
    # Stages alone run on the cores that a whole run gives them.
    with tempfile.TemporaryDirectory() as name, share_cores("cpu"):
        folder = Path(name)
        clip = make_clip(folder / "clip.mp4", frames)
        before = stage_times(clip, folder, stage_frames)
        whole, count = whole_time(clip, folder)
        after = stage_times(clip, folder, stage_frames)
    # The machine may change its pace meanwhile: the mean of before and after belongs to the whole.
    stages = {stage: (before[stage] + after[stage]) / 2 for stage in before}
    for stage, seconds in stages.items():
        click.echo(f"{stage:12s} {seconds * 1000:7.1f} ms/frame  {1 / seconds:6.2f} frames/s")
    slowest = max(stages, key=lambda stage: stages[stage])
    total = sum(stages.values())
    click.echo(f"{'sum':12s} {total * 1000:7.1f} ms/frame  {1 / total:6.2f} frames/s")
    click.echo(f"{'whole run':12s} {whole * 1000:7.1f} ms/frame  {1 / whole:6.2f} frames/s  ({count} frames)")
    click.echo(f"whole run at {stages[slowest] / whole:.2f} of the slowest stage alone ({slowest})")
    click.echo(f"{os.cpu_count()} cores, torch {torch.__version__}, network on one core less")


@main.command()
def memory() -> None:
    """Peak memory on 150 and on 1500 frames."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        for frames in (150, 1500):
            clip = make_clip(Path(name) / f"{frames}.mp4", frames)
            peaks[frames] = peak_memory(clip, Path(name))
            click.echo(f"{frames:5d} frames: peak resident size {peaks[frames] / 1e6:.0f} MB")
    click.echo(f"ratio {peaks[1500] / peaks[150]:.3f}")


def peak_memory(clip: Path, folder: Path) -> int:
    """Bytes that the command held at most."""
    points = " ".join(f"{x:g},{y:g}" for x, y, _ in POINTS)
    targets = ["-o", str(folder / "c.mov"), "--alpha", str(folder / "a.mov"), "--overwrite"]
    command = [sys.executable, "-m", "vidmatte", str(clip), "--points", points, *targets]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"vidmatte failed with status {status}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
