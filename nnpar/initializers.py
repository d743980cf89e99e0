"""Initial weights. Each function draws an array from the stream that :func:`nnpar.manual_seed` started.

``fan_in`` is the number of inputs that an output sums over, ``fan_out`` the number of outputs that an input reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nnpar import random
from nnpar._checks import Array
from nnpar.shapes import Shape

__all__ = ["constant", "he_normal", "he_uniform", "ones", "torch_default", "xavier_normal", "xavier_uniform", "zeros"]

Initializer = Callable[[Shape], Array]


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of weights (out, in) or (OC, C / groups, KH, KW)."""
    if len(shape) < 2:
        raise ValueError(f"initializer: shape: expected at least two axes, got {shape}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _uniform(shape: Shape, bound: float) -> Array:
    values = random.uniform(math.prod(shape)).reshape(shape)
    return ((2.0 * values - 1.0) * bound).astype(np.float32)


def _normal(shape: Shape, deviation: float) -> Array:
    """Box and Muller's transformation of uniform numbers."""
    values = random.uniform(2 * math.prod(shape)).reshape(2, *shape)
    radius = np.sqrt(-2.0 * np.log1p(-values[0]))
    normal: Array = (radius * np.cos(2.0 * np.pi * values[1]) * deviation).astype(np.float32)
    return normal


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
