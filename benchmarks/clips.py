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

import click
import cv2
import numpy as np

from vidmatte.metrics import region_overlap


def overlaps(clip: Path, arguments: tuple[str, ...]) -> tuple[list[float], list[float], float]:
    """J and confidence of each frame but the first, and frames per second."""
    masks = sorted((clip / "masks").glob("*.png"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "%05d.png"
        command = [sys.executable, "-m", "vidmatte", str(clip / "frames"), "--mask", str(masks[0]), "--json", "--quiet"]
        done = subprocess.run(
            [*command, "--alpha", str(target), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(done.stderr.strip())
        alphas = sorted(Path(folder).glob("*.png"))
        pairs = zip(alphas[1:], masks[1:], strict=True)
        found = [region_overlap(_gray(alpha), _gray(mask)) for alpha, mask in pairs]
    summary = json.loads(done.stdout)
    return found, summary["confidence"], summary["fps"]


def _gray(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    return image / np.float32(np.iinfo(image.dtype).max)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(root: Path, arguments: tuple[str, ...]) -> None:
    """Print J per clip, its mean and worst; ARGUMENTS go to vidmatte."""
    table = {}
    for clip in sorted(path.parent for path in root.glob("*/masks")):
        found, confidence, fps = overlaps(clip, arguments)
        table[clip.name] = float(np.mean(found))
        last = f"last frame {found[-1]:.3f}  confidence {confidence['mean']:.2f}  {fps:.2f} frames/s"
        click.echo(f"{clip.name:20s} J {table[clip.name]:.3f}  {last}")
    click.echo(f"{'mean':20s} J {np.mean(list(table.values())):.3f}  worst {min(table.values()):.3f}")


if __name__ == "__main__":
    main()
