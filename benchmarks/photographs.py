"""Alpha of photographs from a mask on themselves: `python benchmarks/photographs.py ROOT`.

ROOT holds a folder per photograph with `image.png`, `alpha.png` (the truth) and `trimap.png`, as alphamatting.com has
them. vidmatte gets alpha > 0.5 as a mask on the image itself; closed-form matting (Levin et al., as PyMatting has it)
gets the trimap. SAD is taken over the trimap's unknown area; the hard mask's own SAD is given beside them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import cv2
import numpy as np
from clips import read_gray, run_vidmatte
from pymatting import estimate_alpha_cf

from vidmatte.metrics import sad
from vidmatte.read.images import read_image


def errors(photograph: Path, arguments: tuple[str, ...]) -> tuple[float, float, float]:
    """SAD of vidmatte, of closed-form matting, and of the mask that vidmatte was given."""
    truth, trimap = read_gray(photograph / "alpha.png"), read_gray(photograph / "trimap.png")
    unknown = (trimap > 0.1) & (trimap < 0.9)
    mask = (truth > 0.5).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        cv2.imwrite(str(path), (255 * mask).astype(np.uint8))
        (found,), _ = run_vidmatte(photograph / "image.png", "--mask", str(path), "--images", *arguments)
    rgb = read_image(photograph / "image.png").rgb.transpose(1, 2, 0)
    closed_form = estimate_alpha_cf(rgb.astype(np.float64), np.where(unknown, 0.5, trimap > 0.5))
    found_sad, closed_sad, mask_sad = (sad(alpha, truth, region=unknown) for alpha in (found, closed_form, mask))
    return found_sad, closed_sad, mask_sad


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(root: Path, arguments: tuple[str, ...]) -> None:
    """Print SAD (thousands) per photograph, and the ratio of the sums; ARGUMENTS go to vidmatte."""
    table = []
    for photograph in sorted(path.parent for path in root.glob("*/trimap.png")):
        table.append(errors(photograph, arguments))
        print_row(photograph.name, *table[-1])
    print_row("sum", *np.sum(table, axis=0))


def print_row(name: str, found: float, closed_form: float, mask: float) -> None:
    """One line of the table."""
    others = f"closed-form {closed_form:7.2f}  mask {mask:7.2f}"
    click.echo(f"{name:20s} SAD {found:7.2f}  {others}  ratio {found / closed_form:.2f}")


if __name__ == "__main__":
    main()
