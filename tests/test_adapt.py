"""Rehearsal on a clip whose object has two halves that look nothing alike."""

import cv2
import numpy as np
import pytest
import torch

from vidmatte import MatteOptions, Prompt, VidmatteError, load_model, matte
from vidmatte.model.compact.adapt import rehearse
from vidmatte.prompts.prompt import Reference

HEIGHT, WIDTH = 108, 192


pytestmark = pytest.mark.usefixtures("one_thread")


def frame(x):
    """A disc, half red and half green, at x on noise: rgb (1, 3, H, W) and alpha (1, 1, H, W)."""
    rng = np.random.default_rng(0)
    scenery = cv2.resize(rng.random((14, 24, 3), np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    alpha = np.clip(30.5 - np.hypot(across - x, down - 54), 0, 1).astype(np.float32)
    colour = np.where((down < 54)[..., None], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2]).astype(np.float32)
    rgb = np.clip(scenery * (1 - alpha[..., None]) + colour * alpha[..., None], 0, 1)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous(), torch.from_numpy(alpha)[None, None]


@pytest.fixture(scope="module")
def matter():
    rgb, alpha = frame(70)
    model = load_model("compact", device="cpu", precision="float32", working_size=192)
    return model.with_reference([Reference(rgb, alpha, torch.ones_like(alpha), frame=0, neighbour=frame(72)[0])])


def error(matter):
    """Mean absolute error of the working-size mattes over ten frames, each followed from the last."""
    follower = matter.follower()
    rgb, alpha = frame(70)
    follower.start(Reference(rgb, alpha, torch.ones_like(alpha), frame=0))
    errors = []
    for step in range(1, 11):
        rgb, truth = frame(70 + 4 * step)
        found = matter.finish(rgb, follower.step(matter.shrink(rgb)))
        errors.append(float((found - truth).abs().mean()))
    return np.mean(errors)


def weights(matter):
    return {name: value.clone() for name, value in matter.model.net.state_dict().items()}


def test_practice_lowers_the_error_and_leaves_the_model_alone(matter):
    before, error_before = weights(matter), error(matter)
    done = []
    practised = rehearse(matter, steps=12, on_step=done.append)
    assert done == list(range(1, 13))
    assert error(practised) < 0.9 * error_before
    assert all(torch.equal(value, matter.model.net.state_dict()[name]) for name, value in before.items())
    assert practised.model.name == matter.model.name


def test_the_same_seed_gives_the_same_network(matter):
    first, second, other = (weights(rehearse(matter, steps=2, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_was_found_from_marks_is_kept(matter):
    rgb, alpha = frame(70)
    known = torch.zeros_like(alpha)
    known[..., 30:34, 68:72] = known[..., 74:78, 68:72] = known[..., 50:54, 150:154] = 1
    marked = matter.model.with_reference([Reference(rgb, alpha * known, known, frame=0, neighbour=frame(72)[0])])
    practised = rehearse(marked, steps=1)
    assert np.array_equal(practised.references[0].marked.alpha, marked.references[0].marked.alpha)


def test_a_set_of_images_has_no_rehearsal(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(VidmatteError, match="set of images has none"):
        matte(
            [tmp_path / "photo.png"],
            Prompt(points=((5, 5, 1),)),
            alpha=str(tmp_path / "{name}_alpha.png"),
            images=True,
            options=MatteOptions(rehearsal=3),
        )


@pytest.mark.parametrize("steps", [-1, 10_001])
def test_a_length_that_makes_no_sense_is_refused(steps):
    with pytest.raises(VidmatteError, match="rehearsal"):
        MatteOptions(rehearsal=steps)


def test_a_clip_is_practised_for_two_steps_a_frame_at_most(movie, tmp_path, monkeypatch):
    monkeypatch.setattr("vidmatte.pipeline.models.DEFAULT_STEPS", 5)
    calls = []
    for end, expected in (("1", 4), (None, 5)):
        matte(
            movie,
            Prompt(box=(20, 20, 90, 70)),
            alpha=tmp_path / f"to_{end}.mkv",
            options=MatteOptions(end=end, working_size=128),
            on_rehearsal=lambda done, steps: calls.append((done, steps)),
        )
        assert calls == [(step + 1, expected) for step in range(expected)]
        calls.clear()


def test_rehearsals_of_several_objects_are_counted_as_one(movie, tmp_path):
    calls = []
    matte(
        movie,
        {"left": Prompt(box=(10, 10, 60, 70)), "right": Prompt(box=(90, 20, 150, 70))},
        alpha=tmp_path / "{object}.mkv",
        options=MatteOptions(end="0", working_size=128, rehearsal=2),
        on_rehearsal=lambda done, steps: calls.append((done, steps)),
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
