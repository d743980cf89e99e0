"""Softmax and losses, with their gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels import activation, loss
from nnpar.ops._arguments import Result, values_of


def softmax(logits: ArrayLike, *, out: Array | None = None) -> Array:
    """Probabilities ``exp(logits) / sum of exp(logits)`` of each sample.

    Parameters
    ----------
    logits : array_like of shape (N, K)
    out : ndarray of shape (N, K), float32, optional

    Returns
    -------
    ndarray of shape (N, K), float32

    Raises
    ------
    ValueError
        If there are not two axes.

    Examples
    --------
    >>> from nnpar import ops
    >>> ops.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    scores = arrays.ready(_checks.floats(logits, "softmax", "logits", 2))
    result = Result(out, scores.shape, "softmax", scores)
    return result.after(activation.SoftmaxRows(scores, result.array, False))


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean of ``-log softmax(logits)[label]`` over the batch, and its gradient.

    Parameters
    ----------
    logits : array_like of shape (N, K)
        At least one sample and one class.
    labels : array_like of shape (N,), int
        0 <= label < K.
    out : ndarray of shape (N, K), float32, optional
        Receives the gradient.

    Returns
    -------
    loss : float
    dlogits : ndarray of shape (N, K), float32
        ``(softmax(logits) - onehot(labels)) / N``.

    Notes
    -----
    exp is taken in float32, within 1.02 units in the last place of exp(z), where z is the difference of a logit from
    the largest, rounded to float32; sums and the logarithm are in double.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is out of range, or the batch is empty.

    Examples
    --------
    >>> from nnpar import ops
    >>> loss, grad = ops.softmax_cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), grad
    (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """
    who = "softmax_cross_entropy"
    scores = arrays.ready(_checks.floats(logits, who, "logits", 2))
    if 0 in scores.shape:
        raise ValueError(f"{who}: logits: expected at least one sample and one class, got shape {scores.shape}")
    classes = _checks.labels(labels, who, scores.shape[:1], scores.shape[1])
    result = Result(out, scores.shape, who, scores)
    total = np.empty(4)
    grad = result.after(loss.SoftmaxCrossEntropy(scores, classes, result.array, total))
    return float(total[0]) / len(scores), grad


def mse(prediction: ArrayLike, target: ArrayLike, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error over all elements, and its gradient with respect to the prediction.

    Parameters
    ----------
    prediction, target : array_like of one shape (N, ...)
        At least one element.
    out : ndarray of the same shape, float32, optional
        Receives the gradient.

    Returns
    -------
    loss : float
    grad : ndarray of prediction's shape, float32
        ``2 * (prediction - target) / prediction.size``.

    Raises
    ------
    ValueError
        If the shapes differ or there is no element.
    """
    guess, truth = values_of(prediction, "mse", "prediction"), values_of(target, "mse", "target")
    _checks.same_shape(truth, guess.shape, "mse", "target")
    if guess.size == 0 or guess.ndim == 0:
        raise ValueError(f"mse: prediction: expected at least one sample, got shape {guess.shape}")
    result = Result(out, guess.shape, "mse", guess, truth)
    total = np.empty(4)
    grad = result.after(loss.SquaredError(guess, truth, result.array, total))
    return float(total[0]) / len(guess), grad
