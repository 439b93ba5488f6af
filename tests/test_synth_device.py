"""Clips composed on the training device: against a scene computed by hand, and another estimate."""

import cv2
import numpy as np
import pytest
import torch

from vidmatte.errors import OptionError
from vidmatte.synth.device import (
    PHOTO,
    PICTURE,
    Atlas,
    _Batch,
    _Sprites,
    make_atlas,
    make_batch,
    to_matrices,
)
from vidmatte.synth.render import flow_between, to_matrix
from vidmatte.train import NETWORK, TrainConfig, train
from vidmatte.train.network import DeviceBatches

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (96, 128)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def atlas():
    """Two textured backgrounds, a textured disc, and a square that grows over three pictures."""
    rng = np.random.default_rng(0)

    def texture(side):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)

    photos = np.stack([texture(PHOTO).transpose(2, 0, 1) for _ in range(2)])
    y, x = np.mgrid[:PICTURE, :PICTURE] - (PICTURE - 1) / 2
    disc = np.clip(0.4 * PICTURE - np.hypot(x, y), 0, 1)
    squares = [((abs(x) < r) & (abs(y) < r)).astype(float) for r in (40, 50, 60)]
    pictures = []
    for alpha in (disc, *squares):
        colour = texture(PICTURE) * alpha[..., None]
        pictures.append(np.dstack([colour, 255 * alpha]).transpose(2, 0, 1).astype(np.uint8))
    return Atlas(
        torch.from_numpy(photos),
        torch.from_numpy(np.stack(pictures)),
        torch.tensor([0, 1]),
        torch.tensor([1, 3]),
    )


def still(clips, frames):
    """A disc in the middle, as large as the frame is high, without any motion."""
    return _Sprites(
        torch.zeros(clips, frames, dtype=torch.long),
        torch.zeros(clips, frames, 6),
        torch.zeros(clips, frames, 2, 4, 4),
        torch.ones(clips, 3),
    )


def test_poses_make_the_maps_of_the_other_renderer():
    poses = np.random.default_rng(0).normal(size=(5, 6))
    expected = np.stack([to_matrix(pose) for pose in poses])
    assert to_matrices(torch.from_numpy(poses)).numpy() == pytest.approx(expected)


def test_a_sprite_covers_the_disc_that_it_should(atlas):
    batch = _Batch(atlas, SIZE, 2, 1, generator())
    layer = still(1, 2)
    crops = torch.tensor([[96.0, 0, 64], [0, 96, 48], [0, 0, 1]]).expand(1, 2, 3, 3)
    _, shares = batch._render([layer], 0, torch.tensor([0]), torch.zeros(1, 2, 6), crops, 0.0)
    y, x = np.mgrid[:96, :128] + 0.0
    # The picture's disc, whose edge is one of its own pixels wide, at the scale of the frame.
    truth = np.clip(0.4 * PICTURE - np.hypot(x - 64, y - 48) * PICTURE / 96, 0, 1)
    found = shares[0, 0, 1].numpy()
    assert np.abs(found - truth).max() < 0.25
    assert np.abs(found - truth).mean() < 0.002
    assert torch.allclose(shares.sum(2), torch.ones(1, 2, *SIZE), atol=1e-5)


@pytest.mark.parametrize("prompt", ["mask", "clicks", "strokes", "box"])
def test_marks_agree_with_alpha(atlas, prompt):
    batch = make_batch(atlas, SIZE, 3, 8, prompt, generator(1))
    alpha = batch["alpha"][:, 0].float()
    known = batch["known"] > 0
    assert batch["rgb"].shape == (8, 3, 3, *SIZE)
    assert known.flatten(1).any(1).all()
    wrong = (batch["labels"].float() - alpha).abs()[known]
    # A box is drawn around the solid part; other marks are on pixels that are surely on a side.
    assert wrong.max() <= (180 if prompt == "box" else 75)
    if prompt in ("clicks", "strokes"):
        assert known.float().mean() < 0.2


def test_the_same_seed_makes_the_same_clips(atlas):
    first, second = (make_batch(atlas, SIZE, 3, 2, "clicks", generator(5)) for _ in range(2))
    other = make_batch(atlas, SIZE, 3, 2, "clicks", generator(6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["rgb"], other["rgb"])


def test_known_flow_agrees_with_an_estimate(atlas):
    """Where both are sure, the scene's flow is that of an optical flow between the frames."""
    batch = make_batch(atlas, SIZE, 4, 12, "clicks", generator(2))
    apart = []
    for i in range(12):
        for t in (2, 3):
            other = abs(t - 1)
            between = np.vstack([batch["between"][i, t].numpy(), [0, 0, 1]])
            now, before = (batch["rgb"][i, k].permute(1, 2, 0).numpy() for k in (t, other))
            flow, known = flow_between(now, before, between)
            sure = (known > 0) & (batch["flow_known"][i, t].numpy() > 0)
            difference = np.linalg.norm(flow - batch["flow"][i, t].numpy(), axis=-1)
            if sure.mean() > 0.1:
                apart.append(np.median(difference[sure]))
    assert len(apart) > 10
    assert np.median(apart) < 1.0


def test_a_network_learns_from_clips_of_the_device(corpus, tmp_path):
    config = TrainConfig(
        str(corpus),
        steps=2,
        pixels=16_000,
        sizes=((64, 64, 1.0),),
        frames=(2, 3),
        workers=0,
        precision="float32",
        synthesis="device",
        sprites=6,
    )
    batch, again = (DeviceBatches(config)[0] for _ in range(2))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    lines = []
    net = train(config, tmp_path / "run", NETWORK, log=lines.append)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_sprites_do_not_depend_on_the_number_of_processes(corpus):
    alone = make_atlas(str(corpus), None, 3)
    shared = make_atlas(str(corpus), None, 3, workers=2)
    assert torch.equal(alone.pictures, shared.pictures)
    assert torch.equal(alone.first, shared.first)


def test_clips_are_made_in_one_of_two_places(corpus):
    with pytest.raises(OptionError, match="processor or device"):
        TrainConfig(str(corpus), synthesis="cloud")
