"""Fit frames of any shape into the squares of Stable Diffusion without cropping or stretching.

A frame becomes one square with bars (a letterbox). A very wide or tall frame becomes two squares
that overlap, each letterboxed, for a larger object; their alphas are blended across the
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDEST = 2.0
"""Largest aspect of a frame with one square: 16:9 gets one, cinema's 2.39:1 two."""
_SHARE = 0.6
"""Share of the longer side in each of two squares; a fifth of it is in both."""
_BAR = 0.5
"""Gray of the bars, the middle of the range: zero for the autoencoder."""
# Pictures begin on this grid, to align with the cells of both feature maps.
_CELL = 16
"""Pixels of a fine cell. The picture begins at a multiple: few cells show both bar and picture."""


@dataclass(frozen=True)
class Fit:
    """The layout of frames of one size in squares.

    It is computed along the longer side of the frame, and transposed if that is the height.
    """

    height: int
    width: int
    """Of the frames."""
    side: int
    """Of the squares."""

    @property
    def _is_tall(self) -> bool:
        return self.height > self.width

    @property
    def _long_short(self) -> tuple[int, int]:
        return max(self.height, self.width), min(self.height, self.width)

    @property
    def starts(self) -> tuple[int, ...]:
        """Start of each square's picture along the longer side, in pixels of the frame."""
        long, short = self._long_short
        # The second square ends with the frame.
        return (0,) if long <= _WIDEST * short else (0, long - self.shown)

    @property
    def shown(self) -> int:
        """Length of the longer side in each square, in pixels of the frame."""
        long, short = self._long_short
        return long if long <= _WIDEST * short else max(1, round(_SHARE * long))

    @property
    def squares(self) -> int:
        """Number of squares of a frame: 1 or 2."""
        return len(self.starts)

    @property
    def _picture(self) -> tuple[int, int]:
        """Long and short side of the picture in a square."""
        long, short = self.shown, self._long_short[1]
        # A square of a wide frame may itself be taller than it is wide.
        if long >= short:
            return self.side, max(1, round(short * self.side / long))
        return max(1, round(long * self.side / short)), self.side

    @property
    def _corner(self) -> tuple[int, int]:
        """Start of the picture in a square along the longer and the shorter side: about centred."""
        # Rounded down to the grid of cells.
        long, short = ((self.side - length) // 2 // _CELL * _CELL for length in self._picture)
        return long, short

    @property
    def _coarse_starts(self) -> tuple[int, ...]:
        return tuple(round(start * self._picture[0] / self.shown) for start in self.starts)

    def to_squares(self, rgb: Tensor) -> Tensor:
        """Return frames (N, 3, height, width) 0-1 as squares (N k, 3, side, side) 0-1.

        The k squares of a frame are next to each other.
        """
        return self._place(rgb, _BAR, own=False)

    def prompt_to_squares(self, plane: Tensor) -> Tensor:
        """Return a plane (N, 1, height, width) of a prompt as squares (N k, 1, side, side).

        Bars are 0, and pixels are averaged. Pixels in two squares belong to the one with the nearer
        middle, so no mark counts twice.
        """
        return self._place(plane, 0.0, own=True)

    def trimap_to_squares(self, trimap: Tensor) -> Tensor:
        """Return a trimap (N, 1, height, width) as (N k, 1, side, side); bars are background."""
        return self._place(trimap, 0.0, own=False)

    def _place(self, frames: Tensor, bar: float, *, own: bool) -> Tensor:
        # Everything is computed along the longer side, as if frames were wide.
        frames = frames.mT if self._is_tall else frames
        size = (self._picture[1], self._picture[0])
        squares = frames.new_full(
            (len(frames), self.squares, frames.shape[1], self.side, self.side), bar
        )
        left, top = self._corner
        for i, start in enumerate(self.starts):
            part = frames[..., start : start + self.shown]
            if own and self.squares == 2:
                part = part.clone()
                # Each square gets the half of the marks on its own side.
                middle = frames.shape[-1] // 2 - start
                part[..., (slice(middle, None) if i == 0 else slice(middle))] = 0
            squares[:, i, :, top : top + size[0], left : left + size[1]] = _resize(part, size)
        return (squares.mT if self._is_tall else squares).flatten(0, 1)

    def valid_cells(self, cells: int, device: torch.device | str = "cpu") -> Tensor | None:
        """Return (k cells^2,) bool, True for cells of a frame's squares with at least half picture.

        None stands for all.
        """
        long, short = self._picture
        # No bars, so every cell shows the picture.
        if (long, short) == (self.side, self.side):
            return None
        left, top = self._corner
        square = torch.zeros(self.side, self.side, device=device)
        square[top : top + short, left : left + long] = 1
        square = square.mT if self._is_tall else square
        share = F.avg_pool2d(square[None], self.side // cells).flatten()
        return (share >= 0.5).repeat(self.squares)

    def assemble(self, squares: Tensor) -> Tensor:
        """Return planes (N k, 1, side, side) of squares as planes (N, 1, h, w) of whole frames."""
        squares = torch.unflatten(squares, 0, (-1, self.squares))
        squares = squares.mT if self._is_tall else squares
        left, top = self._corner
        long, short = self._picture
        pictures = squares[..., top : top + short, left : left + long].unbind(1)
        frames = pictures[0] if self.squares == 1 else self._blend(*pictures)
        return frames.mT if self._is_tall else frames

    def _blend(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two pictures; the second fades in across the overlap."""
        begin = self._coarse_starts[1]
        overlap = first.shape[-1] - begin
        # Half a pixel keeps the shares symmetric, never exactly 0 or 1.
        share = (torch.arange(overlap, device=first.device) + 0.5) / overlap
        both = first[..., begin:] + share * (second[..., :overlap] - first[..., begin:])
        return torch.cat([first[..., :begin], both, second[..., overlap:]], -1)


def _resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize frames: averaged if they become smaller, bilinear if larger."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    # Antialiased, as frames are usually much larger than a square.
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)
