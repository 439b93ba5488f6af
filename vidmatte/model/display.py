"""Any model behind a view, so that it sees ordinary pictures of HDR and scene-linear footage."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.display import for_model
from vidmatte.model.external import GivenMattes
from vidmatte.model.interface import CoarseMatte, Follower, Matter


def show_to(matter: Matter, color: ColorTags) -> Matter:
    """The matter, shown what `for_model` makes of frames with this colour; mattes that are given look at no frame."""
    return matter if isinstance(matter, GivenMattes) else _Viewer(matter, color)


class _Viewer:
    """A matter behind a view. A frame is seen twice, small and in full: the last view is kept for that."""

    def __init__(self, matter: Matter, color: ColorTags) -> None:
        self._matter = matter
        self._color = color
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        return replace(self._matter(replace(batch, rgb=for_model(batch.rgb, self._color))), source=batch)

    def follower(self) -> Follower | None:
        return self._matter.follower()

    def shrink(self, rgb: Tensor) -> Tensor:
        return self._matter.shrink(self._view(rgb))

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        return self._matter.finish(self._view(rgb), coarse)

    def _view(self, rgb: Tensor) -> Tensor:
        if self._last is None or self._last[0].data_ptr() != rgb.data_ptr() or self._last[0].shape != rgb.shape:
            self._last = rgb, for_model(rgb, self._color)
        return self._last[1]
