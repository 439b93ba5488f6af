"""The refiner: what it leaves alone, tiles without seams, and strands with exact alpha."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidmatte import load_model
from vidmatte.frames import FrameBatch
from vidmatte.model.compact import refine as refine_module
from vidmatte.model.compact.edge_cues import REACH, along_lines, reachable, surroundings
from vidmatte.model.compact.exact_mask import exactness, with_exact_mask
from vidmatte.model.compact.refine import (
    CORE,
    HALO,
    MOST_TILES,
    Refiner,
    Tiles,
    refine,
    tiles_on,
)
from vidmatte.model.compact.upsample import band_share, certain, guided_upsample
from vidmatte.model.weights import load_packaged
from vidmatte.prompts.prompt import Reference

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packaged():
    net = Refiner().eval()
    net.load_state_dict(load_packaged("refiner"))
    return net


@pytest.fixture(scope="module")
def restless():
    """A net that changes alpha everywhere."""
    torch.manual_seed(0)
    net = Refiner().eval()
    torch.nn.init.normal_(net.change.weight, std=0.5)
    with torch.no_grad():
        net.leave.bias[0] = 100  # of the band
    return net


def strands(side=360, ratio=4, seed=0):
    """Return hair of a known width on a ball: rgb (3, S, S), exact alpha (S, S), the ball's mask.

    The hard mask is at 1 / ratio.
    """
    rng = np.random.default_rng(seed)
    much = 8
    large = np.zeros((side * much, side * much), np.uint8)
    middle, radius = side * much // 2, side * much // 5
    for angle in np.linspace(0, 2 * np.pi, 70, endpoint=False):
        reach = radius + rng.uniform(6, 14) * ratio / 4 * much
        end = middle + reach * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(
            large,
            (middle, middle),
            tuple(np.rint(end).astype(int).tolist()),
            255,
            int(rng.integers(6, 13)),
        )
    cv2.circle(large, (middle, middle), radius, 255, -1)
    alpha = large.reshape(side, much, side, much).mean((1, 3)) / 255
    ball = np.zeros((side, side), np.float32)
    cv2.circle(ball, (side // 2, side // 2), side // 5, 1.0, -1)
    mask = cv2.resize(ball, (side // ratio, side // ratio), interpolation=cv2.INTER_AREA)
    front, back = np.array([0.35, 0.2, 0.1]), np.array([0.55, 0.7, 0.8])
    shade = 0.04 * cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), 6)[..., None]
    rgb = alpha[..., None] * front + (1 - alpha[..., None]) * (back + shade)
    return (
        rgb.transpose(2, 0, 1).astype(np.float32),
        alpha.astype(np.float32),
        mask.astype(np.float32),
    )


def test_outside_of_the_band_nothing_changes(restless):
    rgb, _, mask = strands(side=720)
    with torch.inference_mode():
        found = refine(restless, rgb, mask, CPU)
    coarse = guided_upsample(rgb, mask)
    share = cv2.blur(reachable(certain(mask)).astype(np.float32), (3, 3))
    band = cv2.resize(share, rgb.shape[1:], interpolation=cv2.INTER_LINEAR) > 0
    assert np.array_equal(found[~band], coarse[~band])
    assert set(np.unique(found[~band])) == {0, 1}
    assert (np.abs(found - coarse)[band] > 1e-3).mean() > 0.5


@pytest.mark.parametrize("size", [(31, 50), (200, 301), (1080, 1920)])
def test_tiles_cover_the_band_around_an_edge(size):
    # An edge between columns 19 and 20 of 48: the window of 4, and one more of the blur.
    mask = np.zeros((32, 48), np.float32)
    mask[:, 20:] = 1
    share = band_share(mask)
    assert np.flatnonzero(share[0] > 0).tolist() == list(range(15, 25))
    tiles = tiles_on(share, *size)
    reached = np.zeros(size, bool)
    for y, x in tiles.corners.tolist():
        assert not reached[y, x]
        reached[y : y + CORE, x : x + CORE] = True
    enlarged = cv2.resize(share, size[::-1], interpolation=cv2.INTER_LINEAR)
    assert reached[enlarged > 0].all()


def test_tiles_are_as_the_whole(restless):
    side, rng = 3 * CORE, np.random.default_rng(1)
    planes = rng.random((4, side, side), np.float32)
    maps = torch.from_numpy(rng.random((1, 24, 40, 40), np.float32))

    def change(tiles, size):
        pixels = F.pixel_unshuffle(torch.from_numpy(tiles.cut(planes, side=size, halo=HALO)), 2)
        with torch.inference_mode():
            found = F.pixel_shuffle(restless(pixels, tiles.sample(maps, size, HALO)), 2)
        return found[:, 0, HALO:-HALO, HALO:-HALO].numpy()

    whole = change(Tiles(torch.zeros(1, 2, dtype=torch.int64), side, side), side + 2 * HALO)[0]
    tiles = tiles_on(np.ones((40, 40), np.float32), side, side)
    assert len(tiles.corners) == 9
    for (y, x), core in zip(tiles.corners.tolist(), change(tiles, CORE + 2 * HALO), strict=True):
        np.testing.assert_allclose(core, whole[y : y + CORE, x : x + CORE], atol=1e-4)


@pytest.mark.parametrize(("small", "large"), [((56, 80), (300, 448)), ((40, 30), (25, 20))])
def test_maps_are_sampled_bilinearly(small, large):
    maps = torch.rand(1, 3, *small, generator=torch.Generator().manual_seed(0))
    tiles = tiles_on(np.ones(small, np.float32), *large)
    n, half = len(tiles.corners), CORE // 2
    steps = torch.arange(0, CORE, 2) + 1
    y, x = ((tiles.corners[:, i : i + 1] + steps) / large[i] * 2 - 1 for i in (0, 1))
    grid = torch.stack(
        [x[:, None].expand(n, half, half), y[:, :, None].expand(n, half, half)], -1
    ).float()
    wanted = F.grid_sample(
        maps.expand(n, -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    torch.testing.assert_close(tiles.sample(maps, CORE, 0), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ratio", [3, 5])
def test_strands_that_a_mask_does_not_have_are_found(packaged, ratio):
    rgb, truth, mask = strands(ratio=ratio, seed=ratio)
    with torch.inference_mode():
        found, again = (refine(packaged, rgb, mask, CPU) for _ in range(2))
    assert np.array_equal(found, again)
    guided = guided_upsample(rgb, mask)
    assert np.abs(found - truth).sum() < 0.8 * np.abs(guided - truth).sum()
    enlarged = cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(found - truth).sum() < 0.5 * np.abs(enlarged - truth).sum()


def test_alpha_by_lines_is_that_of_each_pixel():
    rgb = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    lines = torch.zeros(1, 8, 3, 4)
    lines[:, 0], lines[:, 3] = 2, -1  # 2 red - 1
    lines[:, 5], lines[:, 6], lines[:, 7] = 1, 1, 0.5  # green + blue + 0.5
    red, green, blue = rgb[0]
    along = along_lines(lines, F.pixel_unshuffle(rgb, 2))
    found = [F.pixel_shuffle(blocks, 2)[0, 0] for blocks in along]
    torch.testing.assert_close(found[0], (2 * red - 1).clamp(-0.5, 1.5))
    torch.testing.assert_close(found[1], (green + blue + 0.5).clamp(-0.5, 1.5))


def test_reach_is_counted_from_what_is_soft():
    mask = np.zeros((64, 96), np.float32)
    mask[:, 50:] = 1
    mask[:, 49] = 0.5
    columns = np.flatnonzero(reachable(mask)[0])
    assert columns.tolist() == list(range(49 - REACH, 50 + REACH))


def test_without_a_band_the_guided_filter_is_all(restless):
    rgb, _, mask = strands()
    net = Refiner().eval()
    net.load_state_dict(restless.state_dict())
    with torch.inference_mode():
        net.leave.bias[0] = -100
        found = refine(net, rgb, mask, CPU)
    assert np.array_equal(found, guided_upsample(rgb, mask))


def net_of_wires(side=720, pitch=6, width=2):
    """Return a net before a wall as a lens shows it: rgb (3, side, side), and its alpha."""
    alpha = np.zeros((side, side), np.float32)
    inside = slice(side // 4, -side // 4)
    for at in range(side // 4, side - side // 4, pitch):
        alpha[at : at + width, inside] = 1
        alpha[inside, at : at + width] = 1
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.8)
    front = np.array([0.8, 0.8, 0.85], np.float32)[:, None, None]
    back = np.array([0.3, 0.1, 0.1], np.float32)[:, None, None]
    grain = np.random.default_rng(0).normal(0, 0.15, (3, side, side)).astype(np.float32)
    return np.clip(alpha * front + (1 - alpha) * back + grain, 0, 1), alpha


def photograph():
    """Return a predictor of a net with its mask on frame 4, its image and its true alpha."""
    rgb, truth = net_of_wires()
    mask = (truth > 0.5).astype(np.float32)
    image, alpha = torch.from_numpy(rgb)[None], torch.from_numpy(mask)[None, None]
    reference = Reference(image, alpha, torch.ones_like(alpha), frame=4)
    return load_model(device="cpu").with_reference([reference]), image, truth


def test_an_exact_mask_keeps_the_wires_of_a_net():
    predictor, image, truth = photograph()
    assert predictor.finish_masked(image, 5) is None
    coarse = predictor.references[0].coarse(predictor.model)
    without = predictor.finish(image, coarse)[0, 0].numpy()
    found = predictor.finish_masked(image, 4)[0, 0].numpy()
    assert np.abs(found - truth).mean() < 0.9 * np.abs(without - truth).mean()
    batch = FrameBatch(image, (4,), (0,), (1,))
    assert np.array_equal(predictor(batch).alpha[0, 0].numpy(), found)


def disc(radius, side=200):
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("larger", "trust"), [(0, 1), (0.5, 1), (2, 0), (-2, 0)])
def test_a_mask_beside_the_edge_is_not_trusted(larger, trust):
    """The area between two circles over the length of one is nearly the difference of radii."""
    found, mask = disc(60), (disc(60 + larger) > 0.5).astype(np.float32)
    assert exactness(found, mask) == pytest.approx(trust, abs=0.15)
    both = with_exact_mask(found, mask)
    if trust == 0:
        assert np.array_equal(both, found)
    assert (both[disc(50) == 1] == 1).all()
    assert (both[disc(70) == 0] == 0).all()


def test_an_empty_mask_changes_nothing():
    found = disc(20)
    assert np.array_equal(with_exact_mask(found, np.zeros_like(found)), found)


def test_cost_is_bounded(restless, monkeypatch):
    seen = []
    monkeypatch.setattr(
        refine_module.Refiner, "forward", counting(refine_module.Refiner.forward, seen)
    )
    checks = (np.indices((24, 40)).sum(0) % 6 < 3).astype(np.float32)
    rgb = np.random.default_rng(0).random((3, 1200, 2000), np.float32)
    with torch.inference_mode():
        found = refine(restless, rgb, checks, CPU)
    assert len(tiles_on(band_share(checks), 1200, 2000).corners) > MOST_TILES
    assert 0 < sum(seen) <= MOST_TILES
    assert found.shape == (1200, 2000)
    assert found.min() >= 0
    assert found.max() <= 1


def counting(forward, seen):
    def count(self, pixels, around):
        seen.append(len(pixels))
        return forward(self, pixels, around)

    return count


def test_a_certain_matte_is_not_looked_at(packaged):
    rgb = np.random.default_rng(0).random((3, 90, 120), np.float32)
    for value in (0, 1):
        assert (refine(packaged, rgb, np.full((30, 40), value, np.float32), CPU) == value).all()


def test_a_mask_holds_on_its_own_image():
    rgb, _, mask = strands(side=256, ratio=1)
    image, alpha = torch.from_numpy(rgb)[None], torch.from_numpy(mask)[None, None]
    predictor = load_model(device="cpu").with_reference(
        [Reference(image, alpha, torch.ones_like(alpha), frame=0)]
    )
    found = predictor(FrameBatch(image, (0,), (0,), (1,))).alpha[0, 0].numpy()
    inside, outside = (cv2.erode(side, np.ones((33, 33))) > 0 for side in (mask, 1 - mask))
    assert (found[inside] == 1).all()
    assert (found[outside] == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (40, 1)], ids=str)
def test_images_without_detail_take_no_memory(monkeypatch, size):
    """A tile of a frame of one pixel would span a map of 128 x 256 places on each side."""
    monkeypatch.setattr("vidmatte.model.compact.refine._changes", lambda *_: pytest.fail("refined"))
    rgb = np.full((3, *size), 0.5, np.float32)
    alpha = np.full((256, 256), 0.4, np.float32)
    refined = refine(Refiner(), rgb, alpha, torch.device("cpu"))
    assert refined.shape == size
    assert np.allclose(refined, 0.4, atol=0.01)


def test_parts_of_many_places_and_sizes_have_few_shapes():
    shapes = set()
    for size in range(20, 60):
        near = np.zeros((224, 400), np.uint8)
        near[70 : 70 + size, 101 + size : 101 + 3 * size] = 1
        rows, columns = surroundings(near)
        seen = near[rows, columns]
        # All of it, with at least 32 pixels around it.
        assert seen.sum() == near.sum()
        assert rows.start <= 70 - 32
        assert columns.start <= 101 + size - 32
        assert rows.stop >= 70 + size + 32
        shapes.add(seen.shape)
    assert {side % 16 for shape in shapes for side in shape} == {0}
    assert len(shapes) < 40 / 3
