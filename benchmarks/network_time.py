"""Where the time of a 1080p frame goes: `python benchmarks/network_time.py [--device cuda]`.

The sample clip, enlarged to 1920 x 1080, is matted by a whole run: alpha to FFV1, or with `--color`
colour and alpha to ProRes. Each part is timed on its own thread while the run goes on, without the
parts inside it, so that the figures add up. On a processor the time is that of the thread itself:
other programs hardly change it. On a GPU it is by the clock, with the device waited for before and
after each part, and the memory that the run took at most is printed too.

`--operations` lists the operations of PyTorch instead, for the network and the refiner alone.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import click
import torch
from end_to_end import POINTS, make_clip

import vidmatte
from vidmatte.imaging import yuv
from vidmatte.model.compact import (
    correct,
    head,
    inference,
    net,
    predictor,
    refine,
    shown,
    similarity,
    tracker,
)
from vidmatte.pipeline.models import share_cores
from vidmatte.prompts.reference import make_references
from vidmatte.stages import chain, full_size
from vidmatte.write import movie

PARTS: dict[str, tuple[Any, str]] = {
    "YUV to RGB": (yuv, "to_rgb"),
    "display transform": (full_size, "to_display"),
    "follow: shrink the frame": (inference.WindowModel, "_shrink"),
    "follow: crop windows": (inference, "crop_rgb"),
    "follow: optical flow": (inference, "optical_flow"),
    "follow: motion": (inference, "motion_cue"),
    "network: trunk": (net.CompactNet, "tap_trunk"),
    "network: encoder": (net.Encoder, "forward"),
    "network: keys": (net.CompactNet, "encode"),
    "network: memory": (similarity.InterSimilarity, "encode_memory"),
    "network: read references": (similarity.InterSimilarity, "read"),
    "network: read recent frames": (similarity.InterSimilarity, "read_near"),
    "network: target models": (similarity.TargetModel, "forward"),
    "network: spread": (similarity.IntraSimilarity, "forward"),
    "network: head": (head.MattingHead, "forward"),
    "network: confidence": (head.ConfidenceHead, "forward"),
    "network: rest": (inference.WindowModel, "infer_window"),
    "follow: rest": (tracker.CompactTracker, "follow"),
    "refine: shrink the window": (predictor, "shrink_planes"),
    "refine: mean colours, before correction": (correct, "coarse_features"),
    "refine: corrector": (correct.Corrector, "forward"),
    "refine: correct, rest": (shown.ShownMattes, "_completed"),
    "refine: guided filter": (refine, "guided_upsample"),
    "refine: mean colours": (refine, "coarse_features"),
    "refine: first stage": (refine.Refiner, "survey"),
    "refine: cut and sample tiles": (refine.Tiles, "cut"),
    "refine: sample tiles": (refine.Tiles, "sample"),
    "refine: second stage": (refine.Refiner, "forward"),
    "refine: rest": (predictor.CompactPredictor, "finish"),
    "foreground colour": (chain, "estimate_foreground"),
    "RGB to codes": (movie, "video_frame"),
}
WARM_UP = 5


class Stopwatch:
    """Adds up the time of functions, each without that of the functions inside it."""

    def __init__(self, device: torch.device) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.running = False
        self._device = device
        self._inside = threading.local()
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds of this thread; on a GPU by the clock, once the device has nothing to do."""
        if self._device.type != "cuda":
            return time.thread_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def on(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.running:
                return function(*args, **kwargs)
            stack = self._inside.__dict__.setdefault("stack", [])
            stack.append(0.0)
            began = self.now()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = self.now() - began
                inner = stack.pop()
                with self._lock:
                    self.spent[part] += seconds - inner
                if stack:
                    stack[-1] += seconds

        return run


def time_parts(frames: int, device: str, color: bool, objects: int) -> None:
    """Print the time of each part of a frame; the objects are the same person."""
    watch = Stopwatch(torch.device("cpu" if device == "auto" else device))
    marks: list[tuple[float, float]] = []

    def count(mattes: object) -> None:
        watch.running = len(marks) >= WARM_UP - 1
        marks.append((time.process_time(), time.perf_counter()))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        clip = make_clip(folder / "clip.mp4", frames + WARM_UP)
        for part, (owner, name) in PARTS.items():
            replaced = watch.on(getattr(owner, name), part)
            stack.enter_context(patch.object(owner, name, replaced))
        vidmatte.matte(
            clip,
            {str(number): [vidmatte.Prompt(points=POINTS)] for number in range(objects)},
            output=[folder / "{object}.mov"] if color else [],
            alpha=folder / ("{object}_alpha.mov" if color else "{object}.mkv"),
            options=vidmatte.MatteOptions(device=device, batch_size=1),
            on_mattes=count,
        )
    processor, clock = (
        (last - first) / frames for first, last in zip(marks[WARM_UP - 1], marks[-1], strict=True)
    )
    for part, seconds in sorted(watch.spent.items(), key=lambda item: -item[1]):
        click.echo(f"{part:32s} {seconds / frames * 1000:7.1f} ms")
    known = sum(watch.spent.values()) / frames
    click.echo(f"{'codecs and the rest':32s} {(processor - known) * 1000:7.1f} ms")
    click.echo(
        f"a frame: {processor * 1000:.0f} ms of processor time, {clock * 1000:.0f} ms by the clock"
    )
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(device) / 1e6
        click.echo(f"{1 / clock:.1f} frames/s, {peak:.0f} MB of GPU memory at most")


def time_operations(frames: int, device: str) -> None:
    """Print the operations of PyTorch that take longest."""
    with TemporaryDirectory() as folder, share_cores(vidmatte.MatteOptions(device=device)):
        clip = make_clip(Path(folder) / "clip.mp4", frames + WARM_UP)
        with vidmatte.open_video(clip) as video:
            rgb = [batch.rgb.clamp(0, 1) for batch in video.batches(1)]
            references = make_references(video, [vidmatte.Prompt(points=POINTS)], None)
        found = vidmatte.load_model(device=device).with_reference(references)
        follow = found.tracker()
        follow.start(references[0])
        for frame in rgb[:WARM_UP]:
            found.finish(frame, follow.step(found.shrink(frame)))
        with torch.profiler.profile() as profile:
            for frame in rgb[WARM_UP:]:
                found.finish(frame, follow.step(found.shrink(frame)))
    by = "self_cuda_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    click.echo(profile.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=40))


@click.command()
@click.option("--frames", default=25, help="Frames that are timed.")
@click.option("--device", default="cpu", help="Device of the network.")
@click.option("--color", is_flag=True, help="Write colour and alpha as ProRes.")
@click.option("--objects", default=1, help="Objects that are followed.")
@click.option("--operations", is_flag=True, help="List operations of PyTorch instead.")
def main(frames: int, device: str, color: bool, objects: int, operations: bool) -> None:
    """Print the time of one frame by its parts."""
    if operations:
        time_operations(frames, device)
    else:
        time_parts(frames, device, color, objects)


if __name__ == "__main__":
    main()
