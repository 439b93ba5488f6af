"""A bank of moving foregrounds on disk, made once, for composing training clips.

    BANK/bank.json                  every entry, with its source and licence
    BANK/<kind>-<number>/entry.json one entry
    BANK/<kind>-<number>/frames.zip its frames, stored: NNN.jpg straight colour, NNN.png alpha

Frames are square, and each shows one object in the middle; the entry's path holds its motion. The
colour continues beyond the alpha, so soft pixels show nothing of an old background.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.errors import ReadError
from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Rng, Split

_log = logging.getLogger(__name__)
_VERSION = 1
_JPEG_QUALITY = 90
RENDERED = ("mesh", "groom")
"""Kinds with rendered frames."""
BACKDROP = "backdrop"
"""The kind with whole moving backgrounds as frames, without alpha."""


@dataclass(frozen=True)
class Entry:
    """One moving foreground of a bank.

    Attributes:
        name: name of its folder, `<kind>-<number>`.
        kind: "footage" (cut out of real footage), "mesh" (rendered), "groom" (drawn hair and fur)
            or "backdrop" (no alpha).
        group: entries of one group are in one split: those of a clip of footage, or one render.
        source, licence: origin of the entry, and the terms of its use.
        frames: number of frames.
        rate: frames per second of its motion.
        cut: whether the lower edge of the original frame cuts it.
        plain: whether its colours are poor and better replaced.
        path: (frames, 2) x and y of its centre, in sides of its picture, relative to frame 0.
        yaw: rotation about its upright axis in each frame, radians; empty if unknown.
    """

    name: str
    kind: str
    group: str
    source: str
    licence: str
    frames: int
    rate: float = 12.5
    cut: bool = False
    plain: bool = False
    path: tuple[tuple[float, float], ...] = ()
    yaw: tuple[float, ...] = ()

    @property
    def is_rendered(self) -> bool:
        """Whether its frames are rendered."""
        return self.kind in RENDERED

    @property
    def split(self) -> Split:
        """Split of the entry: "held-out" for about one group in eight."""
        # The same on every machine, and as the bank grows.
        return "held-out" if hashlib.sha256(self.group.encode()).digest()[0] % 8 == 0 else "train"


class Bank:
    """The entries of one split of a bank.

    Args:
        folder: folder of `bank.json`.
        split: "train" or "held-out"; no group of entries is in both.

    Raises:
        ReadError: the folder holds no bank, one of another version, or none of the split.
    """

    def __init__(self, folder: str | Path, split: Split) -> None:
        self.folder = Path(folder)
        entries = [entry for entry in read_entries(self.folder) if entry.split == split]
        self.footage = [
            entry for entry in entries if not entry.is_rendered and entry.kind != BACKDROP
        ]
        self.rendered = [entry for entry in entries if entry.is_rendered]
        self.backdrops = [entry for entry in entries if entry.kind == BACKDROP]
        if not self.footage and not self.rendered:
            raise ReadError(
                f"{folder}: expected a bank with {split} foregrounds, found none; "
                f"make more entries with python -m vidmatte.synth"
            )

    def draw(self, rng: Rng, render_share: float) -> Entry:
        """Return a random entry; a rendered one with a chance of `render_share`, if both exist."""
        rendered = rng.random() < render_share
        # The other kind stands in for one that the bank lacks.
        pool = (self.rendered or self.footage) if rendered else (self.footage or self.rendered)
        # Kinds are as frequent as each other, whatever the number of their entries.
        kinds = sorted({entry.kind for entry in pool})
        kind = kinds[rng.integers(len(kinds))] if len(kinds) > 1 else kinds[0]
        of_kind = [entry for entry in pool if entry.kind == kind]
        return of_kind[rng.integers(len(of_kind))]

    def pictures(self, entry: Entry, times: Sequence[int], side: int) -> list[Pixels]:
        """Return frames of an entry, in the order of `times`, premultiplied (side, side, 4) 0-1."""
        decoded: dict[int, Pixels] = {}
        # JPEG for colour and PNG for alpha: colour may lose detail, alpha must not.
        with zipfile.ZipFile(self.folder / entry.name / "frames.zip") as pack:
            # Each frame is decoded once, also if the clip shows it several times.
            for t in sorted(set(times)):
                colour = _decode(pack.read(f"{t:03}.jpg"), cv2.IMREAD_COLOR)
                alpha = _decode(pack.read(f"{t:03}.png"), cv2.IMREAD_GRAYSCALE)
                decoded[t] = _premultiplied(colour, alpha, side)
        return [decoded[t] for t in times]

    def backgrounds(self, entry: Entry, times: Sequence[int]) -> list[Pixels]:
        """Return frames of a backdrop, in the order of `times`, (h, w, 3) float32 0-1."""
        decoded: dict[int, Pixels] = {}
        with zipfile.ZipFile(self.folder / entry.name / "frames.zip") as pack:
            for t in sorted(set(times)):
                colour = cv2.cvtColor(
                    _decode(pack.read(f"{t:03}.jpg"), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
                )
                decoded[t] = np.asarray(colour, np.float32) / np.float32(255)
        return [decoded[t] for t in times]


def read_entries(folder: str | Path) -> list[Entry]:
    """Return the entries of a bank, from its `bank.json`.

    Raises:
        ReadError: the file is missing, damaged, or of another version.
    """
    path = Path(folder) / "bank.json"
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{path}: expected a bank, but cannot read it ({error}); "
            f"make one with python -m vidmatte.synth"
        ) from error
    if facts.get("version") != _VERSION:
        raise ReadError(
            f"{path}: expected version {_VERSION} of a bank, found {facts.get('version')}; "
            f"make it again"
        )
    return [_as_entry(entry) for entry in facts["entries"]]


def write_entry(
    folder: str | Path, entry: Entry, colours: Sequence[Pixels], alphas: Sequence[Pixels | None]
) -> None:
    """Write an entry and its frames; its folder appears whole or not at all.

    Args:
        folder: folder of the bank.
        entry: description of the entry.
        colours: straight colour of each frame, (S, S, 3) 0-1.
        alphas: alpha of each frame, (S, S) 0-1; None for a backdrop.
    """
    place = Path(folder) / entry.name
    making = place.with_name(f".{entry.name}.part")
    # A part folder of an interrupted run may be there.
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    with zipfile.ZipFile(making / "frames.zip", "w", zipfile.ZIP_STORED) as pack:
        for t, (colour, alpha) in enumerate(zip(colours, alphas, strict=True)):
            codes = np.asarray(cv2.cvtColor(to_codes(colour), cv2.COLOR_RGB2BGR), np.uint8)
            pack.writestr(
                # Stored, not deflated: JPEG and PNG are compressed already.
                f"{t:03}.jpg",
                _encode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]),
            )
            if alpha is not None:
                pack.writestr(f"{t:03}.png", _encode(".png", to_codes(alpha), []))
    (making / "entry.json").write_text(json.dumps(asdict(entry)))
    # The new entry replaces an old one of the same name by a rename.
    shutil.rmtree(place, ignore_errors=True)
    making.rename(place)


def write_index(folder: str | Path) -> list[Entry]:
    """Write `bank.json` from all entries in a bank's folder, and return them."""
    folder = Path(folder)
    entries = [
        _as_entry(json.loads(path.read_text())) for path in sorted(folder.glob("*/entry.json"))
    ]
    facts = {"version": _VERSION, "entries": [asdict(entry) for entry in entries]}
    part = folder / ".bank.json.part"
    part.write_text(json.dumps(facts, indent=1))
    os.replace(part, folder / "bank.json")
    return entries


def _as_entry(facts: dict[str, object]) -> Entry:
    path = tuple((float(x), float(y)) for x, y in facts.get("path", ()))  # type: ignore[attr-defined]
    yaw = tuple(float(angle) for angle in facts.get("yaw", ()))  # type: ignore[attr-defined]
    return Entry(**{**facts, "path": path, "yaw": yaw})  # type: ignore[arg-type]


def _premultiplied(colour: NDArray[np.uint8], alpha: NDArray[np.uint8], side: int) -> Pixels:
    """Return straight BGR codes and alpha as a premultiplied RGBA picture of a given side."""
    picture = np.dstack([cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), alpha])
    if picture.shape[0] != side:
        how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, (side, side), interpolation=how))
    scaled = picture.astype(np.float32) / np.float32(255)
    # Resampling comes first, and in straight colour, as colour continues beyond the alpha.
    scaled[..., :3] *= scaled[..., 3:]
    return scaled


def _decode(packed: bytes, how: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(packed, np.uint8), how), np.uint8)


def _encode(suffix: str, codes: NDArray[np.uint8], options: list[int]) -> bytes:
    _, packed = cv2.imencode(suffix, codes, options)
    return packed.tobytes()


def to_codes(image: Pixels) -> NDArray[np.uint8]:
    """Return an image 0-1 as 8-bit codes."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def choose_times(
    entry: Entry, frames: int, rng: Rng, *, far: float = 0.5, turned: bool = False
) -> list[int]:
    """Return frames of an entry for a clip: the reference, then others in order, with a stride.

    With a chance of `far`, frame 1 is any frame and not one near the reference. With `turned`, the
    object has made about half a turn in frame 1, if the entry has a yaw.
    """
    last = entry.frames - 1
    stride = int(rng.integers(1, 4))
    if rng.random() >= 0.7:
        stride = -stride
    first = int(rng.integers(entry.frames))
    start = first + stride
    if rng.random() < far:
        start = int(rng.integers(entry.frames))
    if turned and entry.yaw:
        # Smallest angle to the yaw of the reference, 0 to pi.
        since = np.array(entry.yaw) - entry.yaw[first]
        away = np.abs((since + np.pi) % (2 * np.pi) - np.pi)
        turned_ones = np.flatnonzero(away > min(2.6, float(away.max())))
        start = int(rng.choice(turned_ones)) if len(turned_ones) else int(away.argmax())
    # After the last frame the motion runs backward.
    return [first] + [_fold(start + stride * t, last) for t in range(frames - 1)]


def _fold(t: int, last: int) -> int:
    # Reflect time at both ends: 0 1 2 1 0 1 2.
    t %= max(1, 2 * last)
    return min(t, 2 * last - t) if last else 0
