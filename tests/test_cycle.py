"""The confidence of `compact`: what its mattes find again on the reference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidmatte import load_model, open_video
from vidmatte.metrics import region_overlap
from vidmatte.model.compact.cycle import CycleCheck, expected_overlap
from vidmatte.prompts.prompt import Prompt

SAMPLES = Path(__file__).parent.parent / "vidmatte" / "sample"


@pytest.fixture(scope="module")
def frames():
    with open_video(SAMPLES / "portrait.mp4") as video:
        return [video.frame(index).rgb for index in (0, 1, 2, 30)]


@pytest.fixture(scope="module")
def truth():
    """Alpha (H, W) of frame 0, and of frame 30."""
    with open_video(SAMPLES / "portrait_alpha.mkv") as video:
        return [video.frame(index).rgb[0, 0].numpy() for index in (0, 30)]


@pytest.fixture(scope="module")
def model():
    return load_model("compact", device="cpu")


@pytest.fixture(scope="module")
def predictor(model, frames, truth):
    mask = (truth[0] > 0.5).astype(np.float32)
    return model.with_reference([Prompt(mask=mask).reference(frames[0], frame=0)])


def memory_of(model, rgb, mask):
    """Encode a frame with a mask as its matte."""
    reference = Prompt(mask=mask.astype(np.float32)).reference(rgb, frame=1)
    return model.with_reference([reference]).references[0].memory


def test_a_right_matte_finds_the_object_again_and_a_wrong_one_does_not(
    model, predictor, frames, truth
):
    check = CycleCheck(predictor.model, predictor.references[0])
    right = truth[1] > 0.5
    rows = np.arange(len(right))[:, None]
    middle = int(np.nonzero(right.any(1))[0].mean())
    found = check.agreement(memory_of(model, frames[3], right))
    half = check.agreement(memory_of(model, frames[3], right & (rows > middle)))
    beside = check.agreement(memory_of(model, frames[3], ~right))
    assert found > 0.85
    assert half < found - 0.1
    assert beside < 0.3


def test_a_tracker_tells_when_the_picture_holds_no_object(predictor, frames, truth):
    reference = Prompt(mask=(truth[0] > 0.5).astype(np.float32)).reference(frames[0], frame=0)
    seen = [*frames[1:3], torch.full_like(frames[0], 0.5)]
    tracker = predictor.tracker()
    tracker.start(reference)
    good = [tracker.step(predictor.shrink(rgb)).confidence for rgb in seen[:2]]
    assert min(good) > 0.8
    lost = predictor.tracker()
    lost.start(reference)
    assert lost.step(predictor.shrink(seen[2])).confidence < 0.3


def test_a_restored_tracker_has_the_last_check(predictor, frames, truth):
    reference = Prompt(mask=(truth[0] > 0.5).astype(np.float32)).reference(frames[0], frame=0)
    tracker = predictor.tracker()
    tracker.start(reference)
    tracker.step(predictor.shrink(frames[1]))
    again = predictor.tracker()
    again.restore(tracker.state())
    expected = tracker.step(predictor.shrink(frames[2]))
    found = again.step(predictor.shrink(frames[2]))
    assert found.confidence == expected.confidence
    assert torch.equal(found.alpha, expected.alpha)


def test_an_expected_overlap_is_a_share_and_grows_with_both():
    values = [expected_overlap(a, c) for a, c in ((0, 0), (0.5, 0.5), (0.5, 1), (1, 1))]
    assert values == sorted(values)
    assert 0 <= values[0] < values[1] < values[2] < values[3] <= 1


def test_an_object_that_was_lost_is_looked_for_in_the_whole_frame(predictor, frames, truth):
    reference = Prompt(mask=(truth[0] > 0.5).astype(np.float32)).reference(frames[0], frame=0)
    tracker = predictor.tracker()
    tracker.start(reference)
    tracker.step(predictor.shrink(frames[1]))
    state = tracker.state()
    # It follows a corner of the background, through a window that the object is not in.
    height, width = state["alpha"].shape
    wrong = torch.zeros(height, width)
    wrong[2 : height // 8, 2 : width // 8] = 1
    state |= {
        "alpha": wrong,
        "window": torch.tensor((0, 0, width // 6, height // 6)),
        "agreement": torch.tensor(0.0, dtype=torch.float64),
    }
    astray = predictor.tracker()
    astray.restore(state)
    coarse = astray.step(predictor.shrink(frames[3]))
    found = predictor.finish(frames[3], coarse)[0, 0].numpy()
    assert region_overlap(found, truth[1]) > 0.9
    assert coarse.confidence > 0.7
