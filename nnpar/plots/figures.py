"""Figures: how they are made, styled and written."""

from __future__ import annotations

import functools
import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

INK, MUTED, PALE, GRID = "#26323d", "#75818c", "#c6ced5", "#e4e8eb"
TRAIN, VALIDATION, MISTAKE = "#6f8fae", "#c8553d", "#b3261e"
# Operations of one picture: six colours that stay apart for colour-blind readers, then the same with the next strokes.
COLOURS = ("#2f5d8a", "#c8553d", "#4f9d82", "#d49a2a", "#8064a2", "#75818c")

TINY, SMALL, NORMAL, LARGE = 7.0, 8.0, 9.0, 11.0  # points


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Its suffix tells the format: ``.png``, ``.svg``, ``.pdf`` and others; without one it is PNG.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If matplotlib does not know the format.
    """
    figure.savefig(path)


def require_matplotlib() -> None:
    """Raise ImportError with what to do if matplotlib is missing: for callers whose picture comes after long work."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("nnpar: pictures need matplotlib: pip install 'nnpar[plot]'") from error


def empty(width: float, height: float, gap: float = 0.05) -> Figure:
    """Empty figure; sizes in inches, the gap that above and below each part."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=gap)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    # IPython shows a bare figure only once pyplot has been imported; with this method it always does.
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def title(figure: Figure | SubFigure, text: str, size: float = LARGE) -> None:
    """Heading of a figure, or of a part."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=size, color=INK, fontweight="bold", parse_math=False)


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Heading and names of the axes, in the look of all pictures."""
    axes.set_title(title, loc="left", fontsize=NORMAL, color=INK, fontweight="bold")
    axes.set_xlabel(x, fontsize=SMALL, color=MUTED)
    axes.set_ylabel(y, fontsize=SMALL, color=MUTED)
    axes.tick_params(labelsize=SMALL, colors=MUTED, length=0)
    axes.tick_params(which="minor", length=0)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED)
