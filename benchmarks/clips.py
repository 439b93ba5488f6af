"""Region overlap J on clips with true masks, through the command line: `python benchmarks/clips.py ROOT`.

ROOT holds a folder per clip with `frames/*.jpg` (or png) and `masks/*.png` of the same names. The first mask is the
prompt; J is the mean over all later frames of |A and M| / |A or M|, with A = alpha > 0.5 (DAVIS, Perazzi et al., 2016).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from vidmatte.metrics import region_overlap


def run_vidmatte(source: Path, *arguments: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Alpha (H, W) of each frame in 0..1, and the summary, of the command with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        name = "{name}.png" if "--images" in arguments else "%05d.png"
        command = [sys.executable, "-m", "vidmatte", str(source), *arguments, "--json", "--quiet"]
        target = ["--alpha", str(Path(folder) / name)]
        done = subprocess.run([*command, *target], capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(done.stderr.strip())
        return [read_gray(path) for path in sorted(Path(folder).glob("*.png"))], json.loads(done.stdout)


def read_gray(path: Path) -> np.ndarray:
    """(H, W) float32 in 0..1 of an image file."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return image / np.float32(np.iinfo(image.dtype).max)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(root: Path, arguments: tuple[str, ...]) -> None:
    """Print J per clip, its mean and worst; ARGUMENTS go to vidmatte."""
    table = {}
    for clip in sorted(path.parent for path in root.glob("*/masks")):
        masks = sorted((clip / "masks").glob("*.png"))
        alphas, summary = run_vidmatte(clip / "frames", "--mask", str(masks[0]), *arguments)
        found = [region_overlap(a, read_gray(m)) for a, m in zip(alphas[1:], masks[1:], strict=True)]
        table[clip.name] = float(np.mean(found))
        last = (
            f"last frame {found[-1]:.3f}  confidence {summary['confidence']['mean']:.2f}  {summary['fps']:.2f} frames/s"
        )
        click.echo(f"{clip.name:20s} J {table[clip.name]:.3f}  {last}")
    click.echo(f"{'mean':20s} J {np.mean(list(table.values())):.3f}  worst {min(table.values()):.3f}")


if __name__ == "__main__":
    main()
