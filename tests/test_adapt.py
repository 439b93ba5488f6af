"""Adaptation on a clip whose object has two halves that look nothing alike."""

import cv2
import numpy as np
import pytest
import torch

from vidmatte import MatteOptions, Prompt, VidmatteError, load_model, matte
from vidmatte.model.compact.adapt import _cut, _training_clip, _training_size, adapt
from vidmatte.prompts.prompt import Reference

HEIGHT, WIDTH = 108, 192


pytestmark = pytest.mark.usefixtures("one_thread")


def frame(x):
    """A disc, half red and half green, at x on noise: rgb (1, 3, H, W) and alpha (1, 1, H, W)."""
    rng = np.random.default_rng(0)
    scenery = cv2.resize(
        rng.random((14, 24, 3), np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    alpha = np.clip(30.5 - np.hypot(across - x, down - 54), 0, 1).astype(np.float32)
    colour = np.where((down < 54)[..., None], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2]).astype(np.float32)
    rgb = np.clip(scenery * (1 - alpha[..., None]) + colour * alpha[..., None], 0, 1)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous(), torch.from_numpy(alpha)[
        None, None
    ]


@pytest.fixture(scope="module")
def predictor():
    rgb, alpha = frame(70)
    model = load_model("compact", device="cpu", precision="float32", working_size=192)
    return model.with_reference(
        [Reference(rgb, alpha, torch.ones_like(alpha), frame=0, adjacent=frame(72)[0])]
    )


def error(predictor):
    """Return the mean absolute error of working-size mattes over ten tracked frames."""
    tracker = predictor.tracker()
    rgb, alpha = frame(70)
    tracker.start(Reference(rgb, alpha, torch.ones_like(alpha), frame=0))
    errors = []
    for step in range(1, 11):
        rgb, truth = frame(70 + 4 * step)
        found = predictor.finish(rgb, tracker.step(predictor.shrink(rgb)))
        errors.append(float((found - truth).abs().mean()))
    return np.mean(errors)


def weights(predictor):
    return {name: value.clone() for name, value in predictor.model.net.state_dict().items()}


def test_adaptation_lowers_the_error_and_leaves_the_model_alone(predictor):
    before, error_before = weights(predictor), error(predictor)
    done = []
    adapted = adapt(predictor, steps=12, on_step=done.append)
    assert done == list(range(1, 13))
    assert error(adapted) < 0.9 * error_before
    assert all(
        torch.equal(value, predictor.model.net.state_dict()[name]) for name, value in before.items()
    )
    assert adapted.model.name == predictor.model.name


def test_the_same_seed_gives_the_same_network(predictor):
    first, second, other = (weights(adapt(predictor, steps=2, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_was_found_from_marks_is_kept(predictor):
    rgb, alpha = frame(70)
    known = torch.zeros_like(alpha)
    known[..., 30:34, 68:72] = known[..., 74:78, 68:72] = known[..., 50:54, 150:154] = 1
    marked = predictor.model.with_reference(
        [Reference(rgb, alpha * known, known, frame=0, adjacent=frame(72)[0])]
    )
    adapted = adapt(marked, steps=1)
    assert np.array_equal(adapted.references[0].marked.alpha, marked.references[0].marked.alpha)


def test_a_part_of_the_object_comes_into_view_after_the_marked_frame(predictor):
    size = _training_size(predictor.model, predictor.references[0])
    cut = _cut(predictor.references[0].marked, size)
    grown = []
    for seed in range(12):
        clip = _training_clip(cut, size, np.random.default_rng(seed))
        first, second = clip.alpha[:2, 0].astype(float).sum((1, 2))
        grown.append(second / first)
    # Half of the clips hide 5 to 60 % of the object at first; motion alone changes it less.
    assert sum(ratio > 1.15 for ratio in grown) >= 3


def test_a_set_of_images_has_no_adaptation(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(VidmatteError, match="a set of images does not support adaptation"):
        matte(
            [tmp_path / "photo.png"],
            Prompt(points=((5, 5, 1),)),
            alpha=str(tmp_path / "{name}_alpha.png"),
            images=True,
            options=MatteOptions(adapt_steps=3),
        )


@pytest.mark.parametrize("steps", [-1, 10_001])
def test_a_length_that_makes_no_sense_is_refused(steps):
    with pytest.raises(VidmatteError, match="adapt_steps"):
        MatteOptions(adapt_steps=steps)


def test_a_clip_is_adapted_to_only_if_that_is_wanted(movie, tmp_path):
    for steps in (0, 3):
        calls = []
        matte(
            movie,
            Prompt(box=(20, 20, 90, 70)),
            alpha=tmp_path / f"{steps}.mkv",
            options=MatteOptions(end="0", working_size=128, adapt_steps=steps),
            progress=calls.append,
        )
        counts = [(now.done, now.total) for now in calls if now.stage == "adapting"]
        assert counts == ([(step, steps) for step in range(steps + 1)] if steps else [])
    assert MatteOptions().adapt_steps == 0


def test_adaptations_of_several_objects_are_counted_as_one(movie, tmp_path):
    calls = []
    matte(
        movie,
        {"left": Prompt(box=(10, 10, 60, 70)), "right": Prompt(box=(90, 20, 150, 70))},
        alpha=tmp_path / "{object}.mkv",
        options=MatteOptions(end="0", working_size=128, adapt_steps=2),
        progress=calls.append,
    )
    counts = {(now.done, now.total) for now in calls if now.stage == "adapting"}
    assert counts == {(done, 4) for done in range(5)}
