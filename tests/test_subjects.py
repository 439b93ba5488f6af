"""Photographs of one subject: its masks, and the pairs that are made of them."""

import string

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage")
pytest.importorskip("pymatting")

from click.testing import CliRunner

from vidmatte.cli import cli
from vidmatte.errors import ReadError
from vidmatte.metrics import region_overlap
from vidmatte.synth.corpus import Corpus
from vidmatte.synth.pairs import make_pair
from vidmatte.train.network import Batches, TrainConfig
from vidmatte.train.subjects import find_subjects, main

SIDE = 128
RED, GREEN, BLUE = (200, 40, 40), (40, 180, 60), (50, 60, 200)


def photograph(x, y, background, beside=None):
    """A red disc over a background, with a square of another colour beside it; and its mask."""
    rng = np.random.default_rng(x)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    picture = np.empty((SIDE, SIDE, 3))
    picture[:] = background
    if beside is not None:
        picture[y - 19 : y + 19, x + 16 : x + 43] = beside
    disc = np.hypot(columns - x, rows - y) < 24
    picture[disc] = RED
    noisy = np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    return noisy, disc


PHOTOGRAPHS = [
    photograph(58, 64, (150, 150, 150), GREEN),
    photograph(67, 58, (90, 120, 140), BLUE),
    photograph(64, 67, (200, 190, 150)),
    photograph(60, 60, (60, 90, 70)),
    photograph(70, 64, (110, 100, 160)),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "images").mkdir()
    for letter in "ab":
        # Both are trained on.
        for number, (picture, _) in enumerate(PHOTOGRAPHS):
            path = folder / "images" / f"dreambooth_{letter}_{number:02}.jpg"
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    rng = np.random.default_rng(0)
    for letter in string.ascii_lowercase:
        noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"other{letter}.jpg"), cv2.resize(noise, (96, 96)))
    return folder


@pytest.fixture(scope="module")
def masks(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    assert main([str(corpus), str(folder)]) == 0
    return folder


def test_what_photographs_share_is_told_from_what_stands_beside_it():
    # Colours as features: only red is in all three.
    photos = [picture for picture, _ in PHOTOGRAPHS]
    features = [cv2.resize(p, (24, 24), interpolation=cv2.INTER_AREA) / 255 for p in photos]
    found = find_subjects(photos, [each.astype(np.float32) for each in features])
    for mask, (_, disc) in zip(found, PHOTOGRAPHS, strict=True):
        assert region_overlap(mask.astype(np.float32), disc.astype(np.float32)) > 0.93


def test_a_command_writes_a_mask_for_each_photograph_of_a_subject(corpus, masks):
    names = {path.stem for path in corpus.glob("images/dreambooth_*.jpg")}
    assert {path.stem for path in masks.glob("*.png")} == names
    for number, (_, disc) in enumerate(PHOTOGRAPHS):
        mask = cv2.imread(str(masks / f"dreambooth_a_{number:02}.png"), cv2.IMREAD_GRAYSCALE)
        assert set(np.unique(mask)) == {0, 255}
        # The trunk is made for photographs, and takes a flat square for a part of the disc.
        least = 0.6 if number < 2 else 0.95
        assert region_overlap(mask / np.float32(255), disc.astype(np.float32)) > least


def test_a_pair_shows_one_subject_twice_and_knows_no_motion(corpus, masks):
    photographs = Corpus(corpus, "train", masks=masks)
    for seed in range(6):
        clip = make_pair(photographs, (64, 96), "clicks", seed)
        again = make_pair(Corpus(corpus, "train", masks=masks), (64, 96), "clicks", seed)
        assert np.array_equal(clip.rgb, again.rgb)
        assert np.array_equal(clip.alpha, again.alpha)
        assert clip.rgb.shape == (2, 3, 64, 96)
        assert not clip.flow_known.any()
        for rgb, alpha in zip(clip.rgb.astype(float), clip.alpha[:, 0], strict=True):
            inside = alpha > 200
            redness = rgb[0] - rgb[1:].mean(0)
            assert 0.02 < inside.mean() < 0.95
            assert redness[inside].mean() > redness[alpha < 20].mean() + 20
        marked = clip.known[0] > 0
        assert (clip.alpha[0, 0][marked] > 180).any()


def test_a_corpus_without_subjects_has_no_pairs(corpus, tmp_path):
    (tmp_path / "images").mkdir()
    for path in corpus.glob("images/other*.jpg"):
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    assert make_pair(Corpus(tmp_path, "train"), (32, 32), "mask", 0) is None


def test_a_photograph_whose_mask_was_deleted_is_in_no_pair(corpus, masks, tmp_path):
    for path in masks.glob("*_0[01].png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    photographs = Corpus(corpus, "train", masks=tmp_path)
    assert make_pair(photographs, (64, 96), "mask", 0) is not None
    for path in tmp_path.glob("*_00.png"):
        path.unlink()
    assert make_pair(Corpus(corpus, "train", masks=tmp_path), (64, 96), "mask", 0) is None


def test_batches_hold_pairs_or_clips(corpus, masks):
    shape = {"pixels": 20_000, "sizes": ((64, 64, 1.0),), "frames": (3, 3), "workers": 0}
    config = TrainConfig(corpus=str(corpus), masks=str(masks), pair_share=0.5, **shape)
    batches = Batches(config)
    kinds = set()
    for index in range(8):
        batch = batches[index]
        is_pair = not batch["flow_known"].any()
        assert batch["rgb"].shape[1] == 2 or not is_pair
        kinds.add(is_pair)
    assert kinds == {True, False}


def test_masks_of_another_corpus_are_refused(corpus, tmp_path):
    with pytest.raises(ReadError, match="expected masks of the subjects"):
        Corpus(corpus, "train", masks=tmp_path)


def test_the_refiner_learns_from_no_masks(corpus, tmp_path):
    options = ["--corpus", str(corpus), "--masks", str(tmp_path), "--part", "refiner"]
    result = CliRunner().invoke(cli, ["train", str(tmp_path / "run"), *options])
    assert result.exit_code == 2
    assert "--masks was given, but the refiner does not learn from it" in result.stderr
