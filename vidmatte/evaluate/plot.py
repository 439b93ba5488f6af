"""Plots of an evaluation as SVG, with matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vidmatte.errors import MissingExtraError
from vidmatte.evaluate.measures import Measure
from vidmatte.evaluate.quoted import Quoted
from vidmatte.evaluate.run import Evaluation
from vidmatte.evaluate.table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND = 12
"""Largest number of clips named in the plot."""
_SIZE = (10.0, 4.0)
"""Inches."""


def can_plot() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_of(evaluation: Evaluation) -> bytes:
    """Draw the ranking measure: of clips over frames, of images their values in order.

    Of clicks it is J after each. Raises MissingExtraError.
    """
    figure, axes = _figure()
    rank = evaluation.rank
    first = [result for result in evaluation.results if result.round == 0]
    clips = [result for result in first if len(result.frames) > 1]
    for result in clips:
        axes.plot(list(result.frames), list(result.by_frame), label=result.name, linewidth=1)
    is_clicks = evaluation.plan.protocol.clicks is not None
    if clips:
        axes.set_xlabel("clicks" if is_clicks else "frame")
        if len(clips) <= _LEGEND:
            axes.legend(fontsize="small")
    else:
        values = [result.values[rank.name] for result in evaluation.worst_first()]
        axes.bar(range(1, 1 + len(values)), [0 if math.isnan(value) else value for value in values])
        axes.set_xlabel("from the worst to the best, first round")
        axes.locator_params(axis="x", integer=True)
    axes.set_ylabel("J" if is_clicks and clips else rank.header)
    return _as_svg(figure)


def plot_of_variants(
    rows: Sequence[Row], quoted: Sequence[Quoted], measures: Sequence[Measure], rank: Measure
) -> bytes:
    """Draw each variant's ranking measure beside the paper's. Raises MissingExtraError."""
    figure, axes = _figure()
    place = [measure.name for measure in measures].index(rank.name)
    labels = [row.label for row in rows]
    axes.plot(labels, [row.values[place] for row in rows], marker="o", label="measured")
    known = {row.variant: row.values[rank.name] for row in quoted if rank.name in row.values}
    if known:
        values = [known.get(label, math.nan) for label in labels]
        axes.plot(
            labels,
            values,
            marker="x",
            linestyle="--",
            label=f"quoted from {quoted[0].source.title}, {quoted[0].dataset}",
        )
        axes.legend(fontsize="small")
    axes.set_ylabel(rank.header)
    return _as_svg(figure)


def _figure() -> tuple[Figure, Axes]:
    try:
        # Not pyplot: it would look for a display.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a plot", "evaluate") from error
    figure = Figure(figsize=_SIZE, layout="tight")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return figure, axes


def _as_svg(figure: Figure) -> bytes:
    import matplotlib

    file = io.BytesIO()
    # Without date and random names, so that the same values give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "vidmatte"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
