"""Compare foreground colour with PyMatting's, and measure the cost of colour under alpha 0.

    python benchmarks/foreground.py

error: known composites (photographs over photographs, with hair); mean error of a composite over
    any background, in 1/255 over the soft pixels, and its ratio to that of
    pymatting.estimate_foreground_ml.
time: the same at 1080p, processor time of one thread, taken in turns so that a busy machine slows
    both.
size: kB per frame of the sample clip as ProRes 4444 with its true alpha, colour as in the source
    and as estimated.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from pymatting import estimate_foreground_ml
from skimage import data

import vidmatte
from vidmatte.imaging.foreground import estimate_foreground
from vidmatte.options import FinishOptions
from vidmatte.stages.chain import with_foreground
from vidmatte.stages.finish import finish

SAMPLES = Path(__file__).parents[1] / "vidmatte" / "sample"
PAIRS = (("coffee", "chelsea"), ("astronaut", "rocket"), ("chelsea", "coffee"))
ROUNDS = 7


def photo(name: str, height: int, width: int) -> np.ndarray:
    picture = getattr(data, name)()[..., :3]
    return (
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    )


def hairy_alpha(height: int, width: int) -> np.ndarray:
    """Return an ellipse with an outline of varying softness and 150 hairs at the frame's scale."""
    rng = np.random.default_rng(5)
    unit = height / 360
    y, x = np.mgrid[:height, :width].astype(np.float32) / unit
    y, x = (y - 200) / 140, (x - width / unit / 2) / 130
    distance = (1 - np.hypot(y, x)) * 135
    alpha = np.clip(0.5 + distance / (8 + 6 * np.sin(4 * np.arctan2(y, x))), 0, 1)
    hair = np.zeros((height, width), np.uint8)
    for angle in rng.uniform(-np.pi, 0, 150):
        root = np.array([width / unit / 2 + 126 * np.cos(angle), 200 + 136 * np.sin(angle)])
        bend = angle + rng.normal(0, 0.4) + np.linspace(0, 0.6, 8)
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * rng.uniform(1, 5)
        strand = np.round((root + np.cumsum(steps, axis=0)) * 16 * unit).astype(np.int32)
        cv2.polylines(hair, [strand], False, int(rng.uniform(90, 255)), 1, cv2.LINE_AA, 4)
    return np.maximum(alpha, cv2.GaussianBlur(hair.astype(np.float32) / 255, (0, 0), 0.6)).astype(
        np.float32
    )


def scene(
    names: tuple[str, str], height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    foreground, background = (photo(name, height, width) for name in names)
    alpha = hairy_alpha(height, width)
    return alpha[..., None] * foreground + (1 - alpha[..., None]) * background, alpha, foreground


def ours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return (
        estimate_foreground(rgb, torch.from_numpy(alpha)[None, None])[0].numpy().transpose(1, 2, 0)
    )


def error(estimated: np.ndarray, foreground: np.ndarray, alpha: np.ndarray) -> float:
    soft = (alpha > 0.01) & (alpha < 0.99)
    return float(np.mean(np.abs(estimated - foreground)[soft] * alpha[soft][:, None])) * 255


def processor_ms(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return (time.process_time() - began) * 1000


def compare_time() -> None:
    image, alpha, _ = scene(PAIRS[0], 1080, 1920)
    rgb = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    matte = vidmatte.MatteBatch(
        vidmatte.FrameBatch(rgb, (0,), (0,), (1,)), torch.from_numpy(alpha)[None, None], (1.0,)
    )
    controls = FinishOptions(clip_black=0.02, clip_white=0.98, grow=-1.5, feather=1)
    stages = {
        "estimate_foreground": lambda: estimate_foreground(rgb, matte.alpha),
        "finish (clip, shrink 1.5, feather 1)": lambda: list(finish([matte], controls)),
        "pymatting.estimate_foreground_ml": lambda: estimate_foreground_ml(image, alpha),
    }
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(ROUNDS + 1):
        for name, stage in stages.items():
            times[name].append(processor_ms(stage))
    soft = float(((alpha > 1 / 128) & (alpha < 1 - 1 / 512)).mean())
    print(f"1080p, {100 * soft:.1f} % soft pixels, one thread, median of {ROUNDS}:")
    reference = np.array(times["pymatting.estimate_foreground_ml"][1:])
    for name, taken in times.items():
        print(
            f"  {name}: {np.median(taken[1:]):.0f} ms, "
            f"{np.median(np.array(taken[1:]) / reference):.2f} of PyMatting"
        )


def compare_size() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        vidmatte.open_video(SAMPLES / "portrait.mp4") as video,
    ):
        outputs = {name: Path(folder) / f"{name}.mov" for name in ("source", "estimated")}
        with (
            vidmatte.open_video(SAMPLES / "portrait_alpha.mkv") as mattes,
            vidmatte.create_outputs([outputs["source"]], like=video.info, audio=False) as source,
            vidmatte.create_outputs(
                [outputs["estimated"]], like=video.info, audio=False
            ) as estimated,
        ):
            for picture, matte in zip(video.batches(1), mattes.batches(1), strict=True):
                batch = vidmatte.MatteBatch(picture, matte.rgb[:, :1].contiguous(), (1.0,))
                source.write(batch)
                estimated.write(with_foreground(batch))
            frames = video.count_frames()
        for name, path in outputs.items():
            print(
                f"ProRes 4444 of the sample clip, colour {name}: "
                f"{path.stat().st_size / frames / 1000:.0f} kB/frame"
            )


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for names in PAIRS:
        image, alpha, foreground = scene(names, 720, 1280)
        mine, theirs = (
            error(estimate(image, alpha), foreground, alpha)
            for estimate in (ours, estimate_foreground_ml)
        )
        print(
            f"{names[0]} over {names[1]}: error {mine:.2f}, PyMatting {theirs:.2f}, ratio "
            f"{mine / theirs:.3f}"
        )
    compare_time()
    compare_size()


if __name__ == "__main__":
    main()
