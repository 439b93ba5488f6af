"""The bank of moving foregrounds, the clips made from it, and the rasteriser that fills it."""

import copy
import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from clips import write_corpus

from vidmatte.errors import ReadError
from vidmatte.synth.bank import Bank, Entry, choose_times, read_entries, write_entry, write_index
from vidmatte.synth.corpus import Corpus
from vidmatte.synth.fill import fill_from_footage
from vidmatte.synth.fill_command import main
from vidmatte.synth.footage import (
    MoverSettings,
    find_movers,
    find_person,
    gate,
    settings_for,
    soft_alpha,
    without_dark_rim,
)
from vidmatte.synth.mesh import KINDS as mesh_kinds
from vidmatte.synth.mesh import box, join, moved, sphere
from vidmatte.synth.scenes import Events, make_bank_clip

SIDE, FRAMES = 64, 10


def disc(t, side=SIDE):
    """A disc that grows with t: straight colour and alpha."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    alpha = np.clip(12 + t - np.hypot(x - side / 2, y - side / 2) + 0.5, 0, 1).astype(np.float32)
    colour = np.stack([x / side, y / side, np.full_like(x, 0.5)], -1)
    return colour, alpha


def fill(folder, names, kind="footage", **facts):
    colours, alphas = zip(*(disc(t) for t in range(FRAMES)), strict=True)
    for name in names:
        write_entry(
            folder,
            Entry(name, kind, name, "made by a test", "none", FRAMES, **facts),
            colours,
            alphas,
        )


@pytest.fixture(scope="module")
def bank_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    fill(
        folder,
        [f"footage-{n:03}" for n in range(24)],
        path=tuple((0.02 * t, 0.0) for t in range(FRAMES)),
    )
    yaw = tuple(float(angle) for angle in np.linspace(0, 2 * np.pi, FRAMES))
    fill(folder, [f"mesh-{n:03}" for n in range(24)], kind="mesh", yaw=yaw)
    colours = [cv2.resize(disc(t)[0], (96, 72)) for t in range(FRAMES)]
    for n in range(4):
        name = f"backdrop-{n:03}"
        entry = Entry(name, "backdrop", name, "made by a test", "none", FRAMES)
        write_entry(folder, entry, colours, [None] * FRAMES)
    write_index(folder)
    return folder


def test_frames_come_back_in_any_order(bank_folder):
    bank = Bank(bank_folder, "train")
    entry = bank.footage[0]
    found = bank.pictures(entry, [7, 0, 7, 3], SIDE)
    for picture, t in zip(found, (7, 0, 7, 3), strict=True):
        colour, alpha = disc(t)
        assert np.abs(picture[..., 3] - alpha).max() <= 0.5 / 255 + 1e-6  # lossless but for 8 bits
        assert np.abs(picture[..., :3] - colour * alpha[..., None]).max() < 0.06  # JPEG
    small = bank.pictures(entry, [2], 32)[0]
    assert small.shape == (32, 32, 4)
    assert small[..., 3].sum() * 4 == pytest.approx(disc(2)[1].sum(), rel=0.01)


def test_splits_are_disjoint_and_about_one_in_eight_is_held_out(bank_folder):
    train, held = Bank(bank_folder, "train"), Bank(bank_folder, "held-out")
    names = [{entry.name for entry in [*bank.footage, *bank.rendered]} for bank in (train, held)]
    assert not names[0] & names[1]
    assert len(names[0]) + len(names[1]) == 48
    assert 1 <= len(names[1]) <= 14


def test_entries_of_one_clip_of_footage_are_of_one_split():
    splits = {Entry(f"footage-walk-{n:02}", "footage", "walk", "", "", 8).split for n in range(40)}
    assert len(splits) == 1


def test_a_folder_without_a_bank_is_refused(tmp_path):
    with pytest.raises(ReadError, match="bank"):
        Bank(tmp_path, "train")
    (tmp_path / "bank.json").write_text(json.dumps({"version": 99, "entries": []}))
    with pytest.raises(ReadError, match="99"):
        read_entries(tmp_path)


def test_a_soft_edge_lies_inside_of_its_mask():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    alpha = soft_alpha(mask)
    assert not alpha[mask == 0].any()
    assert (np.rint(alpha[14:26, 14:26] * 255) == 255).all()
    soft = (alpha[20] > 0.02) & (alpha[20] < 0.98)
    assert 2 <= soft.sum() <= 6


def write_movie(path, frames):
    """Write frames (h, w, 3) losslessly."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def parade(tmp_path_factory):
    """A folder with a movie of a disc that crosses a flat background, and the disc's true masks."""
    folder = tmp_path_factory.mktemp("footage")
    y, x = np.mgrid[:90, :200]
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(90, 130, (9, 20, 3), np.uint8), (200, 90))
    frames, truth = [], []
    for t in range(-12, 26):
        inside = np.hypot(x - (11 * t - 38), y - 45) < 38
        frame = ground.copy()
        frame[inside] = (230, 40, 30)
        noise = rng.normal(0, 5, frame.shape)
        frames.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
        truth.append(inside)
    write_movie(folder / "parade.mkv", frames)
    return folder, truth


@pytest.fixture(scope="module")
def movers(parade):
    folder, _ = parade
    return find_movers(folder / "parade.mkv")


def test_a_passing_object_is_cut_out_while_it_is_whole(parade, movers):
    _, truth = parade
    (mover,) = movers
    assert len(mover) >= 8
    for i, (x, y, w, h) in enumerate(mover.boxes):
        whole = np.zeros((90, 200), bool)
        whole[y : y + h, x : x + w] = mover.masks[i] > 0
        inside = truth[mover.start + i]
        assert not (inside[:, 0] | inside[:, -1]).any()  # not cut by the frame
        assert (whole & inside).sum() / (whole | inside).sum() > 0.95


def test_a_mover_with_a_large_hole_is_rejected(movers):
    (mover,) = copy.deepcopy(movers)
    for mask in mover.masks:
        rows, columns = np.nonzero(mask)
        y, x = int(rows.mean()), int(columns.mean())
        mask[y - 12 : y + 12, x - 12 : x + 12] = 0
    assert gate(mover) == []


def test_a_seated_person_is_cut_out_by_colour(tmp_path):
    y, x = np.mgrid[:120, :160]
    rng = np.random.default_rng(0)
    frames, truth = [], []
    for t in range(20):
        head = np.hypot((x - 80) / 14, (y - 34) / 20) < 1
        body = np.hypot((x - 80) / 30, (y - 120) / 76) < 1
        # An arm goes up beside the body.
        arm = (np.abs(x - 108) < 6) & (y > 100 - 3 * t)
        frame = np.full((120, 160, 3), (200, 205, 190), np.uint8)
        frame[body | arm] = (40, 60, 120)
        frame[head] = (150, 90, 70)
        noise = rng.normal(0, 3, frame.shape)
        frames.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
        truth.append(head | body | arm)
    write_movie(tmp_path / "seated.mkv", frames)
    (mover,) = find_person(tmp_path / "seated.mkv", width=160)
    assert mover.cut
    assert len(mover) >= 8
    # Every second frame is used.
    used = truth[::2][mover.start :][: len(mover)]
    for mask, person in zip(mover.masks, used, strict=True):
        assert (person & (mask > 0)).sum() / (person | (mask > 0)).sum() > 0.9


def test_the_dark_area_under_a_convex_object_is_cut_off():
    plate = np.full((60, 80, 3), 120, np.float32)
    y, x = np.mgrid[:60, :80]
    car, shadow = np.hypot(x - 40, y - 25) < 18, (np.abs(y - 46) < 5) & (np.abs(x - 40) < 25)
    frame = plate.astype(np.uint8)
    frame[shadow] = 60
    frame[car] = (220, 60, 40)
    mask = without_dark_rim(frame, (car | shadow).astype(np.uint8), plate)
    assert (mask[car] > 0).mean() > 0.95
    assert (mask[shadow & ~car] > 0).mean() < 0.05


def test_footage_fills_a_bank_with_movers_and_backdrops(parade, tmp_path):
    folder, _ = parade
    fill_from_footage(tmp_path, folder, source="a test", licence="CC0 1.0")
    entries = {entry.kind: entry for entry in write_index(tmp_path)}
    assert set(entries) == {"footage", "backdrop"}
    mover = entries["footage"]
    assert mover.source.startswith("a test: parade.mkv")
    assert mover.licence == "CC0 1.0"
    # The disc moves by 11 pixels a frame, and its radius is 38. A mean of five frames leaves the
    # centre (2 + 1) * 11 / 5 pixels behind at both ends; the picture has a margin of 3 pixels.
    side = 2 * (38 + 33 / 5 + 3)
    steps = np.diff([x for x, _ in mover.path])[3:-3]
    assert steps == pytest.approx(11 / side, rel=0.03)
    bank = Bank(tmp_path, mover.split)
    (picture,) = bank.pictures(mover, [4], round(side))
    assert picture[..., 3].sum() == pytest.approx(np.pi * 37**2, rel=0.06)
    red = picture[picture[..., 3] > 0.99][:, :3]
    assert np.abs(red.mean(0) - np.array([230, 40, 30]) / 255).max() < 0.03
    (background,) = bank.backgrounds(entries["backdrop"], [0])
    assert background.shape == (144, 320, 3)


def test_a_folder_without_footage_is_an_error(tmp_path):
    with pytest.raises(ReadError, match="expected clips"):
        fill_from_footage(tmp_path, tmp_path, source="", licence="")


def test_known_footage_has_settings_of_its_own(tmp_path):
    assert settings_for(tmp_path / "bottle-detection.mp4") is None
    assert settings_for(tmp_path / "again.mkv").seated
    assert settings_for(tmp_path / "other.mp4") == MoverSettings()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    alpha = (disc(10)[1] * 255).astype(np.uint8)
    write_corpus(folder, photographs=12, cutouts=3, alpha=alpha)
    return folder


raster = pytest.importorskip("vidmatte.synth.raster", reason="numba comes with the extra 'train'")


def picture_of(mesh, *, distance=4.0, side=60, span=3.0, textures=None):
    view = raster.View(0.0, 0.0, distance)
    if textures is None:
        textures = np.full((len(mesh.gloss), 8, 8, 3), 0.5, np.float32)
    return raster.render(mesh, textures, view, side, centre=(0.0, 0.0), span=span)


def test_a_sphere_covers_the_disc_that_it_should():
    radius, distance, side, span = 1.0, 4.0, 60, 3.0
    _, alpha = picture_of(sphere(radius, segments=200))
    # The outline of a sphere in perspective lies on the cone that touches it.
    seen = distance * radius / np.sqrt(distance**2 - radius**2)
    assert alpha.sum() * (span / side) ** 2 == pytest.approx(np.pi * seen**2, rel=0.004)
    fine = side * 16
    y, x = ((np.mgrid[:fine, :fine] + 0.5) / fine - 0.5) * span
    exact = (np.hypot(x, y) < seen).reshape(side, 16, side, 16).mean((1, 3))
    # Nine samples tell coverage to within about two of them.
    assert np.abs(alpha - exact).max() < 2.5 / 9


def test_a_box_covers_its_front_face_and_hides_what_is_behind():
    mesh = join([box((1, 1, 1), 0), moved(box((1, 1, 1), 1), by=(0, 0, -2))])
    textures = np.stack([np.full((8, 8, 3), value, np.float32) for value in (1.0, 0.0)])
    colour, alpha = picture_of(mesh, textures=textures)
    half = 0.5 * 4 / (4 - 0.5)
    assert alpha.sum() * (3 / 60) ** 2 == pytest.approx((2 * half) ** 2, rel=0.03)
    assert colour[30, 30].min() > 0.3
    assert alpha[30, 30] == 1


def test_colour_goes_on_beyond_the_alpha():
    premultiplied, alpha = np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), np.float32)
    alpha[15:25, 15:25] = 1
    premultiplied[15:25, 15:25] = (0.2, 0.6, 0.4)
    colour = raster.extend(premultiplied, alpha)
    assert np.abs(colour - np.array([0.2, 0.6, 0.4])).max() < 0.02


@pytest.mark.parametrize("number", range(len(mesh_kinds)))
def test_a_mesh_of_every_kind_can_be_rendered(number):
    shape = mesh_kinds[number](np.random.default_rng(1))
    assert np.isfinite(shape.vertices).all()
    assert shape.faces.max() < len(shape.vertices)
    assert len(shape.gloss) > shape.region.max()
    _, alpha = picture_of(shape, distance=8.0, side=40, span=6.0)
    assert 0.01 < alpha.mean() < 0.9


def test_a_command_renders_entries_that_are_kept_when_it_runs_again(photographs, tmp_path):
    command = [str(tmp_path), "--corpus", str(photographs), "--entries", "1"]
    assert main(command) == 0
    (entry,) = read_entries(tmp_path)
    frames = tmp_path / entry.name / "frames.zip"
    written = frames.stat().st_mtime_ns
    assert main(command) == 0
    assert frames.stat().st_mtime_ns == written
    assert entry.kind == "mesh"
    assert len(entry.yaw) == entry.frames == 32
    picture = Bank(tmp_path, entry.split).pictures(entry, [0], 64)[0]
    assert 0.02 < picture[..., 3].mean() < 0.95
    border = [picture[0, :, 3], picture[-1, :, 3], picture[:, 0, 3], picture[:, -1, 3]]
    assert max(edge.max() for edge in border) == 0


def test_a_command_draws_hair_that_no_side_of_its_pictures_cuts(tmp_path):
    assert main([str(tmp_path), "--grooms", "1"]) == 0
    (entry,) = read_entries(tmp_path)
    assert (entry.kind, entry.frames, entry.licence) == ("groom", 16, "CC0 1.0")
    bank = Bank(tmp_path, entry.split)
    assert bank.rendered == [entry]
    picture = bank.pictures(entry, [3], 256)[0]
    alpha = picture[..., 3]
    assert max(edge.max() for edge in (alpha[0], alpha[:, 0], alpha[:, -1])) == 0
    assert entry.cut == (alpha[-1].max() > 0)
    # Strands are thinner than a pixel.
    assert ((alpha > 0.05) & (alpha < 0.95)).mean() > 0.02


def test_rendered_kinds_are_as_frequent_as_each_other(tmp_path):
    fill(tmp_path, [f"mesh-{n:03}" for n in range(60)], kind="mesh")
    fill(tmp_path, [f"groom-{n:03}" for n in range(20)], kind="groom")
    write_index(tmp_path)
    bank = Bank(tmp_path, "train")
    rng = np.random.default_rng(0)
    kinds = [bank.draw(rng, 1.0).kind for _ in range(400)]
    # Four standard deviations of 400 fair draws.
    assert abs(kinds.count("groom") - 200) < 40


def test_worker_processes_render_the_entries_of_all_numbers(photographs, tmp_path):
    # Run as a user does: the functions of a package's `__main__` cannot be sent to a process.
    command = ["-m", "vidmatte.synth", str(tmp_path), "--corpus", str(photographs)]
    options = ["--entries", "2", "--workers", "2"]
    subprocess.run([sys.executable, *command, *options], check=True, timeout=300)
    assert [entry.name for entry in read_entries(tmp_path)] == ["mesh-0000", "mesh-0001"]


def test_a_command_reports_a_folder_without_photographs(tmp_path, caplog):
    assert main([str(tmp_path), "--corpus", str(tmp_path), "--entries", "1"]) == 1
    assert "looked for images" in caplog.text


@pytest.mark.parametrize(
    ("options", "missing"), [(["--entries", "1"], "--corpus"), (["--footage", "f"], "--source")]
)
def test_a_command_names_the_option_that_is_missing(tmp_path, capsys, options, missing):
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "bank"), *options])
    assert end.value.code == 2
    assert missing in capsys.readouterr().err


@pytest.fixture(scope="module")
def corpus(photographs):
    return Corpus(photographs, "train")


def test_the_share_of_renders_is_kept(bank_folder):
    bank, rng = Bank(bank_folder, "train"), np.random.default_rng(0)
    assert not any(bank.draw(rng, 0.0).is_rendered for _ in range(50))
    assert np.mean([bank.draw(rng, 0.3).is_rendered for _ in range(1000)]) == pytest.approx(
        0.3, abs=0.05
    )


@pytest.mark.parametrize("prompt", ["mask", "clicks"])
def test_a_clip_belongs_to_its_seed(bank_folder, corpus, prompt):
    bank = Bank(bank_folder, "train")
    for seed in range(3):
        clip = make_bank_clip(bank, corpus, (64, 96), 4, prompt, seed)
        again = make_bank_clip(Bank(bank_folder, "train"), corpus, (64, 96), 4, prompt, seed)
        for field in dataclasses.fields(clip):
            assert np.array_equal(getattr(clip, field.name), getattr(again, field.name)), field.name
        assert clip.rgb.shape == (4, 3, 64, 96)
        assert clip.alpha.shape == (4, 1, 64, 96)
        assert clip.flow.shape == (4, 64, 96, 2)
        assert clip.between.shape == (4, 2, 3)
        assert clip.alpha[0].max() == 255


@pytest.mark.parametrize("event", ["shadow", "mirror", "light"])
def test_shadow_reflection_and_light_are_not_in_the_alpha(bank_folder, corpus, event):
    bank = Bank(bank_folder, "train")
    changed = 0
    for seed in range(4):
        make = lambda events, seed=seed: make_bank_clip(  # noqa: E731
            bank, corpus, (48, 48), 3, "mask", seed, events=events
        )
        plain, with_it = make(Events()), make(Events(**{event: True}))
        assert np.array_equal(plain.alpha, with_it.alpha)
        changed += not np.array_equal(plain.rgb, with_it.rgb)
    assert changed == 4


def test_an_object_that_leaves_has_no_alpha_and_comes_back(bank_folder, corpus):
    bank = Bank(bank_folder, "train")
    came_back = 0
    for seed in range(6):
        clip = make_bank_clip(
            bank, corpus, (48, 48), 5, "mask", seed, still=True, events=Events(leaves=True)
        )
        seen = clip.alpha.reshape(5, -1).max(1) > 0
        assert seen[0]
        assert not seen.all()
        came_back += seen[-1]
    assert came_back >= 4


def test_an_occluder_takes_from_the_alpha(bank_folder, corpus):
    bank = Bank(bank_folder, "train")
    less = 0
    for seed in range(12):
        bare, hidden = (
            make_bank_clip(
                bank, corpus, (48, 48), 4, "mask", seed, events=Events(occluder=there)
            ).alpha.astype(int)
            for there in (False, True)
        )
        assert (hidden <= bare).all()
        less += hidden.sum() < bare.sum()
    assert less >= 6


def test_a_turned_object_is_seen_from_the_other_side():
    yaw = tuple(float(angle) for angle in np.linspace(0, 2 * np.pi, 32))
    entry = Entry("mesh-0000", "mesh", "mesh-0000", "", "", 32, yaw=yaw)
    rng = np.random.default_rng(1)
    for _ in range(20):
        times = choose_times(entry, 4, rng, turned=True)
        apart = abs((yaw[times[1]] - yaw[times[0]] + np.pi) % (2 * np.pi) - np.pi)
        assert apart > np.radians(140)
        assert all(0 <= t < 32 for t in times)


@pytest.mark.parametrize("event", [field.name for field in dataclasses.fields(Events)])
def test_every_event_changes_the_clip(bank_folder, corpus, event):
    bank = Bank(bank_folder, "train")
    changed = 0
    for seed in range(4):
        plain, with_it = (
            make_bank_clip(bank, corpus, (48, 48), 3, "mask", seed, events=events, render_share=1.0)
            for events in (Events(), Events(**{event: True}))
        )
        assert with_it.alpha[0].any()
        changed += not np.array_equal(plain.rgb, with_it.rgb)
    assert changed >= 3
