"""Measure how far the coded sample is from the frames it was made of. Needs the `dev` extra.

    python samples/measure_sample.py

Renders the clip again and compares: the stored alpha must be equal in every bit; the colour differs
by 8-bit 4:2:0 H.264 coding, which is reported in code values (1/255) over all pixels and over the
soft ones.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from make_sample import HEIGHT, WIDTH, make_launch_pad_plate, make_portrait_plate, render

SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample"


def read_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Return a limited-range BT.709 frame as (HEIGHT, WIDTH, 3) float32 in 0..1.

    Only the chroma is enlarged by swscale.
    """
    planes = []
    for plane in frame.reformat(format="yuv444p16le").planes:
        rows = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
        planes.append(rows[:HEIGHT, :WIDTH].astype(np.float32) / 256)
    y, cb, cr = (planes[0] - 16) / 219, (planes[1] - 128) / 224, (planes[2] - 128) / 224
    rgb = np.dstack([y + 1.5748 * cr, y - 0.187324 * cb - 0.468124 * cr, y + 1.8556 * cb])
    return np.clip(rgb, 0, 1)


def main() -> None:
    everywhere, soft, different = [], [], 0
    with av.open(SAMPLE / "portrait.mp4") as movie, av.open(SAMPLE / "portrait_alpha.mkv") as matte:
        rendered = render(make_portrait_plate(), make_launch_pad_plate())
        for (rgb, alpha), color, stored in zip(
            rendered, movie.decode(video=0), matte.decode(video=0), strict=True
        ):
            different += int((stored.to_ndarray() != alpha).sum())
            error = 255 * np.abs(read_rgb(color) - rgb).mean(axis=2)
            everywhere.append(error.mean())
            soft.append(error[(alpha > 0) & (alpha < 255)].mean())
    print(f"alpha pixels that differ: {different}")
    print(
        f"mean absolute colour error: {np.mean(everywhere):.2f}/255, on soft pixels "
        f"{np.mean(soft):.2f}/255"
    )


if __name__ == "__main__":
    main()
