"""Metrics: what a model's outputs are worth, as scikit-learn computes it. Classes are those of the largest outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1",
    "precision",
    "r2",
    "recall",
    "roc_auc",
    "top_k_accuracy",
]

Metric: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]


def accuracy(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Share of the samples whose class has the largest output.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
        Logits or probabilities.
    labels : array_like of shape (N,)
        Class numbers.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no sample.

    Examples
    --------
    >>> from nnpar import metrics
    >>> metrics.accuracy([[1.0, 2.0], [3.0, 1.0]], [1, 1])
    0.5
    """
    scores, classes = _checked(outputs, labels, "accuracy")
    return float((scores.argmax(axis=1) == classes).mean())


def top_k_accuracy(outputs: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Share of the samples whose class has one of the `k` largest outputs. Of equal ones those of lower classes count
    as larger.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
    labels : array_like of shape (N,)
    k : int

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, there is no sample, or k is below 1.

    Examples
    --------
    >>> from nnpar import metrics
    >>> metrics.top_k_accuracy([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2], k=2)
    0.5
    """
    scores, classes = _checked(outputs, labels, "top_k_accuracy")
    if k < 1:
        raise ValueError(f"top_k_accuracy: k: expected at least 1, got {k}")
    own = scores[np.arange(len(classes)), classes][:, np.newaxis]
    before = np.arange(scores.shape[1]) < classes[:, np.newaxis]
    ahead = (scores > own) | ((scores == own) & before)
    return float((ahead.sum(axis=1) < k).mean())


def confusion_matrix(outputs: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """How many samples of each class (row) were taken for each class (column).

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
    labels : array_like of shape (N,)

    Returns
    -------
    ndarray of shape (classes, classes), int64

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no sample.

    Examples
    --------
    >>> from nnpar import metrics
    >>> metrics.confusion_matrix([[1.0, 2.0], [3.0, 1.0]], [1, 1])
    array([[0, 0],
           [1, 1]])
    """
    scores, classes = _checked(outputs, labels, "confusion_matrix")
    count = scores.shape[1]
    pairs = np.bincount(classes * count + scores.argmax(axis=1), minlength=count * count)
    return pairs.reshape(count, count).astype(np.int64)


def precision(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Of the samples that were taken for a class, the share that belongs to it: the mean of all classes that occur,
    with 0 for one that nothing was taken for.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
    labels : array_like of shape (N,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no sample.
    """
    matrix = confusion_matrix(outputs, labels)
    return _mean_share(matrix, matrix.sum(axis=0))


def recall(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Of the samples of a class, the share that was taken for it: the mean of all classes that occur.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
    labels : array_like of shape (N,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no sample.
    """
    matrix = confusion_matrix(outputs, labels)
    return _mean_share(matrix, matrix.sum(axis=1))


def f1(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Harmonic mean of a class's precision and recall: the mean of all classes that occur.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
    labels : array_like of shape (N,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no sample.

    Examples
    --------
    >>> from nnpar import metrics
    >>> round(metrics.f1([[1.0, 2.0], [3.0, 1.0], [2.0, 1.0]], [1, 1, 0]), 3)
    0.667
    """
    matrix = confusion_matrix(outputs, labels)
    return _mean_share(2 * matrix, matrix.sum(axis=0) + matrix.sum(axis=1))


def _mean_share(matrix: NDArray[np.int64], totals: NDArray[np.int64]) -> float:
    """The mean of diagonal / totals over the classes that occur, as truth or as answer."""
    occurs = matrix.sum(axis=0) + matrix.sum(axis=1) > 0
    shares = np.diag(matrix) / np.maximum(totals, 1)
    return float(shares[occurs].mean())


def roc_auc(outputs: ArrayLike, labels: ArrayLike) -> float:
    """Area under the curve of true over false positives: how probably a sample of a class has a larger output for it
    than one of the others. Of two classes that of class 1, by the difference of the outputs; of more the mean of all.

    Parameters
    ----------
    outputs : array_like of shape (N, classes)
        Of more than two classes: probabilities, see :class:`nnpar.Softmax`.
    labels : array_like of shape (N,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not fit, or a class does not occur.

    Examples
    --------
    >>> from nnpar import metrics
    >>> metrics.roc_auc([[0.0, 0.1], [0.0, 0.4], [0.0, 0.35], [0.0, 0.8]], [0, 0, 1, 1])
    0.75
    """
    scores, classes = _checked(outputs, labels, "roc_auc")
    if scores.shape[1] == 2:
        return _area(scores[:, 1] - scores[:, 0], classes == 1)
    return float(np.mean([_area(scores[:, c], classes == c) for c in range(scores.shape[1])]))


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """By the ranks of the positive ones, equal scores sharing theirs (the statistic of Mann and Whitney)."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        raise ValueError("roc_auc: labels: expected samples of each class, and of others")
    _, place, size = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def r2(outputs: ArrayLike, targets: ArrayLike) -> float:
    """1 - the squares of the errors / the squares of the targets' differences from their mean, the mean of all outputs:
    1 is perfect, 0 as good as the mean.

    Parameters
    ----------
    outputs, targets : array_like of shape (N,) or (N, ...)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes differ, or there are less than two samples.

    Examples
    --------
    >>> from nnpar import metrics
    >>> metrics.r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]) > 0.75
    True
    """
    values, wanted = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    if values.size != wanted.size or len(values) != len(wanted) or len(wanted) < 2:
        raise ValueError(f"r2: targets: expected two or more, of shape {values.shape}, got {wanted.shape}")
    values, wanted = values.reshape(len(values), -1), wanted.reshape(len(wanted), -1)
    errors = ((values - wanted) ** 2).sum(axis=0)
    spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    # As scikit-learn has it for targets that are all the same: 1 if they are met, else 0.
    scores = np.where(spread > 0, 1 - errors / np.where(spread > 0, spread, 1), np.where(errors > 0, 0.0, 1.0))
    return float(scores.mean())


def _checked(outputs: ArrayLike, labels: ArrayLike, who: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores, classes = np.asarray(outputs, np.float64), np.asarray(labels)
    if scores.ndim != 2 or len(scores) == 0:
        raise ValueError(f"{who}: outputs: expected shape (N, classes), got {scores.shape}")
    if classes.shape != (len(scores),) or classes.dtype.kind not in "iu":
        raise ValueError(f"{who}: labels: expected {len(scores)} integers, got {classes.dtype} of {classes.shape}")
    if classes.min() < 0 or classes.max() >= scores.shape[1]:
        raise ValueError(f"{who}: labels: expected 0 to {scores.shape[1] - 1}, got {classes.min()} to {classes.max()}")
    return scores, classes.astype(np.int64)


NAMED: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "top5_accuracy": top_k_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "roc_auc": roc_auc,
    "r2": r2,
}


def by_name(metrics: Sequence[str | Metric] | Mapping[str, Metric], who: str) -> dict[str, Metric]:
    """Metrics with their names; functions of a user's own have theirs.

    Raises
    ------
    ValueError
        If there is no metric of a name.
    """
    if isinstance(metrics, Mapping):
        return dict(metrics)
    found: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str) and metric not in NAMED:
            raise ValueError(f"{who}: metrics: expected one of {', '.join(NAMED)}, or a function, got {metric!r}")
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        found[name] = NAMED[metric] if isinstance(metric, str) else metric
    return found
