"""The corrector of coarse mattes: where it may change them, and what it learns."""

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_train_refiner import disc

from vidmatte import load_model
from vidmatte.cli import cli
from vidmatte.errors import ReadError
from vidmatte.frames import FrameBatch
from vidmatte.model.compact.correct import REACH, Corrector, correct, matte_features
from vidmatte.model.compact.expectation import Expectation
from vidmatte.pipeline.segments.chunks import load_tensors, save_tensors
from vidmatte.prompts.prompt import Prompt, Reference
from vidmatte.train import CORRECTOR, CorrectorConfig, train
from vidmatte.train.correct import CROP, CorrectionBatches, loss, make_samples
from vidmatte.train.matte_files import write_matte

CPU = torch.device("cpu")


def shifting(amount):
    """A corrector that adds a number to every logit."""
    net = Corrector().eval()
    torch.nn.init.constant_(net.change.bias, amount / 4)
    return net


def half_plane(side=64, edge=30):
    """Noise as an image of twice the side, and a coarse matte that is 1 up to a column."""
    alpha = np.zeros((side, side), np.float32)
    alpha[:, :edge] = 1
    alpha[:, edge] = 0.5
    detail = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side, 3), np.uint8)
    return detail, alpha


@torch.inference_mode()
def test_a_matte_is_changed_within_reach_of_its_edge_alone():
    detail, alpha = half_plane(edge=30)
    found = correct(shifting(2.0), detail, alpha, CPU)
    inside = np.arange(64)
    near = (inside >= 30 - REACH) & (inside <= 30 + REACH)
    assert np.array_equal(found[:, ~near], alpha[:, ~near])
    # The logit of one half is 0.
    np.testing.assert_allclose(found[:, 30], 1 / (1 + np.exp(-2.0)), atol=1e-6)
    assert (found[:, 31 : 30 + REACH] > alpha[:, 31 : 30 + REACH]).all()


@torch.inference_mode()
@pytest.mark.parametrize("amount", [-1.0, 1.0])
def test_what_was_0_or_1_stays_if_little_would_change(amount):
    """0.02 and 0.98 are what 0 and 1 count as, and would become 0.053 and 0.947 or less."""
    detail, alpha = half_plane(edge=30)
    found = correct(shifting(amount), detail, alpha, CPU)
    edge = np.arange(64) == 30
    assert np.array_equal(found[:, ~edge], alpha[:, ~edge])
    np.testing.assert_allclose(found[:, edge], 1 / (1 + np.exp(-amount)), atol=1e-6)


@torch.inference_mode()
def test_what_is_far_from_the_object_is_not_looked_at():
    seen = []

    def look(coarse, lines, detail):
        seen.append((tuple(coarse.shape[-2:]), detail))
        return torch.zeros_like(coarse[:, :1])

    rgb = np.random.default_rng(0).integers(0, 256, (384, 672, 3), np.uint8)
    alpha = np.zeros((192, 336), np.float32)
    alpha[90:100, 200:230] = 1
    correct(look, rgb, alpha, CPU)
    # The object, the reach and 32 pixels of context; it begins and ends at multiples of 16.
    assert (90 - REACH - 32, 100 + REACH + 32, 200 - REACH - 32, 230 + REACH + 32) == (
        52,
        138,
        162,
        268,
    )
    [(size, detail)] = seen
    assert size == (144 - 48, 272 - 160)
    assert np.array_equal((255 * detail[0].permute(1, 2, 0)).round(), rgb[96:288, 320:544])


@torch.inference_mode()
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_matte_without_an_edge_stays(value):
    detail, _ = half_plane()
    alpha = np.full((64, 64), value, np.float32)
    assert np.array_equal(correct(shifting(2.0), detail, alpha, CPU), alpha)


@torch.inference_mode()
def test_the_matte_before_is_seen_where_it_is_known():
    alpha = np.zeros((64, 64), np.float32)
    alpha[:, :30] = 1
    last, known = np.full((2, 64, 64), 0.25, np.float32)
    known[:] = 0
    known[:20] = 1
    rgb = np.full((64, 64, 3), 0.5, np.float32)
    alone, _ = matte_features(rgb, alpha, None)
    told, _ = matte_features(rgb, alpha, Expectation(last, known))
    assert np.array_equal(told[:-2], alone[:-2])
    assert np.array_equal(alone[-2:], [alpha, np.zeros_like(alpha)])
    assert (told[-2, :20] == 0.25).all()
    assert np.array_equal(told[-2, 20:], alpha[20:])
    assert np.array_equal(told[-1], known)


def test_a_tracker_shows_the_corrector_its_last_matte_moved_along():
    """A square moves by 14 of its 80 pixels: where it was, it would overlap itself by 0.70."""
    seen = []

    class Noting(Corrector):
        def forward(self, coarse, lines, detail):
            seen.append(coarse[0].numpy())
            return torch.zeros_like(coarse[:, :1])

    noise = torch.rand(2, 3, 180, 320, generator=torch.Generator().manual_seed(1))
    dark, bright = torch.nn.functional.avg_pool2d(noise, 5, 1, 2) / 2 + torch.tensor(
        [0.0, 0.5]
    ).view(2, 1, 1, 1)

    def frame(left):
        rgb = dark.clone()
        rgb[..., 50:130, left : left + 80] = bright[..., 50:130, 100:180]
        return rgb[None]

    model = load_model("compact", device="cpu", precision="float32")
    mask = torch.zeros(1, 1, 180, 320)
    mask[..., 50:130, 100:180] = 1
    reference = Reference(frame(100), mask, torch.ones_like(mask), 0)
    predictor = dataclasses.replace(model, corrector=Noting()).with_reference([reference])
    tracker = predictor.tracker()
    tracker.start(reference)
    tracker.step(predictor.shrink(frame(114)))
    [planes] = seen
    found, last = planes[3] > 0.5, planes[-2] > 0.5
    assert (found & last).sum() > 0.9 * (found | last).sum()
    assert 0.6 < planes[-1].mean() < 1


def test_folding_the_norms_changes_no_result():
    torch.manual_seed(0)
    net = Corrector()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    torch.nn.init.normal_(net.change.weight)
    coarse, lines, detail = (
        torch.rand(1, *shape) for shape in ((22, 48, 40), (8, 48, 40), (3, 96, 80))
    )
    folded = net.eval().folded()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    expected = net(coarse, lines, detail)
    assert expected.std() > 0.1
    torch.testing.assert_close(folded(coarse, lines, detail), expected, rtol=1e-3, atol=1e-3)


def test_mattes_that_were_found_are_corrected_and_masks_are_not():
    model = load_model("compact", device="cpu", precision="float32")
    wild = dataclasses.replace(model, corrector=shifting(8.0).folded())
    rgb = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 90, 120)
    mask[..., 20:70, 30:80] = 1
    reference = Reference(rgb, mask, torch.ones_like(mask), 0)
    marks = Prompt(frame=0, points=((55, 45, 1), (5, 5, 0))).reference(rgb, frame=0)
    marked, beside = (FrameBatch(rgb, (frame,), (frame,), (1,)) for frame in (0, 1))

    def is_corrected(given, batch):
        alike, other = (
            each.with_reference([given])(batch).alpha[0, 0].numpy() for each in (model, wild)
        )
        return not np.array_equal(alike, other)

    assert not is_corrected(reference, marked)
    assert is_corrected(reference, beside)
    assert is_corrected(marks, marked)


def test_a_still_picture_keeps_the_matte_of_its_marks():
    model = load_model("compact", device="cpu", precision="float32")
    rgb = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(1)) / 2
    rgb[..., 20:60, 30:80] += 0.5
    reference = Prompt(frame=0, points=((55, 40, 1), (5, 5, 0))).reference(rgb, frame=0)
    wild = dataclasses.replace(model, corrector=shifting(3.0).folded())
    predictor = wild.with_reference([reference])
    tracker = predictor.tracker()
    first = predictor.finish(rgb, tracker.start(reference))
    after = predictor.finish(rgb, tracker.step(predictor.shrink(rgb)))
    # Held alpha is resampled once, from the marked window to the frame.
    assert (first - after).abs().mean() < 0.005


def test_a_tracker_goes_on_from_a_stored_state_to_the_bit(tmp_path):
    model = load_model("compact", device="cpu", precision="float32")
    frames = torch.rand(4, 3, 90, 120, generator=torch.Generator().manual_seed(1))
    frames[:, :, 20:60, 30:80] += 1
    frames /= 2
    mask = torch.zeros(1, 1, 90, 120)
    mask[..., 20:60, 30:80] = 1
    reference = Reference(frames[:1], mask, torch.ones_like(mask), 0)
    predictor = model.with_reference([reference])
    one, other = predictor.tracker(), predictor.tracker()
    one.start(reference)
    for frame in frames[1:]:
        # Written before each step: right after the reference, and after a step that was checked.
        save_tensors(tmp_path / "s", one.state())
        other.restore(load_tensors(tmp_path / "s")[0])
        small = predictor.shrink(frame[None])
        assert torch.equal(one.step(small).alpha, other.step(small).alpha)


def tiny(folder, **changes):
    small = {"steps": 4, "crops": 1, "workers": 0, "precision": "float32", "save_every": 100}
    return CorrectorConfig(mattes=str(folder), **(small | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("mattes")
    for number in range(3):
        write_matte(place / f"{number:05d}-0.npz", disc(number, side=576, coarse=192))
    return place


def test_a_sample_holds_the_true_alpha_of_its_place():
    matte = disc(side=480, coarse=240)
    sample, _ = make_samples(matte, np.random.default_rng(4))
    assert sample["coarse"].shape == (22, CROP, CROP)
    assert sample["lines"].shape == (8, CROP, CROP)
    # A disc of 60 pixels about the middle lies in a crop of 192 of 240, or loses little of it.
    inside = float(sample["alpha"].sum())
    assert 0.9 * np.pi * 60**2 < inside <= np.pi * 60**2 + 1
    # The larger image is that of the same place: dark and bright as the crop, up to the noise.
    halved = torch.nn.functional.avg_pool2d(sample["detail"], 2)
    torch.testing.assert_close(halved, sample["coarse"][:3], rtol=0, atol=1e-5)
    # The matte is too small by 6 of its pixels, and all of that is within reach.
    wrong = (sample["coarse"][3] - sample["alpha"][0]).abs() > 0.1
    assert (sample["near"][0][wrong] == 1).all()


def test_a_corrector_does_not_learn_from_what_was_given(tmp_path):
    for number in range(3):
        given = dataclasses.replace(disc(number, side=576, coarse=192), is_given=number != 1)
        write_matte(tmp_path / f"{number}.npz", given)
    batches = CorrectionBatches(tiny(tmp_path, crops=6))
    _, alone = make_samples(disc(1, side=576, coarse=192), np.random.default_rng(0))
    # Two discs of the same file: all six crops hold as much of the object.
    areas = batches[0]["alpha"].sum((1, 2, 3))
    torch.testing.assert_close(areas, alone["alpha"].sum().expand(6), rtol=1e-3, atol=0)
    (tmp_path / "1.npz").unlink()
    with pytest.raises(ReadError, match="found only masks"):
        CorrectionBatches(tiny(tmp_path))


def test_a_matte_that_lost_its_object_gives_no_sample():
    matte = disc(side=576, coarse=192)
    taken_along = matte.coarse.copy()
    taken_along[8:40, 8:40] = 1
    assert list(make_samples(matte, np.random.default_rng(0)))
    lost = dataclasses.replace(matte, coarse=taken_along)
    assert not list(make_samples(lost, np.random.default_rng(0)))


def test_a_matte_that_is_too_small_for_a_crop_gives_no_sample():
    assert not list(make_samples(disc(side=420, coarse=140), np.random.default_rng(0)))


def test_a_corrector_learns_to_move_an_edge(folder):
    """The coarse mattes are too small by 6 pixels, on a bright disc over a dark ground."""
    torch.manual_seed(0)
    net = train(
        tiny(folder, steps=40, warm_up=5, average=0.8),
        folder.parent / "run",
        CORRECTOR,
        # A small one learns this in a few seconds.
        start=Corrector((8, 16, 16)),
        log=lambda line: None,
    )
    batch = CorrectionBatches(tiny(folder, seed=9))[0]
    with torch.no_grad():
        _, figures = loss(net.eval(), batch, torch.Generator(), torch.float32)
    assert figures["l1"] < 0.5 * figures["before"]


def test_a_folder_without_mattes_is_one_line(tmp_path):
    command = ["train", str(tmp_path / "run"), "--part", "corrector", "--mattes", str(tmp_path)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
