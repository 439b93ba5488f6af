"""The choices of IconMatting that are not the weights."""

from __future__ import annotations

from dataclasses import dataclass

from vidmatte.errors import OptionError
from vidmatte.model.iconmatting.stable_diffusion import FeatureSettings


@dataclass(frozen=True)
class IconMattingOptions:
    """Settings of the paper and of how it is run; the defaults are the released configuration."""

    time_step: int = 200
    """Of the noise, 0 to 999 (paper, table 8)."""
    ensemble: int = 4
    """Number of noises whose features are averaged; 1 is two times as fast, and a little less steady."""
    seed: int = 0
    """Of the noises."""
    inter: bool = True
    """Whether similarity to the references takes part (table 5); off, each place counts the same."""
    intra: bool = True
    """Whether the target's self-attention takes part (table 5)."""
    multi_scale: bool = True
    """Whether the coarse scale takes part (table 5)."""
    references: int | None = None
    """Largest number of references that are used, the first ones (table 6); None for all."""
    positions: int = 24
    """How many of the strongest positions of its self-attention map join each marked cell (section 3.6); the paper does
    not say its number. This is 1 % of all."""
    at_once: int | None = None
    """How many noisy latents (images times ensemble) go through the U-Net together; None for a whole batch."""
    compile: bool = False
    """Whether the networks go through `torch.compile`: minutes at first, then faster."""

    def __post_init__(self) -> None:
        self.features  # noqa: B018 - checks time step, ensemble and seed
        for name, least in (("references", 1), ("at_once", 1), ("positions", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is not valid: it must be at least {least}")

    @property
    def features(self) -> FeatureSettings:
        """What of this Stable Diffusion needs."""
        return FeatureSettings(self.time_step, self.ensemble, self.seed)
