"""IconMatting (Guo et al., CVPR 2024) on Stable Diffusion 2.1, with its trained part and without."""

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

__all__ = [
    "FeatureSettings",
    "IconMattingNet",
    "IconMattingOptions",
    "InContextFeatures",
    "StableDiffusion",
    "TrimapHead",
    "build_iconmatting",
    "build_iconmatting_free",
    "decoder_tensors",
    "embed_empty_prompt",
]
