"""Time from a 1080p frame in memory to its full-size alpha: `python benchmarks/network_time.py`.

Frames of the sample clip, enlarged to 1920 x 1080, are followed one after the other as in a run:
shrink, optical flow, crop, network, upsampling to full size. Decoding, foreground colour and
encoding are not part of it (`end_to_end.py`). The parts are timed inside the same steps; the
figures are medians after a warm-up. Threads of one step wait for each other, so that anything else
that runs makes it several times as slow: time it on an idle machine.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import click
import cv2
import numpy as np
import torch
from end_to_end import POINTS, make_clip

import vidmatte
from vidmatte.model.compact import predictor
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.interface import Model
from vidmatte.prompts.reference import make_references

PARTS = {
    "shrink": (predictor.CompactPredictor, "shrink"),
    "optical flow": (predictor, "optical_flow"),
    "network, features": (CompactNet, "encode"),
    "network, similarity and head": (CompactNet, "decode"),
    "network, memory": (CompactNet, "remember"),
    "upsampling": (predictor.CompactPredictor, "finish"),
}
WARM_UP = 5


def step_times(frames: int) -> tuple[dict[str, float], Model]:
    """Median seconds of each part of a step, and of the whole step."""
    with (
        TemporaryDirectory() as folder,
        vidmatte.open_video(make_clip(Path(folder) / "c.mp4", 12)) as video,
    ):
        rgb = [batch.rgb for batch in video.batches(1)]
        references = make_references(video, [vidmatte.Prompt(points=POINTS)], None)
    model = vidmatte.load_model(device="cpu")
    predictor = model.with_reference(references)
    tracker = predictor.tracker()
    tracker.start(references[0])
    table: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as patches:
        spent: dict[str, float] = defaultdict(float)
        for part, (owner, name) in PARTS.items():
            patches.enter_context(
                patch.object(owner, name, stopwatch(getattr(owner, name), part, spent))
            )
        for index in range(WARM_UP + frames):
            spent.clear()
            # There and back again, so that no frame follows one that is far from it.
            at = 11 - abs(index % 22 - 11)
            began = time.perf_counter()
            predictor.finish(rgb[at], tracker.step(predictor.shrink(rgb[at])))
            whole = time.perf_counter() - began
            for part, seconds in {
                **spent,
                "whole": whole,
                "rest (crops, keeping)": whole - sum(spent.values()),
            }.items():
                table[part].append(seconds)
    return {part: float(np.median(times[-frames:])) for part, times in table.items()}, model


def stopwatch(function, part: str, spent: dict[str, float]):
    """The function, which adds the time it takes to `spent[part]`."""

    def run(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.perf_counter() - began

    return run


@click.command()
@click.option("--frames", default=30, help="Frames that are timed.")
@click.option("--threads", default=2, help="Threads of torch and of OpenCV.")
def main(frames: int, threads: int) -> None:
    """Print the time of one frame and of its parts."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    times, model = step_times(frames)
    for part, seconds in sorted(times.items(), key=lambda item: item[1]):
        click.echo(f"{part:30s} {seconds * 1000:7.1f} ms")
    precision = str(model.precision).removeprefix("torch.")
    click.echo(
        f"median of {frames} frames, {threads} threads, {precision}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
