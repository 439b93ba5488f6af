"""Region overlap J on a reference frame that is marked with a few clicks: `python benchmarks/clicks.py ROOT`.

ROOT is that of `clips.py`. On the first frame of each clip 3 clicks on the object and 1 off it are drawn from the true
mask by a seed, and J of that frame's alpha > 0.5 is taken; 5 draws, seeds 0 to 4. A click is uniform over the pixels of
its side that lie at least 1 % of the longer side away from the outline, so that the disc that vidmatte paints around a
click stays on that side (where the object is thinner, over those at least half as deep as its deepest).
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from clips import read_gray, run_vidmatte

from vidmatte.metrics import region_overlap

DRAWS = 5
ON, OFF = 3, 1
CLEAR = 0.01


def draw_clicks(mask: np.ndarray, seed: int) -> tuple[tuple[float, float, int], ...]:
    """(x, y, label) of the clicks of one draw."""
    rng = np.random.default_rng(seed)
    clicks = []
    for label, count in ((1, ON), (0, OFF)):
        side = np.pad((mask == label).astype(np.uint8), 1, constant_values=1)
        depth = cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        rows, columns = np.nonzero(depth >= min(CLEAR * max(mask.shape), depth.max() / 2))
        for index in rng.integers(0, len(rows), count):
            clicks.append((float(columns[index]), float(rows[index]), label))
    return tuple(clicks)


def overlap(clip: Path, mask: np.ndarray, seed: int, arguments: tuple[str, ...]) -> float:
    """J of the first frame from one draw of clicks on it."""
    points = " ".join(f"{x:g},{y:g},{label}" for x, y, label in draw_clicks(mask > 0.5, seed))
    (alpha,), _ = run_vidmatte(clip / "frames", "--points", points, "--end", "0", *arguments)
    return region_overlap(alpha, mask)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(root: Path, arguments: tuple[str, ...]) -> None:
    """Print J of the reference frame per clip: mean over the draws, least and most; ARGUMENTS go to vidmatte."""
    table = []
    for clip in sorted(path.parent for path in root.glob("*/masks")):
        mask = read_gray(min((clip / "masks").glob("*.png")))
        table.append([overlap(clip, mask, seed, arguments) for seed in range(DRAWS)])
        click.echo(f"{clip.name:20s} J {np.mean(table[-1]):.3f}  {min(table[-1]):.3f} - {max(table[-1]):.3f}")
    draws = np.mean(table, axis=0)
    click.echo(f"{'mean':20s} J {np.mean(table):.3f}  of a draw {draws.min():.3f} - {draws.max():.3f}")


if __name__ == "__main__":
    main()
