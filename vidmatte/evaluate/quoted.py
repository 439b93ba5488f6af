"""Published figures, to be printed beside ours and marked as quoted. None was measured here.

Tables 2 to 6 of Guo et al., "In-Context Matting", CVPR 2024, tables 7 and 8 of its supplement, and
figures of video matting on the clips of their benchmarks, all as printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vidmatte.evaluate.measures import ConnKind
from vidmatte.evaluate.protocol import PromptKind


@dataclass(frozen=True)
class Source:
    """A publication, and how its figures were counted."""

    title: str
    conn: ConnKind
    """Definition of Conn in its published code."""
    counting: str
    """Known facts of region, size and counted frames, in one sentence."""


GUO = Source(
    "Guo et al., CVPR 2024",
    "research",
    "sums over whole images of an unstated size: more than 722,000 pixels each by SAD and MSE, "
    "so not the unknown area of squares of 768",
)
MATANYONE = Source(
    "Yang et al., CVPR 2025",
    "benchmark",
    "all frames, the first with dtSSD 0",
)
MATANYONE2 = Source(
    "Yang et al., CVPR 2026",
    "benchmark",
    "all frames with a truth, the first with dtSSD 0",
)
VIDEOMAMA = Source(
    "VideoMaMa, CVPR 2026",
    "benchmark",
    "the first-frame mask is given; which frames count is not stated",
)


@dataclass(frozen=True)
class Quoted:
    """A row of a published table."""

    table: int | None
    """Number in the publication; None if uncertain."""
    method: str
    dataset: str
    guidance: str
    """The marks, in the publication's words."""
    values: Mapping[str, float]
    """By measure, in the scale of our tables."""
    prompt: PromptKind | None = None
    """The kind of mark of the row; None for none."""
    variant: str = ""
    """Of an experiment: the row of ours beside it."""
    remark: str = ""
    source: Source = GUO
    size: tuple[int, int] | None = None
    """Width and height of the measured frames; None if not stated."""


def _image(mse: float, sad: float, grad: float, conn: float) -> dict[str, float]:
    return {"MSE": mse, "SAD": sad, "Grad": grad, "Conn": conn}


def _two(mse: float, sad: float) -> dict[str, float]:
    return {"MSE": mse, "SAD": sad}


def _clip(mad: float, mse: float, grad: float, dtssd: float) -> dict[str, float]:
    return {"MAD": mad, "MSE": mse, "Grad": grad, "dtSSD": dtssd}


_PER_GROUP = "1 mask per group"
_PER_IMAGE = "1 mask per image"
_ICM = "icm57"
_AIM = "aim500"

QUOTED = (
    Quoted(2, "SegGPT", _ICM, _PER_GROUP, _image(0.0198, 38.81, 28.61, 18.61), "mask"),
    Quoted(2, "SEEM", _ICM, _PER_GROUP, _image(0.0292, 64.28, 37.54, 23.64), "mask"),
    Quoted(3, "MGM", _ICM, _PER_IMAGE, _image(0.0341, 84.25, 61.84, 30.21), "mask"),
    Quoted(
        3, "ViTMatte", _ICM, "1 trimap per image", _image(0.0030, 16.16, 14.28, 11.14), "trimap"
    ),
    Quoted(3, "LF", _ICM, "auto", _image(0.0811, 205.68, 69.53, 195.63)),
    Quoted(3, "AIM", _ICM, "auto", _image(0.0265, 65.07, 55.56, 25.74)),
    Quoted(3, "IconMatting", _ICM, _PER_GROUP, _image(0.0081, 19.12, 18.65, 11.21), "mask"),
    Quoted(2, "SegGPT", _AIM, _PER_GROUP, _image(0.0391, 42.65, 41.95, 26.69), "mask"),
    Quoted(2, "SEEM", _AIM, _PER_GROUP, _image(0.0425, 114.23, 74.51, 74.32), "mask"),
    Quoted(3, "MGM", _AIM, _PER_IMAGE, _image(0.0268, 71.91, 23.37, 21.97), "mask"),
    Quoted(
        3, "ViTMatte", _AIM, "1 trimap per image", _image(0.0038, 18.79, 14.22, 12.47), "trimap"
    ),
    Quoted(3, "MGMiW", _AIM, _PER_IMAGE, _image(0.0030, 16.72, 14.68, 12.02), "mask"),
    Quoted(3, "LF", _AIM, "auto", _image(0.0667, 191.74, 64.51, 181.26)),
    Quoted(3, "AIM", _AIM, "auto", _image(0.0183, 48.09, 47.58, 21.74)),
    Quoted(3, "IconMatting", _AIM, _PER_GROUP, _image(0.0062, 18.65, 15.51, 10.98), "mask"),
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
    Quoted(5, "IconMatting", _ICM, _PER_GROUP, _image(0.0081, 19.12, 18.65, 11.21), variant="full"),
    Quoted(
        5,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0099, 24.15, 20.36, 12.11),
        variant="intra off",
    ),
    Quoted(
        5,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0315, 40.32, 31.56, 19.53),
        variant="inter and intra off",
    ),
    Quoted(
        5,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0054, 23.69, 21.96, 14.52),
        variant="multi-scale off",
        remark="MSE as printed, below that of the full model though its SAD is above",
    ),
    Quoted(
        5,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0071, 18.56, 19.54, 12.61),
        variant="trained without segmentation",
        remark="needs another training",
    ),
    Quoted(
        7,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        {"Grad": 68.84, "Conn": 59.02},
        variant="composited",
        remark="the supplement compares composited with real-world images by Grad and Conn only",
    ),
    Quoted(
        7,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        {"Grad": 16.32, "Conn": 13.56},
        variant="real-world",
    ),
)
"""Table 5, and table 7 of the supplement."""

REFERENCES = (
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "1 mask",
        _image(0.0085, 19.58, 19.14, 12.61),
        variant="1 reference",
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "2 masks",
        _image(0.0075, 16.57, 18.52, 11.15),
        variant="2 references",
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "3 masks",
        _image(0.0070, 15.48, 17.56, 10.56),
        variant="3 references",
    ),
    Quoted(
        6,
        "IconMatting",
        _ICM,
        "4 masks",
        _image(0.0068, 15.23, 17.02, 10.28),
        variant="4 references",
    ),
)
"""Table 6."""

_MISPRINT = "MSE as printed; {} is plausible beside its SAD"
TIME_STEPS = (
    Quoted(
        8, "IconMatting", _ICM, _PER_GROUP, _image(0.0091, 22.12, 20.18, 10.98), variant="step 0"
    ),
    Quoted(
        8,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0094, 21.01, 19.54, 10.94),
        variant="step 100",
    ),
    Quoted(
        8,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.0081, 19.12, 18.65, 11.21),
        variant="step 200",
    ),
    Quoted(
        8,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.089, 23.84, 20.11, 12.46),
        variant="step 300",
        remark=_MISPRINT.format("0.0089"),
    ),
    Quoted(
        8,
        "IconMatting",
        _ICM,
        _PER_GROUP,
        _image(0.098, 31.39, 24.57, 14.28),
        variant="step 400",
        remark=_MISPRINT.format("0.0098"),
    ),
)
"""Table 8 of the supplement."""

_LOW = (512, 288)
_HIGH = (1920, 1080)
_FIRST = "mask on the first frame"
_EVERY = "mask on every frame"
_AUTO = "auto"


def _matanyone(
    dataset: str,
    size: tuple[int, int],
    rows: Mapping[str, tuple[str, tuple[float, ...]]],
) -> tuple[Quoted, ...]:
    """Make rows of MatAnyone's table 1: guidance, then MAD, MSE, Grad, dtSSD and perhaps Conn."""
    found = []
    for method, (guidance, figures) in rows.items():
        values = _clip(*figures[:4])
        if len(figures) > 4:
            values["Conn"] = figures[4]
        prompt: PromptKind | None = None if guidance == _AUTO else "mask"
        found.append(
            Quoted(1, method, dataset, guidance, values, prompt, source=MATANYONE, size=size)
        )
    return tuple(found)


CLIPS = (
    *_matanyone(
        "videomatte",
        _LOW,
        {
            "MODNet": (_AUTO, (9.41, 4.30, 1.89, 2.23, 0.81)),
            "RVM": (_AUTO, (6.08, 1.47, 0.88, 1.36, 0.41)),
            "RVM-Large": (_AUTO, (5.32, 0.62, 0.59, 1.24, 0.30)),
            "AdaM": (_FIRST, (5.30, 0.78, 0.72, 1.33, 0.30)),
            "FTP-VM": (_FIRST, (6.13, 1.31, 1.14, 1.60, 0.41)),
            "MaGGIe": (_EVERY, (5.49, 0.60, 0.57, 1.39, 0.31)),
            "MatAnyone": (_FIRST, (5.15, 0.93, 0.67, 1.18, 0.26)),
        },
    ),
    *_matanyone(
        "videomatte",
        _HIGH,
        {
            "MODNet": (_AUTO, (11.13, 5.54, 15.30, 3.08)),
            "RVM": (_AUTO, (6.57, 1.93, 10.55, 1.90)),
            "RVM-Large": (_AUTO, (5.81, 0.97, 9.65, 1.78)),
            "AdaM": (_FIRST, (4.42, 0.39, 5.12, 1.39)),
            "FTP-VM": (_FIRST, (8.00, 3.24, 23.75, 2.37)),
            "MaGGIe": (_EVERY, (4.42, 0.40, 4.03, 1.31)),
            "MatAnyone": (_FIRST, (4.24, 0.33, 4.00, 1.19)),
        },
    ),
    *_matanyone(
        "youtubematte",
        _LOW,
        {
            "MODNet": (_AUTO, (19.37, 16.21, 2.05, 2.79, 2.68)),
            "RVM": (_AUTO, (4.08, 1.97, 1.34, 1.81, 0.60)),
            "RVM-Large": (_AUTO, (3.36, 1.04, 1.03, 1.62, 0.50)),
            "FTP-VM": (_FIRST, (3.08, 1.29, 1.16, 1.83, 0.41)),
            "MaGGIe": (_EVERY, (3.54, 1.23, 1.10, 1.88, 0.49)),
            "MatAnyone": (_FIRST, (2.72, 1.01, 0.97, 1.60, 0.39)),
        },
    ),
    *_matanyone(
        "youtubematte",
        _HIGH,
        {
            "MODNet": (_AUTO, (15.29, 12.68, 8.42, 2.74)),
            "RVM": (_AUTO, (4.37, 2.25, 15.1, 2.28)),
            "RVM-Large": (_AUTO, (3.58, 1.23, 12.97, 2.04)),
            "FTP-VM": (_FIRST, (6.49, 4.58, 29.78, 2.41)),
            "MaGGIe": (_EVERY, (2.37, 0.98, 7.69, 1.77)),
            "MatAnyone": (_FIRST, (1.99, 0.71, 8.91, 1.65)),
        },
    ),
    Quoted(
        None,
        "MatAnyone 2",
        "youtubematte",
        _FIRST,
        _clip(1.61, 0.50, 7.13, 1.53),
        "mask",
        source=MATANYONE2,
        size=_HIGH,
    ),
    Quoted(
        None,
        "MatAnyone 2",
        "videomatte",
        _FIRST,
        {"MAD": 4.10},
        "mask",
        source=MATANYONE2,
        size=_HIGH,
    ),
    Quoted(
        None, "MatAnyone", "crgnn", _FIRST, {"MAD": 5.76, "Grad": 15.55}, "mask", source=MATANYONE2
    ),
    Quoted(
        None,
        "MatAnyone 2",
        "crgnn",
        _FIRST,
        {"MAD": 4.24, "Grad": 11.74},
        "mask",
        source=MATANYONE2,
    ),
    Quoted(
        3,
        "SAM 2, then VideoMaMa",
        "youtubematte",
        _FIRST,
        {"MAD": 1.356, "MSE": 0.294, "Grad": 3.57},
        "mask",
        source=VIDEOMAMA,
        size=_HIGH,
    ),
    Quoted(
        3,
        "SAM2-Matte",
        "youtubematte",
        _FIRST,
        {"MAD": 1.270, "MSE": 0.283, "Grad": 3.46},
        "mask",
        source=VIDEOMAMA,
        size=_HIGH,
    ),
    Quoted(
        None,
        "MatAnyone",
        "davis2017",
        _FIRST,
        {"J&F": 0.797},
        "mask",
        remark="J&F of DAVIS; the year's edition is not certain",
        source=VIDEOMAMA,
    ),
    Quoted(None, "SAM2-Matte", "davis2017", _FIRST, {"J&F": 0.879}, "mask", source=VIDEOMAMA),
)
"""Figures of clips. Those of Lin et al. (RVM) are as MatAnyone's authors measured them."""


def quoted_for(
    dataset: str, prompt: PromptKind, size: tuple[int, int] | None = None
) -> tuple[Quoted, ...]:
    """Return the rows to show beside an evaluation.

    Args:
        dataset: name of the layout.
        prompt: kind of mark; rows of table 4 of Guo et al. are those of the same kind.
        size: width and height of the frames of clips; rows of other sizes are left out.
    """
    images = [
        row for row in QUOTED if row.dataset == dataset and (row.table != 4 or row.prompt == prompt)
    ]
    clips = [row for row in CLIPS if row.dataset == dataset and row.size in (None, size)]
    return (*images, *clips)
