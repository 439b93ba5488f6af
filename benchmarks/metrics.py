"""Measure processor time of the metrics on a 1080p matte, two beside another formulation.

    python benchmarks/metrics.py

The matte is a disk of soft edge with noise of sigma 0.05, the truth the disk. The other
formulations are convolutions with full 9 x 9 kernels for Grad (scipy), and labels of every level
with their sizes for Conn (scikit-image, in double precision). On one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import cv2
import numpy as np
from scipy import ndimage
from skimage.measure import label

from vidmatte import metrics

HEIGHT, WIDTH = 1080, 1920
RUNS = 3
SIGMA = 1.4


def plain_grad(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Grad by two-dimensional convolutions."""
    x = np.arange(-4, 5)
    bell = np.exp(-(x**2) / (2 * SIGMA**2))
    kernel = np.outer(bell, x * bell)
    kernel /= np.sqrt(np.sum(kernel**2))

    def magnitude(alpha: np.ndarray) -> np.ndarray:
        return np.hypot(*(ndimage.convolve(alpha, k, mode="nearest") for k in (kernel, kernel.T)))

    return float(np.sum((magnitude(predicted) - magnitude(truth)) ** 2)) / 1000


def plain_conn(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Conn by the largest label of each level."""
    level, connected = np.zeros(truth.shape), np.ones(truth.shape, bool)
    for step in range(1, 11):
        parts = label((predicted >= step / 10) & (truth >= step / 10), connectivity=1)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        connected &= (parts == sizes.argmax()) & (parts > 0)
        level[connected] = step / 10
    degrees = [1 - (alpha - level) * (alpha - level >= 0.15) for alpha in (predicted, truth)]
    return float(np.sum(np.abs(degrees[0] - degrees[1]))) / 1000


def timed(measure: Callable[..., float], *arguments: np.ndarray) -> tuple[float, float]:
    """Value, and least processor seconds of a few runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        value = measure(*arguments)
        seconds.append(time.process_time() - start)
    return value, min(seconds)


@click.command()
def main() -> None:
    """Print value and time of each measure."""
    cv2.setNumThreads(1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    truth = np.clip((400 - np.hypot(y - HEIGHT / 2, x - WIDTH / 2)) / 60 + 0.5, 0, 1)
    predicted = np.clip(truth + np.random.default_rng(0).normal(0, 0.05, truth.shape), 0, 1)
    clip, true = np.stack([predicted, predicted[:, ::-1]]), np.stack([truth, truth])
    still = np.zeros((1, HEIGHT, WIDTH, 2), np.float32)
    rows = [
        ("SAD", metrics.sad, (predicted, truth)),
        ("MSE", metrics.mse, (predicted, truth)),
        ("Grad", metrics.grad, (predicted, truth)),
        ("Grad, scipy", plain_grad, (predicted, truth)),
        ("Conn", metrics.conn, (predicted, truth)),
        ("Conn, scikit-image", plain_conn, (predicted, truth)),
        ("dtSSD of two frames", metrics.dtssd, (clip, true)),
        ("MESSDdt of two frames", metrics.messddt, (clip, true, still)),
        ("J", metrics.region_overlap, (predicted, truth)),
        ("F", metrics.contour_accuracy, (predicted, truth)),
    ]
    for name, measure, arguments in rows:
        value, seconds = timed(measure, *arguments)
        click.echo(f"{name:24s} {value:12.5f}  {seconds:6.3f} s")


if __name__ == "__main__":
    main()
