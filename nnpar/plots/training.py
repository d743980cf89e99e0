"""Learning curves, alone and above predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from nnpar.plots import figures
from nnpar.plots.classes import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from nnpar.history import History

MOST_MARKED = 20  # epochs: more of them are a line, not points


def learning_curves(history: History) -> Figure:
    """Loss and accuracy of each epoch, in training and in validation.

    Parameters
    ----------
    history : History
        With ``loss``; the other curves are drawn as far as they were recorded.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for the loss, and one for the accuracy in percent if there is any.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the history holds neither loss nor accuracy.
    """
    figure = figures.empty(8.0, 3.1)
    _draw_learning_curves(figure, history)
    return figure


def training_report(
    history: History,
    images: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Learning curves above predictions, in one picture.

    Parameters
    ----------
    history : History
        As for :func:`learning_curves`.
    images, labels, probabilities, class_names
        As for :func:`predictions`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        As :func:`learning_curves` and :func:`predictions` do.
    """
    shown = Predictions(images, labels, probabilities, class_names, columns=10, rows=3)
    heights = [3.0, 0.5 + shown.height]
    figure = figures.empty(max(8.0, 0.2 + shown.width), sum(heights) + (0.3 if title else 0.0))
    if title:
        figures.title(figure, title)
    curves, grid = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_learning_curves(curves, history)
    shown.draw(grid)
    return figure


def _draw_learning_curves(figure: Figure | SubFigure, history: History) -> None:
    from matplotlib.ticker import MaxNLocator

    kinds = [kind for kind in ("loss", "accuracy") if kind in history]
    if not kinds:
        raise ValueError(f"learning_curves: history: expected epochs with a loss or an accuracy, got {history!r}")
    epochs = history["epoch"]
    for kind, axes in zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True):
        scale, form, unit = (100.0, "{:.1f}%", " (%)") if kind == "accuracy" else (1.0, "{:.3g}", "")
        for label, name, colour, stroke in (
            ("training", kind, figures.TRAIN, "--"),
            ("validation", f"validation_{kind}", figures.VALIDATION, "-"),
        ):
            if name in history:
                values = [scale * value for value in history[name]]
                axes.plot(
                    epochs,
                    values,
                    stroke,
                    label=f"{label} {form.format(values[-1])}",
                    color=colour,
                    linewidth=1.6,
                    marker="o" if len(epochs) <= MOST_MARKED else "",
                    markersize=3.5,
                )
        figures.style(axes, kind.capitalize(), "epoch", kind + unit)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.03)
        if len(epochs) > 1:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks(epochs)
        axes.legend(fontsize=figures.SMALL, labelcolor=figures.INK, edgecolor="none", framealpha=0.85)
