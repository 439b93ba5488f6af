"""The measures of each kind of truth, in the scale of papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vidmatte import metrics
from vidmatte.errors import OptionError
from vidmatte.imaging.arrays import Alpha, Gray8
from vidmatte.imaging.optical_flow import optical_flow

Values: TypeAlias = Mapping[str, float]
"""By the name of their measure, in its scale."""
ConnKind = Literal["benchmark", "research"]
"""Definition of Conn: that of alphamatting.com, or of the code of "In-Context Matting"."""


@dataclass(frozen=True)
class Measure:
    """Name, scale and number format of one measure."""

    name: str
    header: str
    """The name with its scale, for the head of a table."""
    decimals: int
    of_frame: Callable[..., float] | None = None
    """Of one matte against its truth, unscaled; None if it takes two frames or several mattes."""
    factor: float = 1.0
    higher_is_better: bool = False

    def text(self, value: float) -> str:
        """Return a value as a table prints it."""
        return "-" if math.isnan(value) else f"{value:.{self.decimals}f}"


IMAGE = (
    Measure("MSE", "MSE", 4, metrics.mse),
    Measure("SAD", "SAD /1000", 2, metrics.sad),
    Measure("Grad", "Grad /1000", 2, metrics.grad),
    Measure("Conn", "Conn /1000", 2, metrics.conn),
    Measure("MAD", "MAD", 4, metrics.mad),
)
"""Of image mattes, as Guo et al. (CVPR 2024) print them: sums in thousands, means per pixel."""
CLIP = (
    Measure("MAD", "MAD x1000", 2, metrics.mad, 1000),
    Measure("MSE", "MSE x1000", 2, metrics.mse, 1000),
    Measure("Grad", "Grad /1000", 2, metrics.grad),
    Measure("dtSSD", "dtSSD x100", 2),
    Measure("MESSDdt", "MESSDdt x1000", 2),
    Measure("Conn", "Conn /1000", 2, metrics.conn),
)
"""Of clips with alpha, as Lin et al. (WACV 2022) print them; MESSDdt per pixel and times 1000."""
MASK = (
    Measure("J", "J", 3, metrics.region_overlap, higher_is_better=True),
    Measure("F", "F", 3, metrics.contour_accuracy, higher_is_better=True),
)
"""Of masks, 0 to 1 (Perazzi et al., CVPR 2016, print percent)."""
OBJECTS = (*MASK, Measure("J&F", "J&F", 3, higher_is_better=True))
"""Of one of several objects of a clip, with the mean of J and F (Pont-Tuset et al., 2017)."""
_CONN_HEADERS: Mapping[ConnKind, str] = {
    "benchmark": "Conn /1000",
    "research": "Conn (research) /1000",
}


def measures_of(
    *,
    clips: bool,
    soft: bool,
    conn: ConnKind = "benchmark",
    is_sparse: bool = False,
    has_objects: bool = False,
) -> tuple[Measure, ...]:
    """Return the measures of a data set.

    Args:
        clips: whether it holds clips, not images.
        soft: whether the truth is alpha, not a mask.
        conn: definition of Conn.
        is_sparse: only some frames have a truth; without MESSDdt: its flow would span them.
        has_objects: clips have several objects, scored one by one.
    """
    if not soft:
        return OBJECTS if has_objects else MASK
    # Masks have overlap and contours, alpha has errors.
    chosen: tuple[Measure, ...] = CLIP if clips else IMAGE
    if is_sparse:
        chosen = tuple(measure for measure in chosen if measure.name != "MESSDdt")
    return tuple(_with_conn(measure, conn) for measure in chosen)


def conn_header(kind: ConnKind) -> str:
    """Return the head of a column of Conn, with its definition unless it is the usual one."""
    return _CONN_HEADERS[kind]


def _with_conn(measure: Measure, kind: ConnKind) -> Measure:
    if measure.name != "Conn" or kind == "benchmark":
        return measure
    return replace(measure, header=conn_header(kind), of_frame=metrics.conn_research)


def ranking(measures: Sequence[Measure]) -> Measure:
    """Return the measure for sorting samples: SAD of images, MAD of clips, J of masks.

    If there is none of them, the first.
    """
    names = [measure.name for measure in measures]
    for wanted in ("SAD", "J"):
        if wanted in names:
            return measures[names.index(wanted)]
    return measures[0]


def measure_image(
    measures: Sequence[Measure], found: Alpha, truth: Alpha, counted: NDArray[np.bool_] | None
) -> dict[str, float]:
    """Measure one matte.

    Args:
        found: (H, W) the matte.
        truth: (H, W).
        counted: (H, W) counted pixels, None for all. Contours (F) always take all.

    Returns:
        Values by name, in the scale of the table; NaN if no pixel counts.
    """
    values = {
        measure.name: measure.factor * _of_frame(measure, found, truth, counted)
        for measure in measures
        if measure.name != "J&F"
    }
    if any(measure.name == "J&F" for measure in measures):
        values["J&F"] = (values["J"] + values["F"]) / 2
    return values


def _of_frame(
    measure: Measure, found: Alpha, truth: Alpha, counted: NDArray[np.bool_] | None
) -> float:
    if measure.of_frame is None:
        raise OptionError(f"{measure.name} takes two frames, got one")
    if measure.of_frame is metrics.contour_accuracy:
        # Contours are compared over the whole frame, as by the benchmark.
        return metrics.contour_accuracy(found, truth)
    # Nothing counts in this frame, so it has no value.
    if counted is not None and not counted.any():
        return math.nan
    return measure.of_frame(found, truth, region=counted)


@dataclass
class ClipScore:
    """Add up the measures of a clip frame by frame, so no clip has to fit into memory."""

    measures: Sequence[Measure]
    counts_still_start: bool = False
    """Whether dtSSD of the first frame is 0 and counts, as in the scripts of RobustVideoMatting."""
    by_frame: dict[str, list[float]] = field(default_factory=dict)
    _before: tuple[Alpha, Alpha, Gray8] | None = None

    def add(self, found: Alpha, truth: Alpha, gray: Gray8) -> None:
        """Take the next frame (H, W); measures over time compare it with the one before."""
        over_time = {measure.name for measure in self.measures} & {"dtSSD", "MESSDdt"}
        single = [measure for measure in self.measures if measure.name not in over_time]
        values = measure_image(single, found, truth, None)
        if self._before is not None and over_time:
            values |= self._over_time(self._before, found, truth, gray, over_time)
        elif self._before is None and self.counts_still_start and "dtSSD" in over_time:
            values["dtSSD"] = 0.0
        for name, value in values.items():
            self.by_frame.setdefault(name, []).append(value)
        self._before = (found, truth, gray)

    @property
    def values(self) -> dict[str, float]:
        """Means over the frames, or their pairs; NaN for measures over time of a single frame."""
        means = {}
        for measure in self.measures:
            values = self.by_frame.get(measure.name, [])
            means[measure.name] = math.fsum(values) / len(values) if values else math.nan
        # fsum is exact: the mean does not depend on the order of frames.
        return means

    def _over_time(
        self,
        before: tuple[Alpha, Alpha, Gray8],
        found: Alpha,
        truth: Alpha,
        gray: Gray8,
        wanted: set[str],
    ) -> Values:
        pair = np.stack([before[0], found])
        true = np.stack([before[1], truth])
        values = {"dtSSD": metrics.dtssd(pair, true)}
        if "MESSDdt" in wanted:
            flow = optical_flow(before[2], gray)[None]
            values["MESSDdt"] = metrics.messddt(pair, true, flow)
        return values
