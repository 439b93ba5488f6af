"""Published data sets, and plain folders, as groups of images and clips with their truth."""

from vidmatte.datasets.catalogue import DATASETS, Layout, open_dataset
from vidmatte.datasets.samples import (
    Clip,
    CountedFrame,
    CountedRegion,
    Dataset,
    Group,
    ImageSample,
    Truth,
    read_truth,
    read_unknown,
)

__all__ = [
    "DATASETS",
    "Clip",
    "CountedFrame",
    "CountedRegion",
    "Dataset",
    "Group",
    "ImageSample",
    "Layout",
    "Truth",
    "open_dataset",
    "read_truth",
    "read_unknown",
]
