"""Training of IconMatting's head, on a tiny Stable Diffusion and groups that the test draws."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from test_models import lightning_file, save_sd
from tiny_sd import CHANNELS, COARSE, FINE, SIDE, tiny_sd

from vidmatte.cli import cli
from vidmatte.datasets import Group, ImageSample, open_dataset
from vidmatte.errors import OptionError, ReadError
from vidmatte.model.iconmatting import FeatureSettings, IconMattingNet
from vidmatte.model.losses import l1_within, optimizer_step
from vidmatte.train import IconMattingConfig, train
from vidmatte.train.feature_cache import FeatureCache
from vidmatte.train.groups import PairBatches, away_from_edges, crop, solid, usable_groups
from vidmatte.train.iconmatting import groups_of, loss, make_trainer
from vidmatte.train.recipe import load_recipe, make_config

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(path, rng, soft):
    """A bright disc on dark noise, 150 x 130, with its alpha."""
    y, x = np.mgrid[:130, :150]
    distance = np.hypot(x - rng.uniform(55, 95), y - rng.uniform(50, 80))
    alpha = np.clip((rng.uniform(25, 35) - distance) / (6 if soft else 0.01) + 0.5, 0, 1)
    noise = cv2.resize(rng.random((8, 8, 3)), (150, 130)) * 0.4
    colour = rng.uniform(0.6, 1, 3)
    picture = noise * (1 - alpha[..., None]) + colour * alpha[..., None]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (picture * 255).round().astype(np.uint8))
    cv2.imwrite(
        str(path.with_name(f"{path.stem}_alpha.png")), (alpha * 255).round().astype(np.uint8)
    )


@pytest.fixture(scope="module")
def matting(tmp_path_factory):
    """Two groups of three images with alpha, in the plain layout."""
    folder = tmp_path_factory.mktemp("matting")
    for n in range(6):
        draw(folder / f"group{n // 3}" / f"{n}.png", np.random.default_rng(n), soft=True)
    return folder


@pytest.fixture(scope="module")
def groups(matting):
    """Those, and one of masks."""
    alpha = open_dataset("groups", matting).groups
    masks = tuple(dataclasses.replace(sample, kind="mask") for sample in alpha[1].images)
    return (alpha[0], Group("masks", masks))


def config(**changes):
    settings = {
        "crop": SIDE,
        "ensemble": 1,
        "steps": 4,
        "batch": 2,
        "workers": 0,
        "save_every": 2,
        "warm_up": 2,
        "precision": "float32",
        "validate_every": 0,
        "average": 0.5,
        "framing": "random",
        "unknown": "soft",
        "matting": 0.5,
    }
    return IconMattingConfig(**(settings | changes))


def quiet(line):
    pass


# --- pairs ----------------------------------------------------------------------------------------


def test_a_pair_belongs_to_its_number(groups):
    batches = PairBatches(config(), groups)
    kinds = set()
    for number in range(12):
        pair, again = batches.pair(number), PairBatches(config(), groups).pair(number)
        assert all(torch.equal(pair[name], again[name]) for name in pair)
        assert pair["target"].shape == pair["reference"].shape == (3, SIDE, SIDE)
        assert not torch.equal(pair["target"], pair["reference"])
        assert pair["roi"].any()
        # Bright where alpha is: colours and alpha were cropped alike.
        inside = pair["alpha"][0] > 200
        assert (
            pair["target"].float().mean(0)[inside].mean()
            > 1.5 * pair["target"].float().mean(0)[~inside].mean()
        )
        kinds.add(bool(pair["is_matting"]))
    assert kinds == {True, False}


def test_a_step_sees_the_same_pairs_however_it_is_divided(groups):
    def seen(**division):
        batches = PairBatches(config(batch=4, steps=2, **division), groups)
        drawn = [batches[k] for k in range(len(batches))]
        return torch.cat([batch["target"] for batch in drawn])

    whole = seen()
    assert whole.shape[0] == 8
    for division in ({"accumulate": 2}, {"processes": 2}, {"accumulate": 2, "processes": 2}):
        assert torch.equal(whole, seen(**division)), division
    with pytest.raises(OptionError, match="it must be a multiple of 3"):
        PairBatches(config(batch=4, accumulate=3), groups)


def test_a_crop_shows_the_object_and_is_as_large_as_asked(groups):
    sample = groups[0].images[0]
    for seed in range(8):
        found = crop(sample, config(crop=64), np.random.default_rng(seed), -1)
        assert found.rgb.shape == (3, 64, 64)
        assert (found.alpha > 127).mean() > 0.02
    # Smaller images are brought to size.
    assert crop(sample, config(crop=256), np.random.default_rng(0), -1).rgb.shape == (3, 256, 256)


def test_crops_of_a_number_are_the_same_whoever_draws_them(groups):
    batches = PairBatches(config(crops=1), groups[:1])
    found = {}
    for number in range(10):
        pair = batches.pair(number)
        for role in ("reference", "target"):
            key = int(pair[f"{role}_key"])
            assert key >= 0
            assert torch.equal(found.setdefault(key, pair[role]), pair[role])
    assert len(found) == 3


def test_where_truth_is_trusted():
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 50:] = 255
    trusted = away_from_edges(mask)
    assert trusted[:, :48].all()
    assert trusted[:, 52:].all()
    assert not trusted[:, 49:51].any()
    mask[:, 50] = 128
    assert not solid(mask)[:, 48:53].any()
    assert solid(mask)[:, :48].all()


def test_groups_of_one_image_are_left_out(groups, caplog):
    single = Group("alone", groups[0].images[:1])
    assert usable_groups([*groups, single]) == groups
    assert "1 groups of one image are left out, such as alone" in caplog.text
    with pytest.raises(ReadError, match="found 1 groups and none of that size"):
        PairBatches(config(), [single])


def test_alpha_of_another_size_and_empty_alpha_are_named(groups, tmp_path):
    good = groups[0].images[0]
    cv2.imwrite(str(tmp_path / "small.png"), np.full((10, 10), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((130, 150), np.uint8))
    for name, message in (
        ("small", r"small\.png: is 10x10, but its image"),
        ("empty", r"empty\.png: shows no object"),
    ):
        bad = ImageSample(name, good.image, tmp_path / f"{name}.png")
        with pytest.raises(ReadError, match=message):
            PairBatches(config(), [Group("bad", (bad, bad))])[0]


def test_l1_within_equals_the_formula_by_hand():
    alpha, truth, region = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    alpha[0, 0, 0, 0], alpha[0, 0, 1, 1], region[0, 0, 0] = 0.5, 1.0, 1
    assert l1_within(alpha, truth, region).tolist() == [0.25, 0]


def small(**changes):
    """What `crop` needs, with the paper's framing."""
    return config(**({"framing": "center", "unknown": "trimap"} | changes))


def with_trimaps(folder, matting):
    """The samples of the plain groups with trimaps of an unknown band at the left."""
    groups = []
    for group in open_dataset("groups", matting).groups:
        samples = []
        for sample in group.images:
            trimap = np.where(cv2.imread(str(sample.alpha), 0) > 127, 255, 0).astype(np.uint8)
            trimap[:, :50] = 128
            path = folder / f"{group.name}-{sample.name}.png"
            cv2.imwrite(str(path), trimap)
            samples.append(dataclasses.replace(sample, trimap=path))
        groups.append(Group(group.name, tuple(samples)))
    return tuple(groups)


def test_the_papers_crop_is_the_square_in_the_middle(groups):
    sample = groups[0].images[0]
    # 150 x 130 pixels: columns 10 to 140, neither scaled nor mirrored.
    picture = cv2.imread(str(sample.image))[:, 10:140, ::-1].transpose(2, 0, 1)
    found = crop(sample, small(crop=130), None, -1)
    assert np.array_equal(found.rgb, picture)
    batches = PairBatches(small(), groups[:1])
    seen = {}
    for number in range(12):
        pair = batches.pair(number)
        key = int(pair["target_key"])
        assert torch.equal(seen.setdefault(key, pair["target"]), pair["target"])
    # One crop for each image, whose features may be kept.
    assert len(seen) == 3
    assert -1 not in seen


def test_the_unknown_area_is_that_of_the_trimap(matting, tmp_path, caplog):
    groups = with_trimaps(tmp_path, matting)
    known = PairBatches(small(crop=130), groups).pair(0)["known"][0]
    # Columns 0 to 50 of the image are unknown, and the crop begins at column 10.
    assert (known[:, :40] == 0).all()
    assert (known[:, 40:] == 1).all()
    soft = PairBatches(small(crop=130, unknown="soft"), groups).pair(0)["known"][0]
    assert not torch.equal(known, soft)
    assert "have no trimap" not in caplog.text
    PairBatches(small(), open_dataset("groups", matting).groups)
    assert "6 images have no trimap, such as 0; their unknown area is the soft part" in caplog.text


def test_one_pair_in_fifteen_has_alpha(groups):
    share = IconMattingConfig().matting
    assert 1 / share == pytest.approx(15, abs=0.1)
    batches = PairBatches(small(matting=share), groups)
    drawn = [bool(batches.pair(number)["is_matting"]) for number in range(150)]
    assert 4 <= sum(drawn) <= 18
    masks_off = PairBatches(small(segmentation=False), groups)
    assert all(bool(masks_off.pair(number)["is_matting"]) for number in range(10))
    with pytest.raises(OptionError, match="segmentation is off, but no data set has alpha"):
        PairBatches(small(segmentation=False), groups[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "l2"}, "loss 'l2' is not valid: choose one of research, simple"),
        ({"framing": "left"}, "framing 'left' is not valid"),
        ({"unknown": "none"}, "unknown 'none' is not valid"),
        ({"clip": -1}, "clip -1 is not valid"),
        ({"matting": 2}, "matting 2 is not valid"),
    ],
)
def test_settings_outside_their_range_are_refused(change, message):
    with pytest.raises(OptionError, match=message):
        config(**change)


# --- features -------------------------------------------------------------------------------------


class Counting:
    """A Stable Diffusion that counts the images it looked at."""

    def __init__(self):
        self.sd, self.looked = tiny_sd(), 0
        self.device = self.sd.device

    def __call__(self, rgb, *given, **named):
        self.looked += len(rgb)
        return self.sd(rgb, *given, **named)


def test_features_are_kept_and_the_same_from_the_disk(tmp_path, caplog):
    rgb, keys = (
        torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
        torch.tensor([7, 8, -1]),
    )
    settings = FeatureSettings(200, 1)
    fresh = FeatureCache(tiny_sd(), settings)(rgb, "target", keys)
    sd = Counting()
    looks = FeatureCache(sd, settings, identity="a" * 64, cache=tmp_path)
    for expected in (3, 4):  # what has no key is looked at again
        found = looks(rgb, "target", keys)
        assert sd.looked == expected
        for name in ("coarse", "fine", "coarse_attention", "fine_attention"):
            assert torch.equal(getattr(found, name), getattr(fresh, name)), name
    assert found.fine.requires_grad is False
    assert not found.fine.is_inference()
    looks(rgb, "reference", keys)
    assert sd.looked == 7
    assert {path.parent.name for path in tmp_path.glob("*/*")} == {"aaaaaaaaaaaaaaaa-t200-e1-s0"}
    # A file that was cut is made again; what no longer fits is computed.
    next(tmp_path.glob("*/*target*")).write_bytes(b"cut")
    looks(rgb[:2], "target", keys[:2])
    assert sd.looked == 8
    small = FeatureCache(sd, settings, cache=tmp_path / "small", gigabytes=1e-6)
    small(rgb, "target", keys)
    assert small.kept == 0
    assert "features no longer fit" in caplog.text


def test_a_full_disk_ends_the_cache_and_not_the_run(tmp_path, monkeypatch, caplog):
    def full(tensors, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vidmatte.train.feature_cache.save_file", full)
    looks = FeatureCache(tiny_sd(), FeatureSettings(200, 1), cache=tmp_path)
    assert (
        looks(torch.zeros(2, 3, SIDE, SIDE), "reference", torch.tensor([1, 2])).fine.shape[0] == 2
    )
    assert [
        record.getMessage() for record in caplog.records if "cannot be kept" in record.getMessage()
    ]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- runs -----------------------------------------------------------------------------------------


def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one_with_a_cache_or_without(
    groups, tmp_path
):
    whole = make_trainer(config(crops=1, steps=3), tiny_sd(), groups).part
    train(config(crops=1, steps=3), tmp_path / "whole", whole, log=quiet)
    cached = config(crops=1, steps=3, cache=str(tmp_path / "cache"))
    part = make_trainer(cached, tiny_sd(), groups).part
    calls = [0]

    def broken(*given):
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return part.loss(*given)

    with pytest.raises(KeyboardInterrupt):
        train(cached, tmp_path / "broken", dataclasses.replace(part, loss=broken), log=quiet)
    train(cached, tmp_path / "broken", part, log=quiet)
    for name in ("weights", "average", "exp_avg"):
        found, expected = (
            load_file(tmp_path / run / f"{name}.safetensors") for run in ("broken", "whole")
        )
        assert all(torch.equal(found[key], expected[key]) for key in expected), name


def changed(features, **changes):
    """Features of everything, some of them made different."""

    def see(rgb, role, keys):
        found = features(rgb, role, keys)
        different = {
            name: getattr(found, name).flip(-1) for name, of in changes.items() if of == role
        }
        return dataclasses.replace(found, **different)

    return see


@pytest.mark.parametrize(
    ("off", "unseen"),
    [
        ("inter", {"fine": "reference"}),
        ("intra", {"fine_attention": "target", "coarse_attention": "target"}),
        ("multi_scale", {"coarse": "target"}),
    ],
)
def test_a_part_that_is_switched_off_takes_no_part_in_training(groups, off, unseen):
    batch = PairBatches(config(batch=2), groups[:1])[0]
    features = FeatureCache(tiny_sd(), FeatureSettings(200, 1))

    def losses(**switches):
        torch.manual_seed(0)
        net = IconMattingNet(CHANNELS, (COARSE, FINE))
        given = config(**switches)
        return [
            loss(net, see, batch, torch.float32, given)[1]["loss"]
            for see in (features, changed(features, **unseen))
        ]

    on, other = losses()
    assert on != other
    without, same = losses(**{off: False})
    assert without == same != on


def test_the_simple_loss_can_still_be_chosen(groups):
    batch = PairBatches(config(batch=2), groups)[0]
    features = FeatureCache(tiny_sd(), FeatureSettings(200, 1))
    net = IconMattingNet(CHANNELS, (COARSE, FINE))
    _, figures = loss(net, features, batch, torch.float32, config(loss="simple"))
    assert set(figures) <= {
        "loss",
        "l1 unknown",
        "l1 known",
        "laplacian",
        "gradient",
        "l1 confident",
    }


def test_gradients_are_clipped_only_if_asked():
    for clip, expected in ((0.0, 3.0), (1.0, 1.0)):
        net = torch.nn.Linear(1, 1, bias=False)
        net.weight.grad = torch.full((1, 1), 3.0)
        optimizer_step(net, torch.optim.SGD(net.parameters(), lr=1.0), clip=clip)
        assert net.weight.grad.item() == pytest.approx(expected, rel=1e-4)
    assert IconMattingConfig().clip == 0


def test_the_trimap_variant_trains_from_trimaps_and_is_run_with_them(
    matting, tmp_path, monkeypatch
):
    monkeypatch.setenv("VIDMATTE_CACHE", str(tmp_path / "own"))
    sd = save_sd(tmp_path / "sd")
    command = [
        tmp_path / "run",
        "--recipe",
        "iconmatting-trimap",
        "--sd",
        sd,
        "--data",
        f"groups={matting}",
        "--precision",
        "float32",
        "--crop",
        SIDE,
        "--ensemble",
        1,
        "--batch",
        2,
        "--workers",
        0,
        "--steps",
        1,
        "--device",
        "cpu",
    ]
    refused = run(*command, code=1)
    assert "image 0 has no trimap (6 of 6 have none)" in refused.stderr
    run(*command, "--settings", "unknown=soft", "--held-out", f"groups={matting}")
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert saved["part"] == "iconmatting-trimap"
    assert set(saved["validation"][0]) == {"step", "SAD", "MSE"}
    trained = tmp_path / "run" / "average.safetensors"
    sample = open_dataset("groups", matting).groups[0].images[0]
    trimap = np.full((130, 150), 128, np.uint8)
    trimap[:, :20] = 0
    trimap[60:70, 70:80] = 255
    cv2.imwrite(str(tmp_path / "t.png"), trimap)
    matte = [
        str(sample.image),
        "--images",
        "--model",
        str(trained),
        "--sd",
        str(sd),
        "--precision",
        "float32",
        "--settings",
        "ensemble=1",
        "--trimaps",
        str(tmp_path / "t.png"),
        "--alpha",
        str(tmp_path / "{name}_a.png"),
    ]
    done = CliRunner().invoke(cli, matte)
    assert done.exit_code == 0, done.output
    alpha = cv2.imread(str(tmp_path / "0_a.png"), cv2.IMREAD_UNCHANGED) / 65535
    # Known pixels are the trimap's; the others come from the head.
    assert (alpha[:, :20] == 0).all()
    assert (alpha[60:70, 70:80] == 1).all()
    assert np.unique(alpha[:, 20:60]).size > 100
    marked = [*matte[:-4], "--box", "10,10,50,50", "--alpha", str(tmp_path / "{name}_b.png")]
    assert "give --trimaps PATH, and no marks" in CliRunner().invoke(cli, marked).output


def test_choices_of_the_command_line_reach_the_run(matting, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDMATTE_CACHE", str(tmp_path / "own"))
    sd = save_sd(tmp_path / "sd")
    run(
        tmp_path / "run",
        "--recipe",
        "iconmatting",
        "--sd",
        sd,
        "--data",
        f"groups={matting}",
        "--rate",
        "1e-3",
        "--crop",
        SIDE,
        "--time-step",
        100,
        "--ensemble",
        2,
        "--device",
        "auto",
        "--precision",
        "float32",
        "--settings",
        "inter=off,loss=simple,clip=2,seed=3",
        "--steps",
        1,
        "--batch",
        2,
        "--workers",
        0,
    )
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    chosen = ("rate", "crop", "time_step", "ensemble", "inter", "loss", "clip", "seed")
    assert [kept[name] for name in chosen] == [1e-3, SIDE, 100, 2, False, "simple", 2.0, 3]
    assert kept["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    again = run(tmp_path / "run", "--recipe", "iconmatting", "--settings", "outer=off", code=2)
    assert "setting 'outer' is not valid: choose one of steps," in again.stderr


@pytest.mark.slow
def test_loss_falls_and_held_out_error_too(groups, matting, tmp_path):
    settings = config(
        steps=40,
        batch=4,
        crops=1,
        cache=str(tmp_path / "cache"),
        validate_every=40,
        save_every=40,
        rate=2e-3,
        warm_up=5,
        average=0.9,
    )
    trainer = make_trainer(
        settings, tiny_sd(), groups[:1], groups_of((("groups", str(matting)),))[1:]
    )
    torch.manual_seed(0)
    before = trainer.validate(trainer.part.make().eval())
    lines = []
    net = train(
        settings, tmp_path / "run", trainer.part, validate=trainer.validate, log=lines.append
    )
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    (after,) = json.loads((tmp_path / "run" / "run.json").read_text())["validation"]
    assert after["SAD"] < before["SAD"]
    assert after["MSE"] < before["MSE"]
    # The file is a checkpoint as the authors' is.
    tensors = load_file(tmp_path / "run" / "average.safetensors")
    loaded = IconMattingNet.from_checkpoint(
        tensors, "x", feature_channels=CHANNELS, cells=(COARSE, FINE)
    )
    assert all(
        torch.equal(value, net.state_dict()[name]) for name, value in loaded.state_dict().items()
    )


def test_crops_have_to_fit_stable_diffusion(groups):
    with pytest.raises(
        OptionError, match="crop 768 is not valid: this Stable Diffusion takes 128 pixels"
    ):
        make_trainer(config(crop=768), tiny_sd(), groups)
    with pytest.raises(OptionError, match="every random crop is new"):
        config(cache="x")


def test_clips_are_no_groups(tmp_path):
    for name in ("frames", "masks"):
        (tmp_path / "clip" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "clip" / name / "0.png"), np.full((8, 8), 255, np.uint8))
    with pytest.raises(OptionError, match="it holds clips"):
        groups_of((("clips", str(tmp_path)),))


# --- recipes and the command line -----------------------------------------------------------------


def test_the_recipe_that_ships_is_the_papers():
    part, settings = load_recipe("iconmatting")
    found = make_config(part, settings)
    assert (part, found.steps, found.batch, found.rate, found.warm_up, found.crop) == (
        "iconmatting",
        20000,
        8,
        4e-4,
        250,
        768,
    )
    assert found == IconMattingConfig()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("part = 'x'", OptionError, "there are network, confidence, corrector, refiner, icon"),
        (
            "part = 'iconmatting'\nstep = 3",
            OptionError,
            "step was given: part 'iconmatting' has steps",
        ),
        (
            "part = 'iconmatting'\nsteps = 'many'",
            OptionError,
            "steps = 'many' was given: its value is like 20000",
        ),
        (
            "part = 'iconmatting'\n[[data]]\nroot = 'x'",
            OptionError,
            r"\[\[data\]\] needs layout and root",
        ),
        ("part = ", ReadError, "is not TOML"),
    ],
)
def test_other_recipes_are_refused(tmp_path, text, error, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(error, match=message):
        load_recipe(tmp_path / "r.toml")
    with pytest.raises(ReadError, match=r"a recipe that ships \(iconmatting, iconmatting-trimap\)"):
        load_recipe(tmp_path / "none.toml")


def test_a_recipe_names_its_data(tmp_path):
    (tmp_path / "r.toml").write_text(
        "part = 'iconmatting'\nrate = 1\nbetas = [0.5, 0.9]\n[[data]]\nlayout = 'groups'\nroot = "
        "'here'\n"
    )
    part, settings = load_recipe(tmp_path / "r.toml")
    found = make_config(part, settings)
    assert (found.data, found.rate, found.betas) == ((("groups", "here"),), 1.0, (0.5, 0.9))


def small_run(tmp_path, matting, *more):
    """Return the arguments of a run that is small enough for a test."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(f"part = 'iconmatting'\ncrop = {SIDE}\n")
    data = ("--sd", save_sd(tmp_path / "sd"), "--data", f"groups={matting}")
    return tmp_path / "run", "--recipe", recipe, *data, "--precision", "float32", *more


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, ["train", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_trains_goes_on_and_its_weights_are_a_model(
    matting, movie, tmp_path, monkeypatch
):
    monkeypatch.setenv("VIDMATTE_CACHE", str(tmp_path / "own"))
    sd = save_sd(tmp_path / "sd")
    recipe = tmp_path / "small.toml"
    recipe.write_text("part = 'iconmatting'\nbatch = 2\nworkers = 0\nsave_every = 1\n")
    command = [
        tmp_path / "run",
        "--recipe",
        recipe,
        "--sd",
        sd,
        "--data",
        f"groups={matting}",
        "--precision",
        "float32",
        "--crop",
        SIDE,
        "--ensemble",
        1,
    ]
    run(*command, "--steps", 1)
    run(*command, "--steps", 2, "--held-out", f"groups={matting}")
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (saved["step"], saved["part"]) == (2, "iconmatting")
    assert set(saved["validation"][0]) == {"step", "SAD", "MSE"}
    again = run(*command, "--batch", 4, code=1)
    assert "was begun with batch 2, not 4" in again.stderr
    trained = str(tmp_path / "run" / "average.safetensors")
    matte = [str(movie), "--box", "40,20,110,80", "--model", trained, "--sd", str(sd), "--end", "1"]
    matte += ["--settings", "ensemble=1", "--alpha", str(tmp_path / "a.mkv")]
    done = CliRunner().invoke(cli, matte)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--recipe", "iconmatting"), 2, "no data to train on: give --data LAYOUT=FOLDER"),
        (("--recipe", "iconmatting", "--data", "rm1k"), 2, "write LAYOUT=FOLDER"),
        (
            ("--recipe", "iconmatting", "--data", "rm1k=nowhere"),
            1,
            "nowhere: expected the folder of data set 'rm1k'",
        ),
        (("--recipe", "iconmatting", "--part", "network"), 2, "the recipe is of 'iconmatting'"),
        (("--part", "network"), 2, "give --corpus FOLDER"),
        (
            ("--part", "network", "--corpus", "x", "--batch", 2),
            2,
            "batch was given: part 'network' has none",
        ),
        (
            ("--part", "refiner", "--mattes", "x", "--clips", "y"),
            2,
            "only the network is validated on clips",
        ),
    ],
)
def test_what_makes_no_run_is_one_line(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = run("run", *arguments, code=code)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_to_start_with_are_refused(matting, tmp_path, monkeypatch):
    from vidmatte.model.weights import WEIGHTS

    monkeypatch.setenv("VIDMATTE_CACHE", str(tmp_path / "own"))
    start = ("--start", WEIGHTS["compact"].path)
    result = run(*small_run(tmp_path, matting, *start), code=1)
    assert "does not fit this network" in result.stderr


def test_training_starts_from_a_lightning_checkpoint(matting, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDMATTE_CACHE", str(tmp_path / "own"))
    wanted = IconMattingNet(CHANNELS, (COARSE, FINE)).state_dict()
    frozen = {"feature_extractor.unet.weight": torch.ones(1)}
    checkpoint = lightning_file(tmp_path / "icm.ckpt", wanted | frozen)
    started = []
    monkeypatch.setattr(
        "vidmatte.train.train", lambda *given, start, **named: started.append(start)
    )
    run(*small_run(tmp_path, matting, "--start", checkpoint))
    (start,) = started
    assert all(torch.equal(wanted[name], value) for name, value in start.state_dict().items())
