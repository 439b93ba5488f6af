"""The options of IconMatting."""

from __future__ import annotations

from dataclasses import dataclass

from vidmatte.errors import OptionError
from vidmatte.model.iconmatting.stable_diffusion import FeatureSettings


@dataclass(frozen=True)
class IconMattingOptions:
    """Settings of the method and of its execution; the defaults are the released configuration."""

    time_step: int = 200
    """Of the noise, 0 to 999 (paper, table 8)."""
    ensemble: int = 4
    """Number of noises whose features are averaged; 1 is twice as fast and a little less steady."""
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
    """Number of strongest positions of its self-attention map that join each marked cell (section
    3.6). The paper does not give it; this is 1 % of all."""
    at_once: int | None = None
    """Largest number of noisy latents (images times ensemble) that run together; None for all."""
    compile: bool = False
    """Whether to use `torch.compile`: minutes at first, then faster."""

    def __post_init__(self) -> None:
        self.features  # noqa: B018 - checks time step, ensemble and seed
        for name, least in (("references", 1), ("at_once", 1), ("positions", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} {value} is not valid: it must be at least {least}")

    @property
    def features(self) -> FeatureSettings:
        """Settings of Stable Diffusion's features."""
        return FeatureSettings(self.time_step, self.ensemble, self.seed)
