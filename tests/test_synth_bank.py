"""The bank of moving foregrounds, the clips made from it, and the rasteriser that fills it."""

import json

import cv2
import numpy as np
import pytest

from vidmatte.errors import ReadError
from vidmatte.synth.bank import Bank, Entry, read_entries, write_entry, write_index

SIDE, FRAMES = 64, 10


def disc(t, side=SIDE):
    """A disc that grows with t: straight colour and alpha."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    alpha = np.clip(12 + t - np.hypot(x - side / 2, y - side / 2) + 0.5, 0, 1).astype(np.float32)
    colour = np.stack([x / side, y / side, np.full_like(x, 0.5)], -1)
    return colour, alpha


def fill(folder, names, kind="footage", **facts):
    colours, alphas = zip(*(disc(t) for t in range(FRAMES)), strict=True)
    for name in names:
        write_entry(
            folder,
            Entry(name, kind, name, "made by a test", "none", FRAMES, **facts),
            colours,
            alphas,
        )


@pytest.fixture(scope="module")
def bank_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    fill(
        folder,
        [f"footage-{n:03}" for n in range(24)],
        path=tuple((0.02 * t, 0.0) for t in range(FRAMES)),
    )
    yaw = tuple(float(angle) for angle in np.linspace(0, 2 * np.pi, FRAMES))
    fill(folder, [f"mesh-{n:03}" for n in range(24)], kind="mesh", yaw=yaw)
    colours = [cv2.resize(disc(t)[0], (96, 72)) for t in range(FRAMES)]
    for n in range(4):
        name = f"backdrop-{n:03}"
        entry = Entry(name, "backdrop", name, "made by a test", "none", FRAMES)
        write_entry(folder, entry, colours, [None] * FRAMES)
    write_index(folder)
    return folder


def test_frames_come_back_in_any_order(bank_folder):
    bank = Bank(bank_folder, "train")
    entry = bank.footage[0]
    found = bank.pictures(entry, [7, 0, 7, 3], SIDE)
    for picture, t in zip(found, (7, 0, 7, 3), strict=True):
        colour, alpha = disc(t)
        assert np.abs(picture[..., 3] - alpha).max() <= 0.5 / 255 + 1e-6  # lossless but for 8 bits
        assert np.abs(picture[..., :3] - colour * alpha[..., None]).max() < 0.06  # JPEG
    small = bank.pictures(entry, [2], 32)[0]
    assert small.shape == (32, 32, 4)
    assert small[..., 3].sum() * 4 == pytest.approx(disc(2)[1].sum(), rel=0.01)


def test_splits_are_disjoint_and_about_one_in_eight_is_held_out(bank_folder):
    train, held = Bank(bank_folder, "train"), Bank(bank_folder, "held-out")
    names = [{entry.name for entry in [*bank.footage, *bank.rendered]} for bank in (train, held)]
    assert not names[0] & names[1]
    assert len(names[0]) + len(names[1]) == 48
    assert 1 <= len(names[1]) <= 14


def test_entries_of_one_clip_of_footage_are_of_one_split():
    splits = {Entry(f"footage-walk-{n:02}", "footage", "walk", "", "", 8).split for n in range(40)}
    assert len(splits) == 1


def test_a_folder_without_a_bank_is_refused(tmp_path):
    with pytest.raises(ReadError, match="bank"):
        Bank(tmp_path, "train")
    (tmp_path / "bank.json").write_text(json.dumps({"version": 99, "entries": []}))
    with pytest.raises(ReadError, match="99"):
        read_entries(tmp_path)
