"""A tiny Stable Diffusion 2.1: same blocks, few channels, random weights, 128 x 128 pixels."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from vidmatte.model.iconmatting import StableDiffusion
from vidmatte.model.iconmatting.sd_layout import SD_2_1_SCHEDULER, SD_2_1_UNET, SD_2_1_VAE

SIDE, COARSE, FINE, CHANNELS = 128, 4, 8, 64

UNET = {
    **SD_2_1_UNET,
    "sample_size": SIDE // 8,
    "block_out_channels": [16, 32, CHANNELS, CHANNELS],
    "attention_head_dim": [1, 2, 4, 4],
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
VAE = {
    **SD_2_1_VAE,
    "sample_size": SIDE,
    "block_out_channels": [8, 8, 16, 16],
    "norm_num_groups": 4,
}
VAE["layers_per_block"] = 1
SCHEDULER = dict(SD_2_1_SCHEDULER)


def tiny_parts(seed=0):
    """Return the arguments of `StableDiffusion.from_parts`.

    They are U-Net, autoencoder, scheduler configuration and empty prompt.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet, vae = (
            UNet2DConditionModel.from_config(UNET).eval(),
            AutoencoderKL.from_config(VAE).eval(),
        )
        # Random weights as they come give attention that is all but flat.
        for name, weight in unet.named_parameters():
            if "attn1.to_q" in name or "attn1.to_k" in name:
                weight.data *= 4
        prompt = torch.randn(1, 77, UNET["cross_attention_dim"])
    return unet, vae, dict(SCHEDULER), prompt


def tiny_sd(seed=0):
    return StableDiffusion.from_parts(*tiny_parts(seed))


def pictures(count, height=SIDE, width=SIDE, seed=0):
    """(count, 3, height, width) smooth random pictures in 0..1."""
    small = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 1)


def watched(unet):
    """Return the outputs of a U-Net's up blocks by name, and its self-attention layer by layer.

    Both fill when the U-Net runs, through hooks and not through our code. An attention layer is a
    dictionary of `heads`, `to_q` and `to_k`.
    """
    seen, projected = {}, []
    for name, module in unet.named_modules():
        if name in ("up_blocks.0", "up_blocks.1"):
            module.register_forward_hook(
                lambda _, args, out, name=name: seen.__setitem__(name, out)
            )
        if name.endswith("attn1"):
            keep = {"heads": module.heads}
            projected.append(keep)
            for part in ("to_q", "to_k"):
                hook = lambda _, args, out, keep=keep, part=part: keep.__setitem__(part, out)  # noqa: E731
                getattr(module, part).register_forward_hook(hook)
    return seen, projected
