"""The embedding of the empty prompt, the only use of the text encoder: it runs once.

A CLIP text transformer (Radford et al., 2021) of the kind of Stable Diffusion 2 (OpenCLIP
ViT-H/14): pre-norm layers with causal attention, without the last layer, and a final normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmatte.errors import ModelError

_BEGIN, _END, _PADDING, _LENGTH = 49406, 49407, 0, 77
"""Token numbers of CLIP's vocabulary; Stable Diffusion 2 pads with "!", number 0."""
_HEAD_SIZE = 64
_OPEN_CLIP = "cond_stage_model.model."
_OPEN_CLIP_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@torch.inference_mode()
def embed_empty_prompt(tensors: Mapping[str, Tensor], *, heads: int | None = None) -> Tensor:
    """Return the last hidden states (1, 77, D) float32 for the prompt "".

    Args:
        tensors: weights under transformers' names, such as
            `text_model.encoder.layers.0.self_attn.q_proj.weight`, with or without the first word.
        heads: of the attention; None for heads of 64 channels, as in all text encoders of CLIP.

    Raises:
        ModelError: a tensor is missing.
    """
    weights = {key.removeprefix("text_model."): tensor.float() for key, tensor in tensors.items()}
    try:
        return _run(weights, heads)
    except KeyError as error:
        raise ModelError(
            f"text encoder: {error.args[0]} is missing; the empty prompt needs that of "
            f"stable-diffusion-2-1"
        ) from error


def _run(weights: Mapping[str, Tensor], heads: int | None) -> Tensor:
    # Begin, end, then padding up to the fixed length of 77.
    tokens = torch.tensor([_BEGIN, _END] + [_PADDING] * (_LENGTH - 2))
    x = (
        weights["embeddings.token_embedding.weight"][tokens]
        + weights["embeddings.position_embedding.weight"]
    )
    # CLIP's heads are 64 wide in all sizes.
    heads = heads or max(1, x.shape[-1] // _HEAD_SIZE)
    layers = {int(key.split(".")[2]) for key in weights if key.startswith("encoder.layers.")}
    for layer in sorted(layers):
        x = _layer(x, weights, f"encoder.layers.{layer}", heads)
    return _norm(x, weights, "final_layer_norm")[None]


def _layer(x: Tensor, weights: Mapping[str, Tensor], name: str, heads: int) -> Tensor:
    y = _norm(x, weights, f"{name}.layer_norm1")
    query, key, value = (
        torch.unflatten(
            _linear(y, weights, f"{name}.self_attn.{part}_proj"), -1, (heads, -1)
        ).transpose(0, 1)
        for part in ("q", "k", "v")
    )
    mixed = (
        # Text attends to earlier tokens only.
        F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(0, 1).flatten(1)
    )
    x = x + _linear(mixed, weights, f"{name}.self_attn.out_proj")
    y = _linear(_norm(x, weights, f"{name}.layer_norm2"), weights, f"{name}.mlp.fc1")
    return x + _linear(F.gelu(y), weights, f"{name}.mlp.fc2")


def _norm(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _linear(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def from_open_clip(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the text encoder in a single file under transformers' names, without its last layer.

    The last layer was left out in training, too. Raises ModelError if the file has no text encoder
    of OpenCLIP's kind.
    """
    # Other tensors of the file belong to the U-Net and the autoencoder.
    own = {
        key.removeprefix(_OPEN_CLIP): tensor
        for key, tensor in tensors.items()
        if key.startswith(_OPEN_CLIP)
    }
    blocks = sorted(
        {int(key.split(".")[2]) for key in own if key.startswith("transformer.resblocks.")}
    )
    try:
        found = {
            "embeddings.token_embedding.weight": own["token_embedding.weight"],
            "embeddings.position_embedding.weight": own["positional_embedding"],
            "final_layer_norm.weight": own["ln_final.weight"],
            "final_layer_norm.bias": own["ln_final.bias"],
        }
        # Stable Diffusion 2 uses the last layer but one, so the last block is left out.
        for block in blocks[:-1]:
            old, new = f"transformer.resblocks.{block}", f"encoder.layers.{block}"
            for kind in ("weight", "bias"):
                # OpenCLIP keeps query, key and value in one matrix.
                parts = own[f"{old}.attn.in_proj_{kind}"].chunk(3)
                found |= {
                    f"{new}.self_attn.{n}_proj.{kind}": part
                    for n, part in zip("qkv", parts, strict=True)
                }
                found |= {
                    f"{new}.{b}.{kind}": own[f"{old}.{a}.{kind}"]
                    for a, b in _OPEN_CLIP_NAMES.items()
                }
    except KeyError as error:
        raise ModelError(
            f"{path}: has no text encoder of Stable Diffusion 2 ({error.args[0]} is missing), "
            f"which the empty "
            f"prompt is computed with; give the single file of stable-diffusion-2-1"
        ) from error
    return found
