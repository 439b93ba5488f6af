"""The sample clip is what its README says, and its alpha belongs to its picture."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

SAMPLES = Path(__file__).parent.parent / "vidmatte" / "sample"
MOVIE = SAMPLES / "portrait.mp4"
ALPHA = SAMPLES / "portrait_alpha.mkv"
FRAMES, WIDTH, HEIGHT, RATE = 100, 1280, 720, 25
FAST = 49  # a frame in the middle of the quick move to the right


@pytest.fixture(scope="module")
def alphas() -> list[np.ndarray]:
    with av.open(ALPHA) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    with av.open(MOVIE) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def explained(rgb: np.ndarray, alpha: np.ndarray) -> float:
    """Return the picture's variance that alpha * F + (1 - alpha) * B explains, per 11x11 window.

    F and B are constant in a window.

    The sum over windows and channels of cov(rgb, alpha)^2 / var(alpha); greatest where the alpha
    fits the picture.
    """
    window = (11, 11)
    a, rgb = alpha / np.float32(255), rgb.astype(np.float32)
    mean = cv2.blur(a, window)
    variance = cv2.blur(a * a, window) - mean**2
    covariance = cv2.blur(rgb * a[..., None], window) - cv2.blur(rgb, window) * mean[..., None]
    return float(((covariance**2).sum(axis=2) / (variance + 1e-3)).sum())


def test_files_are_there_and_small() -> None:
    wanted = {
        "portrait.mp4",
        "portrait.prompts.json",
        "portrait_alpha.mkv",
        "portrait_mask.png",
    }
    assert wanted <= {path.name for path in SAMPLES.iterdir()}
    files = [
        path for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(path.stat().st_size for path in files) < 6_000_000


def test_movie_has_the_stated_form(frames: list[np.ndarray]) -> None:
    with av.open(MOVIE) as container:
        video, context = container.streams.video[0], container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, video.width, video.height) == (
            "h264",
            "yuv420p",
            WIDTH,
            HEIGHT,
        )
        assert video.average_rate == RATE
        assert (
            context.colorspace,
            context.color_primaries,
            context.color_trc,
            context.color_range,
        ) == (1, 1, 1, 1)
        times = [frame.pts * frame.time_base for frame in container.decode(video)]
    assert times == [Fraction(n, RATE) for n in range(FRAMES)]
    assert len(frames) == FRAMES


def test_movie_has_sound_that_is_heard() -> None:
    with av.open(MOVIE) as container:
        audio = container.streams.audio[0]
        assert (audio.codec_context.name, audio.sample_rate, audio.channels) == ("aac", 48000, 2)
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio)], axis=1)
    assert sound.shape[1] / 48000 == pytest.approx(FRAMES / RATE, abs=0.05)
    assert sound.std(axis=1).min() > 0.02
    assert abs(sound).max() < 1


def test_alpha_movie_has_the_same_frames(alphas: list[np.ndarray]) -> None:
    with av.open(ALPHA) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("ffv1", "gray")
        assert video.average_rate == RATE
    assert len(alphas) == FRAMES
    assert {alpha.shape for alpha in alphas} == {(HEIGHT, WIDTH)}


def test_every_alpha_has_object_background_and_soft_pixels(alphas: list[np.ndarray]) -> None:
    for alpha in alphas:
        assert 0.25 < np.mean(alpha == 255) < 0.32
        assert 0.67 < np.mean(alpha == 0) < 0.74
        assert np.sum((alpha > 5) & (alpha < 250)) > 4000
        assert alpha[0].max() == 0
        assert alpha[:, [0, -1]].max() == 0


@pytest.mark.parametrize("shift", [(0, 1), (0, -1), (1, 0), (-1, 0)])
@pytest.mark.parametrize("n", [0, FAST, FRAMES - 1])
def test_alpha_fits_the_picture_to_the_pixel(
    frames: list[np.ndarray], alphas: list[np.ndarray], n: int, shift: tuple[int, int]
) -> None:
    moved = np.roll(alphas[n], shift, axis=(0, 1))
    assert explained(frames[n], alphas[n]) > 1.03 * explained(frames[n], moved)


@pytest.mark.parametrize("step", [-1, 1])
def test_alpha_belongs_to_its_own_frame(
    frames: list[np.ndarray], alphas: list[np.ndarray], step: int
) -> None:
    assert explained(frames[FAST], alphas[FAST]) > 2 * explained(frames[FAST], alphas[FAST + step])


def test_points_lie_where_their_labels_say(alphas: list[np.ndarray]) -> None:
    prompts = json.loads((SAMPLES / "portrait.prompts.json").read_text())
    assert (prompts["version"], prompts["source"]) == (2, MOVIE.name)
    (astronaut,) = prompts["objects"]
    (prompt,) = astronaut["prompts"]
    assert prompt["frame"] == 0
    values = {1: [], 0: []}
    for x, y, label in prompt["points"]:
        values[label].append(alphas[0][y, x] / 255)
    assert 4 <= len(values[1]) <= 6
    assert min(values[1]) > 0.9
    assert 2 <= len(values[0]) <= 4
    assert max(values[0]) < 0.1


def test_mask_is_the_first_alpha_above_one_half(alphas: list[np.ndarray]) -> None:
    mask = cv2.imread(str(SAMPLES / "portrait_mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, np.where(alphas[0] / 255 > 0.5, 255, 0))
