"""Measure mattes of cut-outs that move over photographs, with exact alpha.

    python benchmarks/composites.py ALPHA_ROOT CORPUS

ALPHA_ROOT holds a folder per photograph with `image.png` and `alpha.png`, CORPUS has backgrounds in
`images/`. Each cut-out (colour by PyMatting's `estimate_foreground_ml` from the true alpha) is
shrunk to 60 % of a 640 x 480 frame and moves over another background for 40 frames: its centre on
an ellipse of 12 % by 8 % of the frame, turning by up to 12 degrees and growing and shrinking by up
to 15 %, while the background pans by 8 % of the frame; phases, directions and backgrounds by a
seed. Colour is moved multiplied with alpha, so that the alpha moved in the same way is exact. The
frames are stored as PNG.

The mask is the exact alpha of the first frame. MAD and dtSSD are taken over the later frames, also
of the baseline: the first alpha warped along the optical flow from frame to frame.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from pymatting import estimate_foreground_ml

from vidmatte.imaging.optical_flow import optical_flow, to_gray, warp
from vidmatte.metrics import dtssd, mad
from vidmatte.read.images import read_image

WIDTH, HEIGHT = 640, 480
FRAMES = 40
CUTOUT_SHARE = 0.6
PATH = (0.12, 0.08)
TURN, GROWTH, PAN = math.radians(12), 0.15, 0.08


def read_gray(path: Path) -> np.ndarray:
    """(H, W) float32 in 0..1 of an image file."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return image / np.float32(np.iinfo(image.dtype).max)


def read_cutout(photograph: Path) -> np.ndarray:
    """(h, w, 4) premultiplied RGB and alpha, as large as it is in the frame."""
    alpha = read_gray(photograph / "alpha.png")
    rgb = read_image(photograph / "image.png").rgb.transpose(1, 2, 0)
    foreground = estimate_foreground_ml(rgb.astype(np.float64), alpha.astype(np.float64))
    cutout = np.dstack([foreground * alpha[..., None], alpha]).astype(np.float32)
    scale = CUTOUT_SHARE * min(WIDTH / alpha.shape[1], HEIGHT / alpha.shape[0])
    return cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def read_background(path: Path) -> np.ndarray:
    """(h, w, 3) that covers the frame and the pan."""
    rgb = read_image(path).rgb.transpose(1, 2, 0)
    scale = (1 + PAN) * max(WIDTH / rgb.shape[1], HEIGHT / rgb.shape[0])
    return cv2.resize(
        rgb,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )


def make_clip(
    cutout: np.ndarray, background: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W, 3) uint8 frames and (T, H, W) exact alpha."""
    phases, direction = rng.uniform(0, 2 * math.pi, 3), rng.choice([-1, 1])
    frames, alphas = [], []
    for t in np.linspace(0, 1, FRAMES):
        swing, turn, growth = np.sin(2 * math.pi * direction * t + phases)
        scale, angle = 1 + GROWTH * growth, TURN * turn
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        x = WIDTH * (0.5 + PATH[0] * math.cos(2 * math.pi * direction * t + phases[0]))
        y = HEIGHT * (0.5 + PATH[1] * swing)
        h, w = (side / 2 for side in cutout.shape[:2])
        placed = np.array([[c, -s, x - c * w + s * h], [s, c, y - s * w - c * h]])
        moved = np.clip(
            cv2.warpAffine(cutout, placed, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR), 0, 1
        )
        pan = np.array([[1, 0, -PAN * WIDTH * t], [0, 1, -PAN * HEIGHT * t]])
        behind = cv2.warpAffine(background, pan, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        frames.append(
            np.rint(255 * (moved[..., :3] + (1 - moved[..., 3:]) * behind))
            .clip(0, 255)
            .astype(np.uint8)
        )
        alphas.append(moved[..., 3])
    return np.stack(frames), np.stack(alphas)


def warped_baseline(frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The first alpha carried along the optical flow, frame by frame."""
    gray = [
        to_gray(torch.from_numpy(frame.transpose(2, 0, 1) / np.float32(255))) for frame in frames
    ]
    alphas = [first]
    for before, now in pairwise(gray):
        alphas.append(warp(alphas[-1], optical_flow(now, before)))
    return np.stack(alphas)


def matted(frames: np.ndarray, first: np.ndarray, arguments: tuple[str, ...]) -> np.ndarray:
    """The alpha that vidmatte makes of the clip from its first alpha."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "frames"
        folder.mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{index:04d}.png"), frame[..., ::-1])
        mask = Path(name) / "mask.png"
        cv2.imwrite(str(mask), np.rint(first * 65535).astype(np.uint16))
        command = [
            sys.executable,
            "-m",
            "vidmatte",
            str(folder),
            "--mask",
            str(mask),
            *arguments,
            "--quiet",
        ]
        done = subprocess.run(
            [*command, "--alpha", f"{name}/%05d.png"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(done.stderr.strip())
        return np.stack([read_gray(path) for path in sorted(Path(name).glob("0*.png"))])


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("alpha_root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(alpha_root: Path, corpus: Path, arguments: tuple[str, ...]) -> None:
    """Print MAD (times 1000) and dtSSD of vidmatte and the baseline, and the ratios of their means.

    ARGUMENTS are passed to vidmatte.
    """
    backgrounds = sorted((corpus / "images").glob("*.jpg"))
    table = []
    for seed, photograph in enumerate(
        sorted(path.parent for path in alpha_root.glob("*/alpha.png"))
    ):
        rng = np.random.default_rng(seed)
        background = backgrounds[rng.integers(len(backgrounds))]
        frames, truth = make_clip(read_cutout(photograph), read_background(background), rng)
        found = matted(frames, truth[0], arguments)
        baseline = warped_baseline(frames, truth[0])
        table.append([1000 * mad(found[1:], truth[1:]), 1000 * mad(baseline[1:], truth[1:])])
        table[-1] += [dtssd(found[1:], truth[1:]), dtssd(baseline[1:], truth[1:])]
        click.echo(row(f"{photograph.name} on {background.stem[:20]}", table[-1]))
    means = np.mean(table, axis=0)
    click.echo(row("mean", means))
    click.echo(
        f"ratio of the means: MAD {means[0] / means[1]:.3f}, dtSSD {means[2] / means[3]:.3f}"
    )


def row(name: str, values: list[float] | np.ndarray) -> str:
    """One line of the table."""
    mads, flickers = (
        "MAD {:7.2f}  warped {:7.2f}".format(*values[:2]),
        "dtSSD {:5.2f}  warped {:5.2f}".format(*values[2:]),
    )
    return f"{name:30s} {mads}   {flickers}"


if __name__ == "__main__":
    main()
