"""What a model takes images for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import metrics
from nnpar.plots import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

MOST_CLASSES = 40


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
    shown = Predictions(images, labels, probabilities, class_names, columns, rows)
    figure = figures.empty(0.2 + shown.width, 0.4 + shown.height)
    shown.draw(figure)
    return figure


def class_scores(labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str] = ()) -> Figure:
    """Precision and recall of each class, the worst (by F1) at the top.

    Parameters
    ----------
    labels : array_like of shape (N,), int
        True classes.
    probabilities : array_like of shape (N, K)
        Or logits.
    class_names : sequence of str
        K names, or none to show numbers.

    Returns
    -------
    matplotlib.figure.Figure
        Of at most 40 classes.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes do not fit, or a label is out of range.
    """
    matrix = metrics.confusion_matrix(probabilities, labels)
    count = len(matrix)
    if class_names and len(class_names) != count:
        raise ValueError(f"class_scores: class_names: expected {count} or none, got {len(class_names)}")
    right, guessed, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    precision, recall = right / np.maximum(guessed, 1), right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(guessed + true, 1)
    order = np.argsort(f1, kind="stable")[:MOST_CLASSES]
    figure = figures.empty(8.0, 1.0 + 0.2 * len(order))
    axes = figure.subplots()
    places = np.arange(len(order))
    axes.hlines(places, 100 * precision[order], 100 * recall[order], color=figures.PALE, linewidth=2.0, zorder=1)
    axes.plot(100 * precision[order], places, "o", color=figures.TRAIN, markersize=5.0, label="precision")
    axes.plot(100 * recall[order], places, "D", color=figures.VALIDATION, markersize=4.0, label="recall")
    figures.style(axes, f"Classes, the worst first: mean F1 {f1.mean():.1%}", "%", "")
    names = [class_names[k] if class_names else str(k) for k in order]
    axes.set_yticks(places, [f"{name} ({true[k]:,})" for name, k in zip(names, order, strict=True)])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower right", ncols=2, fontsize=figures.SMALL, labelcolor=figures.INK, frameon=False)
    return figure


class Predictions:
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
        self.pictures = displayable(pictures[order])
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
        figures.title(figure, self.title, figures.NORMAL)
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
                fontsize=figures.TINY,
                color=figures.MISTAKE if wrong else figures.INK,
                fontweight="bold" if wrong else "normal",
                pad=3.0,
                parse_math=False,
            )
            if wrong:
                axes.set_xlabel(
                    f"true: {self.name(self.truth[i])}",
                    fontsize=figures.TINY,
                    color=figures.INK,
                    labelpad=2.0,
                    parse_math=False,
                )
            for spine in axes.spines.values():
                spine.set_color(figures.MISTAKE if wrong else figures.GRID)
                spine.set_linewidth(2.5 if wrong else 0.8)


def displayable(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images (N, C, H, W) as (N, H, W) or (N, H, W, 3) in [0, 1]; other ranges are stretched over it."""
    values: NDArray[np.float64] = np.nan_to_num(images.astype(np.float64).transpose(0, 2, 3, 1), posinf=1.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low < 0.0 or high > 1.0:
        values = (values - low) / (high - low if high > low else 1.0)
    return values[..., 0] if values.shape[3] == 1 else values
