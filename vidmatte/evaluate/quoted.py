"""Figures of the paper, to be printed beside ours and marked as quoted.

Guo et al., "In-Context Matting", CVPR 2024, tables 2 to 6, as printed in the published paper. Nothing here was measured
with this program. The paper does not say at what size its sums were taken. Tables of its supplement, of which table 8
compares time steps, could not be read when this was written: they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vidmatte.evaluate.protocol import PromptKind

SOURCE = "Guo et al., CVPR 2024"


@dataclass(frozen=True)
class Quoted:
    """A row of a table of the paper."""

    table: int
    method: str
    dataset: str
    guidance: str
    """What is marked, in the paper's words."""
    values: Mapping[str, float]
    """By measure: MSE per pixel, the others in thousands."""
    prompt: PromptKind | None = None
    """The kind of mark that the row belongs to; None for none."""
    variant: str = ""
    """Of an experiment: the row of ours that it stands beside."""
    remark: str = ""


def _four(mse: float, sad: float, grad: float, conn: float) -> dict[str, float]:
    return {"MSE": mse, "SAD": sad, "Grad": grad, "Conn": conn}


def _two(mse: float, sad: float) -> dict[str, float]:
    return {"MSE": mse, "SAD": sad}


_PER_GROUP, _PER_IMAGE = "1 mask per group", "1 mask per image"
_ICM, _AIM = "icm57", "aim500"

QUOTED = (
    Quoted(2, "SegGPT", _ICM, _PER_GROUP, _four(0.0198, 38.81, 28.61, 18.61), "mask"),
    Quoted(2, "SEEM", _ICM, _PER_GROUP, _four(0.0292, 64.28, 37.54, 23.64), "mask"),
    Quoted(3, "MGM", _ICM, _PER_IMAGE, _four(0.0341, 84.25, 61.84, 30.21), "mask"),
    Quoted(3, "ViTMatte", _ICM, "1 trimap per image", _four(0.0030, 16.16, 14.28, 11.14), "trimap"),
    Quoted(3, "LF", _ICM, "auto", _four(0.0811, 205.68, 69.53, 195.63)),
    Quoted(3, "AIM", _ICM, "auto", _four(0.0265, 65.07, 55.56, 25.74)),
    Quoted(3, "IconMatting", _ICM, _PER_GROUP, _four(0.0081, 19.12, 18.65, 11.21), "mask"),
    Quoted(2, "SegGPT", _AIM, _PER_GROUP, _four(0.0391, 42.65, 41.95, 26.69), "mask"),
    Quoted(2, "SEEM", _AIM, _PER_GROUP, _four(0.0425, 114.23, 74.51, 74.32), "mask"),
    Quoted(3, "MGM", _AIM, _PER_IMAGE, _four(0.0268, 71.91, 23.37, 21.97), "mask"),
    Quoted(3, "ViTMatte", _AIM, "1 trimap per image", _four(0.0038, 18.79, 14.22, 12.47), "trimap"),
    Quoted(3, "MGMiW", _AIM, _PER_IMAGE, _four(0.0030, 16.72, 14.68, 12.02), "mask"),
    Quoted(3, "LF", _AIM, "auto", _four(0.0667, 191.74, 64.51, 181.26)),
    Quoted(3, "AIM", _AIM, "auto", _four(0.0183, 48.09, 47.58, 21.74)),
    Quoted(3, "IconMatting", _AIM, _PER_GROUP, _four(0.0062, 18.65, 15.51, 10.98), "mask"),
    Quoted(4, "MatAny", _ICM, "points on each image", _two(0.0651, 129.67), "points"),
    Quoted(4, "MatAny", _ICM, "scribble on each image", _two(0.0512, 115.21), "scribble"),
    Quoted(4, "MatAny", _ICM, _PER_IMAGE, _two(0.0412, 95.26), "mask"),
    Quoted(4, "MAM", _ICM, "points on each image", _two(0.0149, 41.23), "points"),
    Quoted(4, "MAM", _ICM, "scribble on each image", _two(0.0141, 40.23), "scribble"),
    Quoted(4, "MAM", _ICM, _PER_IMAGE, _two(0.0109, 29.65), "mask"),
    Quoted(4, "ICMP", _ICM, "points per group", _two(0.0112, 39.65), "points"),
    Quoted(4, "IconMatting*", _ICM, "points on each image", _two(0.0061, 15.28), "points"),
    Quoted(4, "IconMatting*", _ICM, "scribble on each image", _two(0.0059, 15.97), "scribble"),
    Quoted(4, "IconMatting*", _ICM, _PER_IMAGE, _two(0.0029, 15.28), "mask"),
    Quoted(4, "IconMatting", _ICM, "points per group", _two(0.0124, 23.21), "points"),
    Quoted(4, "IconMatting", _ICM, "scribble per group", _two(0.0105, 24.56), "scribble"),
)
"""Tables 2, 3 and 4."""

ABLATION = (
    Quoted(5, "IconMatting", _ICM, _PER_GROUP, _four(0.0081, 19.12, 18.65, 11.21), variant="full"),
    Quoted(5, "IconMatting", _ICM, _PER_GROUP, _four(0.0099, 24.15, 20.36, 12.11), variant="intra off"),
    Quoted(5, "IconMatting", _ICM, _PER_GROUP, _four(0.0315, 40.32, 31.56, 19.53), variant="inter and intra off"),
    Quoted(
        5, "IconMatting", _ICM, _PER_GROUP, _four(0.0054, 23.69, 21.96, 14.52), variant="multi-scale off",
        remark="MSE as printed, below that of the full model though its SAD is above",
    ),
    Quoted(
        5, "IconMatting", _ICM, _PER_GROUP, _four(0.0071, 18.56, 19.54, 12.61), variant="trained without segmentation",
        remark="needs another training",
    ),
)  # fmt: skip
"""Table 5."""

REFERENCES = (
    Quoted(
        6, "IconMatting", _ICM, "1 mask", _four(0.0085, 19.58, 19.14, 12.61), variant="1 reference"
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "2 masks",
        _four(0.0075, 16.57, 18.52, 11.15),
        variant="2 references",
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "3 masks",
        _four(0.0070, 15.48, 17.56, 10.56),
        variant="3 references",
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "4 masks",
        _four(0.0068, 15.23, 17.02, 10.28),
        variant="4 references",
    ),
)
"""Table 6."""


def quoted_for(dataset: str, prompt: PromptKind) -> tuple[Quoted, ...]:
    """The rows for a data set: tables 2 and 3 whole, of table 4 those of a kind of mark."""
    return tuple(
        row for row in QUOTED if row.dataset == dataset and (row.table != 4 or row.prompt == prompt)
    )
