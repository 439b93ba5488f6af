"""Finish mattes with the usual controls of a keyer, in a fixed order.

    1. clip_black, clip_white   alpha up to black becomes 0, from white on 1, stretched between
    2. remove_dots, fill_holes  small spots become 0, small holes 1
    3. grow                     the outline moves out by that many pixels; in if negative
    4. feather                  the outline is softened
    5. invert                   the matte becomes that of the surroundings
    6. inside_mask              alpha is at least the mask
    7. outside_mask             alpha is at most 1 - mask
    8. region                   alpha is 0 outside of the rectangle

So an edge is cleaned before it is moved, and moved before it is softened; painted masks are neither
moved nor softened; if both masks are white, the outside mask wins.

Foreground colour is that of the delivered matte; of an inverted one it is the colour of the
surroundings. It is estimated before the feather: that decides the look of an edge and
not the extent of the object. Otherwise colour of the old background would count as the object's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from vidmatte.frames import MatteBatch, VideoInfo
from vidmatte.imaging.arrays import Alpha
from vidmatte.imaging.matte_finish import coverage, finish_alpha
from vidmatte.media.closing import Closing
from vidmatte.options import FinishOptions, MaskFit
from vidmatte.read.mask import Mask, open_mask


def finish(
    mattes: Iterable[MatteBatch], options: FinishOptions, *, like: VideoInfo | None = None
) -> Generator[MatteBatch]:
    """Yield the mattes with all controls of `options` applied, in order.

    `like` gives the displayed size of the clip, for the region and masks; None for square pixels.

    Raises OptionError if a mask has another size or length than the clip or the region does not fit
    the frame, ReadError if a mask cannot be read.
    """
    with Finisher(options, like=like) as finisher:
        for batch in mattes:
            yield finisher(batch)


class Finisher(Closing):
    """The controls, with their masks opened and checked against the size of the frames.

    Use it in a `with` block.
    """

    def __init__(
        self,
        options: FinishOptions,
        *,
        like: VideoInfo | None = None,
        source_alpha: Mask | None = None,
        mask_fit: MaskFit = "exact",
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
                None if path is None else self._stack.enter_context(open_mask(path, mask_fit))
                for path in (options.inside_mask, options.outside_mask)
            )
            if like is not None:
                self._check(like)
        except BaseException:
            # Masks that are open already are closed.
            self.close()
            raise

    def _check(self, like: VideoInfo) -> None:
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_size(like)
        if self._options.region is not None:
            # Raises for a region outside of the frame; its result is not needed here.
            coverage(self._options.region, (like.height, like.width), like.display_width)

    def __bool__(self) -> bool:
        """Whether mattes are changed at all."""
        return bool(self._options) or self._source_alpha is not None

    def __call__(self, batch: MatteBatch, *, feathered: bool = True) -> MatteBatch:
        """Return the batch with its alpha finished, if not `feathered` without the feather.

        Batches must come in order if a mask is a movie or a sequence.
        """
        if not self:
            return batch
        height, width = batch.alpha.shape[2:]
        display_width = max(1, round(width * self._aspect))
        masks: list[Sequence[Alpha | None]] = []
        for mask in (self._inside, self._outside, self._source_alpha):
            if mask is None:
                # One entry a frame, so that the lists can be zipped.
                masks.append([None] * len(batch))
            else:
                masks.append(mask.read(batch.source, (height, width), display_width))
        done = [
            finish_alpha(
                alpha[0],
                self._options,
                inside=inside,
                outside=outside,
                shown=shown,
                display_width=display_width,
                feathered=feathered,
            )
            for alpha, inside, outside, shown in zip(batch.alpha, *masks, strict=True)
        ]
        return replace(batch, alpha=torch.stack(done)[:, None].to(batch.alpha.device))

    def check_length(self, frames: int) -> None:
        """Raise OptionError if a movie or sequence among the masks has fewer than `frames`
        frames."""
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_length(frames)

    def check_unchanged(self) -> None:
        """Raise ReadError if a mask was replaced or rewritten since it was first read."""
        for mask in (self._inside, self._outside):
            if mask is not None:
                mask.check_unchanged()

    def close(self) -> None:
        """Close the masks."""
        self._stack.close()
