"""Compare alpha of photographs from their own mask with closed-form matting.

    python benchmarks/photographs.py ROOT

ROOT is laid out as `vidmatte evaluate groups` takes it, with trimaps. vidmatte gets the mask of
alpha above one half on the image itself; closed-form matting (Levin et al., as PyMatting has it)
gets the trimap. SAD is taken over the trimap's unknown area; the hard mask's own SAD is given
beside them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import cv2
import numpy as np
from pymatting import estimate_alpha_cf

from vidmatte.datasets import Dataset, ImageSample, open_dataset, read_truth, read_unknown
from vidmatte.evaluate import MethodUnderTest, Protocol, run

PROTOCOL = Protocol(guidance="each", region="unknown")


def closed_form(sample: ImageSample) -> np.ndarray:
    """Alpha (H, W) of the image with its trimap."""
    rgb = sample.read_image().rgb
    size = rgb.shape[1:]
    solid = read_truth((sample.trimap,), "mask", size, image=sample.image)
    trimap = np.where(read_unknown(sample.trimap, size, image=sample.image), 0.5, solid)
    return estimate_alpha_cf(rgb.transpose(1, 2, 0).astype(np.float64), trimap.astype(np.float64))


def hard_mask(sample: ImageSample) -> np.ndarray:
    """What vidmatte is given, (H, W)."""
    truth = sample.read_alpha(sample.read_image().rgb.shape[1:])
    return (truth > truth.max() / 2).astype(np.float64)


def write(dataset: Dataset, make, folder: Path) -> Path:
    """Mattes of all images, as `vidmatte evaluate --predictions` reads them."""
    for group in dataset.groups:
        (folder / group.name).mkdir(parents=True)
        for sample in group.images:
            codes = np.rint(65535 * np.clip(make(sample), 0, 1)).astype(np.uint16)
            cv2.imwrite(str(folder / group.name / f"{sample.name}.png"), codes)
    return folder


@click.command()
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(root: Path) -> None:
    """Print SAD (thousands) per photograph, and the ratio of the sums."""
    dataset = open_dataset("groups", root)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subjects = [
            MethodUnderTest("compact"),
            MethodUnderTest(
                "closed-form", predictions=write(dataset, closed_form, folder / "closed-form")
            ),
            MethodUnderTest("mask", predictions=write(dataset, hard_mask, folder / "mask")),
        ]
        found = [
            run(dataset, subject, PROTOCOL, folder / f"{subject.name}-results")
            for subject in subjects
        ]
    table = np.array(
        [[result.values["SAD"] for result in evaluation.results] for evaluation in found]
    )
    for result, values in zip(found[0].results, table.T, strict=True):
        print_row(result.name, *values)
    print_row("sum", *table.sum(1))


def print_row(name: str, ours: float, closed: float, mask: float) -> None:
    """One line of the table."""
    click.echo(
        f"{name:20s} SAD {ours:7.2f}  closed-form {closed:7.2f}  mask {mask:7.2f}  ratio "
        f"{ours / closed:.2f}"
    )


if __name__ == "__main__":
    main()
