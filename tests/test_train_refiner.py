"""Training of the refiner: mattes with a known truth, their crops and tiles, and what is learnt."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("skimage")

from vidmatte import load_model
from vidmatte.cli import cli
from vidmatte.errors import ReadError
from vidmatte.model.compact.expectation import Expectation
from vidmatte.model.compact.refine import CORE, HALO, Refiner
from vidmatte.synth.corpus import Corpus
from vidmatte.train import REFINER, RefinerConfig, train
from vidmatte.train.matte_files import Matte, is_given, matte_files, read_matte, write_matte
from vidmatte.train.mattes import make_clip_mattes, make_mattes, make_scene
from vidmatte.train.refine import CROP, TileBatches, loss, make_samples, predict


def disc(seed=0, side=420, coarse=140, wrong=6):
    """Return a bright disc on a dark ground, whose coarse matte is too small by `wrong` pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] + 0.5
    distance = np.hypot(rows - side / 2, columns - side / 2)
    truth = np.clip(side / 4 - distance + 0.5, 0, 1)
    small = (np.clip(side / 4 - wrong * side / coarse - distance, 0, 1) > 0.5).astype(np.float32)
    front, back = rng.uniform(150, 255, 3), rng.uniform(0, 80, 3)
    rgb = truth[..., None] * front + (1 - truth[..., None]) * back
    matte = cv2.resize(small, (coarse, coarse), interpolation=cv2.INTER_AREA)
    return Matte(np.rint(rgb).astype(np.uint8), np.rint(255 * truth).astype(np.uint8), matte)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "mattes"
    place.mkdir()
    for number in range(3):
        write_matte(place / f"{number:05d}-0.npz", disc(number))
    return place


def tiny(folder, **changes):
    small = {"steps": 4, "crops": 2, "workers": 0, "precision": "float32", "save_every": 2}
    # What the packaged corrector makes of the discs is not known here.
    small["corrected"] = False
    return RefinerConfig(mattes=str(folder), **(small | changes))


def test_a_matte_is_read_as_it_was_written(tmp_path):
    matte = disc()
    write_matte(tmp_path / "0.npz", matte)
    again = read_matte(tmp_path / "0.npz")
    assert np.array_equal(again.rgb, matte.rgb)
    assert np.array_equal(again.truth, matte.truth)
    np.testing.assert_allclose(again.coarse, matte.coarse, atol=5e-4)  # of float16
    assert again.expected is None
    assert not again.is_given
    assert matte_files(tmp_path) == [tmp_path / "0.npz"]
    before = Expectation(matte.coarse / 2, np.float32(matte.coarse < 0.5))
    write_matte(tmp_path / "1.npz", replace(matte, expected=before, is_given=True))
    again = read_matte(tmp_path / "1.npz")
    assert again.is_given
    assert is_given(tmp_path / "1.npz")
    assert not is_given(tmp_path / "0.npz")
    np.testing.assert_allclose(again.expected.alpha, before.alpha, atol=5e-4)
    assert np.array_equal(again.expected.known, before.known)


def test_a_folder_without_mattes_is_one_line(tmp_path):
    with pytest.raises(ReadError, match="expected coarse mattes"):
        matte_files(tmp_path)
    command = ["train", str(tmp_path / "run"), "--part", "refiner", "--mattes", str(tmp_path)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_tiles_show_what_the_picture_shows_there():
    matte = disc()
    samples = list(make_samples(matte, np.random.default_rng(4)))
    assert len(samples) == 2
    truth = matte.truth.astype(np.float32) / 255
    for sample in samples:
        assert sample["coarse"].shape[1:] == (CROP, CROP)
        top, left, *sizes = sample["geometry"].tolist()
        assert sizes == [140, 140, 420, 420]
        assert 0 <= top <= 140 - CROP
        assert 0 <= left <= 140 - CROP
        # The disc is the same mirrored.
        for (y, x), answer in zip(sample["corners"].tolist(), sample["truth"], strict=True):
            expected = truth[y : y + CORE, x : x + CORE]
            np.testing.assert_allclose(answer[0], expected, atol=1e-6)


def test_the_band_is_where_the_coarse_matte_is_wrong():
    """The matte ends 18 pixels too early: a ring that wide is the band, and within reach."""
    sample = next(make_samples(disc(wrong=6), np.random.default_rng(0)))
    band = sample["band"][0].numpy()
    assert (sample["near"][0].numpy()[band > 0] == 1).all()
    # 6 of the ring, and the neighbours on both sides; the circumference is 2 pi 32 pixels.
    width = band.sum() / (2 * np.pi * 32)
    assert 6 < width < 11


def test_an_untrained_refiner_gives_the_guided_filter(folder):
    batch = TileBatches(tiny(folder))[0]
    net = Refiner().eval()
    with torch.no_grad():
        _, alpha = predict(net, batch)
    guided = batch["fine"].flatten(0, 1)[:, 3:4, HALO:-HALO, HALO:-HALO]
    assert (alpha - guided).abs().max() < 0.03


def test_batches_hold_what_the_corrector_makes_of_a_coarse_matte(folder):
    corrected, raw = (TileBatches(tiny(folder, corrected=each))[0] for each in (True, False))
    again = TileBatches(tiny(folder, corrected=True))[0]
    assert torch.equal(corrected["coarse"], again["coarse"])
    assert not torch.equal(corrected["coarse"], raw["coarse"])


def test_a_refiner_learns_to_move_an_edge(folder):
    """The coarse mattes are 18 pixels too small: farther than the guided filter reaches."""
    losses = []
    config = tiny(folder, steps=60, rate=4e-3, average=0.9, save_every=60)
    net = train(config, folder.parent / "run", REFINER, log=losses.append).eval()
    batch = TileBatches(tiny(folder, seed=9))[0]
    with torch.no_grad():
        _, alpha = predict(net, batch)
        _, figures = loss(net, batch, torch.Generator(), torch.float32)
    truth = batch["truth"].flatten(0, 1)
    assert (alpha.clamp(0, 1) - truth).abs().mean() < 0.5 * figures["guided"]


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(folder, tmp_path):
    def quiet(line):
        pass

    whole = train(tiny(folder, steps=3), tmp_path / "whole", REFINER, log=quiet)
    torch.manual_seed(0)
    net = REFINER.make()
    calls = []

    def count(module, arguments):
        calls.append(module)
        if len(calls) > 2:
            raise KeyboardInterrupt

    net.enter.register_forward_pre_hook(count)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(folder, steps=3), tmp_path / "broken", REFINER, log=quiet, start=net)
    again = train(tiny(folder, steps=3), tmp_path / "broken", REFINER, log=quiet)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_threads_add_gradients_in_a_fixed_order_in_training_alone(folder, tmp_path):
    """Otherwise two threads end a run with other bits now and then."""
    told = []

    def spy(net, batch, generator, precision):
        told.append(torch.are_deterministic_algorithms_enabled())
        return loss(net, batch, generator, precision)

    train(tiny(folder, steps=1), tmp_path / "run", replace(REFINER, loss=spy), log=told.append)
    assert told == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_scenes_are_true_to_their_alpha(corpus):
    photographs = Corpus(corpus, "train")
    for seed in range(6):
        frames, truths = make_scene(photographs, 96, np.random.default_rng(seed))
        again, _ = make_scene(photographs, 96, np.random.default_rng(seed))
        assert len(frames) == len(truths) == 4
        assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))
        for frame, truth in zip(frames, truths, strict=True):
            assert frame.shape == (96, 96, 3)
            assert truth.shape == (96, 96)
            assert 0 <= truth.min() <= truth.max() <= 1


def test_mattes_are_what_the_model_finds(corpus):
    photographs = Corpus(corpus, "train")
    model = load_model(device="cpu")
    mattes = list(make_mattes(model, photographs, np.random.default_rng(2)))
    first, *others = mattes
    assert first.is_given
    assert first.expected is None
    assert len(others) == 3
    for matte in others:
        assert not matte.is_given
        assert matte.expected.alpha.shape == matte.expected.known.shape == matte.coarse.shape
        # The scene moves slowly, so the last matte is nearly this one.
        wrong = np.abs(matte.expected.alpha - matte.coarse)[matte.expected.known > 0]
        assert wrong.mean() < 0.1
    for matte in mattes:
        assert matte.rgb.shape[:2] == matte.truth.shape
        truth = cv2.resize(
            matte.truth / 255, matte.coarse.shape[::-1], interpolation=cv2.INTER_AREA
        )
        assert np.abs(truth - matte.coarse).mean() < 0.25


def test_mattes_of_training_clips_have_windows_no_smaller_than_themselves(corpus):
    photographs = Corpus(corpus, "train")
    model = load_model(device="cpu")
    found = [
        matte
        for seed in range(3)
        for matte in make_clip_mattes(model, photographs, None, np.random.default_rng(seed))
    ]
    assert found
    for matte in found:
        assert matte.rgb.shape[:2] == matte.truth.shape
        assert matte.coarse.shape[0] <= matte.truth.shape[0]
        assert matte.truth.max() > 0
