"""Pictures of a training run and of measurements.

Each function returns a :class:`matplotlib.figure.Figure`, which notebooks show and :func:`save` writes. Figures are
made without pyplot: no display is needed, and no global state is touched. matplotlib is imported when the first one
is made.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from nnpar.benchmark import Row
    from nnpar.history import History

__all__ = [
    "benchmark_report",
    "learning_curves",
    "predictions",
    "require_matplotlib",
    "roofline",
    "save",
    "thread_scaling",
    "training_report",
]

INK, MUTED, PALE, GRID = "#26323d", "#75818c", "#c6ced5", "#e4e8eb"
TRAIN, VALIDATION, MISTAKE = "#6f8fae", "#c8553d", "#b3261e"
# Operations of one picture: six colours that stay apart for colour-blind readers, then the same with the next strokes.
COLOURS = ("#2f5d8a", "#c8553d", "#4f9d82", "#d49a2a", "#8064a2", "#75818c")
MARKERS = ("o", "s", "^", "D", "v", "P")
STROKES, FILLS = ("-", "--", ":"), ("full", "none", "bottom")

TINY, SMALL, NORMAL, LARGE = 7.0, 8.0, 9.0, 11.0  # points
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
    figure = _figure(8.0, 3.1)
    _draw_learning_curves(figure, history)
    return figure


def predictions(
    images: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str] = (),
    columns: int = 8,
    rows: int = 4,
) -> Figure:
    """Images with the class that a model predicts, and its probability.

    Mistakes come first, the most confident ones leading; they have a thick frame, a cross, and the true class below.
    The other images follow, the least confident ones leading.

    Parameters
    ----------
    images : array_like of shape (N, C, H, W)
        Grey (C = 1) or red, green, blue (C = 3), in any range.
    labels : array_like of shape (N,), int
        True classes.
    probabilities : array_like of shape (N, K)
    class_names : sequence of str
        K names, or none to show numbers.
    columns, rows : int
        Size of the grid. What does not fit is left out.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes do not fit, a label is out of range, or there is no image.
    """
    shown = _Predictions(images, labels, probabilities, class_names, columns, rows)
    figure = _figure(0.2 + shown.width, 0.4 + shown.height)
    shown.draw(figure)
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
    shown = _Predictions(images, labels, probabilities, class_names, columns=10, rows=3)
    heights = [3.0, 0.5 + shown.height]
    figure = _figure(max(8.0, 0.2 + shown.width), sum(heights) + (0.3 if title else 0.0))
    if title:
        _title(figure, title)
    curves, grid = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_learning_curves(curves, history)
    shown.draw(grid)
    return figure


def thread_scaling(rows: Sequence[Row]) -> Figure:
    """Speed-up and efficiency of operations against the number of threads.

    Parameters
    ----------
    rows : sequence of Row
        Measurements; `name`, `threads`, `speedup` and `efficiency` of each are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels, each with the ideal as a grey line.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no rows.
    """
    figure = _figure(8.6, 3.6)
    _draw_thread_scaling(figure, rows)
    return figure


def roofline(points: Sequence[tuple[str, float, float]], peak_gflops: float, bandwidth_gbs: float) -> Figure:
    """Speed of operations against what the machine can do at their arithmetic intensity.

    A point can lie above the roof: when its data stay in cache, or its algorithm does fewer operations than are
    counted.

    Parameters
    ----------
    points : sequence of (name, intensity, speed)
        FLOPs for each byte moved, and GFLOP/s.
    peak_gflops : float
        GFLOP/s that the processor can reach.
    bandwidth_gbs : float
        GB/s that the memory can move.

    Returns
    -------
    matplotlib.figure.Figure
        Both axes are logarithmic.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there are no points, or a number is not positive.

    References
    ----------
    S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for multicore
    architectures*, Communications of the ACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.
    """
    figure = _figure(7.0, 3.8)
    _draw_roofline(figure, points, peak_gflops, bandwidth_gbs)
    return figure


def benchmark_report(
    rows: Sequence[Row],
    points: Sequence[tuple[str, float, float]],
    peak_gflops: float,
    bandwidth_gbs: float,
    title: str = "",
) -> Figure:
    """Thread scaling above the roofline, in one picture.

    Parameters
    ----------
    rows
        As for :func:`thread_scaling`.
    points, peak_gflops, bandwidth_gbs
        As for :func:`roofline`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        As :func:`thread_scaling` and :func:`roofline` do.
    """
    heights = [3.6, 3.8]
    figure = _figure(8.6, sum(heights) + (0.3 if title else 0.0))
    if title:
        _title(figure, title)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_thread_scaling(above, rows)
    _draw_roofline(below, points, peak_gflops, bandwidth_gbs)
    return figure


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


def _figure(width: float, height: float) -> Figure:
    """Empty figure, sizes in inches."""
    require_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    figure = Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")
    # IPython shows a bare figure only once pyplot has been imported; with this method it always does.
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _title(figure: Figure | SubFigure, text: str, size: float = LARGE) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=size, color=INK, fontweight="bold", parse_math=False)


def _style(axes: Axes, title: str, x: str, y: str) -> None:
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


def _draw_learning_curves(figure: Figure | SubFigure, history: History) -> None:
    from matplotlib.ticker import MaxNLocator

    kinds = [kind for kind in ("loss", "accuracy") if kind in history]
    if not kinds:
        raise ValueError(f"learning_curves: history: expected epochs with a loss or an accuracy, got {history!r}")
    epochs = history["epoch"]
    for kind, axes in zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True):
        scale, form, unit = (100.0, "{:.1f}%", " (%)") if kind == "accuracy" else (1.0, "{:.3g}", "")
        for label, name, colour, stroke in (
            ("training", kind, TRAIN, "--"),
            ("validation", f"validation_{kind}", VALIDATION, "-"),
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
        _style(axes, kind.capitalize(), "epoch", kind + unit)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.03)
        if len(epochs) > 1:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks(epochs)
        axes.legend(fontsize=SMALL, labelcolor=INK, edgecolor="none", framealpha=0.85)


class _Predictions:
    """Checked arguments of `predictions`, in the order to show."""

    cell_width, text_height = 0.95, 0.25  # inches
    longest_name = 10

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        probabilities: ArrayLike,
        class_names: Sequence[str],
        columns: int,
        rows: int,
    ) -> None:
        pictures, truth, scores = np.asarray(images), np.asarray(labels), np.asarray(probabilities)
        if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or len(pictures) == 0:
            raise ValueError(f"predictions: images: expected shape (N, 1 or 3, H, W), got {pictures.shape}")
        if truth.shape != (len(pictures),):
            raise ValueError(f"predictions: labels: expected shape ({len(pictures)},), got {truth.shape}")
        if scores.ndim != 2 or len(scores) != len(pictures) or scores.shape[1] == 0:
            raise ValueError(f"predictions: probabilities: expected shape ({len(pictures)}, K), got {scores.shape}")
        if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= scores.shape[1]:
            raise ValueError(f"predictions: labels: expected integers 0 to {scores.shape[1] - 1}, got {labels!r}")
        if class_names and len(class_names) != scores.shape[1]:
            raise ValueError(f"predictions: class_names: expected {scores.shape[1]} or none, got {len(class_names)}")
        if min(columns, rows) < 1:
            raise ValueError(f"predictions: columns, rows: expected at least 1, got {columns}, {rows}")
        guess = scores.argmax(axis=1)
        confidence = scores.max(axis=1)
        wrong = guess != truth
        columns = min(columns, max(len(pictures), 4))  # so wide that the heading fits
        order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong))[: columns * rows]
        self.title = f"{int(wrong.sum())} of {len(pictures)} predictions wrong"
        self.names = class_names
        self.columns, self.rows = columns, math.ceil(len(order) / columns)
        self.pictures = _displayable(pictures[order])
        self.aspect: float = min(max(pictures.shape[2] / pictures.shape[3], 0.25), 4.0)
        self.guess, self.truth = guess[order].tolist(), truth[order].tolist()
        self.confidence, self.wrong = confidence[order].tolist(), wrong[order].tolist()

    @property
    def width(self) -> float:
        return self.columns * self.cell_width

    @property
    def height(self) -> float:
        return self.rows * (self.cell_width * self.aspect + self.text_height)

    def name(self, label: int) -> str:
        name = self.names[label] if self.names else str(label)
        return name if len(name) <= self.longest_name else name[: self.longest_name - 1] + "…"

    def draw(self, figure: Figure | SubFigure) -> None:
        _title(figure, self.title, NORMAL)
        cells = figure.subplots(self.rows, self.columns, squeeze=False).ravel()
        for axes in cells[len(self.pictures) :]:
            axes.set_axis_off()
        for i, axes in enumerate(cells[: len(self.pictures)]):
            wrong = self.wrong[i]
            axes.imshow(self.pictures[i], cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            text = f"{self.name(self.guess[i])}  {self.confidence[i]:.0%}"
            axes.set_title(
                f"✗ {text}" if wrong else text,
                fontsize=TINY,
                color=MISTAKE if wrong else INK,
                fontweight="bold" if wrong else "normal",
                pad=3.0,
                parse_math=False,
            )
            if wrong:
                axes.set_xlabel(
                    f"true: {self.name(self.truth[i])}", fontsize=TINY, color=INK, labelpad=2.0, parse_math=False
                )
            for spine in axes.spines.values():
                spine.set_color(MISTAKE if wrong else GRID)
                spine.set_linewidth(2.5 if wrong else 0.8)


def _displayable(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images (N, C, H, W) as (N, H, W) or (N, H, W, 3) in [0, 1]; other ranges are stretched over it."""
    values: NDArray[np.float64] = np.nan_to_num(images.astype(np.float64).transpose(0, 2, 3, 1), posinf=1.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low < 0.0 or high > 1.0:
        values = (values - low) / (high - low if high > low else 1.0)
    return values[..., 0] if values.shape[3] == 1 else values


def _draw_thread_scaling(figure: Figure | SubFigure, rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("thread_scaling: rows: expected at least one measurement, got none")
    counts = sorted({row.threads for row in rows})
    names = list(dict.fromkeys(row.name for row in rows))
    left, right = figure.subplots(1, 2)
    left.plot(counts, counts, color=PALE, linewidth=4.0, label="ideal", zorder=1)
    right.plot(counts, [100.0] * len(counts), color=PALE, linewidth=4.0, zorder=1)
    for name, (stroke, (colour, marker)) in zip(names, _styles(STROKES), strict=False):
        own = sorted((row for row in rows if row.name == name), key=lambda row: row.threads)
        threads = [row.threads for row in own]
        for axes, values in ((left, [row.speedup for row in own]), (right, [100.0 * row.efficiency for row in own])):
            axes.plot(
                threads,
                values,
                stroke,
                color=colour,
                marker=marker,
                markersize=4.0,
                linewidth=1.4,
                label=name,
                alpha=0.9,
            )
    _style(left, "Speed-up", "threads", "times faster than one thread")
    _style(right, "Efficiency", "threads", "speed-up per thread (%)")
    right.set_ylim(0.0, 105.0 * max(1.0, *(row.efficiency for row in rows)))
    for axes in (left, right):
        if len(counts) > 1:
            axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xticks([], minor=True)
    if len(counts) > 1:
        left.set_yscale("log", base=2)
        left.set_yticks(counts, [str(count) for count in counts])
        left.set_yticks([], minor=True)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=SMALL, labelcolor=INK
    )


def _draw_roofline(
    figure: Figure | SubFigure, points: Sequence[tuple[str, float, float]], peak_gflops: float, bandwidth_gbs: float
) -> None:
    if not points:
        raise ValueError("roofline: points: expected at least one, got none")
    at = np.array([(intensity, speed) for _, intensity, speed in points])
    numbers = np.append(at.ravel(), [peak_gflops, bandwidth_gbs])
    if not (np.isfinite(numbers) & (numbers > 0.0)).all():
        raise ValueError("roofline: expected positive intensities, speeds, peak and bandwidth")
    axes = figure.subplots()
    ridge = peak_gflops / bandwidth_gbs
    low, high = min(at[:, 0].min(), ridge / 4.0) / 2.0, max(at[:, 0].max(), ridge) * 2.0
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    bottom, top = min(at[:, 1].min(), low * bandwidth_gbs) / 2.0, max(at[:, 1].max(), peak_gflops) * 2.0
    axes.set_ylim(bottom, top)
    axes.plot([low, ridge, high], [low * bandwidth_gbs, peak_gflops, peak_gflops], color=MUTED, linewidth=2.0)
    _style(axes, "Roofline", "FLOPs per byte", "GFLOP/s")
    text: dict[str, Any] = {"fontsize": SMALL, "color": MUTED, "va": "bottom"}
    axes.text(ridge, 1.08 * peak_gflops, f"{peak_gflops:.3g} GFLOP/s", ha="left", **text)
    slope = math.sqrt(low * ridge)
    axes.text(
        slope,
        1.12 * slope * bandwidth_gbs,
        f"{bandwidth_gbs:.3g} GB/s",
        ha="center",
        rotation=math.degrees(math.atan(bandwidth_gbs)),  # along the roof, as the axes show it
        rotation_mode="anchor",
        transform_rotates_text=True,
        **text,
    )
    # The names stand to the right of the axes, ordered by speed and as near to their points' heights as can be.
    height = (np.log(at[:, 1]) - np.log(bottom)) / (np.log(top) - np.log(bottom))
    order = np.argsort(height, kind="stable")
    line = 1.3 * SMALL / 72.0 / (0.75 * figure.bbox.height / figure.dpi)  # of text, as a part of the axes' height
    where = np.empty(len(points))
    where[order] = _spread(height[order], line)
    for (name, x, y), place, (fill, (colour, marker)) in zip(points, where, _styles(FILLS), strict=False):
        axes.plot(x, y, marker, color=colour, markersize=6.0, fillstyle=fill, zorder=3)
        axes.annotate(
            name,
            (x, y),
            (1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=SMALL,
            color=INK,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 2.0,
                "shrinkB": 3.0,
            },
        )


def _styles(strokes: Sequence[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Endless (stroke, (colour, marker)), all colours with a stroke before the next stroke."""
    return itertools.cycle(itertools.product(strokes, zip(COLOURS, MARKERS, strict=True)))


def _spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Ascending places in [0, 1], `gap` apart or less if there are too many, as near to those wanted as can be.

    Least squares: places less the gaps below them must ascend, which is isotonic regression, here by pooling neighbours
    that violate it into their mean.
    """
    count = len(wanted)
    gap = min(gap, 1.0 / max(count - 1, 1))
    gaps = gap * np.arange(count)
    pools: list[NDArray[np.float64]] = []
    for value in wanted - gaps:
        pool = np.array([value])
        while pools and pools[-1].mean() >= pool.mean():
            pool = np.append(pools.pop(), pool)
        pools.append(pool)
    free = np.concatenate([np.full(len(pool), pool.mean()) for pool in pools])
    places: NDArray[np.float64] = np.clip(free, 0.0, 1.0 - gaps[-1]) + gaps
    return places
