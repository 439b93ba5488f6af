"""How much goes through the network at once: less after memory has run out."""

from __future__ import annotations

import torch

from vidmatte.errors import ModelError


class BatchLimit:
    """The largest number of noisy latents that are tried together. It falls when memory runs out, and never rises.

    Not part of what a model computes: results are the same but for rounding.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._first: int | None = None

    def lower(self, tried: int, device: torch.device) -> None:
        """Half of what was tried. Raises ModelError when that was one."""
        if tried <= 1:
            raise ModelError(
                f"{device} has too little free memory for one image through Stable Diffusion 2.1: close other programs "
                f"that use it, choose a half precision (bfloat16 or float16), or another device or model"
            )
        self._first = self._first or tried
        self.most = tried // 2

    @property
    def notes(self) -> tuple[str, ...]:
        """One line, if memory ever ran out."""
        if self._first is None:
            return ()
        return (
            f"memory ran out: {self.most} noisy images went through the network together instead of {self._first}",
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out: processors have no class of their own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
