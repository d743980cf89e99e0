"""The picture of a sweep: what each setting does to the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpar.plots import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.2, 3.0  # inches of a panel


def sweep(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """The last loss of each run over each setting: a dot for each run, the best one apart.

    Parameters
    ----------
    results : sequence of mapping
        As :func:`nnpar.sweep` gives them, the best first, without errors.
    names : sequence of str
        The settings.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    value = "validation_loss" if "validation_loss" in results[0] else "loss"
    figure = figures.empty(WIDTH * len(names) + 0.6, HEIGHT)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    losses = [result[value] for result in results]
    for number, (axes, name) in enumerate(zip(panels, names, strict=True)):
        values = [result[name] for result in results]
        figures.style(axes, "", name, value.replace("_", " ") if number == 0 else "")
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            places: Any = np.array(values, float)
            if places.min() > 0 and places.max() > 20 * places.min():
                axes.set_xscale("log")
        else:
            kinds = sorted({str(v) for v in values})
            places = np.array([kinds.index(str(v)) for v in values], float)
            axes.set_xticks(range(len(kinds)), kinds)
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        axes.plot(places[1:], losses[1:], "o", color=figures.COLOURS[0], alpha=0.7, markersize=5)
        axes.plot(places[:1], losses[:1], "o", color=figures.COLOURS[1], markersize=7)
    best = ", ".join(f"{name} {results[0][name]}" for name in names)
    figures.title(figure, f"best of {len(results)} runs: {best}, {value.replace('_', ' ')} {losses[0]:.4g}")
    return figure
