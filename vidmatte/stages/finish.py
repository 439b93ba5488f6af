"""FINISH: the controls that every keyer has, applied to each matte in one order.

    1. clip_black, clip_white   alpha up to black becomes 0, from white on 1, between them it is stretched
    2. grow                     the outline moves out by so many pixels, in where negative
    3. feather                  the outline is softened
    4. invert                   the matte is that of the surroundings from here on
    5. inside_mask              alpha is at least what the mask shows
    6. outside_mask             alpha is at most what the mask leaves
    7. region                   alpha is 0 outside of the rectangle

So an edge is cleaned before it is moved, and moved before it is softened; what was painted by hand is neither moved nor
softened; where both masks are white, the outside mask wins.

Foreground colour is that of the delivered matte, of an inverted one the colour of the surroundings. It is estimated
from all of this but the feather, which says how an edge is to look and not where the object ends: with it, colour of
the old background would count as the object's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.errors import OptionError
from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.morphology import feather, grow
from vidmatte.options import FinishOptions
from vidmatte.read.mask import Mask, open_mask


def finish(
    mattes: Iterable[MatteBatch], options: FinishOptions, *, like: VideoInfo | None = None
) -> Generator[MatteBatch]:
    """Yield the mattes with all controls of `options` applied, in order; one for one, their pictures unchanged.

    `like` says how the clip is displayed, for the region and for masks; without it, pixels are square.

    Raises OptionError for a mask of another size or length than the clip and a region that does not fit the frame,
    ReadError for a mask that cannot be read.
    """
    with Finisher(options, like=like) as finisher:
        for batch in mattes:
            yield finisher(batch)


class Finisher:
    """The controls, their masks opened and checked against the frames' size; to be entered with `with`."""

    def __init__(
        self,
        options: FinishOptions,
        *,
        like: VideoInfo | None = None,
        source_alpha: Mask | None = None,
    ) -> None:
        self._options = options
        self._source_alpha = source_alpha
        """Multiplied with each matte, after all controls."""
        self._aspect = 1 if like is None else like.sample_aspect_ratio
        self._stack = ExitStack()
        if source_alpha is not None:
            self._stack.enter_context(source_alpha)
        try:
            self._inside, self._outside = (
                None if path is None else self._stack.enter_context(open_mask(path))
                for path in (options.inside_mask, options.outside_mask)
            )
            if like is not None:
                self._check(like)
        except BaseException:
            self.close()
            raise

    def _check(self, like: VideoInfo) -> None:
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_size(like)
        if self._options.region is not None:
            _coverage(self._options.region, (like.height, like.width), like.display_width)

    def __bool__(self) -> bool:
        """Whether mattes are changed at all."""
        return bool(self._options) or self._source_alpha is not None

    def __call__(self, batch: MatteBatch, *, feathered: bool = True) -> MatteBatch:
        """The batch with its alpha finished, on request without the feather; frames must come in order."""
        if not self:
            return batch
        n, _, *size = batch.alpha.shape
        display_width = max(1, round(size[1] * self._aspect))
        inside, outside = (
            [None] * n
            if mask is None
            else mask.read(batch.source, (size[0], size[1]), display_width)
            for mask in (self._inside, self._outside)
        )
        planes = batch.alpha[:, 0].detach().cpu().numpy()
        done = [
            self._finish(plane, core, garbage, display_width, feathered)
            for plane, core, garbage in zip(planes, inside, outside, strict=True)
        ]
        alpha = np.stack(done)
        if self._source_alpha is not None:
            # What the source hides stays hidden, whatever the controls say.
            alpha = alpha * np.stack(
                self._source_alpha.read(batch.source, (size[0], size[1]), display_width)
            )
        return replace(batch, alpha=torch.from_numpy(alpha[:, None]).to(batch.alpha.device))

    def _finish(
        self,
        alpha: Alpha,
        inside: Alpha | None,
        outside: Alpha | None,
        display_width: int,
        feathered: bool,
    ) -> Alpha:
        options = self._options
        if (options.clip_black, options.clip_white) != (0, 1):
            alpha = np.clip(
                (alpha - options.clip_black) / (options.clip_white - options.clip_black), 0, 1
            )
        if options.grow:
            alpha = grow(alpha, options.grow)
        if options.feather and feathered:
            alpha = feather(alpha, options.feather)
        if options.invert:
            alpha = 1 - alpha
        if inside is not None:
            alpha = np.maximum(alpha, inside)
        if outside is not None:
            alpha = np.minimum(alpha, 1 - outside)
        if options.region is not None:
            alpha = alpha * _coverage(options.region, alpha.shape, display_width)
        return np.asarray(alpha, np.float32)

    def check_length(self, frames: int) -> None:
        """Raise OptionError for a movie or sequence among the masks that has fewer frames than that."""
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_length(frames)

    def check_unchanged(self) -> None:
        """Raise ReadError if a mask was replaced or rewritten since it was first read."""
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_unchanged()

    def close(self) -> None:
        """Let go of the masks."""
        self._stack.close()

    def __enter__(self) -> Finisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _coverage(
    region: tuple[float, float, float, float], size: Sequence[int], display_width: int
) -> Alpha:
    """(H, W) share of each pixel that lies inside the region."""
    x0, y0, x1, y1 = region
    height, width = size
    if not (0 <= x0 < x1 <= display_width and 0 <= y0 < y1 <= height):
        raise OptionError(
            f"region {x0:g},{y0:g},{x1:g},{y1:g} does not fit the frame of {display_width}x{height}: "
            f"give x0,y0,x1,y1 with x0 < x1 and y0 < y1 inside it"
        )
    scale = width / display_width
    rows, columns = _covered(y0, y1, height), _covered(x0 * scale, x1 * scale, width)
    return np.asarray(rows[:, None] * columns, np.float32)


def _covered(low: float, high: float, length: int) -> NDArray[np.float64]:
    """Share of each of `length` pixels in a row that lies from `low` to `high`."""
    edges = np.clip(np.arange(length + 1), low, high)
    return np.diff(edges)
