"""One square for each frame, as the research code of "In-Context Matting" makes it.

Guo et al., CVPR 2024: the published code cuts frames to their middle and resizes them in 8 bits.
`stretch` resizes whole frames instead. Both are for comparison with that code; see `fit` for what
is better on footage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidmatte.imaging.squares import middle, to_square

FitMode = Literal["letterbox", "crop", "stretch"]


@dataclass(frozen=True)
class SquareFit:
    """Frames of one size, each in one square; with the interface of `fit.Fit`."""

    height: int
    width: int
    """Of the frames."""
    side: int
    """Of the squares."""
    mode: FitMode
    """"crop" or "stretch"."""

    squares = 1
    """Number of squares of a frame."""

    @property
    def shown(self) -> tuple[slice, slice]:
        """Rows and columns of the frame in the square."""
        if self.mode == "crop":
            return middle(self.height, self.width)
        return slice(0, self.height), slice(0, self.width)

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the square's part, as shares of width and height."""
        rows, columns = self.shown
        return (
            columns.start / self.width,
            rows.start / self.height,
            columns.stop / self.width,
            rows.stop / self.height,
        )

    def to_squares(self, rgb: Tensor) -> Tensor:
        """Return frames (N, 3, height, width) in 0..1 as squares (N, 3, side, side), by 8 bits."""
        # Through 8 bits, like the research code, whose results this reproduces.
        codes = (rgb * 255 + 0.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        squares = torch.from_numpy(np.stack([self._resized(frame) for frame in codes]))
        return (squares.permute(0, 3, 1, 2).float() / 255).to(rgb.device)

    def prompt_to_squares(self, plane: Tensor) -> Tensor:
        """Return marks (N, 1, height, width) as (N, 1, side, side): 1 wherever there are any."""
        # Any positive share of a mark counts, as in the research code.
        return (self._planes(plane[:, 0].cpu().numpy()) > 0).float()

    def trimap_to_squares(self, trimap: Tensor) -> Tensor:
        """Return trimaps (N, 1, height, width) as (N, 1, side, side), by the nearest pixel."""
        planes = (self._resized(plane, nearest=True) for plane in trimap[:, 0].cpu().numpy())
        return _stacked(planes).to(trimap.device)

    def valid_cells(self, cells: int, device: torch.device | str = "cpu") -> None:
        """Return None: all cells show the picture."""

    def assemble(self, squares: Tensor) -> Tensor:
        """Return planes (N, 1, side, side) as they are: they cover the window."""
        return squares

    def over_frames(self, planes: Tensor) -> Tensor:
        """Return planes (N, 1, side, side) of squares as planes (N, 1, h, w) of whole frames.

        Pixels outside the square are 0.
        """
        if self.mode == "stretch":
            return planes
        scale = self.side / min(self.height, self.width)
        size = (round(self.height * scale), round(self.width * scale))
        whole = planes.new_zeros(*planes.shape[:2], *size)
        place = middle(*size)
        # The square is the middle of the enlarged frame.
        part = whole[..., place[0], place[1]]
        part[:] = F.interpolate(planes, size=(part.shape[-2], part.shape[-1]), mode="bilinear")
        return whole

    def _planes(self, planes: NDArray[np.float32]) -> Tensor:
        return _stacked(self._resized(plane) for plane in planes)

    def _resized(self, image: NDArray[Any], *, nearest: bool = False) -> NDArray[Any]:
        if self.mode == "crop":
            return to_square(image, self.side, nearest=nearest)
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        size = (self.side, self.side)
        return np.asarray(cv2.resize(image, size, interpolation=interpolation))


def _stacked(planes: Iterable[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(list(planes)).astype(np.float32))[:, None]


def bilinear(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize alpha (1, 1, h, w) to a size (height, width), as the research code writes it."""
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
