"""Plots of curves: the same numbers give the same bytes."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from worldmodel.evaluate.statistics.results import Curve

SIZE = (6.4, 3.6)  # inches of a plot of curves
MARKER_STEPS = 15  # with fewer steps than this, each has a marker
GREY = "#808488"  # of text and axes: it can be read on white and on black paper
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "worldmodel",  # without it, each drawing has different names inside
    "svg.fonttype": "none",  # text as text, to search and copy
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
}


def plot(curves: Mapping[str, Curve], across: str, up: str) -> bytes:
    """Curves in one SVG, each with its interval shaded; `across` and `up` say what the axes are."""
    with rc_context(STYLE):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            marker = "o" if len(curve.steps) < MARKER_STEPS else None
            (line,) = axes.plot(curve.steps, curve.mean, label=name.replace("_", " "), marker=marker, markersize=3)
            axes.fill_between(curve.steps, curve.low, curve.high, color=line.get_color(), alpha=0.15, linewidth=0)
        _finish(axes, across, up)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def _finish(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=across, ylabel=up)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(axes.get_lines()) > 1:
        axes.legend(frameon=False, ncols=2, fontsize=8)
    if axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color=GREY, linewidth=0.8)
