"""Layouts of clips: VideoMatte240K-Test, YouTubeMatte, CRGNN, DAVIS, and a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vidmatte.datasets.find import (
    folders,
    frames_in_order,
    frames_with_truth,
    image_named,
    nothing_found,
    one_of,
    require,
    root_folder,
)
from vidmatte.datasets.samples import Clip, Dataset, read_labels
from vidmatte.errors import ReadError

_DAVIS_SIZES = ("480p", "1080p", "Full-Resolution")
_CRGNN_STEP = 10
"""Frames from one truth of CRGNN to the next."""


def open_videomatte(root: str | Path) -> Dataset:
    """Find the clips of VideoMatte240K-Test, as Lin et al. (WACV 2022) composed it.

    The layout is `PART/CLIP/com/*` and `PART/CLIP/pha/*`, such as `videomatte_motion/0000/com`;
    the root may be one part itself. First masks are those of MatAnyone's evaluation, if there is
    `VideoMatte_first_frame_seg_mask/SIZE/PART/CLIP.png` beside the root or above it.
    """
    masks = _folder_of_masks(root, "VideoMatte_first_frame_seg_mask")
    return _in_parts(root, "videomatte", ("com",), masks)


def open_youtubematte(root: str | Path) -> Dataset:
    """Find the clips of YouTubeMatte (Yang et al., CVPR 2025).

    The layout is `PART/CLIP/har/*` (harmonised; or `com/`) and `PART/CLIP/pha/*`. First masks are
    `YouTubeMatte_first_frame_seg_mask/SIZE/CLIP.png` beside the root or above it, if there are any.
    """
    masks = _folder_of_masks(root, "YouTubeMatte_first_frame_seg_mask")
    return _in_parts(root, "youtubematte", ("har", "com"), masks)


def open_crgnn(root: str | Path) -> Dataset:
    """Find the real clips of CRGNN (Wang et al., ICCV 2021), with the truth of every tenth frame.

    The layout is that of MatAnyone 2's evaluation: `image_allframe/CLIP/*`, `alpha/CLIP/*` for
    frames 0, 10, 20 and so on in order, and first masks `mask/CLIP.png`, if there are any.

    Raises:
        ReadError: a clip has no truth, or more truths than frames to belong to.
    """
    folder = root_folder(root, "crgnn")
    pictures = one_of(folder, ("image_allframe",), "crgnn")
    truths = one_of(folder, ("alpha",), "crgnn")
    masks = folder / "mask" if (folder / "mask").is_dir() else None
    clips = []
    for path in folders(pictures):
        frames = frames_in_order(path)
        true = frames_in_order(one_of(truths, (path.name,), "crgnn"))
        # The last truth has to belong to a frame.
        if _CRGNN_STEP * (len(true) - 1) >= len(frames):
            raise ReadError(
                f"{truths / path.name}: expected the truth of every {_CRGNN_STEP}th of "
                f"{len(frames)} frames, got {len(true)} files; check the folder"
            )
        # Frames without a truth are matted and not scored.
        alphas: list[Path | None] = [None] * len(frames)
        for index, alpha in enumerate(true):
            alphas[_CRGNN_STEP * index] = alpha
        mask = None if masks is None else _first_mask(masks, path.name)
        clips.append(Clip(path.name, frames, tuple(alphas), first_mask=mask))
    if not clips:
        raise nothing_found(pictures, "crgnn", "a folder for each clip")
    return Dataset("crgnn", folder, clips=tuple(clips), first_frame="count")


def open_davis(root: str | Path) -> Dataset:
    """Find the clips of DAVIS 2016 (Perazzi et al., CVPR 2016), all objects of a frame as one.

    The layout is `JPEGImages/480p/CLIP/*`, `Annotations/480p/CLIP/*` and a list of the clips:
    `ImageSets/480p/val.txt` of DAVIS 2016, or `ImageSets/2016/val.txt` or `2017/val.txt` of DAVIS
    2017. Without a folder of lists all clips count. The first and last frames do not count, as in
    the published evaluation.

    Raises:
        ReadError: something is missing, such as a list in the folder of lists.
    """
    folder = root_folder(root, "davis")
    pictures, truths = _folders_of_davis(folder, "davis")
    clips = []
    for name in _listed_clips(folder, pictures, (pictures.name, "2016", "2017")):
        frames, masks = frames_with_truth(pictures / name, one_of(truths, (name,), "davis"))
        clips.append(Clip(name, frames, masks, "labels"))
    if not clips:
        raise nothing_found(pictures, "davis", "a folder for each clip")
    return Dataset("davis", folder, clips=tuple(clips), last_frame="skip")


def open_davis2017(root: str | Path) -> Dataset:
    """Find the objects of DAVIS 2017 (Pont-Tuset et al., 2017), each as a clip of its own.

    The layout is that of `open_davis`, with the list `ImageSets/2017/val.txt`. The objects of a
    clip are the labels of its first frame; names are CLIP/LABEL. Their mean of J and F is that
    of the published evaluation, without the first and last frames.

    Raises:
        ReadError: something is missing, or a first frame has no objects.
    """
    folder = root_folder(root, "davis2017")
    pictures, truths = _folders_of_davis(folder, "davis2017")
    clips = []
    for name in _listed_clips(folder, pictures, ("2017",)):
        frames, masks = frames_with_truth(pictures / name, one_of(truths, (name,), "davis2017"))
        # Labels of the first frame only: later objects have no prompt.
        for label in _objects(masks[0]):
            clips.append(Clip(f"{name}/{label}", frames, masks, "labels", label=label))
    if not clips:
        raise nothing_found(pictures, "davis2017", "a folder for each clip")
    return Dataset("davis2017", folder, clips=tuple(clips), last_frame="skip")


def open_plain_clips(root: str | Path) -> Dataset:
    """Open a folder for each clip: `clip/frames/*` and `clip/alpha/*`, or binary `clip/masks/*`.

    Frames and truth have the same names.
    """
    folder = root_folder(root, "clips")
    clips = []
    for path in folders(folder):
        frames = one_of(path, ("frames",), "clips")
        truth = one_of(path, ("alpha", "alphas", "masks", "mask"), "clips")
        clips.append(
            Clip(
                path.name,
                *frames_with_truth(frames, truth),
                # Folders of masks hold objects, others alpha.
                "mask" if "mask" in truth.name else "alpha",
            )
        )
    if not clips:
        raise nothing_found(folder, "clips", "folders with frames/ and alpha/ or masks/")
    return Dataset("clips", folder, clips=tuple(clips))


def _folder_of_masks(root: str | Path, name: str) -> Path | None:
    """Return the folder of first masks of a root, if there is one."""
    folder = Path(root).expanduser()
    # The root is a folder of parts, SIZE, or one part of it, SIZE/PART.
    for size in (folder, folder.parent):
        for above in (size.parent, size.parent.parent):
            if (above / name / size.name).is_dir():
                return above / name / size.name
    return None


def _in_parts(
    root: str | Path, layout: str, frames: tuple[str, ...], masks: Path | None
) -> Dataset:
    folder = root_folder(root, layout)
    # The root is then a single part.
    is_part = any((path / "pha").is_dir() for path in folders(folder))
    clips = []
    for part in [folder] if is_part else folders(folder):
        # Masks of VideoMatte lie in folders for the parts, those of YouTubeMatte in one.
        inner = masks / part.name if masks is not None and (masks / part.name).is_dir() else masks
        for path in folders(part):
            name = path.name if is_part else f"{part.name}/{path.name}"
            clips.append(_composited(path, name, frames, inner, layout))
    if not clips:
        raise nothing_found(folder, layout, f"PART/CLIP/{frames[0]}/ and PART/CLIP/pha/")
    # RobustVideoMatting's and MatAnyone's scripts count every frame.
    return Dataset(layout, folder, clips=tuple(clips), first_frame="count")


def _composited(
    path: Path, name: str, frames: tuple[str, ...], masks: Path | None, layout: str
) -> Clip:
    shown, true = frames_with_truth(one_of(path, frames, layout), one_of(path, ("pha",), layout))
    mask = None if masks is None else _first_mask(masks, path.name)
    return Clip(name, shown, true, first_mask=mask)


def _first_mask(masks: Path, name: str) -> Path:
    mask = image_named(masks, name)
    if mask is None:
        raise ReadError(f"{masks}: the first mask of {name} is missing; looked for {name}.png")
    return mask


def _folders_of_davis(folder: Path, layout: str) -> tuple[Path, Path]:
    # The smallest size is the one that is evaluated.
    pictures = one_of(folder, [f"JPEGImages/{size}" for size in _DAVIS_SIZES], layout)
    return pictures, one_of(folder, [f"Annotations/{pictures.name}"], layout)


def _listed_clips(folder: Path, pictures: Path, places: Sequence[str]) -> list[str]:
    """Return the names in the first `ImageSets/PLACE/val.txt` there is; all without `ImageSets`."""
    there = {path.name: path for path in folders(pictures)}
    lists = folder / "ImageSets"
    if not lists.is_dir():
        return list(there)
    for place in places:
        path = lists / place / "val.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            # DAVIS 2016 lists every frame, so that clips come up many times.
            listed = sorted({_clip_in(line) for line in lines if line.strip()})
            # A missing clip is told before any is scored.
            require(listed, there, pictures, "the clip is")
            return listed
    looked = " or ".join(f"{place}/val.txt" for place in places)
    raise ReadError(
        f"{lists}: expected the list of the clips to score, {looked}; add it, or remove the "
        f"folder to score all clips"
    )


def _clip_in(line: str) -> str:
    """Return the clip in a line of a list.

    The line is `bear`, or as in DAVIS 2016 `/JPEGImages/480p/bear/00000.jpg
    /Annotations/480p/bear/00000.png`.
    """
    first = line.split()[0]
    return Path(first).parent.name if "/" in first else first


def _objects(annotation: Path) -> list[int]:
    with Image.open(annotation) as image:
        size = (image.height, image.width)
    # 255 marks pixels that belong to nothing in some of the annotations.
    found = [int(label) for label in np.unique(read_labels(annotation, size, annotation))]
    objects = [label for label in found if label not in (0, 255)]
    if not objects:
        raise ReadError(f"{annotation}: marks no object; get it again")
    return objects
