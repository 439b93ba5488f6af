"""Mask the subjects of a corpus: `python -m vidmatte.train.subjects CORPUS MASKS`.

A photograph alone does not tell its subject from what stands beside it, but the subject is all that
several photographs of it share (co-segmentation, Rother et al., CVPR 2006). GrabCut makes a first
guess for each photograph. A linear classifier on the features of `compact`'s trunk, fitted to the
masks of the other photographs of the subject, finds it again in each; GrabCut sharpens its answer.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import VidmatteError
from vidmatte.imaging.arrays import Alpha, Rgb8
from vidmatte.media.atomic import atomic_write
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.weights import load_packaged, load_strictly
from vidmatte.synth.corpus import (
    SUBJECT_PREFIX,
    grab_cut,
    grab_middle,
    photographs,
    read_photograph,
)

_log = logging.getLogger(__name__)

SIDE = 384
"""Longer side in pixels at which photographs are masked."""
_ROUNDS = 3
_RIDGE = 3e-4
_SURE_OBJECT, _LIKELY, _SURE_BACKGROUND = 0.75, 0.05, -0.55
"""Scores of the classifier, 1 on the object and -1 off it, that GrabCut takes as given."""
_LARGE_PIECE = 0.25
"""Size of a second piece of a subject, as a share of the largest one."""
_LEAST, _MOST = 0.02, 0.7
"""Shares of a photograph that a subject may cover."""

Mask = NDArray[np.bool_]


def find_subjects(photos: Sequence[Rgb8], features: Sequence[NDArray[np.float32]]) -> list[Mask]:
    """Mask the subject that photographs share.

    Args:
        photos: (h, w, 3) each, two or more.
        features: (h', w', C) of each photograph.

    Returns:
        (h, w) for each photograph, True on the subject.
    """
    masks = [grab_middle(photo) for photo in photos]
    for _ in range(_ROUNDS):
        scores = [_score(k, features, masks) for k in range(len(photos))]
        masks = [
            _sharpened(photo, score, before)
            for photo, score, before in zip(photos, scores, masks, strict=True)
        ]
    return masks


def _score(
    number: int, features: Sequence[NDArray[np.float32]], masks: Sequence[Mask]
) -> NDArray[np.float32]:
    """Return the score (h', w') of a photograph by a classifier of all the others."""
    rows = []
    targets = []
    weights = []
    for other, (maps, mask) in enumerate(zip(features, masks, strict=True)):
        if other == number:
            continue
        share = _shrunk(mask, maps.shape[:2]).reshape(-1)
        rows.append(_with_constant(maps))
        targets.append(2 * share - 1)
        # Object and background count the same, in each photograph.
        weights.append(share / max(share.sum(), 1) + (1 - share) / max((1 - share).sum(), 1))
    known = np.concatenate(rows).astype(np.float64)
    weight = np.concatenate(weights)[:, None] / sum(each.sum() for each in weights)
    gram = (known * weight).T @ known + _RIDGE * np.eye(known.shape[1])
    fit = np.linalg.solve(gram, (known * weight).T @ np.concatenate(targets))
    found = _with_constant(features[number]) @ fit
    return np.asarray(found.reshape(features[number].shape[:2]), np.float32)


def _with_constant(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features (h', w', C) as (h' w', C + 1)."""
    flat = maps.reshape(-1, maps.shape[-1])
    return np.hstack([flat, np.ones((len(flat), 1), np.float32)])


def _shrunk(mask: Mask, size: tuple[int, int]) -> Alpha:
    shrunk = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32)


def _sharpened(photo: Rgb8, score: NDArray[np.float32], before: Mask) -> Mask:
    """Return GrabCut's mask within what a score (h', w') leaves open."""
    height, width = photo.shape[:2]
    enlarged = cv2.resize(score, (width, height), interpolation=cv2.INTER_CUBIC)
    labels = np.where(enlarged > _LIKELY, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[enlarged > _SURE_OBJECT] = cv2.GC_FGD
    labels[enlarged < _SURE_BACKGROUND] = cv2.GC_BGD
    object_share = float((labels % 2 == 1).mean())
    if not 0.001 < object_share < 0.999:
        # GrabCut needs both.
        return before
    found = grab_cut(photo, labels, rounds=2)
    # Opening removes threads of a pixel between the object and its surroundings.
    opened = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return before
    sizes = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(sizes > _LARGE_PIECE * sizes.max())
    return np.isin(pieces, large)


def describe(net: CompactNet, photo: Rgb8) -> NDArray[np.float32]:
    """Return the trunk's features (h / 8, w / 8, C) of a photograph (h, w, 3)."""
    rgb = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1)))[None].float() / 255
    with torch.inference_mode():
        taps = torch.cat(net.tap_trunk(rgb), 1)[0]
    return np.ascontiguousarray(taps.permute(1, 2, 0).numpy())


def write_masks(corpus: Path, folder: Path) -> int:
    """Write the masks of a corpus' subjects to a folder; return how many there are.

    A mask has the name of its photograph and its proportions, and is left out if it covers hardly
    anything or nearly all. A subject with a single photograph has none.

    Raises:
        ReadError: a photograph cannot be read, or there are none.
        OSError: a mask cannot be written.
    """
    net = CompactNet().eval()
    load_strictly(net, load_packaged("compact"), "model 'compact'")
    paths = [path for side in ("train", "held-out") for path in photographs(corpus, side)]
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        if path.name.startswith(SUBJECT_PREFIX):
            # dog2_03 and dog3_01 show two dogs.
            groups.setdefault(path.stem.rpartition("_")[0], []).append(path)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for name, group in groups.items():
        if len(group) < 2:
            continue
        photos = [_sized(read_photograph(path, SIDE)) for path in group]
        masks = find_subjects(photos, [describe(net, photo) for photo in photos])
        usable = [i for i, mask in enumerate(masks) if _LEAST < mask.mean() < _MOST]
        for i in usable:
            _, packed = cv2.imencode(".png", masks[i].astype(np.uint8) * 255)
            atomic_write(folder / f"{group[i].stem}.png", packed.tobytes())
        written += len(usable)
        _log.info("%s: %d of %d photographs", name, len(usable), len(group))
    return written


def _sized(photo: Rgb8) -> Rgb8:
    """Return a photograph at a size that the trunk divides evenly."""
    height, width = (16 * max(1, round(side / 16)) for side in photo.shape[:2])
    return np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the masks, and return the exit code: 0, or 1 after an error that was logged."""
    parser = argparse.ArgumentParser(
        prog="python -m vidmatte.train.subjects",
        description="Mask the subjects of a corpus, each by all of its photographs.",
    )
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="Folder with images/*.jpg.")
    parser.add_argument("masks", type=Path, metavar="MASKS", help="Folder to write PNG files to.")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        count = write_masks(given.corpus, given.masks)
    except (VidmatteError, OSError) as error:
        _log.error("Error: %s", error)
        return 1
    _log.info("%s: %d masks", given.masks, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
