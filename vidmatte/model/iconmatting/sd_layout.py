"""Read Stable Diffusion 2.1 from a diffusers folder or a single file, and refuse other versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from vidmatte.errors import ModelError
from vidmatte.model.iconmatting.empty_prompt import embed_empty_prompt, from_open_clip
from vidmatte.model.weights import check_finite, load_strictly, load_tensors

Parts: TypeAlias = tuple[Any, Any, Mapping[str, Any], Tensor]
"""U-Net, autoencoder, scheduler configuration, embedding of the empty prompt."""

SD_2_1_UNET: Mapping[str, Any] = {
    "sample_size": 96,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "upcast_attention": True,
}
"""Configuration of the U-Net of Stable Diffusion 2.1 for 768 x 768, without diffusers' defaults."""

SD_2_1_VAE: Mapping[str, Any] = {
    "sample_size": 768,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}

SD_2_1_SCHEDULER: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}

WANTED = "Stable Diffusion 2.1 for 768 x 768 pixels (v-prediction)"
_REMEDY = (
    "give the weights of stable-diffusion-2-1, not of stable-diffusion-2-1-base or another version"
)
# Stable Diffusion 1 and 2 share it; diffusers leaves it out of old configurations.
_LATENT_SCALE = 0.18215


def latent_scale(config: Mapping[str, Any]) -> float:
    """Return the factor for latents of about unit variance."""
    return float(config.get("scaling_factor") or _LATENT_SCALE)


def refuse_other_layouts(
    unet: Any, vae: Any, scheduler: Mapping[str, Any], empty_prompt: Tensor
) -> Tensor:
    """Check for a Stable Diffusion 2 with v-prediction and finite weights.

    Returns the share of signal at each time step, (1000,) float64. Raises ModelError otherwise.
    """
    refuse_configs(unet.config, vae.config, scheduler)
    if empty_prompt.ndim != 3 or empty_prompt.shape[-1] != unet.config.cross_attention_dim:
        raise ModelError(
            f"an embedding of the empty prompt of shape {tuple(empty_prompt.shape)} found: the "
            f"U-Net takes "
            f"(1, 77, {unet.config.cross_attention_dim}); compute it with the text encoder of the "
            f"same model"
        )
    for part, name in ((unet, "U-Net"), (vae.encoder, "VAE encoder"), (vae.quant_conv, "VAE")):
        check_finite(part.state_dict(), f"{name} of Stable Diffusion")
    check_finite({"embedding": empty_prompt}, "empty prompt")
    return signal_shares(scheduler)


def refuse_configs(
    unet: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> None:
    """Raise ModelError unless configurations are those of a v-predicting Stable Diffusion 2."""
    # epsilon is diffusers' default.
    predicts = scheduler.get("prediction_type", "epsilon")
    if predicts != "v_prediction":
        raise ModelError(
            f"{WANTED} is needed: these weights predict {predicts!r}, as the 512 base model and "
            f"version 1 do; {_REMEDY}"
        )
    wanted = {
        key: SD_2_1_UNET[key]
        for key in ("down_block_types", "up_block_types", "in_channels", "layers_per_block")
    }
    # None: conditions of later architectures such as SDXL.
    wanted |= {
        "addition_embed_type": None,
        "encoder_hid_dim_type": None,
        "use_linear_projection": True,
    }
    wanted |= {
        "transformer_layers_per_block": 1,
        "class_embed_type": None,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
    }
    for key, value in wanted.items():
        found = unet.get(key, None if value is None else _default(key, value))
        if _plain(found) != value:
            raise ModelError(
                f"{WANTED} is needed: the U-Net found has {key} {_plain(found)} instead of "
                f"{value}; {_REMEDY}"
            )
    size = unet.get("sample_size")
    # Three halvings of the latent have to give whole cells.
    if not isinstance(size, int) or size < 8 or size % 8:
        raise ModelError(
            f"{WANTED} is needed: the U-Net found is for latents of {size} instead of 96; {_REMEDY}"
        )
    if (
        vae.get("latent_channels") != unet.get("in_channels")
        or len(vae.get("block_out_channels", ())) != 4
    ):
        raise ModelError(
            f"{WANTED} is needed: the VAE found does not make latents of its kind; {_REMEDY}"
        )


def _default(key: str, value: object) -> object:
    """Return diffusers' default of a key."""
    return False if key == "use_linear_projection" else value


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def signal_shares(scheduler: Mapping[str, Any]) -> Tensor:
    """Return the share of signal at each time step, (T,) float64.

    It is the running product of 1 - beta (Ho et al., 2020).
    """
    start = float(scheduler["beta_start"])
    end = float(scheduler["beta_end"])
    steps = int(scheduler["num_train_timesteps"])
    schedule = scheduler.get("beta_schedule")
    if schedule == "scaled_linear":
        # Linear in the root, as in the published training code.
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    elif schedule == "linear":
        betas = torch.linspace(start, end, steps, dtype=torch.float64)
    else:
        raise ModelError(
            f"{WANTED} is needed: its noise schedule is scaled_linear, {schedule!r} was found; "
            f"{_REMEDY}"
        )
    # In float64, as it is a product of a thousand factors.
    return (1 - betas).cumprod(0)


def read_folder(path: Path, dtype: torch.dtype, empty_prompt: Tensor | None) -> Parts:
    """Read the parts of a folder of diffusers' layout; see `StableDiffusion.from_folder`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet_config, vae_config = (_read_json(path / part / "config.json") for part in ("unet", "vae"))
    scheduler = _read_json(path / "scheduler" / "scheduler_config.json")
    refuse_configs(unet_config, vae_config, scheduler)
    if empty_prompt is None:
        text_config = _read_json(path / "text_encoder" / "config.json")
        tensors = load_tensors(_weights_of(path / "text_encoder"))
        empty_prompt = embed_empty_prompt(tensors, heads=int(text_config["num_attention_heads"]))
    unet = _build(
        UNet2DConditionModel,
        unet_config,
        load_tensors(_weights_of(path / "unet")),
        dtype,
        str(path / "unet"),
    )
    vae_tensors = with_present_names(load_tensors(_weights_of(path / "vae")))
    vae = _build(AutoencoderKL, vae_config, vae_tensors, dtype, str(path / "vae"))
    return unet, vae, scheduler, empty_prompt


def read_single_file(
    path: Path,
    dtype: torch.dtype,
    empty_prompt: Tensor | None,
    *,
    unet_config: Mapping[str, Any] = SD_2_1_UNET,
    vae_config: Mapping[str, Any] = SD_2_1_VAE,
) -> Parts:
    """Read the parts of a single file; see `StableDiffusion.from_single_file`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    tensors = load_tensors(path)
    for prefix, part in (("model.diffusion_model.", "U-Net"), ("first_stage_model.", "VAE")):
        if not any(key.startswith(prefix) for key in tensors):
            raise ModelError(
                f"{path}: has no {part} ({prefix}...): {WANTED} as a single file is needed; "
                f"{_REMEDY}"
            )
    if empty_prompt is None:
        empty_prompt = embed_empty_prompt(from_open_clip(tensors, path))
    try:
        unet_tensors = convert_ldm_unet_checkpoint(tensors, dict(unet_config))
        vae_tensors = convert_ldm_vae_checkpoint(tensors, dict(vae_config))
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{path}: has not the layout of {WANTED} ({error}); {_REMEDY}") from error
    unet = _build(UNet2DConditionModel, unet_config, unet_tensors, dtype, f"{path} as {WANTED}")
    vae = _build(AutoencoderKL, vae_config, vae_tensors, dtype, f"{path} as {WANTED}")
    # The file does not tell v-prediction from epsilon, so the network is asked.
    channels = int(unet_config["in_channels"])
    if predicts_noise(
        lambda noise, step: unet(noise.to(dtype), step, empty_prompt.to(dtype)).sample, channels
    ):
        raise ModelError(
            f"{path}: predicts noise, as the 512 base model does; {WANTED} is needed; {_REMEDY}"
        )
    return unet, vae, SD_2_1_SCHEDULER, empty_prompt


@torch.inference_mode()
def predicts_noise(unet: Callable[[Tensor, Tensor], Tensor], channels: int = 4) -> bool:
    """Tell whether a U-Net (latent, time step) -> output predicts noise rather than v.

    At the last time step only noise is left. A prediction of noise then equals the input; v is the
    negative of the image, not visible in the input (Salimans and Ho, ICLR 2022, appendix D:
    v = a noise - s image).
    """
    # A latent of 16 x 16 is enough, and fast: at the last step the input is pure noise.
    noise = torch.randn((1, channels, 16, 16), generator=torch.Generator().manual_seed(0))
    output = unet(noise, torch.tensor(999)).float()
    # A network that predicts noise returns its input nearly unchanged.
    return float(torch.cosine_similarity(noise.flatten(), output.flatten(), 0)) > 0.6


def _build(
    model: Any,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    what: str,
) -> Any:
    """Build a diffusers model with its weights, without drawing random ones first."""
    # Made without memory first: random initialisation of a billion numbers takes long.
    with torch.device("meta"):
        built = model.from_config(dict(config))
    # The model's own method warns of parts to keep in float32 even if there are none.
    nn.Module.to(built, dtype).to_empty(device="cpu")
    load_strictly(built, tensors, what)
    return built


def with_present_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the VAE's attention to its present names: files of 2022 have others."""
    # Names of attention layers in older versions of diffusers.
    names = {
        ".query.": ".to_q.",
        ".key.": ".to_k.",
        ".value.": ".to_v.",
        ".proj_attn.": ".to_out.0.",
    }
    renamed = {}
    for key, tensor in tensors.items():
        if ".attentions." in key:
            for old, new in names.items():
                key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


def _weights_of(folder: Path) -> Path:
    names = [
        f"{stem}{variant}.safetensors"
        for stem in ("diffusion_pytorch_model", "model")
        # Half-precision variants are named after their type.
        for variant in ("", ".fp16")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{folder}: has none of {', '.join(names)}; weights are read as safetensors only"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); a folder of Stable Diffusion 2.1 in "
            f"diffusers' layout has it"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: is not JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is not a configuration; download it again")
    return found
