"""Make the entries of a bank: from footage, and by rendering."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import MissingExtraError
from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.bank import BACKDROP, Entry, write_entry
from vidmatte.synth.corpus import Rng
from vidmatte.synth.footage import Mover, as_pictures, find_movers, footage_files, read_frames
from vidmatte.synth.groom import make_clip

if TYPE_CHECKING:
    from vidmatte.synth.corpus import Corpus

_log = logging.getLogger(__name__)
_MESHES = 1
"""Part of the seed of meshes."""
_GROOMS = 2
"""Part of the seed of hair and fur."""
_BACKDROP_WIDTH, _BACKDROP_FRAMES = 320, 24


def fill_from_footage(
    bank: Path,
    footage: Path,
    *,
    source: str,
    licence: str,
    part: slice = slice(None),
) -> None:
    """Cut the movers out of each clip of a folder, and keep some of its frames as backdrops.

    Finished clips are skipped, so an interrupted run can be started again.

    Args:
        bank: folder of the bank.
        footage: folder of clips from a still camera.
        source, licence: origin of the clips, and the terms of their use.
        part: which of the clips, in order of name.

    Raises:
        ReadError: the folder holds no clip, or one cannot be decoded.
    """
    for path in footage_files(footage)[part]:
        mark = bank / f".{path.name}.done"
        if mark.exists():
            continue
        movers = find_movers(path)
        for i, mover in enumerate(movers):
            _write_mover(bank, f"footage-{path.stem}-{i:02}", path, mover, source, licence)
        # A GIF has 256 colours: good enough for a mover that is recoloured, not for a background.
        if path.suffix.lower() != ".gif":
            for i, frames in enumerate(_backdrops(path)):
                name = f"{BACKDROP}-{path.stem}-{i:02}"
                entry = Entry(
                    name, BACKDROP, path.stem, f"{source}: {path.name}", licence, len(frames)
                )
                write_entry(bank, entry, frames, [None] * len(frames))
        mark.touch()
        _log.info("%s: %d movers", path.name, len(movers))


def fill_with_meshes(
    bank: Path, corpus: Corpus, numbers: range, *, frames: int = 32, side: int = 224
) -> None:
    """Render a turning mesh for each number without an entry.

    A number always gives the same entry.

    Raises:
        MissingExtraError: the package `numba` is not installed.
    """
    try:
        from vidmatte.synth.turntable import make_turntable
    except ModuleNotFoundError as error:
        raise MissingExtraError("rendering meshes", "train") from error

    for number in numbers:
        name = f"mesh-{number:04}"
        if (bank / name).exists():
            continue
        turned = make_turntable(
            corpus, np.random.default_rng((number, _MESHES)), frames=frames, side=side
        )
        entry = Entry(
            name, "mesh", name, "rendered by vidmatte", "CC0 1.0", frames, yaw=tuple(turned.yaw)
        )
        write_entry(bank, entry, turned.colours, turned.alphas)
        _log.info("%s", name)


def fill_with_grooms(bank: Path, numbers: range, *, frames: int = 16, side: int = 256) -> None:
    """Draw a head of hair or a furry animal that turns for each number without an entry.

    A number always gives the same entry.

    Raises:
        MissingExtraError: the package `numba` is not installed.
    """
    try:
        from vidmatte.synth.raster import extend
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing hair and fur", "train") from error

    for number in numbers:
        name = f"groom-{number:04}"
        if (bank / name).exists():
            continue
        pictures = _draw_whole_figure(frames, side, np.random.default_rng((number, _GROOMS)))
        alphas = [picture[..., 3] for picture in pictures]
        colours = [extend(picture[..., :3], picture[..., 3]) for picture in pictures]
        is_cut = any(alpha[-1].max() > 0 for alpha in alphas)
        entry = Entry(name, "groom", name, "drawn by vidmatte", "CC0 1.0", frames, cut=is_cut)
        write_entry(bank, entry, colours, alphas)
        _log.info("%s", name)


def _draw_whole_figure(frames: int, side: int, rng: Rng) -> list[Pixels]:
    """Draw figures until one is cut by no side of its pictures but the lower one."""
    while True:
        pictures = make_clip("head" if rng.random() < 0.6 else "animal", side, frames, rng)
        edges = [
            edge.max()
            for picture in pictures
            for edge in (picture[0, :, 3], picture[:, 0, 3], picture[:, -1, 3])
        ]
        if max(edges) == 0:
            return pictures


def _write_mover(
    bank: Path, name: str, path: Path, mover: Mover, source: str, licence: str
) -> None:
    colours, alphas, motion = as_pictures(mover)
    entry = Entry(
        name,
        "footage",
        path.stem,
        f"{source}: {path.name}, frames from {mover.start} on",
        licence,
        len(mover),
        cut=mover.cut,
        plain=path.suffix.lower() == ".gif",
        path=tuple(motion),
    )
    write_entry(bank, entry, colours, alphas)


def _backdrops(path: Path) -> Iterator[list[NDArray[np.float32]]]:
    """Yield up to four spans of frames (h, w, 3) 0-1, the ones with most motion, made small."""
    small = []
    for index, frame in enumerate(read_frames(path)):
        # Every second frame: backdrops move at about the rate of the movers.
        if index % 2:
            continue
        size = (_BACKDROP_WIDTH, round(frame.shape[0] * _BACKDROP_WIDTH / frame.shape[1]))
        small.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    # The last span may be half as long as the others.
    spans = [small[i : i + _BACKDROP_FRAMES] for i in range(0, len(small) - 11, _BACKDROP_FRAMES)]
    # Mean difference of the first and the last frame in codes.
    moves = [float(np.abs(span[0].astype(int) - span[-1]).mean()) for span in spans]
    most = np.argsort(moves)[::-1][:4]
    for i in sorted(most):
        yield [np.asarray(frame, np.float32) / np.float32(255) for frame in spans[i]]
