"""All layouts of data sets, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidmatte.datasets import clips, groups
from vidmatte.datasets.samples import Dataset
from vidmatte.errors import OptionError


@dataclass(frozen=True)
class Layout:
    """A layout of files in folders."""

    open: Callable[[str | Path], Dataset]
    files: str
    """The expected files, in words."""


DATASETS = {
    "icm57": Layout(groups.open_icm57, "image/, alpha/[, trimap/], ICM57.json"),
    "aim500": Layout(groups.open_aim500, "original/, mask/[, trimap/, groups.json]"),
    "rm1k": Layout(groups.open_rm1k, "image/, alpha/[, trimap/], groups.json"),
    "open-images": Layout(groups.open_images, "images/ID.jpg, masks/ID_LABEL_BOX.png"),
    "alphamatting": Layout(
        groups.open_alphamatting,
        "input_training_lowres/, gt_training_lowres/, trimap_training_lowres/Trimap1/",
    ),
    "grabcut": Layout(groups.open_grabcut, "data_GT/, boundary_GT/"),
    "berkeley": Layout(groups.open_berkeley, "images/, masks/"),
    "groups": Layout(groups.open_plain_groups, "GROUP/NAME/image.jpg, alpha.png[, trimap.png]"),
    "videomatte": Layout(clips.open_videomatte, "PART/CLIP/com/, PART/CLIP/pha/"),
    "youtubematte": Layout(clips.open_youtubematte, "PART/CLIP/har/, PART/CLIP/pha/"),
    "crgnn": Layout(clips.open_crgnn, "image_allframe/CLIP/, alpha/CLIP/[, mask/CLIP.png]"),
    "davis": Layout(
        clips.open_davis,
        "JPEGImages/480p/CLIP/, Annotations/480p/CLIP/[, ImageSets/480p/val.txt]",
    ),
    "davis2017": Layout(
        clips.open_davis2017,
        "JPEGImages/480p/CLIP/, Annotations/480p/CLIP/[, ImageSets/2017/val.txt]",
    ),
    "clips": Layout(clips.open_plain_clips, "CLIP/frames/, CLIP/alpha/ or CLIP/masks/"),
}
"""Every layout."""


def open_dataset(name: str, root: str | Path) -> Dataset:
    """Open the data set in a folder, laid out as `name` says (see `DATASETS`); reads no image.

    Raises:
        OptionError: For an unknown name.
        ReadError: If the folder is laid out otherwise or lacks a file; names the files looked for.
    """
    if name not in DATASETS:
        raise OptionError(f"data set {name!r} is not valid: there are {', '.join(DATASETS)}")
    return DATASETS[name].open(root)
