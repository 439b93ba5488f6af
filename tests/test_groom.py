"""Strands of hair and fur, and the clips that are drawn of them."""

import cv2
import numpy as np
import pytest

from vidmatte.synth.groom import View, draw, main, make_clip, make_figure
from vidmatte.synth.strands import Ellipsoid, Style, feather, fringe, fur, grow, hair, roots_on

HEAD = Ellipsoid((0.0, 0.1, 0.2), (0.78, 0.9, 1.0))


def depth(points, body):
    """Return the distance from the middle of a body, 1 on its surface."""
    offset = (points - np.array(body.middle)) / np.array(body.radii)
    return np.linalg.norm(offset, axis=-1)


def test_roots_lie_on_the_body_and_normals_point_outward():
    roots, normals = roots_on(HEAD, 500, np.random.default_rng(0), lowest=0.3)
    np.testing.assert_allclose(depth(roots, HEAD), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    assert (depth(roots + 0.01 * normals, HEAD) > 1).all()
    assert (roots[:, 2] >= 0.2 + 0.3 - 1e-5).all()


@pytest.mark.parametrize("turns", [0, 6])
def test_hair_stays_outside_of_the_body(turns):
    style = Style(1.5, fall=4, curl=0.1 if turns else 0, turns=turns)
    strands = hair(HEAD, [], style, 300, np.random.default_rng(1))
    assert len(strands) == 300
    assert depth(strands, HEAD).min() > 0.999


def test_hair_falls():
    rng = np.random.default_rng(2)
    roots, normals = roots_on(HEAD, 200, rng, lowest=0.5)
    upright, fallen = (
        grow(roots, normals, Style(1.0, fall=fall, disorder=0.1), [HEAD], rng, 16)
        for fall in (0.0, 6.0)
    )
    assert (upright[:, -1, 2] - roots[:, 2]).mean() > 0.5
    assert (fallen[:, -1, 2] - roots[:, 2]).mean() < 0
    # A strand has its length whichever way it goes.
    steps = np.linalg.norm(np.diff(upright, axis=1), axis=-1).sum(1)
    assert 0.9 < np.median(steps) < 1.1


def test_wet_locks_come_together():
    def width(clump):
        style = Style(1.2, fall=3, clump=clump, spread=0.1, stray=0.0, disorder=0.2)
        strands = hair(HEAD, [], style, 800, np.random.default_rng(3))
        ends = strands[:, -1]
        # To the nearest other end.
        apart = np.linalg.norm(ends[:, None] - ends[None], axis=-1) + 9 * np.eye(len(ends))
        return np.median(apart.min(1))

    assert width(0.97) < 0.5 * width(0.0)


def test_fur_feathers_and_fringes_have_their_places():
    rng = np.random.default_rng(4)
    coat = fur([HEAD], Style(0.2), 400, rng)
    assert depth(coat, HEAD).max() < 1.6
    barbs = feather(2.0, 0.5, rng)
    assert 1.0 < np.ptp(barbs[..., 2]) < 3.0
    threads = fringe(2.0, 0.5, 50, rng)
    assert threads[:, 0, 2] == pytest.approx(0, abs=0.02)
    assert (threads[:, -1, 2] < -0.2).all()


def test_alpha_is_the_share_of_covered_samples():
    figure = make_figure("animal", np.random.default_rng(5))
    lamp = np.array([0, -1, 0], np.float32)
    view = View(0.3, 25.0, (64, 60), lamp, 0.7)
    picture = draw(figure, view, 128, np.ones((128, 128, 3), np.float32))
    alpha = picture[..., 3]
    assert set(np.rint(255 * alpha).ravel()) <= set(np.rint(255 * np.arange(10) / 9))
    assert (alpha == 1).mean() > 0.1
    assert ((alpha > 0) & (alpha < 1)).mean() > 0.02
    assert (picture[..., :3] <= alpha[..., None] + 1e-6).all()


def test_a_clip_turns_and_comes_again_from_its_seed():
    first, again = (make_clip("head", 96, 2, np.random.default_rng(6)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_clips_are_written_once_with_straight_colour(tmp_path):
    main([str(tmp_path), "--clips", "1", "--size", "64"])
    (file,) = tmp_path.glob("train-0000-drawn-*/0000.png")
    codes = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert codes.shape == (64, 64, 4)
    written = file.stat().st_mtime_ns
    main([str(tmp_path), "--clips", "1", "--size", "64"])
    assert file.stat().st_mtime_ns == written
    main([str(tmp_path), "--clips", "1", "--size", "64", "--split", "held-out"])
    (other,) = tmp_path.glob("held-out-0000-drawn-*/0000.png")
    assert not np.array_equal(codes, cv2.imread(str(other), cv2.IMREAD_UNCHANGED))
