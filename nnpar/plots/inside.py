"""Inside a network: the filters that it has learnt, and what its layers make of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks
from nnpar.layers.activation import Activation, ReLU
from nnpar.layers.nodes import INPUT, Node
from nnpar.plots import figures
from nnpar.plots.classes import displayable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nnpar.layers.base import Layer

CELL = 0.62  # inches
COLUMNS = 12
MOST_FILTERS, MOST_CHANNELS = 96, 8
MOST_LAYERS = 6


def filters(model: Layer, name: str | None = None) -> Figure:
    """The weights of a convolution, a square for each filter.

    Filters of three channels are shown as colours, each stretched to its own range. Others are a square for each
    filter (a row) and input channel (a column), red above 0 and blue below, in one scale.

    Parameters
    ----------
    model : Layer
    name : str, optional
        Of the weight, as in ``model.parameters()``; that of the first convolution of images by default.

    Returns
    -------
    matplotlib.figure.Figure
        Of at most 96 filters, or 12 by 12 squares.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there is no such weight.

    Examples
    --------
    >>> from nnpar import plots, zoo
    >>> figure = plots.filters(zoo.digits_cnn())
    """
    weights = {key: value for key, value in model.parameters().items() if value.ndim == 4}
    if name is None:
        name = next(iter(weights), None)
    if name is None or name not in weights:
        raise ValueError(f"filters: name: expected one of {', '.join(weights) or 'a convolution'}, got {name!r}")
    weight = weights[name]
    count, channels = weight.shape[:2]
    if channels in (1, 3):
        shown, columns = min(count, MOST_FILTERS), min(count, COLUMNS)
        pictures = [weight[i] for i in range(shown)]
    else:
        rows, columns = min(count, COLUMNS), min(channels, COLUMNS)
        pictures = [weight[i, k][np.newaxis] for i in range(rows) for k in range(columns)]
        shown = len(pictures)
    rows = math.ceil(len(pictures) / columns)
    figure = figures.empty(max(columns * CELL, 3.0) + 0.2, rows * CELL + 0.4)
    part = "" if channels in (1, 3) else f", {columns} of {channels} input channels"
    figures.title(figure, f"{name}: {min(count, rows if part else shown)} of {count} filters{part}", figures.NORMAL)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    largest = max(float(np.abs(weight).max()), 1e-30)
    for axes, picture in zip(cells, pictures, strict=False):
        if len(picture) == 3:
            low, high = picture.min(), picture.max()
            _show(axes, displayable((picture - low)[np.newaxis] / max(high - low, 1e-30))[0])
        else:
            _show(axes, picture[0], "RdBu_r", -largest, largest)
    _hide(cells[len(pictures) :])
    return figure


def activations(model: Layer, image: ArrayLike, names: Sequence[str] = ()) -> Figure:
    """What layers make of one image: a row for each layer, with as many of its channels as fit.

    Parameters
    ----------
    model : Layer
        With one input.
    image : array_like of shape (C, H, W)
        As the model takes it.
    names : sequence of str
        Of layers whose outputs are images; up to six of the activations by default, from the first to the last.

    Returns
    -------
    matplotlib.figure.Figure
        The first column is the image. Channels are stretched each to its own range; dark is low.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the image does not fit, a layer has no such name, or none has an output of shape (1, C, H, W).

    Examples
    --------
    >>> from nnpar import data, plots, zoo
    >>> train, test = data.digits()
    >>> figure = plots.activations(zoo.digits_cnn(), test.images[0])
    """
    x = _checks.floats(image, "activations", "image", 3)[np.newaxis]
    rows = _outputs(model, x, list(names))
    columns = 1 + min(MOST_CHANNELS, max(maps.shape[1] for _, maps in rows))
    cell = 1.4 * CELL
    figure = figures.empty(columns * cell + 0.2, len(rows) * (cell + 0.22) + 0.1, gap=0.11)
    for cells, (name, maps) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        if maps is rows[0][1] and x.shape[1] in (1, 3):
            _show(cells[0], displayable(x)[0])
        elif maps is rows[0][1]:
            _show(cells[0], x[0, 0])
        else:
            _hide(cells[:1])
        for axes, channel in zip(cells[1:], maps[0], strict=False):
            _show(axes, channel, "viridis")
        _hide(cells[1 + maps.shape[1] :])
        sizes = "x".join(map(str, maps.shape[1:]))
        heading = cells[1].set_title(f"{name}  {sizes}", loc="left", fontsize=figures.TINY, color=figures.INK, pad=2.0)
        heading.set_parse_math(False)
        heading.set_in_layout(False)  # it may be wider than its column
    return figure


def _outputs(model: Layer, x: NDArray[np.float32], names: list[str]) -> list[tuple[str, NDArray[np.float32]]]:
    """The images that the layers of those names make of x, in the model's order."""
    nodes = model.nodes()
    missing = set(names) - {node.name for node in nodes}
    if missing:
        raise ValueError(f"activations: names: expected layers of the model, got {', '.join(sorted(missing))}")
    values: list[NDArray[Any]] = []
    for node in nodes:
        values.append(node.layer(*(values[k] if k >= 0 else x for k in node.inputs)))
        if any(k < INPUT for k in node.inputs):
            raise ValueError("activations: model: expected one input, got several")
    found = [
        (node, value)
        for node, value in zip(nodes, values, strict=True)
        if value.ndim == 4 and value.shape[2] * value.shape[3] > 1 and (not names or node.name in names)
    ]
    if not found:
        raise ValueError("activations: model: expected layers with outputs of shape (N, C, H, W), got none")
    return [(_called(node), value) for node, value in (found if names else _spread(found))]


def _spread(found: list[tuple[Node, NDArray[Any]]]) -> list[tuple[Node, NDArray[Any]]]:
    """Few of them, of activations if there are some, from the first to the last."""
    chosen = [each for each in found if isinstance(each[0].layer, (Activation, ReLU))] or found
    places = np.linspace(0, len(chosen) - 1, min(MOST_LAYERS, len(chosen)))
    return [chosen[k] for k in np.rint(places).astype(int)]


def _called(node: Node) -> str:
    kind = type(node.layer).__name__
    return f"{node.name} {kind}" if node.name else kind


def _show(axes: Axes, picture: NDArray[Any], colours: str = "gray", low: Any = None, high: Any = None) -> None:
    axes.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(figures.GRID)


def _hide(cells: Sequence[Axes] | NDArray[Any]) -> None:
    for axes in cells:
        axes.set_axis_off()
