"""The options of IconMatting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from vidmatte.errors import OptionError
from vidmatte.model.iconmatting.square_fit import FitMode
from vidmatte.model.iconmatting.stable_diffusion import FeatureSettings, LatentKind

NoiseKind = Literal["fixed", "fresh"]


@dataclass(frozen=True)
class IconMattingOptions:
    """Settings of the method and of its execution; the defaults are the released configuration."""

    time_step: int = 200
    """Of the noise, 0 to 999 (paper, table 8)."""
    ensemble: int = 4
    """Number of noises to average features over; 1 is twice as fast and a little less steady."""
    seed: int = 0
    """Of the noises."""
    inter: bool = True
    """Whether similarity to the references takes part (table 5); off, all cells count the same."""
    intra: bool = True
    """Whether the target's self-attention takes part (table 5)."""
    multi_scale: bool = True
    """Whether the coarse scale takes part (table 5)."""
    references: int | None = None
    """Number of references to use, from the first (table 6); None for all."""
    positions: int = 24
    """Number of strongest positions of its self-attention map added to each marked cell (section
    3.6). The paper does not give it; this is 1 % of all."""
    at_once: int | None = None
    """Largest number of noisy latents (images times ensemble) in one pass; None for all."""
    compile: bool = False
    """Whether to use `torch.compile`: minutes at first, then faster."""

    fit: FitMode = "letterbox"
    """Placing of frames in the squares: with bars, without loss, or, as in the research
    code, cut to their middle or stretched; see `square_fit`."""
    noise: NoiseKind = "fixed"
    """Whether every frame gets the same noise, for equal mattes of a still clip,
    or, as in the research code, its own noise, drawn in turn from `seed` on."""
    vae: LatentKind = "mode"
    """Whether to use the most likely latent, or, as in the research code, a sample per noise."""

    def __post_init__(self) -> None:
        for name, kind in (("fit", FitMode), ("noise", NoiseKind), ("vae", LatentKind)):
            value = getattr(self, name)
            if value not in get_args(kind):
                offered = ", ".join(get_args(kind))
                raise OptionError(f"{name} {value!r} is not valid: choose one of {offered}")
        self.features  # noqa: B018 - checks time step, ensemble and seed
        for name, least in (("references", 1), ("at_once", 1), ("positions", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is not valid: it must be at least {least}")

    @property
    def features(self) -> FeatureSettings:
        """Settings of Stable Diffusion's features."""
        return FeatureSettings(self.time_step, self.ensemble, self.seed, self.vae)

    def stream(self) -> torch.Generator | None:
        """Return the generator of fresh noise, at its start; None for fixed noise."""
        return torch.Generator().manual_seed(self.seed) if self.noise == "fresh" else None
