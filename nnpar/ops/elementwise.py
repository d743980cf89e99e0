"""Functions of each element."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks, arrays, random
from nnpar._checks import Array
from nnpar._kernels import elementwise
from nnpar.ops._arguments import Result, values_of


def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Positive part, ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array_like of any shape
    out : ndarray of x's shape, float32, optional

    Returns
    -------
    ndarray of x's shape, float32

    Examples
    --------
    >>> from nnpar import ops
    >>> ops.relu([-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """
    values = values_of(x, "relu", "x")
    result = Result(out, values.shape, "relu", values)
    return result.after(elementwise.Relu(values, result.array))


def relu_grad(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of :func:`relu`, from its result: dy where y > 0, else 0.

    Parameters
    ----------
    dy, y : array_like of one shape
    out : ndarray of dy's shape, float32, optional

    Returns
    -------
    ndarray of dy's shape, float32

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    grad, values = values_of(dy, "relu_grad", "dy"), values_of(y, "relu_grad", "y")
    _checks.same_shape(grad, values.shape, "relu_grad", "dy")
    result = Result(out, values.shape, "relu_grad", grad, values)
    return result.after(elementwise.ReluGrad(grad, values, result.array))


def dropout(
    x: ArrayLike,
    p: float,
    *,
    seed: int,
    epoch: int = 0,
    sample: int = 0,
    layer: int = 0,
    out: Array | None = None,
) -> Array:
    """Zero each element with probability p and multiply the others by 1 / (1 - p).

    Which ones depends only on the seed, the epoch, the sample's global index, the layer and the element's place in the
    sample (channels last): Philox4x32-10 with key `seed` and counter (place // 4, sample, epoch, layer). The gradient
    is the same function of dy.

    Parameters
    ----------
    x : array_like of shape (N, ...)
    p : float
        0 <= p < 1.
    seed : int
        64 bits.
    epoch, sample, layer : int
        32 bits each; `sample` is the global index of the first sample.
    out : ndarray of x's shape, float32, optional

    Returns
    -------
    ndarray of x's shape, float32

    Raises
    ------
    ValueError
        If p is out of range.
    """
    array = np.asarray(x)
    values = arrays.ready(_checks.floats(array, "dropout", "x", tuple(range(1, max(2, array.ndim + 1)))))
    p = _checks.number(p, "dropout", "p")
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p: expected 0 <= p < 1, got {p}")
    position = elementwise.Position(random.checked_seed(seed, "dropout"))
    position.move(
        _checks.integer(epoch, "dropout", "epoch", 0, 2**32), _checks.integer(sample, "dropout", "sample", 0, 2**32)
    )
    result = Result(out, values.shape, "dropout", values)
    layer = _checks.integer(layer, "dropout", "layer", 0, 2**32)
    return result.after(elementwise.Dropout(values, result.array, p, position, layer))
