"""Finishing controls: outlines of analytic discs, hand-computed planes, one order."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from clips import write_movie

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.frames import FrameBatch, MatteBatch
from vidmatte.imaging.matte_finish import finish_alpha
from vidmatte.imaging.morphology import feather, grow, remove_dots
from vidmatte.options import FinishOptions, parse_region
from vidmatte.stages.finish import Finisher, finish

CENTRE = (80.3, 79.6)


def disc(radius, softness=1.0, size=(160, 160)):
    """A disc whose alpha falls linearly from 1 to 0 over `softness` pixels around its radius."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.clip(0.5 + (radius - np.hypot(y - CENTRE[0], x - CENTRE[1])) / softness, 0, 1).astype(
        np.float32
    )


def radii(alpha, level=0.5):
    """Distance from the centre at which alpha falls below a level, in 120 directions."""
    steps = np.arange(0, 79, 0.02, np.float32)
    found = []
    for angle in np.arange(120) * np.pi / 60:
        x, y = (CENTRE[1] + steps * np.cos(angle), CENTRE[0] + steps * np.sin(angle))
        along = cv2.remap(
            alpha, x[None].astype(np.float32), y[None].astype(np.float32), cv2.INTER_LINEAR
        )[0]
        found.append(steps[np.argmax(along < level)])
    return np.array(found)


def area_radius(alpha):
    return float(np.sqrt(alpha.astype(np.float64).sum() / np.pi))


@pytest.mark.parametrize("softness", [1.0, 6.0])
@pytest.mark.parametrize("pixels", [0.25, 0.5, 1, 1.7, 3, 5.5, 12, 30, -0.5, -1, -2.3, -8, -20])
def test_growing_moves_the_outline_by_exactly_so_many_pixels(softness, pixels):
    alpha = disc(40, softness)
    grown = grow(alpha, pixels)
    assert abs(area_radius(grown) - area_radius(disc(40 + pixels, softness))) < 0.1
    moved = radii(grown) - radii(alpha)
    assert abs(moved.mean() - pixels) < 0.1
    assert np.abs(moved - pixels).max() < 0.25  # in no direction is it another shape than a disc


@pytest.mark.parametrize("pixels", [4, -4])
def test_growing_keeps_the_softness_of_an_edge(pixels):
    grown = grow(disc(40, 8), pixels)
    assert np.abs(grown - disc(40 + pixels, 8)).max() < 0.05
    width = radii(grown, 0.1) - radii(grown, 0.9)
    assert np.abs(width - 6.4).max() < 0.4


def test_dots_go_and_holes_are_filled_up_to_their_area_and_the_edge_stays():
    alpha = disc(40, 4)
    alpha[75:79, 75:79] = 0.2  # a hole of 16 pixels in the middle
    alpha[60:66, 100:106] = 0.9  # one of 36
    alpha[5:8, 5:8] = 0.5  # a dot of 9 pixels
    alpha[150:155, 150:155] = 1  # one of 25
    alpha[0:3, 80:83] = 1  # the tip of something outside
    done = remove_dots(alpha, 9)
    assert done[5:8, 5:8].max() == 0
    assert np.array_equal(np.delete(done, slice(0, 10), 0), np.delete(alpha, slice(0, 10), 0))
    assert done[0:3, 80:83].min() == 1
    options = FinishOptions(remove_dots=25, fill_holes=16)
    found = finish_alpha(torch.from_numpy(alpha), options, display_width=160).numpy()
    expected = disc(40, 4)
    expected[60:66, 100:106] = 0.9
    expected[0:3, 80:83] = 1
    assert np.abs(found - expected).max() < 1e-6
    assert np.array_equal(remove_dots(alpha, 0), alpha)
    assert not remove_dots(np.zeros((8, 8), np.float32), 100).any()


def test_a_single_pixel_grows_to_a_disc_without_holes():
    alpha = np.zeros((61, 61), np.float32)
    alpha[30, 30] = 0.6
    y, x = np.mgrid[:61, :61] - 30
    distance = np.hypot(y, x)
    for radius in (3, 7.5, 14, 25):
        grown = grow(alpha, radius)
        assert np.allclose(grown[distance <= np.floor(radius) * 0.8], 0.6, atol=1e-6)
        assert (grown[distance > radius + 1.5] == 0).all()
        assert grown.max() == np.float32(0.6)


def test_growing_keeps_empty_and_full_mattes_and_objects_at_the_frame_edge():
    alpha = disc(40)
    assert np.array_equal(grow(alpha, 0), alpha)
    for level in (0.0, 0.3, 1.0):
        flat = np.full((9, 13), level, np.float32)
        assert np.array_equal(grow(flat, 3.5), flat)
        assert np.array_equal(feather(flat, 3.5), flat)
    cut = np.zeros((20, 30), np.float32)
    cut[:, :12] = 1  # goes on beyond three edges of the frame
    assert (grow(cut, -3)[:, :9] == 1).all()
    assert (grow(cut, -3)[:, 9:] == 0).all()
    assert (grow(cut, 3)[:, :15] == 1).all()
    assert (grow(cut, 3)[:, 15:] == 0).all()


@pytest.mark.parametrize("sigma", [0.5, 1, 3, 10])
def test_feather_is_the_gaussian_integral_across_a_straight_edge(sigma):
    alpha = np.zeros((100, 200), np.float32)
    alpha[:, 100:] = 1
    # Each pixel is sampled at its centre; the edge lies between pixels 99 and 100.
    weights = np.exp(-0.5 * (np.arange(-400, 401) / sigma) ** 2)
    weights /= weights.sum()
    wanted = [
        weights[400 - (x - 100) :].sum() if x >= 100 else 1 - weights[400 - (99 - x) :].sum()
        for x in range(200)
    ]
    assert np.abs(feather(alpha, sigma) - np.array(wanted)).max() < 2e-3
    assert abs(feather(disc(40), sigma).sum() - disc(40).sum()) < 0.5


def batch(planes, *, names=(), first=0):
    n, height, width = planes.shape
    source = FrameBatch(
        torch.zeros(n, 3, height, width),
        tuple(range(first, first + n)),
        tuple(range(n)),
        (1,) * n,
        names,
    )
    return MatteBatch(source, torch.from_numpy(planes.astype(np.float32))[:, None], (0.5,) * n)


def finished(planes, **options):
    (result,) = finish([batch(planes)], FinishOptions(**options))
    return result.alpha[:, 0].numpy()


def save(path, mask):
    cv2.imwrite(str(path), np.round(np.asarray(mask) * 255).astype(np.uint8))
    return path


def test_clipping_equals_the_formula_by_hand():
    alpha = np.array([[[0, 0.1, 0.2, 0.5, 0.8, 0.9, 1]]])
    assert finished(alpha, clip_black=0.2, clip_white=0.8) == pytest.approx(
        np.array([[[0, 0, 0, 0.5, 1, 1, 1]]]), abs=1e-6
    )
    assert finished(alpha, clip_black=0.1) == pytest.approx(
        np.array([[[0, 0, 1 / 9, 4 / 9, 7 / 9, 8 / 9, 1]]]), abs=1e-6
    )


def test_inverting_and_the_region_equal_the_formula_by_hand():
    alpha = np.array([[[0, 0.25, 1, 1], [0, 0.25, 1, 1], [0.5, 0.5, 0.5, 0.5]]])
    assert np.array_equal(finished(alpha, invert=True), (1 - alpha).astype(np.float32))
    # The region cuts the second column in half, and leaves the last row and column out.
    wanted = [[[0, 0.125, 1, 0], [0, 0.125, 1, 0], [0, 0, 0, 0]]]
    assert np.array_equal(finished(alpha, region=(1.5, 0, 3, 2)), np.array(wanted, np.float32))
    # Narrower than a pixel: the share of it.
    assert finished(np.ones((1, 1, 3)), region=(1.25, 0, 1.5, 1)).tolist() == [[[0, 0.25, 0]]]


def test_masks_force_in_and_out_and_the_outside_one_wins(tmp_path):
    inside = save(tmp_path / "in.png", [[1, 1, 0, 0.4]])
    outside = save(tmp_path / "out.png", [[0, 1, 1, 0.2]])
    alpha = np.array([[[0.5, 0.5, 0.5, 0.5]], [[0, 0, 0, 0]]])
    result = finished(alpha, inside_mask=inside, outside_mask=outside)
    assert result == pytest.approx(np.array([[[1, 0, 0, 0.5]], [[1, 0, 0, 0.4]]]), abs=1e-6)


def test_the_order_is_clip_grow_feather_invert_masks_region(tmp_path):
    alpha = disc(30, 10)
    inside, outside = (np.zeros_like(alpha) for _ in range(2))
    inside[:20], outside[:, :20] = 1, 1
    options = FinishOptions(
        clip_black=0.3,
        clip_white=0.7,
        grow=-3,
        feather=2,
        invert=True,
        inside_mask=save(tmp_path / "in.png", inside),
        outside_mask=save(tmp_path / "out.png", outside),
        region=(5, 5, 150, 155),
    )
    wanted = 1 - feather(grow(np.clip((alpha - 0.3) / 0.4, 0, 1).astype(np.float32), -3), 2)
    wanted = np.minimum(np.maximum(wanted, inside), 1 - outside)
    wanted[:5], wanted[155:], wanted[:, :5], wanted[:, 150:] = 0, 0, 0, 0
    (result,) = finish([batch(alpha[None])], options)
    assert np.abs(result.alpha[0, 0].numpy() - wanted).max() < 1e-6


def test_frames_of_a_mask_lie_beside_those_of_the_clip(tmp_path):
    for n in range(6):
        save(tmp_path / f"m.{n + 7:03d}.png", np.full((48, 64), n / 10))
    alpha = np.zeros((2, 48, 64))
    for path in (tmp_path / "m.%03d.png", tmp_path):
        with Finisher(FinishOptions(inside_mask=path)) as finisher:
            done = [finisher(batch(alpha, first=first)) for first in (2, 4)]
        assert torch.cat([one.alpha for one in done])[:, 0, 5, 5].tolist() == pytest.approx(
            [0.2, 0.3, 0.4, 0.5], abs=0.002
        )
    with pytest.raises(OptionError, match="has 6 frames, and frame 6"):
        list(finish([batch(alpha, first=5)], FinishOptions(inside_mask=tmp_path / "m.%03d.png")))
    grays = [np.full((48, 64, 3), value, np.uint8) for value in (0, 100, 200)]
    write_movie(
        tmp_path / "m.mkv",
        frames=3,
        size=(64, 48),
        pictures=grays,
        codec="ffv1",
        pixel_format="yuv444p",
    )
    (result,) = finish(
        [batch(np.ones((2, 48, 64)), first=1)], FinishOptions(outside_mask=tmp_path / "m.mkv")
    )
    assert result.alpha[:, 0, 5, 5].tolist() == pytest.approx(
        [1 - 100 / 255, 1 - 200 / 255], abs=0.01
    )


def test_each_image_of_a_set_has_its_own_mask(tmp_path):
    for name, level in (("one", 0.2), ("two", 0.6)):
        save(tmp_path / f"{name}_mask.png", np.full((4, 5), level))
    options = FinishOptions(inside_mask=tmp_path / "{name}_mask.png")
    mattes = [batch(np.zeros((1, 4, 5)), names=(name,)) for name in ("two", "one")]
    assert [round(float(one.alpha.max()), 3) for one in finish(mattes, options)] == [0.6, 0.2]
    with pytest.raises(OptionError, match="have no names"):
        list(finish([batch(np.zeros((1, 4, 5)))], options))


def test_transparent_masks_count_by_their_opacity(tmp_path):
    image = np.zeros((4, 5, 4), np.uint8)
    image[1, 1] = (0, 0, 255, 255)
    cv2.imwrite(str(tmp_path / "m.png"), image)
    assert np.argwhere(finished(np.zeros((1, 4, 5)), inside_mask=tmp_path / "m.png")).tolist() == [
        [0, 1, 1]
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_black": 0.6, "clip_white": 0.6}, "black has to be below white"),
        ({"clip_white": 1.5}, "clip_white 1.5 is not valid: give a number from 0 to 1"),
        ({"clip_black": float("nan")}, "clip_black nan is not valid: give a number from 0 to 1"),
        ({"grow": 101}, "give a number from -100 to 100"),
        ({"grow": float("nan")}, "give a number from -100 to 100"),
        ({"feather": -1}, "0 to 100"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        FinishOptions(**options)


def test_what_does_not_fit_the_frames_is_refused(tmp_path):
    small = save(tmp_path / "small.png", np.ones((3, 5)))
    with pytest.raises(OptionError, match=r"is 5x3, but the frame is 5x4"):
        finished(np.zeros((1, 4, 5)), inside_mask=small)
    with pytest.raises(OptionError, match=r"region 0,0,6,4 does not fit the frame of 5x4"):
        finished(np.zeros((1, 4, 5)), region=(0, 0, 6, 4))
    with pytest.raises(ReadError, match="no such file"):
        finished(np.zeros((1, 4, 5)), outside_mask=tmp_path / "gone.png")
    with pytest.raises(OptionError, match="write x0,y0,x1,y1"):
        parse_region("1,2,3")


def test_region_and_masks_of_an_anamorphic_clip_are_in_displayed_pixels(tmp_path):
    like = vidmatte.VideoInfo(
        "c", 4, 2, Fraction(25), Fraction(1, 25), sample_aspect_ratio=Fraction(2)
    )
    mask = save(tmp_path / "wide.png", np.repeat([[0, 0, 0, 0, 1, 1, 0, 0]], 2, 0))
    (result,) = finish(
        [batch(np.ones((1, 2, 4)))],
        FinishOptions(region=(2, 0, 8, 2), outside_mask=mask),
        like=like,
    )
    assert result.alpha[0, 0].tolist() == [[0, 1, 0, 1], [0, 1, 0, 1]]
    with pytest.raises(OptionError, match="but the frame is 4x2"):
        Finisher(FinishOptions(inside_mask=save(tmp_path / "odd.png", np.ones((2, 5)))), like=like)
