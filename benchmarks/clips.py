"""Measure leaks, and what the confidence is worth: `python benchmarks/clips.py ROOT`.

ROOT holds a folder per clip with `frames/*.jpg` and `masks/*.png`, as `vidmatte evaluate clips`
takes them; the first mask is given, and the later frames count.

Leak: alpha farther from the true object than a tenth of its size, beside the object's area; its
size is the root of its area. Confidence: its rank correlation with the overlap J of a frame; the
share of the frames with J under 0.8 that have less confidence than all but 5 % of the others; and
the shares of both that are suggested as further references.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from edges import mark, planes

from vidmatte import load_model
from vidmatte.metrics import region_overlap
from vidmatte.model.interface import Model
from vidmatte.report.summary import SUGGESTED_BELOW

FRAMES = 50
GOOD = 0.8
FALSE_ALARMS = 0.05


def read(clip: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the frames (H, W, 3) 0-1 of a clip, and its masks (H, W) bool."""
    frames = [
        cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(np.float32) / 255
        for path in sorted((clip / "frames").glob("*.jpg"))[:FRAMES]
    ]
    masks = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
        for path in sorted((clip / "masks").glob("*.png"))[:FRAMES]
    ]
    return frames, masks


def leak(alpha: np.ndarray, mask: np.ndarray) -> float:
    """Return the alpha (H, W) far from an object, beside its area."""
    area = int(mask.sum())
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return float(alpha[distance > 0.1 * area**0.5].sum() / max(1, area))


def measure(model: Model, clip: Path) -> np.ndarray:
    """Return overlap, confidence and leak of the later frames of a clip, (T, 3)."""
    frames, masks = read(clip)
    reference = mark(frames[0], masks[0], 0)
    predictor = model.with_reference([reference])
    tracker = predictor.tracker()
    assert tracker is not None  # `compact` has one
    tracker.start(reference)
    found = []
    for frame, truth in zip(frames[1:], masks[1:], strict=True):
        rgb = planes(frame)
        coarse = tracker.step(predictor.shrink(rgb))
        alpha = predictor.finish(rgb, coarse)[0, 0].numpy()
        overlap = region_overlap(alpha, truth.astype(np.float32))
        found.append((overlap, coarse.confidence, leak(alpha, truth)))
    return np.array(found)


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value."""
    return values.argsort().argsort()


def tell_confidence(overlap: np.ndarray, confidence: np.ndarray) -> None:
    """Print what the confidence of frames tells of their overlap."""
    rank = np.corrcoef(ranks(overlap), ranks(confidence))[0, 1]
    click.echo(f"confidence: rank correlation with J {rank:.3f}")
    bad = overlap < GOOD
    if not bad.any() or bad.all():
        return
    least = np.quantile(confidence[~bad], FALSE_ALARMS)
    found = (confidence[bad] < least).mean()
    suggested = confidence < SUGGESTED_BELOW
    click.echo(
        f"of {bad.sum()} frames with J under {GOOD:g} found at {FALSE_ALARMS:.0%} of false alarms: "
        f"{found:.0%}; suggested: {suggested[bad].mean():.0%}, of the others "
        f"{suggested[~bad].mean():.1%}"
    )


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.option("--working-size", type=int, help="Longer side of what the network sees.")
def main(root: Path, working_size: int | None) -> None:
    """Print the figures of each clip, and of all."""
    model = load_model("compact", device="cpu", working_size=working_size)
    clips = []
    for clip in sorted(path for path in root.iterdir() if path.is_dir()):
        found = measure(model, clip)
        clips.append(found)
        overlap, confidence, leaks = found.mean(0)
        click.echo(f"{clip.name:20} J {overlap:.3f}  confidence {confidence:.3f}  leak {leaks:.4f}")
    overlap, confidence, leaks = np.mean([found.mean(0) for found in clips], 0)
    click.echo(f"{'mean':20} J {overlap:.3f}  confidence {confidence:.3f}  leak {leaks:.4f}")
    tell_confidence(*np.concatenate(clips).T[:2])


if __name__ == "__main__":
    main()
