"""Compare an alpha movie with the exact alpha: `python samples/score.py FOUND TRUTH`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import zip_longest

import numpy as np

from vidmatte import VidmatteError, open_video
from vidmatte.metrics import dtssd, mad, region_overlap


def alphas(path: str) -> Iterator[np.ndarray]:
    """(H, W) alpha of each frame of a gray movie."""
    with open_video(path) as video:
        for frame in video.decode():
            yield frame.rgb[0]


def main(found: str, truth: str) -> None:
    """Print the errors; frames are compared as they come, so memory stays small."""
    errors, flicker, overlap, last = [], [], [], None
    for a, b in zip_longest(alphas(found), alphas(truth)):
        if a is None or b is None or a.shape != b.shape:
            raise SystemExit(f"{found} and {truth} differ in their size or number of frames")
        errors.append(mad(a, b))
        overlap.append(region_overlap(a, b))
        if last is not None:
            flicker.append(dtssd(np.stack([last[0], a]), np.stack([last[1], b])))
        last = (a, b)
    print(
        f"{found}: {len(errors)} frames against the exact alpha: MAD {np.mean(errors):.4f} "
        f"(worst frame {np.max(errors):.4f}), dtSSD {np.mean(flicker):.2f}, overlap J "
        f"{np.mean(overlap):.4f}"
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (VidmatteError, TypeError) as error:
        raise SystemExit(f"Error: {error}; usage: python samples/score.py FOUND TRUTH") from error
