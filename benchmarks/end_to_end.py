"""Speed and memory of a whole run: `python benchmarks/end_to_end.py [speed|memory|given|flat]`.

speed: one 1080p H.264 clip; decode, model, foreground and encode are timed alone and then all
    together, in one run, so that a busy machine slows all of them. The figure to compare is the
    ratio of the slowest stage to the whole.
memory: peak resident size of the command on 150 and on 1500 frames of the same clip, each in a
    process of its own.
given: the flow without a model (`--model none` with the sample's own mattes): reading, foreground,
    and writing colour and alpha as ProRes together, at 1080p or any --size; wall clock, processor
    time and peak memory.
flat: the resident size of such a run over a clip of an hour (90,000 small frames, with sound) as it
    goes on; with --with-model the clip is followed from points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import cv2
import numpy as np
import torch

import vidmatte
from vidmatte.pipeline.models import share_cores
from vidmatte.read import Frame, Video
from vidmatte.stages.chain import with_foreground
from vidmatte.write import parse_output

SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample" / "portrait.mp4"
SAMPLE_ALPHA = SAMPLE.with_name("portrait_alpha.mkv")
POINTS = ((720, 375, 1), (720, 840, 1))
"""On the face and the suit of the person in the first frame, at 1080p."""
SIZE = (1920, 1080)


def make_clip(path: Path, frames: int, size: tuple[int, int] = SIZE) -> Path:
    """Write the sample clip with fresh grain, played back and forth for `frames` frames."""
    width, height = size
    with av.open(str(SAMPLE)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = 1
        grain = rng.normal(0, 3, (height + 64, width + 64, 1)).astype(np.float32)
        for n in range(frames):
            picture = cv2.resize(
                pictures[order[n % len(order)]], size, interpolation=cv2.INTER_CUBIC
            )
            y, x = rng.integers(0, 64, 2)
            picture = np.clip(picture + grain[y : y + height, x : x + width], 0, 255).astype(
                np.uint8
            )
            frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(
                format="yuv420p", dst_colorspace=1, threads=1
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def make_mattes(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """The known mattes of that clip, 16 bits, lossless."""
    with av.open(str(SAMPLE_ALPHA)) as container:
        mattes = [frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)]
    order = [*range(len(mattes)), *range(len(mattes) - 2, 0, -1)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, options={"level": "3"})
        stream.width, stream.height, stream.pix_fmt = *size, "gray16le"
        for n in range(frames):
            matte = cv2.resize(mattes[order[n % len(order)]], size, interpolation=cv2.INTER_LINEAR)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(matte, "gray16le")))
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
        held = Held(
            [frame for frame, _ in zip(video.decode(), range(12), strict=False)], video.info, frames
        )
    reference = vidmatte.Prompt(points=POINTS).reference(held.frame(0).rgb, frame=0)
    predictor = vidmatte.load_model().with_reference([reference])
    times["model"] = timed(vidmatte.matte_clip(predictor, held, [reference]))
    mattes = list(vidmatte.matte_clip(predictor, held, [reference], end=8))
    times["foreground"] = timed(map(with_foreground, mattes * 3))
    coloured = [with_foreground(matte) for matte in mattes]
    times["encode"] = encode_time(coloured, held.info, folder, frames)
    return times


def encode_time(
    mattes: list[vidmatte.MatteBatch], info: vidmatte.VideoInfo, folder: Path, frames: int
) -> float:
    """Seconds per frame of writing colour and alpha as ProRes, as a run does by default."""
    targets = [
        parse_output(folder / "c.mov", alpha_only=False),
        parse_output(folder / "a.mov", alpha_only=True),
    ]
    began = time.perf_counter()
    with vidmatte.create_outputs(targets, like=info, overwrite=True, audio=False) as out:
        for index in range(frames):
            held = mattes[index % len(mattes)]
            duration = held.source.durations[0]
            source = vidmatte.FrameBatch(
                held.source.rgb, (index,), (index * duration,), (duration,)
            )
            out.write(vidmatte.MatteBatch(source, held.alpha, held.confidence, held.foreground))
    return (time.perf_counter() - began) / frames


def whole_time(clip: Path, folder: Path) -> tuple[float, int]:
    """Return the seconds per frame of a whole run, measured between progress reports.

    Loading the model is therefore not included.
    """
    marks = []
    summary = vidmatte.matte(
        clip,
        vidmatte.Prompt(points=POINTS),
        output=folder / "c.mov",
        alpha=folder / "a.mov",
        options=vidmatte.MatteOptions(overwrite=True),
        progress=lambda now: marks.append(time.perf_counter()) if now.done else None,
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
    with tempfile.TemporaryDirectory() as name, share_cores(vidmatte.MatteOptions(device="cpu")):
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
    click.echo(
        f"{'whole run':12s} {whole * 1000:7.1f} ms/frame  {1 / whole:6.2f} frames/s  ({count} "
        "frames)"
    )
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
    return run(clip, folder, *points_at(SIZE)).peak


def points_at(size: tuple[int, int]) -> tuple[str, str]:
    """Return the option that marks the person in the first frame at a size."""
    places = [(x * size[0] / SIZE[0], y * size[1] / SIZE[1]) for x, y, _ in POINTS]
    return "--points", " ".join(f"{x:g},{y:g}" for x, y in places)


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    """Of the run itself, by its own account: without the imports of the process."""
    processor: float
    """Seconds of all cores, imports included."""
    peak: int
    """Bytes held at most."""
    sizes: tuple[int, ...]
    """Bytes held, about every second."""


def run(clip: Path, folder: Path, *marks: str) -> Cost:
    """Matte a clip by the command line, to ProRes colour and alpha."""
    targets = ["-o", str(folder / "c.mov"), "--alpha", str(folder / "a.mov"), "--overwrite"]
    command = [sys.executable, "-m", "vidmatte", str(clip), *marks, *targets, "--json", "--quiet"]
    sizes: list[int] = []
    status, ended = 0, 0
    # Not a pipe: nobody reads while the run goes on, and the facts of a long one overflow it.
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed)
        while not ended:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not ended:
                sizes.append(resident(process.pid))
                time.sleep(1)
        if status:
            raise click.ClickException(f"vidmatte failed with status {status}")
        printed.seek(0)
        seconds = json.load(printed)["seconds"]
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak, tuple(sizes))


def resident(process: int) -> int:
    """Bytes of a process in memory; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except (OSError, IndexError):
        return 0


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `1920x1080`."""
    width, _, height = text.partition("x")
    return int(width), int(height)


@main.command()
@click.option("--size", default="1920x1080", help="Of the frames.")
@click.option("--frames", default=150, help="Of the clip.")
def given(size: str, frames: int) -> None:
    """The flow without a model."""
    with tempfile.TemporaryDirectory() as name:
        folder, pixels = Path(name), parse_size(size)
        mattes = make_mattes(folder / "mattes.mkv", frames, pixels)
        cost = run(
            make_clip(folder / "clip.mp4", frames, pixels),
            folder,
            "--model",
            "none",
            "--matte",
            str(mattes),
        )
    click.echo(
        f"{size}, {frames} frames: {frames / cost.seconds:.2f} frames/s by the clock, "
        f"{os.cpu_count()} cores"
    )
    busy = cost.processor / frames
    click.echo(
        f"{busy * 1000:.0f} ms/frame of processor time: two cores of one's own give up to "
        f"{2 / busy:.2f} frames/s"
    )
    click.echo(f"peak resident size {cost.peak / 1e6:.0f} MB")


def given_matte(path: Path, size: tuple[int, int]) -> tuple[str, ...]:
    """Write the sample clip's first matte; return the options that give it to all frames."""
    with av.open(str(SAMPLE_ALPHA)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray16le")
    cv2.imwrite(str(path), cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    return "--model", "none", "--matte", str(path)


@main.command()
@click.option("--size", default="64x36", help="Of the frames.")
@click.option("--frames", default=90_000, help="Of the clip; 90,000 are an hour.")
@click.option("--with-model", is_flag=True, help="Follow the clip from points.")
def flat(size: str, frames: int, with_model: bool) -> None:
    """Whether memory stays the same over a long clip."""
    with tempfile.TemporaryDirectory() as name:
        folder, pixels = Path(name), parse_size(size)
        clip = make_long_clip(folder / "clip.mp4", frames, pixels)
        marks = points_at(pixels) if with_model else given_matte(folder / "matte.png", pixels)
        cost = run(clip, folder, *marks, "--batch-size", "16")
    tenths = [cost.sizes[len(cost.sizes) * n // 10] / 1e6 for n in range(1, 10)] + [
        cost.sizes[-1] / 1e6
    ]
    click.echo(
        f"{size}, {frames} frames in {cost.seconds:.0f} s: "
        f"{', '.join(f'{size:.0f}' for size in tenths)} MB at each"
    )
    # Before what is held for the clip is let go.
    growth = (tenths[8] - tenths[1]) * 1e6 / (0.7 * frames)
    click.echo(f"tenth of the run: {growth:.0f} bytes a frame; peak {cost.peak / 1e6:.0f} MB")
    click.echo(f"nine tenths beside one tenth: {tenths[8] / tenths[0]:.3f}")


def make_long_clip(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Small pictures of the sample clip, again and again, with a tone beside them."""
    with av.open(str(SAMPLE)) as container:
        small = [frame.reformat(*size, "yuv420p") for frame in container.decode(video=0)]
    tone = (0.1 * np.sin(np.arange(1024) * 2 * np.pi * 8 / 1024)).astype(np.float32)[None]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = out.add_stream("aac", rate=48000, layout="mono")
        samples = 0
        for n in range(frames):
            frame = small[n % len(small)]
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame))
            while samples < (n + 1) * 1920:
                piece = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, samples, Fraction(1, 48000)
                out.mux(sound.encode(piece))
                samples += 1024
        out.mux(stream.encode(None))
        out.mux(sound.encode(None))
    return path


if __name__ == "__main__":
    main()
