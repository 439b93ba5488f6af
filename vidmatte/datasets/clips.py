"""Layouts of clips: VideoMatte240K-Test, YouTubeMatte, DAVIS, and a plain one."""

from __future__ import annotations

from pathlib import Path

from vidmatte.datasets.find import (
    folders,
    frames_with_truth,
    image_named,
    nothing_found,
    one_of,
    require,
    root_folder,
)
from vidmatte.datasets.samples import Clip, Dataset
from vidmatte.errors import ReadError

_MASKS_OF_YOUTUBEMATTE = "YouTubeMatte_first_frame_seg_mask"


def open_videomatte(root: str | Path) -> Dataset:
    """VideoMatte240K-Test as Lin et al. (WACV 2022) composed it: `videomatte_motion/0000/com/*`, `.../pha/*`.

    Parts are the folders of the root (`videomatte_static`, `videomatte_motion`); the root may be one part itself.
    """
    return _in_parts(root, "videomatte", ("com",), None)


def open_youtubematte(root: str | Path) -> Dataset:
    """YouTubeMatte (Yang et al., CVPR 2025): `youtubematte_motion/0000/har/*` (harmonised, or `com/`), `.../pha/*`.

    First masks are those of the folder `YouTubeMatte_first_frame_seg_mask` where it lies beside the root or above it.
    """
    folder = Path(root).expanduser()
    places = [folder.parent / _MASKS_OF_YOUTUBEMATTE, folder.parent.parent / _MASKS_OF_YOUTUBEMATTE]
    masks = next((place / folder.name for place in places if (place / folder.name).is_dir()), None)
    return _in_parts(root, "youtubematte", ("har", "com"), masks)


def open_davis(root: str | Path) -> Dataset:
    """DAVIS (Perazzi et al., CVPR 2016): `JPEGImages/480p/NAME/*`, `Annotations/480p/NAME/*`, `ImageSets/*/val.txt`.

    The clips of the list `2016/val.txt`, or of `2017/val.txt`, or all where there is no list. All annotated objects of
    a frame together are the truth, as in DAVIS 2016. `Full-Resolution` is taken where there is no `480p`.
    """
    folder = root_folder(root, "davis")
    sizes = ("480p", "Full-Resolution")
    pictures = one_of(folder, [f"JPEGImages/{size}" for size in sizes], "davis")
    truths = one_of(folder, [f"Annotations/{pictures.name}"], "davis")
    there = {path.name: path for path in folders(pictures)}
    listed = _list_of_davis(folder) or list(there)
    require(listed, there, pictures, "the clip is")
    clips = []
    for name in listed:
        frames, masks = frames_with_truth(there[name], one_of(truths, (name,), "davis"))
        clips.append(Clip(name, frames, masks, "labels"))
    if not clips:
        raise nothing_found(pictures, "davis", "a folder for each clip")
    return Dataset("davis", folder, clips=tuple(clips))


def open_plain_clips(root: str | Path) -> Dataset:
    """A folder for each clip: `clip/frames/*` and either `clip/alpha/*` or binary `clip/masks/*`, of the same names."""
    folder = root_folder(root, "clips")
    clips = []
    for path in folders(folder):
        frames = one_of(path, ("frames",), "clips")
        truth = one_of(path, ("alpha", "alphas", "masks", "mask"), "clips")
        clips.append(
            Clip(
                path.name,
                *frames_with_truth(frames, truth),
                "mask" if "mask" in truth.name else "alpha",
            )
        )
    if not clips:
        raise nothing_found(folder, "clips", "folders with frames/ and alpha/ or masks/")
    return Dataset("clips", folder, clips=tuple(clips))


def _in_parts(
    root: str | Path, layout: str, frames: tuple[str, ...], masks: Path | None
) -> Dataset:
    folder = root_folder(root, layout)
    inside = folders(folder)
    is_part = any((path / "pha").is_dir() for path in inside)
    clips = [
        _composited(
            path, f"{path.name}" if is_part else f"{part.name}/{path.name}", frames, masks, layout
        )
        for part in ([folder] if is_part else inside)
        for path in folders(part)
    ]
    if not clips:
        raise nothing_found(folder, layout, f"PART/CLIP/{frames[0]}/ and PART/CLIP/pha/")
    return Dataset(layout, folder, clips=tuple(clips))


def _composited(
    path: Path, name: str, frames: tuple[str, ...], masks: Path | None, layout: str
) -> Clip:
    shown, true = frames_with_truth(one_of(path, frames, layout), one_of(path, ("pha",), layout))
    mask = None if masks is None else image_named(masks, path.name)
    if masks is not None and mask is None:
        raise ReadError(
            f"{masks}: the first mask of {path.name} is missing; looked for {path.name}.png"
        )
    return Clip(name, shown, true, first_mask=mask)


def _list_of_davis(folder: Path) -> list[str]:
    for year in ("2016", "2017"):
        path = folder / "ImageSets" / year / "val.txt"
        if path.is_file():
            return sorted(
                {
                    _name_of_clip(line)
                    for line in path.read_text(encoding="utf-8").split("\n")
                    if line.strip()
                }
            )
    return []


def _name_of_clip(line: str) -> str:
    """`bear`, or of the form of 2016 `/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png`."""
    first = line.split()[0]
    return Path(first).parent.name if "/" in first else first
