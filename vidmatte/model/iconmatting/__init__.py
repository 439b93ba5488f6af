"""IconMatting (Guo et al., CVPR 2024) on Stable Diffusion 2.1, trained and training-free."""

from vidmatte.model.iconmatting.empty_prompt import embed_empty_prompt
from vidmatte.model.iconmatting.head import TrimapHead
from vidmatte.model.iconmatting.net import IconMattingNet, decoder_tensors
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.predictor import build_iconmatting, build_iconmatting_free
from vidmatte.model.iconmatting.stable_diffusion import (
    FeatureSettings,
    InContextFeatures,
    StableDiffusion,
)
from vidmatte.model.iconmatting.trimap import TrimapMatting, is_trimap_head, load_trimap_head

__all__ = [
    "FeatureSettings",
    "IconMattingNet",
    "IconMattingOptions",
    "InContextFeatures",
    "StableDiffusion",
    "TrimapHead",
    "TrimapMatting",
    "build_iconmatting",
    "build_iconmatting_free",
    "decoder_tensors",
    "embed_empty_prompt",
    "is_trimap_head",
    "load_trimap_head",
]
