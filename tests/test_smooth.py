"""The smoother on synthetic clips with analytic alpha: less flicker, no smear, nothing lost."""

import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from vidmatte.errors import OptionError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.imaging.optical_flow import optical_flow, to_gray, warp
from vidmatte.metrics import dtssd, mad
from vidmatte.stages.smooth import smooth

HEIGHT, WIDTH, FRAMES = 270, 480, 8


@dataclass(frozen=True)
class Clip:
    rgb: torch.Tensor
    truth: torch.Tensor
    flickering: torch.Tensor


def profile(distance: np.ndarray, softness: float) -> np.ndarray:
    """Alpha of an edge: smoothstep over `softness` pixels."""
    t = np.clip(distance / softness + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def low_frequency(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit variance, features of some 30 pixels."""
    coarse = cv2.GaussianBlur(rng.normal(0, 3.5, (HEIGHT // 15, WIDTH // 15)), (0, 0), 1)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def moving_clip(
    *, speed: float = 5, spin: float = 2, wobble: float = 0, softness: float = 6, flicker: float = 1
) -> Clip:
    """A textured lobed disk that moves, turns and changes shape over a panning photograph.

    Flicker: each frame's edge moves in or out, as a whole and in places, and the soft band carries
        smooth noise.
    """
    rng = np.random.default_rng(3)
    texture = cv2.resize(data.astronaut(), (WIDTH, WIDTH)).astype(np.float32) / 255
    photo = cv2.resize(data.coffee(), (2 * WIDTH, 2 * HEIGHT)).astype(np.float32) / 255
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    rgb, truth, flickering = [], [], []
    for t in range(FRAMES):
        angle = math.radians(spin * t)
        dx, dy = (
            x - WIDTH / 2 - speed * (t - FRAMES / 2),
            y - HEIGHT / 2 - speed / 3 * (t - FRAMES / 2),
        )
        u = (math.cos(angle) * dx + math.sin(angle) * dy).astype(np.float32)
        v = (math.cos(angle) * dy - math.sin(angle) * dx).astype(np.float32)
        around = np.arctan2(v, u)
        outline = 75 * (
            1 + 0.18 * np.cos(5 * around + wobble * t) + 0.1 * np.sin(2 * around - wobble * t)
        )
        distance = outline - np.hypot(u, v)
        alpha = profile(distance, softness)
        shifted = profile(
            distance + flicker * (0.7 * rng.normal() + 0.7 * low_frequency(rng)), softness
        )
        noise = flicker * 0.24 * shifted * (1 - shifted) * low_frequency(rng)
        front = cv2.remap(
            texture, u + WIDTH / 2, v + WIDTH / 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        back = photo[100 + t : 100 + t + HEIGHT, 150 + 2 * t : 150 + 2 * t + WIDTH]
        image = (
            alpha[..., None] * front
            + (1 - alpha[..., None]) * back
            + rng.normal(0, 0.008, front.shape)
        )
        rgb.append(np.clip(image, 0, 1).transpose(2, 0, 1))
        truth.append(alpha[None])
        flickering.append(np.clip(shifted + noise, 0, 1)[None])
    return Clip(
        *(
            torch.from_numpy(np.stack(planes).astype(np.float32))
            for planes in (rgb, truth, flickering)
        )
    )


def batches(rgb: torch.Tensor, alpha: torch.Tensor, *sizes: int) -> Iterator[MatteBatch]:
    start = 0
    for size in sizes or (len(rgb),):
        frames = tuple(range(start, start + size))
        source = FrameBatch(
            rgb[start : start + size], frames, tuple(7 * i * i for i in frames), (1,) * size
        )
        yield MatteBatch(source, alpha[start : start + size], tuple(0.5 + i / 100 for i in frames))
        start += size


def smoothed(rgb: torch.Tensor, alpha: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    return torch.cat([batch.alpha for batch in smooth(batches(rgb, alpha), strength)])


def measures(alpha: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    return dtssd(alpha[:, 0].numpy(), truth[:, 0].numpy()), mad(
        alpha[:, 0].numpy(), truth[:, 0].numpy()
    )


CLIPS = {
    "moving and turning": {},
    "slow and soft": {"speed": 2, "softness": 14, "flicker": 2},
    "changing shape": {"wobble": 0.1},
    "little flicker": {"flicker": 0.3, "speed": 3},
}


@pytest.mark.parametrize("name", CLIPS)
def test_flicker_falls_and_nothing_is_smeared(name: str) -> None:
    clip = moving_clip(**CLIPS[name])
    flicker_before, error_before = measures(clip.flickering, clip.truth)
    flicker_after, error_after = measures(smoothed(clip.rgb, clip.flickering), clip.truth)
    assert flicker_after <= 0.75 * flicker_before
    assert error_after <= 1.02 * error_before


def test_a_fast_object_with_hard_edges_is_not_smeared() -> None:
    clip = moving_clip(speed=16, spin=6, softness=2)
    flicker_before, error_before = measures(clip.flickering, clip.truth)
    flicker_after, error_after = measures(smoothed(clip.rgb, clip.flickering), clip.truth)
    assert flicker_after <= flicker_before
    assert error_after <= 1.02 * error_before


def test_a_perfect_matte_stays_sharp() -> None:
    """Without motion compensation, the mean of three frames is over ten times as far off."""
    clip = moving_clip()
    unguided = (clip.truth[:-2] + clip.truth[1:-1] + clip.truth[2:]) / 3
    _, blurred = measures(unguided, clip.truth[1:-1])
    _, kept = measures(smoothed(clip.rgb, clip.truth)[1:-1], clip.truth[1:-1])
    assert kept < 0.1 * blurred


def test_more_strength_removes_more_flicker() -> None:
    clip = moving_clip()
    flickers = [
        measures(smoothed(clip.rgb, clip.flickering, s), clip.truth)[0]
        for s in (0.0, 0.3, 0.6, 1.0)
    ]
    assert flickers == sorted(flickers, reverse=True)
    assert len(set(flickers)) == 4


def test_strength_zero_passes_the_batches_on() -> None:
    clip = moving_clip()
    given = list(batches(clip.rgb, clip.flickering, 3, 5))
    assert all(a is b for a, b in zip(smooth(given, 0), given, strict=True))


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_strengths_outside_the_range_are_refused_at_once(strength: float) -> None:
    with pytest.raises(OptionError, match="from 0"):
        smooth([], strength)


def test_constant_mattes_stay_as_they_are() -> None:
    clip = moving_clip()
    rgb, alpha = clip.rgb[:1].repeat(4, 1, 1, 1), clip.flickering[:1].repeat(4, 1, 1, 1)
    assert torch.equal(smoothed(rgb, alpha), alpha)


def test_solid_and_empty_mattes_stay_as_they_are_whatever_moves() -> None:
    clip = moving_clip()
    for level in (0.0, 1.0):
        alpha = torch.full_like(clip.truth, level)
        assert torch.equal(smoothed(clip.rgb, alpha), alpha)


@pytest.mark.parametrize("sizes", [(1,) * 8, (3, 4, 1), (2, 6)])
def test_batches_keep_their_frames_and_borders_make_no_difference(sizes: tuple[int, ...]) -> None:
    clip = moving_clip()
    whole = smoothed(clip.rgb, clip.flickering)
    given = list(batches(clip.rgb, clip.flickering, *sizes))
    out = list(smooth(iter(given), 1.0))
    assert [len(batch) for batch in out] == list(sizes)
    for before, after in zip(given, out, strict=True):
        assert after.source is before.source
        assert after.confidence == before.confidence
        assert after.foreground is before.foreground
    assert torch.equal(torch.cat([batch.alpha for batch in out]), whole)
    assert torch.equal(torch.cat([batch.alpha for batch in given]), clip.flickering)


def test_it_looks_one_frame_ahead_and_flushes() -> None:
    clip = moving_clip()
    taken = []

    def source() -> Iterator[MatteBatch]:
        for batch in batches(clip.rgb, clip.flickering, 1, 1, 1, 1):
            taken.append(batch.source.frames[0])
            yield batch

    out = smooth(source(), 1.0)
    assert taken == []
    for i, seen in enumerate(([0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3])):
        assert next(out).source.frames == (i,)
        assert taken == seen
    assert next(out, None) is None


def test_smoothing_takes_nothing_and_a_single_frame() -> None:
    assert list(smooth([], 1.0)) == []
    clip = moving_clip()
    assert torch.equal(smoothed(clip.rgb[:1], clip.flickering[:1]), clip.flickering[:1])


def test_nothing_bleeds_across_a_cut() -> None:
    """Each side of a cut comes out as if it were a clip of its own."""
    clip = moving_clip()
    other = torch.from_numpy(
        cv2.resize(data.chelsea(), (WIDTH, HEIGHT)).astype(np.float32).transpose(2, 0, 1) / 255
    )
    after_rgb = other[None].repeat(3, 1, 1, 1)
    after_alpha = clip.flickering[:3].flip(3)
    joined = smoothed(
        torch.cat([clip.rgb[:4], after_rgb]), torch.cat([clip.flickering[:4], after_alpha])
    )
    assert torch.equal(joined[:4], smoothed(clip.rgb[:4], clip.flickering[:4]))
    assert torch.equal(joined[4:], smoothed(after_rgb, after_alpha))
    assert not torch.equal(joined[4:], after_alpha)


def test_an_object_that_appears_is_kept() -> None:
    """A ball that is in sight for one frame only is an event, not flicker."""
    clip = moving_clip(speed=0, spin=0, flicker=0)
    rgb, alpha = clip.rgb[:3].clone(), clip.truth[:3].clone()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ball = torch.from_numpy(profile(20 - np.hypot(y - 60, x - 60), 4).astype(np.float32))
    rgb[1] = rgb[1] * (1 - ball) + torch.tensor([0.9, 0.1, 0.1])[:, None, None] * ball
    alpha[1, 0] = torch.maximum(alpha[1, 0], ball)
    out = smoothed(rgb, alpha)
    assert float(out[1, 0, 60, 60]) > 0.98
    assert float((out[1, 0] - alpha[1, 0]).abs()[:100, :100].mean()) < 0.02 * float(
        ball[:100, :100].mean()
    )
    assert float(out[0, 0, 60, 60]) < 0.01
    assert float(out[2, 0, 60, 60]) < 0.01


def test_a_hole_that_flashes_for_one_frame_is_filled() -> None:
    clip = moving_clip(flicker=0)
    alpha = clip.truth.clone()
    row, column = HEIGHT // 2, WIDTH // 2
    alpha[4, 0, row - 4 : row + 4, column - 4 : column + 4] = 0.4
    out = smoothed(clip.rgb, alpha)
    assert float(out[4, 0, row, column]) > 0.6
    assert float(out[3, 0, row, column]) > 0.85


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 40), (33, 17), (47, 601)])
def test_any_size_works(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(rng.random((3, 3, height, width), np.float32))
    alpha = torch.from_numpy(rng.random((3, 1, height, width), np.float32))
    out = smoothed(rgb, alpha)
    assert out.shape == alpha.shape
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_memory_does_not_grow_with_the_clip() -> None:
    clip = moving_clip()

    def peak(rounds: int) -> int:
        source = (b for _ in range(rounds) for b in batches(clip.rgb[:2], clip.flickering[:2]))
        tracemalloc.start()
        for _ in smooth(source, 1.0):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2)
    assert peak(12) < 1.05 * peak(4)


def test_flow_finds_a_known_shift() -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(0).random((140, 200), np.float32), (0, 0), 2)
    picture = cv2.normalize(picture, np.empty_like(picture), 0, 255, cv2.NORM_MINMAX).astype(
        np.uint8
    )
    target, source = picture[10:110, 20:180], picture[7:107, 25:185]
    flow = optical_flow(np.ascontiguousarray(target), np.ascontiguousarray(source))
    inner = flow[15:-15, 15:-15]
    assert inner[..., 0].mean() == pytest.approx(-5, abs=0.1)
    assert inner[..., 1].mean() == pytest.approx(3, abs=0.1)
    back = warp(source.astype(np.float32), flow)
    assert np.abs(back - target)[15:-15, 15:-15].mean() < 2


def test_warp_of_a_hand_computed_image() -> None:
    image = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    flow = np.zeros((2, 3, 2), np.float32)
    flow[..., 0] = 1
    assert warp(image, flow).tolist() == [[2, 3, 0], [5, 6, 0]]
    flow[..., 0], flow[..., 1] = 0.5, -1
    assert warp(image, flow)[1, :2].tolist() == [1.5, 2.5]
    assert warp(image, flow)[0].tolist() == [0, 0, 0]
    stack = np.dstack([image, 2 * image])
    assert np.array_equal(warp(stack, flow), np.dstack([warp(image, flow), 2 * warp(image, flow)]))
    assert warp(image[..., None], flow).shape == (2, 3, 1)


def test_gray_is_the_luma_of_bt709() -> None:
    rgb = (
        torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
        .T.reshape(3, 1, 5)
        .contiguous()
    )
    assert to_gray(rgb).tolist() == [[54, 182, 18, 255, 0]]
    assert to_gray(torch.rand(3, 20, 30), (5, 10)).shape == (5, 10)
    assert to_gray(
        torch.cat([torch.zeros(3, 4, 2), torch.ones(3, 4, 2)], dim=2), (1, 1)
    ).tolist() == [[128]]


def test_frames_that_do_not_fit_are_refused() -> None:
    gray = np.zeros((20, 30), np.uint8)
    with pytest.raises(OptionError, match=r"\(20, 31\)"):
        optical_flow(gray, np.zeros((20, 31), np.uint8))
    with pytest.raises(OptionError, match="float32"):
        optical_flow(gray, gray.astype(np.float32))
    with pytest.raises(OptionError, match="flow of shape"):
        warp(np.zeros((20, 30), np.float32), np.zeros((20, 30), np.float32))
