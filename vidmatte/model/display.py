"""The display transform before any model: HDR and scene-linear footage as SDR images."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging.display import to_display
from vidmatte.model.external import ExternalMattes
from vidmatte.model.interface import CoarseMatte, Predictor, Tracker


def with_display_transform(predictor: Predictor, color: ColorTags) -> Predictor:
    """Return the predictor with the display transform of a colour before it.

    External mattes stay as they are: they do not use the frame.
    """
    # External mattes do not look at the picture.
    return (
        predictor if isinstance(predictor, ExternalMattes) else _DisplayTransform(predictor, color)
    )


class _DisplayTransform:
    """A predictor with a display transform before it.

    A frame is used twice, small and in full size, so the last transformed one is kept.
    """

    def __init__(self, predictor: Predictor, color: ColorTags) -> None:
        self._predictor = predictor
        self._color = color
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, batch: FrameBatch) -> MatteBatch:
        return replace(
            self._predictor(replace(batch, rgb=to_display(batch.rgb, self._color))), source=batch
        )

    def tracker(self) -> Tracker | None:
        return self._predictor.tracker()

    def shrink(self, rgb: Tensor) -> Tensor:
        return self._predictor.shrink(self._transform(rgb))

    def finish(self, rgb: Tensor, coarse: CoarseMatte) -> Tensor:
        return self._predictor.finish(self._transform(rgb), coarse)

    def _transform(self, rgb: Tensor) -> Tensor:
        # A frame is shrunk and finished by the same tensor: convert it once.
        if (
            self._last is None
            or self._last[0].data_ptr() != rgb.data_ptr()
            or self._last[0].shape != rgb.shape
        ):
            self._last = rgb, to_display(rgb, self._color)
        return self._last[1]
