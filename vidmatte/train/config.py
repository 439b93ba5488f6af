"""The choices of every training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vidmatte.errors import OptionError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats by the precision of a configuration."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The choices of every run.

    Attributes:
        steps: length of the run.
        rate: peak learning rate, reached after `warm_up` steps, then a cosine down to its share
            `final`.
        betas, decay: AdamW's moments and its weight decay.
        clip: largest norm of the gradients of a step; 0 leaves them as they are.
        accumulate: batches whose gradients are summed for a step, on each process.
        precision: of mixed precision; weights are always float32.
        average: weight of the moving average's old value in each step.
        seed: of everything; workers: processes for making batches; device: "cpu" or "cuda".
        save_every, validate_every: steps between checkpoints, and between validations of the
            average; 0 for none.
        minutes: a run also ends after so many minutes, and its rate falls by the clock if that is
            earlier; 0 for no limit. Such a run cannot be repeated to the bit.
        processes: their number, each with its own batches; torchrun's number if it starts them.
    """

    steps: int = 20000
    rate: float = 6e-4
    warm_up: int = 100
    final: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 1e-3
    clip: float = 1.0
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    average: float = 0.995
    seed: int = 0
    workers: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    save_every: int = 100
    validate_every: int = 500
    minutes: float = 0.0
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "warm_up", "accumulate", "save_every", "processes"):
            if getattr(self, name) < 1:
                raise OptionError(
                    f"{name} {getattr(self, name)} is not valid: it must be at least 1"
                )
        if self.clip < 0:
            raise OptionError(f"clip {self.clip:g} is not valid: it must be 0 (off) or more")
        if self.minutes < 0 or (self.minutes and self.processes > 1):
            raise OptionError(
                f"minutes {self.minutes:g} is not valid: it must be 0 (no limit) or more, and 0 "
                f"with several processes"
            )
        if self.precision not in DTYPES:
            raise OptionError(
                f"precision {self.precision!r} is not valid: choose one of {', '.join(DTYPES)}"
            )

    @property
    def batches(self) -> int:
        """Batches of the whole run."""
        return self.steps * self.accumulate * self.processes

    @property
    def loaders(self) -> int:
        """Processes that make batches while the network learns; 0 if it waits for them."""
        return self.workers


@dataclass(frozen=True, kw_only=True)
class MattesConfig(LoopConfig):
    """The choices of a run on coarse mattes.

    Attributes:
        mattes: folder of coarse mattes, of `vidmatte.train.mattes`.
        crops: of a batch.
    """

    mattes: str
    crops: int
