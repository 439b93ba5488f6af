"""Which measures belong to what truth, in the scale in which papers print them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidmatte import metrics
from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha, Gray8
from vidmatte.imaging.optical_flow import optical_flow

Values: TypeAlias = Mapping[str, float]
"""By the name of their measure, in its scale."""


@dataclass(frozen=True)
class Measure:
    """How one measure is called and printed."""

    name: str
    header: str
    """The name with its scale, for the head of a table."""
    decimals: int
    of_frame: Callable[..., float] | None = None
    """Of one matte against its truth, unscaled; None where it takes two frames."""
    factor: float = 1.0
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        """A value as a table prints it."""
        return "-" if math.isnan(value) else f"{value:.{self.decimals}f}"


IMAGE = (
    Measure("MSE", "MSE", 4, metrics.mse),
    Measure("SAD", "SAD /1000", 2, metrics.sad),
    Measure("Grad", "Grad /1000", 2, metrics.grad),
    Measure("Conn", "Conn /1000", 2, metrics.conn),
    Measure("MAD", "MAD", 4, metrics.mad),
)
"""Of image mattes, as Guo et al. (CVPR 2024) print them: sums in thousands, means per pixel as they are."""
CLIP = (
    Measure("MAD", "MAD x1000", 2, metrics.mad, 1000),
    Measure("MSE", "MSE x1000", 2, metrics.mse, 1000),
    Measure("Grad", "Grad /1000", 2, metrics.grad),
    Measure("dtSSD", "dtSSD x100", 2),
    Measure("MESSDdt", "MESSDdt x1000", 2),
    Measure("Conn", "Conn /1000", 2, metrics.conn),
)
"""Of clips with alpha, as Lin et al. (WACV 2022) and its trackers print them; MESSDdt per pixel and times 1000."""
MASK = (
    Measure("J", "J", 3, metrics.region_overlap, higher_is_better=True),
    Measure("F", "F", 3, metrics.contour_accuracy, higher_is_better=True),
)
"""Where the truth is a mask, 0 to 1 (Perazzi et al., CVPR 2016, print percent)."""


def measures_of(*, clips: bool, soft: bool) -> tuple[Measure, ...]:
    """The measures of images or clips whose truth is alpha (`soft`) or a mask; the second or first one ranks."""
    if not soft:
        return MASK
    return CLIP if clips else IMAGE


def ranking(measures: Sequence[Measure]) -> Measure:
    """The measure by which samples are sorted: SAD of images, MAD of clips, J of masks."""
    return next(
        measure for measure in measures if measure.name in ("SAD", "J") or measure is CLIP[0]
    )


def measure_image(
    measures: Sequence[Measure], found: Alpha, truth: Alpha, unknown: NDArray[np.bool_] | None
) -> dict[str, float]:
    """Values of one matte (H, W); over the unknown area where one is given, NaN where that is empty."""
    return {
        measure.name: measure.factor * _of_frame(measure, found, truth, unknown)
        for measure in measures
    }


def _of_frame(
    measure: Measure, found: Alpha, truth: Alpha, unknown: NDArray[np.bool_] | None
) -> float:
    if measure.of_frame is None:
        raise OptionError(f"{measure.name} was asked of one frame, but it takes two")
    if measure.of_frame is metrics.contour_accuracy:
        return metrics.contour_accuracy(found, truth)
    if unknown is not None and not unknown.any():
        return math.nan
    return measure.of_frame(found, truth, region=unknown)


@dataclass
class ClipScore:
    """Adds up the measures of a clip frame by frame, so that no clip has to fit into memory."""

    measures: Sequence[Measure]
    by_frame: dict[str, list[float]] = field(default_factory=dict)
    _before: tuple[Alpha, Alpha, Gray8] | None = None

    def add(self, found: Alpha, truth: Alpha, gray: Gray8) -> None:
        """Take the next frame (H, W); measures over time compare it with the one before."""
        values = measure_image(
            [m for m in self.measures if m.of_frame is not None], found, truth, None
        )
        if self._before is not None and any(measure.of_frame is None for measure in self.measures):
            values |= self._over_time(self._before, found, truth, gray)
        for name, value in values.items():
            self.by_frame.setdefault(name, []).append(value)
        self._before = (found, truth, gray)

    @property
    def values(self) -> dict[str, float]:
        """Means over the frames, or their pairs; NaN for measures over time of a single frame."""
        lists = {measure.name: self.by_frame.get(measure.name, []) for measure in self.measures}
        return {
            name: math.fsum(values) / len(values) if values else math.nan
            for name, values in lists.items()
        }

    def _over_time(
        self, before: tuple[Alpha, Alpha, Gray8], found: Alpha, truth: Alpha, gray: Gray8
    ) -> Values:
        pair, true = np.stack([before[0], found]), np.stack([before[1], truth])
        flow = optical_flow(before[2], gray)[None]
        return {"dtSSD": metrics.dtssd(pair, true), "MESSDdt": metrics.messddt(pair, true, flow)}
