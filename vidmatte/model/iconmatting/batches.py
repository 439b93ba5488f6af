"""The number of images in one pass of the network: fewer after memory has run out."""

from __future__ import annotations

import torch

from vidmatte.errors import ModelError


class BatchLimit:
    """The largest number of noisy latents in one pass; it falls when memory runs out.

    Not part of what a model computes: results are the same except for rounding.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._first: int | None = None
        self._compiled: dict[int, int] = {}

    def lower(self, tried: int, device: torch.device) -> None:
        """Halve the limit from the tried number. Raises ModelError if that was one."""
        if tried <= 1:
            raise ModelError(
                f"{device} has too little free memory for one image through Stable Diffusion 2.1: "
                f"close other programs that use it, choose a half precision (bfloat16 or float16), "
                f"or another device or model"
            )
        # The first number stays for the note to the user.
        self._first = self._first or tried
        self.most = tried // 2

    def frames_at_once(self, frames: int, latents: int) -> int:
        """Return how many of some frames run together, if each makes so many latents."""
        if self.most is None:
            return frames
        return max(1, min(frames, self.most // latents))

    def padded(self, frames: int, latents: int) -> int:
        """Return the padded batch size of so many frames for a compiled network.

        `torch.compile` specialises on the batch size. The last batch of a clip therefore gets the
        size of the ones before, and a lower limit costs one compilation instead of several.
        """
        # A compiled network is recompiled for every new size, so the largest one so far is kept.
        largest = max(frames, self._compiled.get(latents, 0))
        size = max(frames, self.frames_at_once(largest, latents))
        self._compiled[latents] = size
        return size

    @property
    def notes(self) -> tuple[str, ...]:
        """One line if memory ever ran out."""
        if self._first is None:
            return ()
        return (
            f"memory ran out: {self.most} noisy images went through the network together instead "
            f"of {self._first}",
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means that memory ran out; CPUs have no class of their own for it."""
    # The CPU allocator of torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
