"""Still parts of a picture: alpha is held to the bit there, and nowhere else."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vidmatte import load_model
from vidmatte.model.compact.shown import MOST_WAITING
from vidmatte.model.compact.still import StillParts, smoothed
from vidmatte.prompts.prompt import Reference


def picture(seed=0, size=(96, 160)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1)


def test_only_what_changes_gets_a_new_alpha():
    frame = picture()
    before, found = (np.full(frame.shape[:2], value, np.float32) for value in (0.25, 0.75))
    still = StillParts(smoothed(frame), before)
    moved = frame.copy()
    moved[40:56, 64:80] = 255 - moved[40:56, 64:80]
    held = still.hold(moved, found)
    # Three places of two pixels around what changed are looked at, and one of the smoothing.
    assert (still.alpha[40:56, 64:80] == 0.75).all()
    assert (still.alpha[32:64, 56:88] == 0.75).all()
    assert (still.alpha[:20] == 0.25).all()
    assert (still.alpha[:, :40] == 0.25).all()
    assert np.array_equal(held == 1, still.alpha == 0.25)


def test_grain_is_still_and_a_slow_change_is_seen_in_the_end():
    frame = np.full((96, 160, 3), 120, np.uint8)
    alpha = np.zeros((96, 160), np.float32)
    still = StillParts(smoothed(frame), alpha)
    rng = np.random.default_rng(0)
    for _ in range(5):
        grain = np.rint(frame + rng.normal(0, 2, frame.shape)).astype(np.uint8)
        assert still.hold(grain, alpha + 1).all()
    # One code a frame: never seen from one frame to the next, but against the anchor.
    changed = [not still.hold(frame + np.uint8(step), alpha + 1).all() for step in range(1, 6)]
    assert changed[:2] == [False, False]
    assert any(changed)


@pytest.fixture(scope="module")
def clip():
    """Return frames of a bright square that moves over noise, and the first one's mask."""
    ground = picture(3, (144, 256)) // 2
    frames = []
    for x in (100, 100, 100, 108, 116):
        frame = ground.copy()
        frame[50:100, x : x + 50] = (230, 210, 90)
        frames.append(frame)
    mask = np.zeros((144, 256), np.float32)
    mask[50:100, 100:150] = 1
    return frames, mask


def planes(frame):
    return torch.from_numpy(frame.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def marked(frame, mask):
    """Return the predictor of a frame with its mask, and its reference."""
    alpha = torch.from_numpy(mask)[None, None]
    reference = Reference(planes(frame), alpha, torch.ones_like(alpha), 0)
    return load_model(device="cpu").with_reference([reference]), reference


def test_a_clip_that_stands_still_keeps_its_alpha_to_the_bit(clip):
    frames, mask = clip
    predictor, reference = marked(frames[0], mask)
    tracker = predictor.tracker()
    mattes = [predictor.finish(planes(frames[0]), tracker.start(reference))]
    for frame in frames[1:]:
        mattes.append(
            predictor.finish(planes(frame), tracker.step(predictor.shrink(planes(frame))))
        )
    for matte in mattes[1:3]:
        assert (matte - mattes[0]).abs().max() <= 1 / 255
    assert torch.equal(mattes[1], mattes[2])
    # It moves on with the square.
    moved = mattes[4][0, 0].numpy()
    assert moved[60:90, 155:160].mean() > 0.9
    assert moved[60:90, 100:108].mean() < 0.1


def test_a_restored_tracker_holds_the_same(clip):
    frames, mask = clip
    predictor, reference = marked(frames[0], mask)
    tracker = predictor.tracker()
    tracker.start(reference)
    small = [predictor.shrink(planes(frame)) for frame in frames]
    tracker.step(small[1])
    other = predictor.tracker()
    other.restore(tracker.state())
    for each in small[2:]:
        assert torch.equal(tracker.step(each).alpha, other.step(each).alpha)


def test_mattes_that_are_asked_for_later_are_the_same(clip):
    frames, mask = clip
    predictor, reference = marked(frames[0], mask)
    one, other = predictor.tracker(), predictor.tracker()
    one.start(reference)
    other.start(reference)
    # More frames than wait at most; the last one is asked for first, and on another thread.
    small = [predictor.shrink(planes(frame)) for frame in (*frames[1:], *frames)]
    assert len(small) > MOST_WAITING
    expected = [one.step(each) for each in small]
    later = [other.follow(each) for each in small]
    with ThreadPoolExecutor(1) as pool:
        found = list(pool.map(lambda matte: matte(), reversed(later)))[::-1]
    for expects, finds in zip(expected, found, strict=True):
        assert torch.equal(expects.alpha, finds.alpha)
        assert (expects.window, expects.confidence) == (finds.window, finds.confidence)
    assert torch.equal(one.state()["shown"], other.state()["shown"])


def test_a_correction_that_fails_is_told_to_whoever_asks_for_a_matte(clip, monkeypatch):
    frames, mask = clip
    predictor, reference = marked(frames[0], mask)
    tracker = predictor.tracker()
    tracker.start(reference)

    def failing(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(type(predictor.model), "corrected", failing)
    small = predictor.shrink(planes(frames[1]))
    # The oldest ones are completed, and fail, while the object is followed on.
    later = [tracker.follow(small) for _ in range(MOST_WAITING + 2)]
    monkeypatch.undo()
    for matte in (later[0], later[0], later[-1]):
        with pytest.raises(RuntimeError, match="no memory"):
            matte()
