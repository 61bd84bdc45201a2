"""Curves and maps as pictures: the same numbers give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from worldmodel.evaluate.statistics.results import Curve

SIZE = (6.4, 3.6)  # inches of a plot of curves
MARKER_STEPS = 15  # steps below which each has a dot
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "worldmodel",  # else every drawing has other names inside
    "svg.fonttype": "none",  # text as text, to search and to copy
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def plot(curves: Mapping[str, Curve], across: str, up: str) -> bytes:
    """Curves in one SVG, each with its interval shaded; `across` and `up` say what the axes are."""
    with rc_context(STYLE):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            dots = "o" if len(curve.steps) < MARKER_STEPS else None
            (line,) = axes.plot(curve.steps, curve.mean, label=name.replace("_", " "), marker=dots, markersize=3)
            axes.fill_between(curve.steps, curve.low, curve.high, color=line.get_color(), alpha=0.15, linewidth=0)
        _finish(axes, across, up)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _finish(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=across, ylabel=up)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(axes.get_lines()) > 1:
        axes.legend(frameon=False, ncols=2, fontsize=8)
    if axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color="black", linewidth=0.8)


def heat_map(values: Float[np.ndarray, "y x"], label: str) -> UInt8[np.ndarray, "h w 3"]:
    """A number at each place of the frame, by colour, with the scale beside it."""
    with rc_context(STYLE):
        figure = Figure((4.0, 3.2), layout="constrained")
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        axes.grid(False)
        axes.set(xlabel="column of tokens", ylabel="row of tokens")
        figure.colorbar(axes.imshow(values, cmap="viridis"), ax=axes, label=label)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def confusion_table(counts: Float[np.ndarray, "k k"], names: Sequence[str], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """A table of what was named (columns) for each true action (rows), in percent of the row."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(2.5 + 0.5 * len(names), 2 + 0.5 * len(names)), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*share.shape):
        ink = "white" if share[row, column] > 0.6 else "black"
        axes.text(column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="named", ylabel="true", title=f"actions told from {title} frames, %")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
