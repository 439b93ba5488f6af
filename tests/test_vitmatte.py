"""ViTMatte behind its wrapper, with a tiny random network and stand-ins with known answers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import vidmatte
from vidmatte.errors import MissingExtraError, ModelError
from vidmatte.model.trimap import make_trimap
from vidmatte.model.vitmatte import VitMatte, finish_with_compact

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


class Known(nn.Module):
    """A network whose alpha is a function of its input, and which remembers what it was shown."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.seen = answer, []

    def forward(self, picture):
        self.seen.append(picture.clone())
        return SimpleNamespace(alphas=self.answer(picture))


def wrapped(answer, **settings):
    return VitMatte(Known(answer), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), CPU, **settings)


def red(picture):
    """The image's red again, out of the normalised input."""
    return picture[:, :1] * 0.25 + 0.5


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def banded(height, width, edge=None):
    """Object on the left, background on the right, 20 unknown columns between."""
    edge = width // 2 if edge is None else edge
    trimap = torch.zeros(1, 1, height, width)
    trimap[..., : edge - 10] = 1
    trimap[..., edge - 10 : edge + 10] = 0.5
    return trimap


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a tiny random ViTMatte as in the files of 2023, which omit what was a default then."""
    pytest.importorskip("transformers")
    from tiny_baselines import tiny_vitmatte

    net = tiny_vitmatte()
    folder = tmp_path_factory.mktemp("vitmatte")
    described = net.config.to_dict()
    for left_out in ("convstream_hidden_sizes", "fusion_hidden_sizes", "transformers_version"):
        del described[left_out]
    (folder / "config.json").write_text(json.dumps(described))
    save_file(
        {key: value.clone() for key, value in net.state_dict().items()},
        folder / "model.safetensors",
    )
    settings = {
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.6, 0.7],
        "size_divisor": 32,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def copied(folder, tmp_path, **changed):
    """The folder again, with some files replaced or (None) left out."""
    for path in folder.iterdir():
        content = changed.get(path.stem, path.read_bytes())
        if content is not None:
            (tmp_path / path.name).write_bytes(content)
    return tmp_path


def test_a_folder_loads_and_gives_what_its_network_gives(folder):
    transformers = pytest.importorskip("transformers")
    model = VitMatte.from_folder(folder, device=CPU)
    assert (model.mean, model.std) == ((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))
    rgb, trimap = noise(2, 3, 60, 90), banded(60, 90).expand(2, -1, -1, -1)
    alpha = model(rgb, trimap)
    # By hand: normalised, the trimap as fourth channel, zeros on the right and below up to
    # multiples of 32.
    picture = torch.zeros(2, 4, 64, 96)
    for channel in range(3):
        picture[:, channel, :60, :90] = (rgb[:, channel] - model.mean[channel]) / model.std[channel]
    picture[:, 3:, :60, :90] = trimap
    config = transformers.VitMatteConfig.from_pretrained(folder)
    config.convstream_hidden_sizes, config.fusion_hidden_sizes = [48, 96, 192], [256, 128, 64, 32]
    net = transformers.VitMatteForImageMatting(config).eval()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        expected = torch.where(trimap == 0.5, net(picture).alphas[..., :60, :90], trimap)
    assert alpha.shape == (2, 1, 60, 90)
    assert alpha[trimap == 0.5].std() > 0.001
    assert (alpha - expected).abs().max() < 1e-5


def test_what_is_known_stays_and_only_its_surroundings_are_seen():
    model = wrapped(red)
    rgb, trimap = noise(1, 3, 300, 400), torch.zeros(1, 1, 300, 400)
    trimap[..., 100:140, 200:260] = 0.5
    trimap[..., 110:130, 220:240] = 1
    alpha = model(rgb, trimap)
    assert torch.allclose(alpha, torch.where(trimap == 0.5, rgb[:, :1], trimap), atol=1e-5)
    # 64 pixels of context around 40 x 60, padded to multiples of 32.
    assert [tuple(picture.shape) for picture in model.net.seen] == [(1, 4, 192, 192)]
    assert torch.equal(model(rgb, trimap.round()), trimap.round())
    assert len(model.net.seen) == 1


def test_a_large_image_is_seen_in_tiles_without_seams():
    model = wrapped(red, tile=256)
    rgb, trimap = noise(1, 3, 900, 700), torch.full((1, 1, 900, 700), 0.5)
    trimap[..., :350:7, ::7], trimap[..., 1:350:7, ::7] = 0, 1
    trimap[..., 350:, ::7], trimap[..., 350:, 3::7] = 0, 1
    alpha = model(rgb, trimap)
    # The tiles' answers agree where they overlap, so that any weights must give the image itself.
    assert torch.allclose(alpha, torch.where(trimap == 0.5, rgb[:, :1], trimap), atol=1e-4)
    assert len(model.net.seen) > 12
    assert {tuple(picture.shape[-2:]) for picture in model.net.seen} == {(256, 256)}


def test_tiles_fade_into_each_other():
    answers = iter([0.0, 1.0])
    model = wrapped(lambda picture: torch.full_like(picture[:, :1], next(answers)), tile=512)
    trimap = torch.full((1, 1, 32, 832), 0.5)
    trimap[..., 0, :], trimap[..., 1, :] = 0, 1
    row = model(noise(1, 3, 32, 832), trimap)[0, 0, 20]
    # Two tiles of 512 that share columns 320 to 512; a constant each, so that the row is the second
    # one's weight.
    assert torch.all(row[:320] == 0)
    assert torch.all(row[512:] == 1)
    assert torch.all(row[320:512].diff() >= 0)
    assert row[320:512].diff().max() < 0.02
    assert abs(float(row[415:417].mean()) - 0.5) < 0.01


def test_a_tile_without_object_is_seen_in_a_wider_region():
    model = wrapped(lambda picture: picture[:, 3:].clone(), tile=128)
    trimap = banded(128, 1024, edge=300)
    trimap[..., 290:800] = 0.5
    model(noise(1, 3, 128, 1024), trimap)
    for picture in model.net.seen:
        assert (picture[:, 3] == 0).any()
        assert (picture[:, 3] == 1).any()
        assert max(picture.shape[-2:]) <= 128
        # Shrinking makes no new kind of value.
        assert set(picture[:, 3].unique().tolist()) <= {0.0, 0.5, 1.0}


def test_an_image_without_any_known_object_is_seen_all_the_same():
    trimap = torch.full((1, 1, 40, 60), 0.5)
    rgb = noise(1, 3, 40, 60)
    assert torch.allclose(wrapped(red)(rgb, trimap), rgb[:, :1], atol=1e-6)
    # In tiles of the full resolution: the image comes back as it is.
    model = wrapped(red, tile=32)
    assert torch.allclose(model(rgb, trimap), rgb[:, :1], atol=1e-5)
    assert len(model.net.seen) == 6


def test_a_frame_of_4k_is_shown_in_pieces_of_bounded_size():
    model = wrapped(red)
    y, x = torch.meshgrid(torch.arange(2160), torch.arange(3840), indexing="ij")
    disc = (torch.hypot(y - 1080.0, x - 1900.0) < 800).float()[None, None]
    trimap = make_trimap(disc)
    alpha = model(torch.zeros(1, 3, 2160, 3840), trimap)
    assert max(max(picture.shape[-2:]) for picture in model.net.seen) <= 1024
    assert float(alpha[trimap == 0.5].abs().max()) < 1e-6


def test_memory_that_runs_out_is_said_in_one_line():
    def greedy(picture):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB")

    with pytest.raises(ModelError, match=r"ViTMatte on 60x40 pixels: memory ran out; close"):
        wrapped(greedy)(noise(1, 3, 40, 60), torch.full((1, 1, 40, 60), 0.5))


def test_a_trimap_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"trimap must be \(1, 1, 4, 6\)"):
        wrapped(red)(noise(1, 3, 4, 6), torch.zeros(1, 1, 4, 5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": None}, "has no config.json"),
        ({"model": None}, "has no model.safetensors"),
        ({"config": b'{"model_type": "bert"}'}, "does not describe a ViTMatte"),
        ({"config": b"{"}, "cannot be read"),
        ({"preprocessor_config": b"{}"}, "no image_mean of three numbers"),
        ({"model": b"nothing"}, "cannot be loaded"),
    ],
)
def test_folders_that_are_no_vitmatte(folder, tmp_path, changed, message):
    with pytest.raises(ModelError, match=message):
        VitMatte.from_folder(copied(folder, tmp_path, **changed), device=CPU)


def altered(folder, tmp_path, change):
    copied(folder, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_weights_that_do_not_fit_are_named(folder, tmp_path):
    key = "decoder.convstream.convs.1.conv.weight"
    with pytest.raises(ModelError, match=f"{key} is missing"):
        VitMatte.from_folder(
            altered(folder, tmp_path, lambda tensors: tensors.pop(key)), device=CPU
        )
    change = {"extra.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"extra\.weight is surplus"):
        VitMatte.from_folder(
            altered(folder, tmp_path, lambda tensors: tensors.update(change)), device=CPU
        )
    with pytest.raises(ModelError, match=f"{key} holds NaN"):
        VitMatte.from_folder(
            altered(folder, tmp_path, lambda tensors: tensors[key].fill_(torch.nan)), device=CPU
        )


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"vidmatte\[vitmatte\]"):
        VitMatte.from_folder(folder, device=CPU)


@pytest.fixture(scope="module")
def compact():
    return vidmatte.load_model("compact", device="cpu", precision="float32")


def soft_disc(height=180, width=260):
    """A red disc with an edge of 12 pixels over blue noise: rgb and alpha."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    alpha = ((50 - torch.hypot(y - 90.0, x - 120.0)) / 12 + 0.5).clamp(0, 1)[None, None]
    back = torch.tensor([0.1, 0.3, 0.8])[None, :, None, None] + 0.1 * noise(1, 3, height, width)
    return alpha * torch.tensor([0.9, 0.3, 0.15])[None, :, None, None] + (1 - alpha) * back, alpha


def test_the_embedded_network_finishes_a_trimap(compact):
    rgb, alpha = soft_disc()
    trimap = make_trimap(alpha, low=0, high=1, inside=0.02, outside=0.02)
    unknown = trimap == 0.5
    found = finish_with_compact(compact, rgb, trimap)
    assert torch.equal(found[~unknown], trimap[~unknown])
    # Better than not knowing, and than the sharp edge in the middle of the band.
    error = float((found - alpha)[unknown].abs().mean())
    assert error < 0.5 * float((trimap - alpha)[unknown].abs().mean())
    assert error < float(((alpha > 0.5).float() - alpha)[unknown].abs().mean())


def test_several_images_and_nothing_unknown(compact):
    rgb, alpha = soft_disc()
    trimap = make_trimap(alpha, low=0, high=1)
    pair = torch.cat([rgb, rgb.flip(-1)]), torch.cat([trimap, trimap.flip(-1)])
    found = finish_with_compact(compact, *pair)
    assert torch.equal(found[:1], finish_with_compact(compact, rgb, trimap))
    assert found.shape == (2, 1, 180, 260)
    assert np.isfinite(found.numpy()).all()
    assert torch.equal(finish_with_compact(compact, rgb, alpha.round()), alpha.round())
