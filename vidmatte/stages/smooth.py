"""Temporal smoothing of alpha: less flicker, no smear. The method is in `imaging.temporal`."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch
from vidmatte.imaging.temporal import smooth_alphas


def smooth(batches: Iterable[MatteBatch], strength: float) -> Generator[MatteBatch]:
    """Reduce the flicker of consecutive mattes.

    Looks one frame ahead and back, so it holds one batch until the next arrives, and yields the
    last one when `batches` ends. Batches keep their frames, times, confidence and colours; only
    alpha changes.

    Args:
        batches: mattes of one clip in order.
        strength: 0 (mattes stay as they are) to 1 (reliable pixels become the mean of three
            frames).

    Raises:
        OptionError: If `strength` is not within 0..1.
    """
    if not 0 <= strength <= 1:
        raise OptionError(
            f"smoothing strength {strength} is not valid: give a number from 0 (off) to 1 "
            "(strongest)"
        )
    return _smooth(batches, strength)


def _smooth(batches: Iterable[MatteBatch], strength: float) -> Generator[MatteBatch]:
    if not strength:
        yield from batches
        return
    waiting: deque[MatteBatch] = deque()

    def frames() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            waiting.append(batch)
            for alpha, rgb in zip(batch.alpha, batch.source.rgb, strict=True):
                yield alpha[0], rgb

    done: list[Tensor] = []
    for alpha in smooth_alphas(frames(), strength):
        # Batches may have several frames, smoothing goes frame by frame: collect them again.
        done.append(alpha)
        if len(done) == len(waiting[0]):
            batch = waiting.popleft()
            yield replace(batch, alpha=torch.stack(done)[:, None].to(batch.alpha.device))
            done = []
