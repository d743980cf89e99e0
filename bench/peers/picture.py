"""The ratios of a run in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from report import Report, Row, summaries
from tasks import BACKWARD, BOTH, FORWARD, GROUPS, INFERENCE, INPUT_GRAD, STEP, UPDATE, WEIGHT_GRAD

from nnpar.plots import figures

LINE, MARGIN = 0.165, 1.3  # inches: of a case, and of what stands around them
STYLES = {
    FORWARD: ("#2f5d8a", "o"),
    INPUT_GRAD: ("#4f9d82", "^"),
    WEIGHT_GRAD: ("#d49a2a", "D"),
    BACKWARD: ("#8064a2", "v"),
    UPDATE: ("#75818c", "P"),
    STEP: ("#2f5d8a", "s"),
    BOTH: ("#8064a2", "s"),
    INFERENCE[1]: ("#4f9d82", "<"),
    INFERENCE[32]: ("#d49a2a", ">"),
}
SLOWER = "#c8553d"


def draw(report: Report, path: Path) -> None:
    """A line for each case and a column for each number of threads; a mark's place tells the ratio to the best peer.

    Parameters
    ----------
    report : Report
    path : path
        Its suffix tells the format.
    """
    rows = [row for row in report.rows if row.ratio is not None]
    if not rows:
        return
    counts = sorted({row.threads for row in rows})
    cases = {group: list(dict.fromkeys(row.case for row in rows if row.group == group)) for group in GROUPS}
    groups = [group for group in GROUPS if cases[group]]
    heights = [len(cases[group]) + 1.2 for group in groups]
    figure = Figure(figsize=(2.6 + 3.8 * len(counts), MARGIN + LINE * sum(heights)), dpi=130, layout="constrained")
    title = f"nnpar beside the best of its peers\n{report.machine['processor']}, {report.machine['isa']}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=figures.NORMAL, color=figures.INK, fontweight="bold")
    table = figure.subplots(len(groups), len(counts), sharex=True, squeeze=False, height_ratios=heights)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    table[0, 0].set_xlim(min(0.7, *ratios) / 1.15, max(1.5, *ratios) * 1.15)
    for group, line in zip(groups, table, strict=True):
        for threads, axes in zip(counts, line, strict=True):
            _draw(axes, [row for row in rows if row.group == group and row.threads == threads], cases[group])
            axes.set_yticks(range(len(cases[group])), cases[group] if threads == counts[0] else [])
        line[0].set_ylabel(group, fontsize=figures.SMALL, color=figures.INK, fontweight="bold", rotation=0, ha="left")
        line[0].yaxis.set_label_coords(0.0, 1.0)
    for threads, top, bottom in zip(counts, table[0], table[-1], strict=True):
        _label(top, bottom, "1 thread" if threads == 1 else f"{threads} threads")
    _legend(figure, [which for which in STYLES if any(row.which == which for row in rows)])
    figure.savefig(path)


def _draw(axes: Axes, rows: Sequence[Row], cases: Sequence[str]) -> None:
    """A group at one number of threads, with its geometric means above."""
    axes.set_xscale("log")
    axes.axvspan(1e-6, 1.0, color=SLOWER, alpha=0.08, linewidth=0)
    axes.axvline(1.0, color=figures.INK, linewidth=1.2)
    for row in rows:
        colour, marker = STYLES[row.which]
        where = (row.ratio or 1.0, cases.index(row.case))
        axes.plot(*where, marker, color=colour, markersize=5.0, alpha=0.9, markeredgecolor="white")
    axes.set_ylim(len(cases) - 0.4, -0.6)
    means = "   ".join(f"{summary.which} {summary.mean:.2f}" for summary in summaries(rows))
    axes.set_title(means, loc="right", fontsize=figures.TINY, color=figures.MUTED, pad=2.0)
    axes.tick_params(which="both", labelsize=figures.TINY, colors=figures.INK, length=0)
    axes.grid(axis="y", color=figures.GRID, linewidth=0.8)
    axes.grid(axis="x", which="both", color=figures.GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label(top: Axes, bottom: Axes, threads: str) -> None:
    """The number of threads above a column, and the ratios below."""
    top.annotate(
        threads,
        (1.0, 1.0),
        (0.0, 16.0),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=figures.NORMAL,
        color=figures.INK,
        fontweight="bold",
    )
    bottom.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.xaxis.set_minor_formatter(NullFormatter())
    bottom.set_xlabel("times as fast as the best peer", fontsize=figures.SMALL, color=figures.INK)


def _legend(figure: Figure, passes: Sequence[str]) -> None:
    styles = [(which, *STYLES[which]) for which in passes]
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=which) for which, colour, marker in styles
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(passes), frameon=False, fontsize=figures.SMALL)
