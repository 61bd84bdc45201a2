"""Maps and tables of numbers as images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {"font.size": 9}


def heat_map(values: Float[np.ndarray, "y x"], label: str) -> UInt8[np.ndarray, "h w 3"]:
    """A number at each place of the frame, by color, with the scale beside it."""
    with rc_context(STYLE):
        figure = Figure((4.0, 3.2), layout="constrained")
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        axes.set(xlabel="column of tokens", ylabel="row of tokens")
        figure.colorbar(axes.imshow(values, cmap="viridis"), ax=axes, label=label)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def confusion_table(counts: Float[np.ndarray, "k k"], names: Sequence[str], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """A table of the recognized actions (columns) for each true action (rows), in percent of the
    row."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(2.5 + 0.5 * len(names), 2 + 0.5 * len(names)), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*share.shape):
        ink = "white" if share[row, column] > 0.6 else "black"
        axes.text(column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="recognized", ylabel="true", title=f"actions recognized in {title} frames, %")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
