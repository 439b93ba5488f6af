"""Make context groups from a corpus of photographs, to train and validate IconMatting's head.

The scale is small.

    python benchmarks/make_groups.py CORPUS OUT

CORPUS holds `cutouts/NAME.jpg` with `cutouts/NAME_alpha.png`, and `images/dreambooth_NAMEnn.jpg`, a
few photographs of each thing. Written are three data sets:

    OUT/matting    a group per cut-out over photographs, turned and scaled (layout "groups")
    OUT/masks      a group per thing, with GrabCut masks (layout "open-images")
    OUT/held-out   as OUT/matting, of every fourth cut-out, which is in no other group
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np

from vidmatte.synth.corpus import Corpus, find_subject, read_cutout, read_photograph
from vidmatte.synth.render import shift, turn
from vidmatte.synth.sprites import premultiply

SIDE, OF_EACH = 256, 8


def composite(
    cutout: np.ndarray, corpus: Corpus, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The cut-out on a photograph: colours (SIDE, SIDE, 3) 0-1 and alpha."""
    height, width = cutout.shape[:2]
    scale = SIDE * rng.uniform(0.45, 0.8) / max(height, width)
    place = (
        shift(*(SIDE * rng.uniform(0.4, 0.6, 2)))
        @ turn(float(rng.normal(0, 0.3)))
        @ np.diag([scale * rng.choice([-1, 1]), scale, 1])
        @ shift(-width / 2, -height / 2)
    )
    picture = premultiply(cutout[..., :3], cutout[..., 3])
    seen = np.clip(cv2.warpAffine(picture, place[:2], (SIDE, SIDE), flags=cv2.INTER_LINEAR), 0, 1)
    return seen[..., :3] + (1 - seen[..., 3:]) * corpus.texture(SIDE, rng, least=0.5), seen[..., 3]


def write(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    cv2.imwrite(str(path), codes[..., ::-1] if codes.ndim == 3 else codes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    photographs = Corpus(given.corpus, "train"), Corpus(given.corpus, "held-out")
    for n, path in enumerate(sorted(given.corpus.glob("cutouts/*_alpha.png"))):
        held = n % 4 == 3
        cutout, name = read_cutout(path, SIDE), path.name.removesuffix("_alpha.png")
        for k in range(OF_EACH):
            rgb, alpha = composite(cutout, photographs[held], np.random.default_rng((n, k)))
            folder = given.out / ("held-out" if held else "matting") / name
            write(folder / f"{k}.png", rgb)
            write(folder / f"{k}_alpha.png", alpha)
    subjects = sorted(given.corpus.glob("images/dreambooth_*.jpg"))
    for thing, paths in itertools.groupby(
        subjects, key=lambda path: path.stem.rstrip("0123456789_")
    ):
        label = thing.replace("_", "-")
        for path in paths:
            photo = read_photograph(path, SIDE)
            mask = find_subject(photo)
            if mask is not None:
                stem = path.stem.replace("_", "-")
                write(given.out / "masks" / "images" / f"{stem}.jpg", photo / 255)
                write(
                    given.out / "masks" / "masks" / f"{stem}_{label}_0.png", mask.astype(np.float32)
                )


if __name__ == "__main__":
    main()
