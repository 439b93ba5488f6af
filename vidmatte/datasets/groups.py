"""Layouts of images in groups: ICM-57, AIM-500, RM-1K, Open Images and others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidmatte.datasets.find import (
    folders,
    image_named,
    images_by_stem,
    nothing_found,
    one_of,
    require,
    root_folder,
)
from vidmatte.datasets.samples import Dataset, Group, ImageSample
from vidmatte.errors import ReadError

_INSTANCE = re.compile(r"(?P<image>[^_]+)_(?P<label>[^_]+)_[^_]+")
"""Names of mask files of Open Images: image, label, box."""


def open_icm57(root: str | Path) -> Dataset:
    """Open ICM-57 (Guo et al., CVPR 2024): `image/`, `alpha/`, `ICM57.json`, perhaps `trimap/`.

    The JSON file may lie in the folder or beside it. A group is the images of one class, sub-class
    and extent, as in the research code. Raises ReadError for missing files.
    """
    return _grouped(
        root, "icm57", ("image",), ("alpha",), ("ICM57.json", "ICM-57.json", "groups.json")
    )


def open_aim500(root: str | Path) -> Dataset:
    """Open AIM-500 (Li et al., IJCAI 2021): `original/`, `mask/`, `trimap/`.

    Groups are in `AIM.json` or `groups.json`. The data set itself has none, and those of the paper
    were not published: without such a file each image is a group of its own, to be marked itself.
    Raises ReadError for other missing files.
    """
    files = ("AIM.json", "AIM500.json", "AIM-500.json", "groups.json")
    return _grouped(
        root, "aim500", ("original", "image"), ("mask", "alpha"), files, needs_groups=False
    )


def open_rm1k(root: str | Path) -> Dataset:
    """Open RM-1K (Wang et al., TCSVT 2023): `image/` (or `merged/`), `alpha/`.

    Groups are in `RM1K.json` or `groups.json`. Raises ReadError for missing files.
    """
    return _grouped(
        root, "rm1k", ("image", "merged"), ("alpha",), ("RM1K.json", "RM-1K.json", "groups.json")
    )


def open_images(root: str | Path) -> Dataset:
    """Open Open Images (Kuznetsova et al., IJCV 2020) as context groups.

    The files are `images/ID.jpg` and `masks/ID_LABEL_BOX.png`. As in the paper (section 4.1) the
    masks of one label on an image are one truth, and the images of a label a group; labels of a
    single image are left out. Masks are resized to their image. Raises ReadError for anything that
    is missing.
    """
    folder = root_folder(root, "open-images")
    pictures = images_by_stem(one_of(folder, ("images", "image"), "open-images"))
    masks_folder = one_of(folder, ("masks", "alpha"), "open-images")
    masks = images_by_stem(masks_folder)
    labels: dict[str, dict[str, list[Path]]] = {}
    for name, path in masks.items():
        match = _INSTANCE.fullmatch(name)
        if match is None:
            raise ReadError(
                f"{path}: is not named as masks of Open Images are, ID_LABEL_BOX; rename it or "
                "take it away"
            )
        # A label may have several instances on one image.
        labels.setdefault(match["label"], {}).setdefault(match["image"], []).append(path)
    require(
        {name for images in labels.values() for name in images}, pictures, folder, "the image is"
    )
    groups = [
        Group(label, tuple(_instances(pictures[name], paths) for name, paths in images.items()))
        # A group needs a reference and another image to matte.
        for label, images in labels.items()
        if len(images) > 1
    ]
    if not groups:
        raise nothing_found(
            masks_folder, "open-images", "masks ID_LABEL_BOX.png of one label on several images"
        )
    return Dataset(
        "open-images", folder, groups=tuple(sorted(groups, key=lambda group: group.name))
    )


def open_alphamatting(root: str | Path) -> Dataset:
    """Open the training set of alphamatting.com (Rhemann et al., CVPR 2009).

    `input_training_lowres/`, `gt_training_lowres/`, `trimap_training_lowres/Trimap1/`; or the same
    in `highres`. Each image is a group of its own.
    """
    folder = root_folder(root, "alphamatting")
    inputs = one_of(folder, ("input_training_lowres", "input_training_highres"), "alphamatting")
    size = inputs.name.removeprefix("input_training_")
    alphas = one_of(folder, (f"gt_training_{size}",), "alphamatting")
    trimaps = one_of(
        folder, (f"trimap_training_{size}/Trimap1", f"trimap_training_{size}"), "alphamatting"
    )
    samples = _samples(inputs, alphas, trimaps, None)
    # The benchmark itself compares the unknown area.
    return Dataset(
        "alphamatting",
        folder,
        groups=tuple(Group(name, (sample,)) for name, sample in samples.items()),
        region="unknown",
    )


def open_grabcut(root: str | Path) -> Dataset:
    """Find the images of GrabCut (Rother et al., SIGGRAPH 2004): `data_GT/*` and `boundary_GT/*`.

    Masks are white for the object and black for the background; gray borders never count. Each
    image is a group of its own. Raises ReadError for missing files.
    """
    return _images_and_masks(root, "grabcut", ("data_GT", "images"), ("boundary_GT", "masks"))


def open_berkeley(root: str | Path) -> Dataset:
    """Find the images of Berkeley (McGuinness and O'Connor, 2010): `images/*` and `masks/*`.

    As `open_grabcut`; any other folders of images and of their masks will do.
    """
    return _images_and_masks(root, "berkeley", ("images",), ("masks",))


def _images_and_masks(
    root: str | Path, layout: str, images: Sequence[str], masks: Sequence[str]
) -> Dataset:
    folder = root_folder(root, layout)
    samples = _samples(one_of(folder, images, layout), one_of(folder, masks, layout), None, None)
    groups = [
        Group(name, (replace(sample, kind="mask", has_border=True),))
        for name, sample in samples.items()
    ]
    return Dataset(layout, folder, groups=tuple(groups))


def open_plain_groups(root: str | Path) -> Dataset:
    """Open a folder for each group, with each image and its truth in one of two ways.

    `group/name/image.jpg, alpha.png[, trimap.png]` or
    `group/name.jpg, name_alpha.png[, name_trimap.png]`; a group of a single image may be
    `group/image.jpg, alpha.png[, trimap.png]`. Raises ReadError for missing files.
    """
    folder = root_folder(root, "groups")
    groups = tuple(Group(path.name, _plain_group(path)) for path in folders(folder))
    if not groups:
        raise nothing_found(folder, "groups", "folders with image.*, alpha.* and trimap.*")
    return Dataset("groups", folder, groups=groups)


def _plain_group(folder: Path) -> tuple[ImageSample, ...]:
    if image_named(folder, "image") is not None:
        return (_in_folder(folder),)
    files = images_by_stem(folder)
    paired = {name: path for name, path in files.items() if f"{name}_alpha" in files}
    # Files left over are named: a misspelt truth would go unnoticed.
    odd = set(files) - {name + ending for name in paired for ending in ("", "_alpha", "_trimap")}
    if odd:
        raise ReadError(f"{files[min(odd)]}: has no truth; looked for {min(odd)}_alpha in {folder}")
    samples = [
        ImageSample(name, path, files[f"{name}_alpha"], files.get(f"{name}_trimap"))
        for name, path in paired.items()
    ]
    # Both ways may be mixed in one group.
    samples += [_in_folder(path) for path in folders(folder)]
    if not samples:
        raise nothing_found(
            folder, "groups", "image.* and alpha.*, NAME.* and NAME_alpha.*, or folders of image.*"
        )
    return tuple(sorted(samples, key=lambda sample: sample.name))


def _in_folder(folder: Path) -> ImageSample:
    image = image_named(folder, "image")
    alpha = image_named(folder, "alpha")
    if image is None or alpha is None:
        raise nothing_found(
            folder, "groups", "alpha.*" if alpha is None and image else "image.* and alpha.*"
        )
    return ImageSample(folder.name, image, alpha, image_named(folder, "trimap"))


def _instances(image: Path, masks: Sequence[Path]) -> ImageSample:
    return ImageSample(
        image.stem, image, masks[0], kind="mask", others=tuple(masks[1:]), scaled=True
    )


def _grouped(
    root: str | Path,
    layout: str,
    image: Sequence[str],
    alpha: Sequence[str],
    files: Sequence[str],
    *,
    needs_groups: bool = True,
) -> Dataset:
    """Return the samples of folders of images, alphas and perhaps trimaps, grouped by a file."""
    folder = root_folder(root, layout)
    images = one_of(folder, image, layout)
    alphas = one_of(folder, alpha, layout)
    trimaps = folder / "trimap" if (folder / "trimap").is_dir() else None
    # Data sets are unpacked with the file in the folder or beside it.
    listed = next(
        (
            path
            for place in (folder, folder.parent)
            for name in files
            if (path := place / name).is_file()
        ),
        None,
    )
    if listed is None and needs_groups:
        looked = f"{' or '.join(files)} in it or beside it, which says what images belong together"
        raise nothing_found(folder, layout, looked)
    if listed is None:
        samples = _samples(images, alphas, trimaps, None)
        return Dataset(
            layout, folder, groups=tuple(Group(name, (sample,)) for name, sample in samples.items())
        )
    names = read_groups(listed)
    samples = _samples(
        images, alphas, trimaps, [name for members in names.values() for name in members]
    )
    groups = (
        Group(group, tuple(samples[name] for name in members)) for group, members in names.items()
    )
    return Dataset(layout, folder, groups=tuple(groups))


def _samples(
    images: Path, alphas: Path, trimaps: Path | None, names: Sequence[str] | None
) -> dict[str, ImageSample]:
    """Return samples by name, of the names given or of all images."""
    pictures = images_by_stem(images)
    truths = images_by_stem(alphas)
    # An image may be in several groups.
    wanted = list(pictures) if names is None else list(dict.fromkeys(names))
    if not wanted:
        raise ReadError(f"{images}: holds no images")
    require(wanted, pictures, images, "the image is")
    require(wanted, truths, alphas, "the alpha is")
    samples = {name: ImageSample(name, pictures[name], truths[name]) for name in wanted}
    if trimaps is None:
        return samples
    areas = images_by_stem(trimaps)
    require(wanted, areas, trimaps, "the trimap is")
    return {name: replace(sample, trimap=areas[name]) for name, sample in samples.items()}


def read_groups(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of images by group, sorted, from a JSON file of either form.

    `{"NAME": {"class": ..., "sub_class": ..., "HalfOrFull": ...}}`, as in ICM-57, or
    `{"GROUP": ["NAME", ...]}`. Raises ReadError for any other.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        groups: dict[str, list[str]] = {}
        for key, value in document.items():
            if isinstance(value, list):
                groups.setdefault(key, []).extend(map(str, value))
            else:
                groups.setdefault(_class_of(value), []).append(key)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ReadError(
            f"{path}: does not say what images belong together ({type(error).__name__}: {error}); "
            "it needs "
            f'{{"NAME": {{"class": ..., "sub_class": ..., "HalfOrFull": ...}}}} '
            f'or {{"GROUP": ["NAME", ...]}}'
        ) from error
    if not groups:
        raise ReadError(f"{path}: holds no groups")
    # In one order on every machine, since references are drawn by it.
    return {name: tuple(sorted(set(groups[name]))) for name in sorted(groups)}


def _class_of(record: Mapping[str, Any]) -> str:
    parts = (record["class"], record.get("sub_class"), record.get("HalfOrFull"))
    return "-".join(str(part) for part in parts if part is not None)
