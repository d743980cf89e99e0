"""Initial weights. Each function draws an array from the stream that :func:`nnpar.manual_seed` started.

``fan_in`` is the number of inputs that an output sums over, ``fan_out`` the number of outputs that an input reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nnpar import _checks, random
from nnpar._checks import Array
from nnpar.shapes import Shape

__all__ = [
    "constant",
    "he_normal",
    "he_uniform",
    "ones",
    "orthogonal",
    "torch_default",
    "truncated_normal",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Initializer = Callable[[Shape], Array]


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of weights (out, in) or (OC, C / groups, KH, KW)."""
    if len(shape) < 2:
        raise ValueError(f"initializer: shape: expected at least two axes, got {shape}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _uniform(shape: Shape, bound: float) -> Array:
    values = np.empty(shape, np.float32)
    flat = values.reshape(-1)
    for start, (numbers,) in random.uniform_parts(values.size):
        flat[start : start + len(numbers)] = (2.0 * numbers - 1.0) * bound
    return values


def _normal(shape: Shape, deviation: float) -> Array:
    """Box and Muller's transformation of uniform numbers."""
    values = np.empty(shape, np.float32)
    flat = values.reshape(-1)
    for start, (first, second) in random.uniform_parts(values.size, rows=2):
        radius = np.sqrt(-2.0 * np.log1p(-first))
        flat[start : start + len(first)] = radius * np.cos(2.0 * np.pi * second) * deviation
    return values


def torch_default(shape: Shape) -> Array:
    """Uniform on +-1 / sqrt(fan_in), as PyTorch initialises its Conv2d and Linear.

    Parameters
    ----------
    shape : tuple of int
        Of the weights; the first axis is that of the outputs.

    Returns
    -------
    ndarray of the shape given, float32
    """
    return _uniform(shape, 1.0 / math.sqrt(fans(shape)[0]))


def he_uniform(shape: Shape) -> Array:
    """Uniform on +-sqrt(6 / fan_in): He et al., arXiv:1502.01852, for layers that ReLU follows.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32

    Examples
    --------
    >>> from nnpar import initializers
    >>> bool(abs(initializers.he_uniform((4, 6))).max() <= 1.0)
    True
    """
    return _uniform(shape, math.sqrt(6.0 / fans(shape)[0]))


def he_normal(shape: Shape) -> Array:
    """Normal with variance 2 / fan_in: He et al., arXiv:1502.01852.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32
    """
    return _normal(shape, math.sqrt(2.0 / fans(shape)[0]))


def xavier_uniform(shape: Shape) -> Array:
    """Uniform on +-sqrt(6 / (fan_in + fan_out)): Glorot, Bengio, AISTATS 2010.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32
    """
    return _uniform(shape, math.sqrt(6.0 / sum(fans(shape))))


def xavier_normal(shape: Shape) -> Array:
    """Normal with variance 2 / (fan_in + fan_out): Glorot, Bengio, AISTATS 2010.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32
    """
    return _normal(shape, math.sqrt(2.0 / sum(fans(shape))))


def truncated_normal(std: float = 1.0, mean: float = 0.0, a: float = -2.0, b: float = 2.0) -> Initializer:
    """Normal, but from a to b only: numbers outside are drawn again. As PyTorch's ``nn.init.trunc_normal_``.

    Parameters
    ----------
    std, mean : float
        Of the normal distribution; std is above 0.
    a, b : float
        Limits, of which at least a twentieth of the distribution lies between.

    Returns
    -------
    callable
        Shape to array, float32.

    Raises
    ------
    ValueError
        If they are not such numbers.

    Examples
    --------
    >>> from nnpar import Linear, initializers
    >>> layer = Linear(64, 64, weight_init=initializers.truncated_normal(std=0.02, a=-0.04, b=0.04))
    >>> bool(abs(layer.weight).max() <= 0.04)
    True
    """
    who = "truncated_normal"
    std, mean, a, b = (
        _checks.number(value, who, name) for value, name in ((std, "std"), (mean, "mean"), (a, "a"), (b, "b"))
    )
    if std <= 0.0:
        raise ValueError(f"{who}: std: expected a number above 0, got {std}")
    inside = math.erf((b - mean) / std / math.sqrt(2.0)) - math.erf((a - mean) / std / math.sqrt(2.0))
    if inside < 0.1:
        raise ValueError(f"{who}: a, b: expected a twentieth of the distribution between, got {a} to {b}")

    def draw(shape: Shape) -> Array:
        values = mean + _normal(shape, std)
        while (outside := (values < a) | (values > b)).any():
            values[outside] = mean + _normal((int(outside.sum()),), std)
        return values

    return draw


def orthogonal(gain: float = 1.0) -> Initializer:
    """Rows that are orthogonal to each other, or columns if there are fewer, of length `gain`: Saxe, McClelland,
    Ganguli, arXiv:1312.6120. As PyTorch's ``nn.init.orthogonal_``; kernels of convolutions count as (OC, others).

    Parameters
    ----------
    gain : float

    Returns
    -------
    callable
        Shape to array, float32; a ValueError if the shape has one axis. The last bits are those of the LAPACK library
        that NumPy was built with.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import initializers
    >>> w = initializers.orthogonal()((3, 5))
    >>> bool(np.allclose(w @ w.T, np.eye(3), atol=1e-6))
    True
    """
    gain = _checks.number(gain, "orthogonal", "gain")

    def draw(shape: Shape) -> Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal: shape: expected at least two axes, got {shape}")
        rows, cols = shape[0], math.prod(shape[1:])
        tall = _normal((max(rows, cols), min(rows, cols)), 1.0).astype(np.float64)
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diagonal(r) < 0.0, -gain, gain)
        return np.ascontiguousarray(q if rows >= cols else q.T, np.float32).reshape(shape)

    return draw


def zeros(shape: Shape) -> Array:
    """Zeros.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32
    """
    return np.zeros(shape, np.float32)


def ones(shape: Shape) -> Array:
    """Ones.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of the shape given, float32
    """
    return np.ones(shape, np.float32)


def constant(value: float) -> Initializer:
    """All one number.

    Parameters
    ----------
    value : float

    Returns
    -------
    callable
        Shape to array, float32.
    """
    return lambda shape: np.full(shape, value, np.float32)


def bias_default(fan_in: int) -> Initializer:
    """Uniform on +-1 / sqrt(fan_in), as PyTorch initialises the biases of Conv2d and Linear."""
    return lambda shape: _uniform(shape, 1.0 / math.sqrt(fan_in))
