import copy
import json
import weakref

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_sd import (
    CHANNELS,
    COARSE,
    FINE,
    SCHEDULER,
    SIDE,
    UNET,
    VAE,
    pictures,
    tiny_parts,
    tiny_sd,
    watched,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vidmatte.errors import ModelError, OptionError
from vidmatte.model.iconmatting import (
    FeatureSettings,
    StableDiffusion,
    attention,
    embed_empty_prompt,
)
from vidmatte.model.iconmatting.attention import AttentionTape, mean_attention
from vidmatte.model.iconmatting.sd_layout import (
    SD_2_1_SCHEDULER,
    SD_2_1_UNET,
    SD_2_1_VAE,
    predicts_noise,
    read_single_file,
    signal_shares,
)
from vidmatte.model.iconmatting.stable_diffusion import LatentEncoder, TruncatedUnet

SETTINGS = FeatureSettings(time_step=200, ensemble=3, seed=5)


def plain_run(rgb, settings, role):
    """Return features and self-attention of diffusers' unchanged U-Net, read by forward hooks."""
    unet, vae, scheduler, prompt = tiny_parts()
    seen, projected = watched(unet)
    latent = vae.encode(rgb * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    ddim = DDIMScheduler(**scheduler)
    noise = settings.noise(role, tuple(latent.shape[1:]))
    noisy = torch.cat(
        [
            ddim.add_noise(latent[i : i + 1], noise, torch.tensor(settings.time_step))
            for i in range(len(rgb))
        ]
    )
    unet(noisy, settings.time_step, prompt.expand(len(noisy), -1, -1))
    features = [seen[f"up_blocks.{i}"].unflatten(0, (len(rgb), -1)).mean(1) for i in range(2)]
    return features, projected


def attention_by_hand(projected, cells, frames):
    """Return softmax(Q K^T / sqrt(d)) in float64, averaged over heads, noises, layers; and layers.

    Each head is computed separately.
    """
    maps = []
    for keep in projected:
        if keep["to_q"].shape[1] != cells:
            continue
        for q, k in zip(keep["to_q"].double(), keep["to_k"].double(), strict=True):
            heads = zip(q.chunk(keep["heads"], -1), k.chunk(keep["heads"], -1), strict=True)
            maps.append(
                torch.stack(
                    [torch.softmax(a @ b.T / a.shape[-1] ** 0.5, -1) for a, b in heads]
                ).mean(0)
            )
    layers = sum(keep["to_q"].shape[1] == cells for keep in projected)
    return torch.stack(maps).unflatten(0, (layers, frames, -1)).mean((0, 2)), layers


@pytest.fixture(scope="module")
def sd():
    return tiny_sd()


@pytest.mark.parametrize("role", ["target", "reference"])
@torch.inference_mode()
def test_features_and_maps_are_those_of_the_whole_unet(sd, role):
    rgb = pictures(2)
    (coarse, fine), projected = plain_run(rgb, SETTINGS, role)
    found = sd(rgb, SETTINGS, role=role)
    torch.testing.assert_close(found.coarse, coarse, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.fine, fine, atol=2e-5, rtol=1e-4)
    for cells, maps in ((COARSE**2, found.coarse_attention), (FINE**2, found.fine_attention)):
        by_hand, layers = attention_by_hand(projected, cells, len(rgb))
        assert layers == 5
        torch.testing.assert_close(maps.double(), by_hand, atol=1e-5, rtol=1e-4)
    # The maps are not flat, so that the comparison says something.
    assert found.fine_attention.amax() > 3 / FINE**2


def test_shapes_and_properties(sd):
    found = sd(pictures(1))
    assert (sd.side, sd.coarse_cells, sd.fine_cells, sd.channels) == (SIDE, COARSE, FINE, CHANNELS)
    assert found.coarse.shape == (1, CHANNELS, COARSE, COARSE)
    assert found.fine.shape == (1, CHANNELS, FINE, FINE)
    assert found.cells == FINE
    torch.testing.assert_close(found.fine_attention.sum(-1), torch.ones(1, FINE**2))


def test_a_batch_equals_its_images_whatever_goes_through_at_once(sd):
    rgb = pictures(3)
    whole = sd(rgb, SETTINGS)
    for at_once in (1, 2, 4, 7):
        parts = sd(rgb, SETTINGS, at_once=at_once)
        for name in ("coarse", "fine", "coarse_attention", "fine_attention"):
            torch.testing.assert_close(
                getattr(parts, name), getattr(whole, name), atol=1e-5, rtol=1e-4
            )
    alone = sd(rgb[1:2], SETTINGS)
    torch.testing.assert_close(alone.fine[0], whole.fine[1], atol=1e-5, rtol=1e-4)


def test_at_once_bounds_the_batch_of_the_unet():
    sd, sizes = tiny_sd(), []
    sd._unet.conv_in.register_forward_hook(lambda _, args, out: sizes.append(len(out)))
    sd(pictures(2), FeatureSettings(ensemble=4), at_once=3)
    # Two frames share a pass with one noise each: passes are equal, so that each noise counts the
    # same.
    assert sizes == [2, 2, 2, 2]
    sizes.clear()
    sd(pictures(3), FeatureSettings(ensemble=4), at_once=2)
    assert max(sizes) == 2
    assert sum(sizes) == 12


def test_without_maps_the_unet_is_left_earlier(sd):
    rgb, tape = pictures(1), sd(pictures(1), SETTINGS)
    without = sd(rgb, SETTINGS, maps=False)
    assert without.coarse_attention is None
    assert without.fine_attention is None
    assert torch.equal(without.fine, tape.fine)
    calls = []
    hook = sd._unet.last_resnets[0].register_forward_hook(lambda *_: calls.append(1))
    sd(rgb, SETTINGS, maps=False)
    assert not calls
    sd(rgb, SETTINGS)
    assert calls
    hook.remove()


def test_the_noise_is_the_same_bits_each_time():
    four, one = FeatureSettings(ensemble=4), FeatureSettings(ensemble=1)
    shape = (4, 16, 16)
    assert torch.equal(
        four.noise("target", shape), FeatureSettings(ensemble=4).noise("target", shape)
    )
    assert torch.equal(four.noise("target", shape)[:1], one.noise("target", shape))
    assert not torch.equal(four.noise("target", shape), four.noise("reference", shape))
    assert not torch.equal(
        one.noise("target", shape), FeatureSettings(ensemble=1, seed=1).noise("target", shape)
    )
    # Bits that PyTorch's generator has given since its first versions: a change would change every
    # matte.
    assert one.noise("target", (1, 1, 2)).flatten().tolist() == pytest.approx(
        [1.5409961, -0.2934289], abs=1e-6
    )


def test_the_same_image_gives_the_same_bits(sd):
    again = tiny_sd()
    first, second = sd(pictures(1), SETTINGS), again(pictures(1), SETTINGS)
    assert torch.equal(first.fine, second.fine)
    assert torch.equal(first.fine_attention, second.fine_attention)


def test_the_signal_is_that_of_the_scheduler():
    ddim = DDIMScheduler(**SD_2_1_SCHEDULER)
    torch.testing.assert_close(
        signal_shares(SD_2_1_SCHEDULER).float(), ddim.alphas_cumprod, atol=1e-6, rtol=1e-5
    )
    linear = {**SD_2_1_SCHEDULER, "beta_schedule": "linear"}
    expected = DDIMScheduler(**linear).alphas_cumprod
    torch.testing.assert_close(signal_shares(linear).float(), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"time_step": 1000}, "time step 1000"),
        ({"ensemble": 0}, "ensemble of 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_out_of_range_are_refused(choice, says):
    with pytest.raises(OptionError, match=says):
        FeatureSettings(**choice)


def test_images_of_another_size_are_a_bug_of_the_caller(sd):
    with pytest.raises(ValueError, match="128"):
        sd(pictures(1, 64, 64))


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.08), (torch.float16, 0.01)])
def test_half_precision_is_near(sd, dtype, error):
    unet, vae, scheduler, prompt = tiny_parts()
    half = StableDiffusion.from_parts(unet, vae, scheduler, prompt, dtype=dtype)(
        pictures(1), SETTINGS
    )
    full = sd(pictures(1), SETTINGS)
    assert half.fine.dtype == half.fine_attention.dtype == torch.float32
    assert (half.fine - full.fine).norm() < error * full.fine.norm()
    assert (half.fine_attention - full.fine_attention).norm() < error * full.fine_attention.norm()


def test_float16_logits_may_pass_its_range():
    query = torch.zeros(1, 1, 2, 4, dtype=torch.float16)
    query[0, 0, 0] = 300
    maps = mean_attention(query, query, 1)
    assert maps[0].tolist() == [[1, 0], [0.5, 0.5]]


def test_heads_a_few_at_a_time_give_the_same(monkeypatch):
    query, key = torch.randn(2, 6, 5, 16, 8)
    whole = mean_attention(query, key, 3)
    # Three heads with their softmax, then 5 rows of one head.
    for budget in (3 * 16 * 16 * 8, 5 * 16 * 8):
        monkeypatch.setitem(attention._BYTES, "cpu", budget)
        torch.testing.assert_close(mean_attention(query, key, 3), whole)
    assert whole.shape == (3, 16, 16)


class LiveBytes(TorchDispatchMode):
    """The largest sum of bytes that operations made and that were alive together."""

    def __init__(self):
        super().__init__()
        self.alive = 0
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in known:
            size = result.untyped_storage().nbytes()
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(result, self.release, size)
        return result

    def release(self, size):
        self.alive -= size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("budget", [200_000, 20_000])
def test_maps_keep_to_their_memory_budget(monkeypatch, dtype, budget):
    query, key = torch.randn(2, 2, 8, 64, 4).to(dtype)
    monkeypatch.setitem(attention._BYTES, "cpu", budget)
    with LiveBytes() as live:
        mean_attention(query, key, 1)
    # Beside the maps there are the scaled queries and, of the result, the total and a summand.
    result = 64 * 64 * 4
    assert live.peak <= budget + 2 * result + query.nbytes
    assert live.peak > budget / 4


def test_a_size_without_layers_is_a_bug():
    with pytest.raises(ValueError, match="49 cells"):
        AttentionTape(1, (49,)).map(49)


def test_full_size_shapes():
    """Stable Diffusion 2.1 at full size, without data: shapes, parameters, layers with maps."""
    with torch.device("meta"):
        unet, vae = (
            UNet2DConditionModel.from_config(dict(SD_2_1_UNET)),
            AutoencoderKL.from_config(dict(SD_2_1_VAE)),
        )
        assert sum(p.numel() for p in unet.parameters()) == 865_910_724
        encoder, truncated = LatentEncoder(vae), TruncatedUnet(unet)
        latent, deviation = encoder(torch.empty(1, 3, 768, 768))
        assert deviation.shape == latent.shape
        assert latent.shape == (1, 4, 96, 96)
        tape = AttentionTape(1, (576, 2304))
        coarse, fine = truncated(
            latent.expand(2, -1, -1, -1), torch.tensor([200]), torch.empty(1, 77, 1024), tape
        )
        assert coarse.shape == (2, 1280, 24, 24)
        assert fine.shape == (2, 1280, 48, 48)
        assert tape.layers == {576: 5, 2304: 5}
        assert tape.map(576).shape == (1, 576, 576)
        assert tape.map(2304).shape == (1, 2304, 2304)
        kept = sum(p.numel() for p in truncated.parameters())
    assert kept < 845_000_000


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        (2, {"prediction_type": "epsilon"}, "512 base model"),
        (2, {"beta_schedule": "squaredcos_cap_v2"}, "squaredcos"),
        (0, {"use_linear_projection": False}, "use_linear_projection False"),
        (0, {"addition_embed_type": "text_time"}, "addition_embed_type text_time"),
        (0, {"down_block_types": ["DownBlock2D"] * 3}, "down_block_types"),
        (0, {"sample_size": 60}, "latents of 60"),
        (0, {"transformer_layers_per_block": [1, 2, 10, 10]}, "transformer_layers_per_block"),
        (1, {"latent_channels": 16}, "VAE"),
    ],
)
def test_other_models_are_refused_by_their_configuration(tmp_path, part, change, says):
    save_tiny(tmp_path)
    path = (
        tmp_path / ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")[part]
    )
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=says):
        StableDiffusion.from_folder(tmp_path, empty_prompt=tiny_parts()[3])


def test_a_prompt_of_another_text_encoder_is_refused():
    unet, vae, scheduler, _ = tiny_parts()
    with pytest.raises(ModelError, match=r"\(1, 77, 24\)"):
        StableDiffusion.from_parts(unet, vae, scheduler, torch.zeros(1, 77, 768))


@pytest.mark.parametrize("where", ["unet", "vae", "prompt"])
def test_weights_that_are_not_numbers_are_refused(where):
    unet, vae, scheduler, prompt = tiny_parts()
    {"unet": unet.conv_in.weight.data, "vae": vae.encoder.conv_in.bias.data, "prompt": prompt}[
        where
    ].view(-1)[1] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        StableDiffusion.from_parts(unet, vae, scheduler, prompt)


def save_tiny(folder, parts=None):
    unet, vae, scheduler, _ = parts or tiny_parts()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def test_a_folder_gives_the_same_as_its_parts(tmp_path, sd):
    save_tiny(tmp_path)
    found = StableDiffusion.from_folder(tmp_path, empty_prompt=tiny_parts()[3])
    assert torch.equal(found(pictures(1)).fine, sd(pictures(1)).fine)


def test_names_of_2022_and_half_precision_files_are_read(tmp_path, sd):
    save_tiny(tmp_path)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    assert any(".proj_attn." in key for key in tensors)
    path.unlink()
    save_file(tensors, tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    found = StableDiffusion.from_folder(tmp_path, empty_prompt=tiny_parts()[3])
    assert torch.equal(found(pictures(1)).fine, sd(pictures(1)).fine)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "unet" / "config.json").unlink(), "config.json: cannot be read"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "is not JSON"),
        (
            lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text("[]"),
            "is not a configuration",
        ),
        (
            lambda folder: (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(
                folder / "x.bin"
            ),
            "safetensors",
        ),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(
                b"no weights"
            ),
            "is not a safetensors file",
        ),
    ],
)
def test_a_folder_with_something_missing_says_what(tmp_path, spoil, says):
    save_tiny(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=says):
        StableDiffusion.from_folder(tmp_path, empty_prompt=tiny_parts()[3])


def test_a_folder_with_a_tensor_missing_names_it(tmp_path):
    save_tiny(tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_in.weight"]
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"conv_in\.weight is missing"):
        StableDiffusion.from_folder(tmp_path, empty_prompt=tiny_parts()[3])


WIDTH, LAYERS, HEADS = 32, 3, 4


def text_encoder():
    """A text transformer by PyTorch's own layers, and its tensors under transformers' names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        layers = nn.TransformerEncoder(
            layer, LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False
        ).eval()
        for parameter in layers.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        tokens, positions = torch.randn(49408, WIDTH), torch.randn(77, WIDTH)
    tensors = {
        "embeddings.token_embedding.weight": tokens,
        "embeddings.position_embedding.weight": positions,
        "final_layer_norm.weight": layers.norm.weight,
        "final_layer_norm.bias": layers.norm.bias,
    }
    names = {
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
    }
    names["self_attn.out_proj"] = "self_attn.out_proj"
    for i, built in enumerate(layers.layers):
        state = built.state_dict()
        for kind in ("weight", "bias"):
            parts = state[f"self_attn.in_proj_{kind}"].chunk(3)
            tensors |= {
                f"encoder.layers.{i}.self_attn.{n}_proj.{kind}": p
                for n, p in zip("qkv", parts, strict=True)
            }
            tensors |= {
                f"encoder.layers.{i}.{b}.{kind}": state[f"{a}.{kind}"] for a, b in names.items()
            }
    ids = [49406, 49407] + [0] * 75
    mask = nn.Transformer.generate_square_subsequent_mask(77)
    with torch.inference_mode():
        expected = layers((tokens[ids] + positions)[None], mask=mask, is_causal=True)
    return {
        f"text_model.{key}": tensor.detach().contiguous() for key, tensor in tensors.items()
    }, expected


def test_the_empty_prompt_is_embedded_as_by_pytorchs_own_transformer():
    tensors, expected = text_encoder()
    torch.testing.assert_close(
        embed_empty_prompt(tensors, heads=HEADS), expected, atol=1e-5, rtol=1e-4
    )
    del tensors["text_model.encoder.layers.1.mlp.fc1.bias"]
    with pytest.raises(ModelError, match=r"encoder\.layers\.1\.mlp\.fc1\.bias is missing"):
        embed_empty_prompt(tensors, heads=HEADS)


def test_the_empty_prompt_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        intermediate_size=64,
        hidden_act="gelu",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.CLIPTextModel(config).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([[49406, 49407] + [0] * 75])).last_hidden_state
    torch.testing.assert_close(
        embed_empty_prompt(model.state_dict(), heads=HEADS), expected, atol=1e-5, rtol=1e-4
    )


def test_a_folder_with_a_text_encoder_needs_nothing_else(tmp_path):
    tensors, expected = text_encoder()
    config = {**UNET, "cross_attention_dim": WIDTH}
    unet, vae = UNet2DConditionModel.from_config(config), AutoencoderKL.from_config(VAE)
    save_tiny(tmp_path, (unet, vae, SCHEDULER, None))
    with pytest.raises(ModelError, match="text_encoder"):
        StableDiffusion.from_folder(tmp_path)
    (tmp_path / "text_encoder").mkdir()
    save_file(tensors, tmp_path / "text_encoder" / "model.safetensors")
    (tmp_path / "text_encoder" / "config.json").write_text(
        json.dumps({"num_attention_heads": HEADS})
    )
    found = StableDiffusion.from_folder(tmp_path)
    torch.testing.assert_close(found._prompt, expected, atol=1e-5, rtol=1e-4)


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_name(name):
    """Return the original name of a tensor of diffusers' U-Net with four blocks of two layers."""
    for new, old in UNET_ENDS.items():
        if name.startswith(new + "."):
            return old + name.removeprefix(new)
    parts = name.split(".")
    kind, block = parts[0], int(parts[1]) if parts[1].isdigit() else 0
    part, layer = (parts[1], int(parts[2])) if kind == "mid_block" else (parts[2], int(parts[3]))
    rest = ".".join(parts[3:] if kind == "mid_block" else parts[4:])
    if part == "resnets":
        for new, old in RESNET.items():
            rest = rest.replace(new, old)
    if kind == "mid_block":
        return f"middle_block.{2 * layer if part == 'resnets' else 1}.{rest}"
    if kind == "down_blocks":
        place = f"input_blocks.{1 + 3 * block + (2 if part == 'downsamplers' else layer)}"
        return (
            f"{place}.0.op.{rest.removeprefix('conv.')}"
            if part == "downsamplers"
            else f"{place}.{part == 'attentions':d}.{rest}"
        )
    if part == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{2 if block else 1}.{rest}"
    return f"output_blocks.{3 * block + layer}.{part == 'attentions':d}.{rest}"


def vae_name(name):
    """Where a tensor of diffusers' autoencoder of four blocks stands in the original layout."""
    for new, old in (
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
        (".resnets.", ".block."),
        (".downsamplers.0.", ".downsample."),
        (".upsamplers.0.", ".upsample."),
        ("down_blocks.", "down."),
        *((f"up_blocks.{i}", f"up.{3 - i}") for i in range(4)),
    ):
        name = name.replace(new, old)
    return name


def single_file(path, change=None):
    """Write the tiny model in the original layout with an OpenCLIP encoder; and empty prompt."""
    tensors, expected = text_encoder()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config({**UNET, "cross_attention_dim": WIDTH})
        vae = AutoencoderKL.from_config(VAE)
    found = {
        f"model.diffusion_model.{unet_name(key)}": tensor
        for key, tensor in unet.state_dict().items()
    }
    for key, tensor in vae.state_dict().items():
        is_matrix = "attentions" in key and key.endswith("weight") and "norm" not in key
        found[f"first_stage_model.{vae_name(key)}"] = (
            tensor[..., None, None] if is_matrix else tensor
        )
    clip = {key.removeprefix("text_model."): tensor for key, tensor in tensors.items()}
    names = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    names["self_attn.out_proj"] = "attn.out_proj"
    own = {
        "token_embedding.weight": clip["embeddings.token_embedding.weight"],
        "positional_embedding": clip["embeddings.position_embedding.weight"],
        "ln_final.weight": clip["final_layer_norm.weight"],
        "ln_final.bias": clip["final_layer_norm.bias"],
    }
    for i in range(LAYERS):
        for kind in ("weight", "bias"):
            old = f"encoder.layers.{i}"
            parts = [clip[f"{old}.self_attn.{n}_proj.{kind}"] for n in "qkv"]
            own[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(parts)
            own |= {
                f"transformer.resblocks.{i}.{b}.{kind}": clip[f"{old}.{a}.{kind}"]
                for a, b in names.items()
            }
    # One layer more than is used.
    own |= {
        key.replace("resblocks.2", "resblocks.3"): tensor
        for key, tensor in own.items()
        if "resblocks.2" in key
    }
    found |= {f"cond_stage_model.model.{key}": tensor for key, tensor in own.items()}
    if change:
        change(found)
    save_file({key: tensor.clone().contiguous() for key, tensor in found.items()}, path)
    return unet, vae, expected


def read_tiny(path, prompt=None):
    config = {**UNET, "cross_attention_dim": WIDTH}
    return read_single_file(path, torch.float32, prompt, unet_config=config, vae_config=VAE)


def test_a_single_file_gives_the_same_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("vidmatte.model.iconmatting.empty_prompt._HEAD_SIZE", WIDTH // HEADS)
    unet, vae, expected = single_file(tmp_path / "model.safetensors")
    found_unet, found_vae, scheduler, prompt = read_tiny(tmp_path / "model.safetensors")
    for found, built in ((found_unet, unet), (found_vae, vae)):
        wanted = built.state_dict()
        assert found.state_dict().keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in found.state_dict().items())
    torch.testing.assert_close(prompt, expected, atol=1e-5, rtol=1e-4)
    assert scheduler["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda found: [found.pop(key) for key in list(found) if key.startswith("model.")],
            "has no U-Net",
        ),
        (
            lambda found: found.pop("cond_stage_model.model.ln_final.bias"),
            "no text encoder of Stable Diffusion 2",
        ),
        (lambda found: found.pop("model.diffusion_model.out.2.bias"), "conv_out.bias is missing"),
        (
            lambda found: found.pop("model.diffusion_model.input_blocks.1.0.in_layers.0.weight"),
            "norm1.weight is missing",
        ),
        # Version 1 has convolutions where version 2 has matrices.
        (
            lambda found: found.update(
                {
                    key: tensor[..., None, None]
                    for key, tensor in found.items()
                    if key.endswith("proj_in.weight") and key.startswith("model.")
                }
            ),
            r"v-prediction\).*is \(32, 32, 1, 1\) instead of \(32, 32\)",
        ),
    ],
)
def test_other_single_files_are_refused(tmp_path, change, says):
    single_file(tmp_path / "model.safetensors", change)
    with pytest.raises(ModelError, match=says):
        read_tiny(tmp_path / "model.safetensors")


def test_a_single_file_that_predicts_noise_is_refused(tmp_path, monkeypatch):
    single_file(tmp_path / "model.safetensors")
    monkeypatch.setattr("vidmatte.model.iconmatting.sd_layout.predicts_noise", lambda *_: True)
    with pytest.raises(ModelError, match="512 base model"):
        read_tiny(tmp_path / "model.safetensors", torch.zeros(1, 77, WIDTH))


def test_who_predicts_noise_gives_the_input_back():
    share = float(signal_shares(SD_2_1_SCHEDULER)[999])
    image = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert predicts_noise(lambda noise, step: noise + 0.3 * image)
    assert not predicts_noise(
        lambda noise, step: share**0.5 * noise - (1 - share) ** 0.5 * 0.4 * image
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:torch")
def test_compiled_gives_the_same(sd):
    unet, vae, scheduler, prompt = copy.deepcopy(tiny_parts())
    compiled = StableDiffusion.from_parts(unet, vae, scheduler, prompt).compiled()
    torch.testing.assert_close(
        compiled(pictures(1)).fine, sd(pictures(1)).fine, atol=1e-4, rtol=1e-3
    )
    maps = compiled(pictures(1)).fine_attention
    torch.testing.assert_close(maps, sd(pictures(1)).fine_attention, atol=1e-4, rtol=1e-3)
