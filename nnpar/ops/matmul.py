"""Products of matrices, and dense layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.gemm import gemm_step
from nnpar.ops._arguments import Result, bias_of, relu_of


def gemm(a: ArrayLike, b: ArrayLike, *, alpha: float = 1.0, beta: float = 0.0, out: Array | None = None) -> Array:
    """Matrix product ``alpha * a @ b + beta * out``.

    Parameters
    ----------
    a : array_like of shape (m, k)
        Any strides: ``x.T`` is the transposition.
    b : array_like of shape (k, n)
    alpha, beta : float
        With ``beta=0`` the old values of `out` are not read, with ``alpha=0`` those of a and b.
    out : ndarray of shape (m, n), float32, optional
        Required unless beta is 0.

    Returns
    -------
    ndarray of shape (m, n), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ops
    >>> ops.gemm(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]], dtype=float32)
    """
    left, right = _checks.floats(a, "gemm", "a", 2), _checks.floats(b, "gemm", "b", 2)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"gemm: b: expected shape ({left.shape[1]}, n), got {right.shape}")
    alpha, beta = _checks.number(alpha, "gemm", "alpha"), _checks.number(beta, "gemm", "beta")
    if beta != 0.0 and out is None:
        raise ValueError("gemm: out: expected an array, since beta is not 0")
    result = Result(out, (left.shape[0], right.shape[1]), "gemm", left, right)
    if beta != 0.0 and result.out is not None and result.out is not result.array:
        np.copyto(result.array, result.out)
    if not result.array.size:
        return result.after()
    return result.after(gemm_step(left, right, result.array, None, False, alpha, beta))


def linear(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Dense layer ``activation(x @ w.T + bias)``.

    Parameters
    ----------
    x : array_like of shape (N, in)
    w : array_like of shape (out, in)
    bias : array_like of shape (out,), optional
    activation : {None, "relu"}
        Applied to the sums before they are stored.
    out : ndarray of shape (N, out), float32, optional

    Returns
    -------
    ndarray of shape (N, out), float32

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no such activation.
    """
    relu = relu_of(activation, "linear")
    inputs, weight = _checks.floats(x, "linear", "x", 2), _checks.floats(w, "linear", "w", 2)
    if inputs.shape[1] != weight.shape[1]:
        raise ValueError(f"linear: x: expected shape (N, {weight.shape[1]}), got {inputs.shape}")
    add = bias_of(bias, weight.shape[0], "linear")
    result = Result(out, (inputs.shape[0], weight.shape[0]), "linear", inputs, weight, add)
    if not result.array.size:
        return result.after()
    return result.after(gemm_step(inputs, weight.T, result.array, add, relu))
