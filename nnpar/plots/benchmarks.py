"""Measurements: speed by number of threads, and against what the machine can do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar.plots import figures
from nnpar.plots.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from nnpar.benchmark import Row

MARKERS = ("o", "s", "^", "D", "v", "P")
STROKES, FILLS = ("-", "--", ":"), ("full", "none", "bottom")


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
    figure = figures.empty(8.6, 3.6)
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
    figure = figures.empty(7.0, 3.8)
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
    figure = figures.empty(8.6, sum(heights) + (0.3 if title else 0.0))
    if title:
        figures.title(figure, title)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_thread_scaling(above, rows)
    _draw_roofline(below, points, peak_gflops, bandwidth_gbs)
    return figure


def _draw_thread_scaling(figure: Figure | SubFigure, rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("thread_scaling: rows: expected at least one measurement, got none")
    counts = sorted({row.threads for row in rows})
    names = list(dict.fromkeys(row.name for row in rows))
    left, right = figure.subplots(1, 2)
    left.plot(counts, counts, color=figures.PALE, linewidth=4.0, label="ideal", zorder=1)
    right.plot(counts, [100.0] * len(counts), color=figures.PALE, linewidth=4.0, zorder=1)
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
    figures.style(left, "Speed-up", "threads", "times faster than one thread")
    figures.style(right, "Efficiency", "threads", "speed-up per thread (%)")
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
        *left.get_legend_handles_labels(),
        loc="outside right center",
        frameon=False,
        fontsize=figures.SMALL,
        labelcolor=figures.INK,
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
    axes.plot([low, ridge, high], [low * bandwidth_gbs, peak_gflops, peak_gflops], color=figures.MUTED, linewidth=2.0)
    figures.style(axes, "Roofline", "FLOPs per byte", "GFLOP/s")
    text: dict[str, Any] = {"fontsize": figures.SMALL, "color": figures.MUTED, "va": "bottom"}
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
    line = (
        1.3 * figures.SMALL / 72.0 / (0.75 * figure.bbox.height / figure.dpi)
    )  # of text, as a part of the axes' height
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
            fontsize=figures.SMALL,
            color=figures.INK,
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
