import cv2
import numpy as np
import pytest

from vidmatte.model.compact.upsample import guided_upsample, settled


def disc(size, scale):
    """Return an alpha that rises over 2 pixels at a disc's edge, and an image: red disc on gray."""
    y, x = np.mgrid[: size[0] * scale, : size[1] * scale] / scale
    alpha = np.clip(
        (np.minimum(*size) * 0.3 - np.hypot(y - size[0] / 2, x - size[1] / 2)) * scale / 2 + 0.5,
        0,
        1,
    )
    object_, ground = np.array([0.8, 0.2, 0.1]), np.array([0.4, 0.4, 0.5])
    rgb = alpha[None] * object_[:, None, None] + (1 - alpha[None]) * ground[:, None, None]
    return alpha.astype(np.float32), rgb.astype(np.float32)


@pytest.mark.parametrize("scale", [4, 7])
def test_edges_are_those_of_the_image(scale):
    truth, rgb = disc((60, 80), scale)
    small = cv2.resize(truth, (80, 60), interpolation=cv2.INTER_AREA)
    found = guided_upsample(rgb, small)
    enlarged = cv2.resize(small, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    # Alpha is linear in colour here, so that the filter can be nearly exact; an enlarged small map
    # cannot.
    assert np.abs(found - truth).mean() < 0.2 * np.abs(enlarged - truth).mean()
    assert np.abs(found - truth).max() < 0.15


def test_certain_regions_stay_exactly_certain():
    rgb = np.random.default_rng(0).random((3, 90, 120), np.float32)
    assert (guided_upsample(rgb, np.ones((30, 40), np.float32)) == 1).all()
    assert (guided_upsample(rgb, np.zeros((30, 40), np.float32)) == 0).all()
    haze = np.full((30, 40), 0.01, np.float32)
    haze[8:28, 10:30] = 0.99
    found = guided_upsample(rgb, haze)
    assert (found[:9] == 0).all()
    assert (found[42:66, 48:72] == 1).all()


@pytest.mark.parametrize(
    ("small", "large"), [((32, 32), (1, 1)), ((32, 64), (17, 31)), ((48, 32), (500, 333))]
)
def test_any_size_stays_in_range(small, large):
    rng = np.random.default_rng(0)
    found = guided_upsample(rng.random((3, *large), np.float32), rng.random(small, np.float32))
    assert found.shape == large
    assert found.min() >= 0
    assert found.max() <= 1


def test_haze_and_thin_solid_parts_settle_away_from_edges():
    matte = np.full((60, 100), 0.04, np.float32)
    matte[:, 50:] = 0.96
    # The edge is soft over three pixels.
    matte[:, 49:52] = [0.2, 0.5, 0.8]
    found = settled(matte)
    # Four pixels beside it, and the edge itself, keep their values.
    assert np.array_equal(found[:, 45:56], matte[:, 45:56])
    assert (found[:, :45] == 0).all()
    assert (found[:, 56:] == 1).all()


@pytest.mark.parametrize("value", [0.11, 0.5, 0.85])
def test_what_is_translucent_throughout_does_not_settle(value):
    veil = np.full((40, 40), value, np.float32)
    assert np.array_equal(settled(veil), veil)


def test_settling_has_no_step():
    # From what settles wholly to what does not at all.
    values = np.linspace(0.04, 0.11, 50, dtype=np.float32)
    found = np.array([settled(np.full((9, 9), value, np.float32))[4, 4] for value in values])
    assert found[0] == 0
    assert found[-1] == values[-1]
    assert (np.diff(found) >= 0).all()
    assert np.diff(found).max() < 0.01
