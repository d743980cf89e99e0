"""Normalisation of the last axes: layer normalisation, and that by the root mean square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import norm
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.batch_norm import not_negative
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class RowNormalization(Layer):
    """Base of the layers that normalise rows, which are all elements of the last axes."""

    channels_last = False
    centred: bool
    weight = Parameter()
    bias = Parameter()

    def __init__(self, normalized_shape: int | Sequence[int], weight: bool, bias: bool) -> None:
        who = type(self).__name__
        axes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        if not axes:
            raise ValueError(f"{who}: normalized_shape: expected at least one axis")
        self.normalized_shape = tuple(_checks.integer(size, who, "normalized_shape", 1) for size in axes)
        self._arrays = {}
        if weight:
            self._arrays["weight"] = new_parameter(initializers.ones, self.normalized_shape, who)
        if bias:
            self._arrays["bias"] = new_parameter(initializers.zeros, self.normalized_shape, who)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        axes = len(self.normalized_shape)
        if len(input_shape) <= axes or input_shape[-axes:] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ValueError(f"{self.describe(name)}: input: expected shape (N, ..., {expected}), got {input_shape}")
        return input_shape

    def _eps(self) -> float:
        raise NotImplementedError

    def _rows(self, x: Buffer) -> Buffer:
        cols = math.prod(self.normalized_shape)
        return x.view((x.size // cols, cols))

    def _flat(self, array: Array | None, otherwise: float) -> Array:
        if array is None:
            return np.full(math.prod(self.normalized_shape), otherwise, np.float32)
        return array.reshape(-1)

    def forward(self, at: Lowering) -> None:
        # The backward pass reads x.
        at.y = at.x.like() if at.training else at.overwritable()
        x = self._rows(at.x)
        mean, invstd = at.saved["mean"], at.saved["invstd"] = Buffer(x.shape[:1]), Buffer(x.shape[:1])
        at.step(
            norm.RowNorm, x, self._flat(self.weight, 1.0), self._flat(self.bias, 0.0), self._eps(), self.centred, mean,
            invstd, self._rows(at.y), writes=at.y,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        dx = at.overwritable_dy()
        dweight, dbias = (at.gradients[key].reshape(-1) if key in self._arrays else None for key in ("weight", "bias"))
        at.step(
            norm.RowNormGrad, self._rows(at.dy), self._rows(at.x), at.saved["mean"], at.saved["invstd"],
            self._flat(self.weight, 1.0), self.centred, self._rows(dx), dweight, dbias,
        )  # fmt: skip
        if at.needs_dx:
            at.pass_back(dx)


class LayerNorm(RowNormalization):
    """Normalise each row, all elements of the last axes, as PyTorch's ``nn.LayerNorm``: Ba, Kiros, Hinton,
    arXiv:1607.06450.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, with the row's own mean and variance.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The last axes of the input, which is of shape (N, ..., *normalized_shape).
    eps : float
    elementwise_affine : bool
        Whether there are weight and bias.
    bias : bool
        Whether there is a bias, if there is a weight.

    Attributes
    ----------
    weight, bias : ndarray of shape normalized_shape, float32, or None

    Raises
    ------
    ValueError
        If an argument is out of range, or the input has other last axes.

    Examples
    --------
    >>> from nnpar import LayerNorm
    >>> LayerNorm(2, eps=0.0)([[1.0, 3.0], [8.0, 4.0]])
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    centred = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.eps = not_negative(eps, "LayerNorm", "eps")
        super().__init__(normalized_shape, bool(elementwise_affine), bool(elementwise_affine and bias))

    def _eps(self) -> float:
        return self.eps

    def settings(self) -> dict[str, Any]:
        return {
            "normalized_shape": list(self.normalized_shape),
            "eps": self.eps,
            "elementwise_affine": self.weight is not None,
            "bias": self.bias is not None,
        }


class RMSNorm(RowNormalization):
    """Divide each row, all elements of the last axes, by its root mean square, as PyTorch's ``nn.RMSNorm``: Zhang,
    Sennrich, arXiv:1910.07467.

    ``y = x / sqrt(mean(x^2) + eps) * weight``

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The last axes of the input, which is of shape (N, ..., *normalized_shape).
    eps : float, optional
        2^-23, the distance from 1 to the next float32, by default.
    elementwise_affine : bool
        Whether there is a weight.

    Attributes
    ----------
    weight : ndarray of shape normalized_shape, float32, or None

    Raises
    ------
    ValueError
        If an argument is out of range, or the input has other last axes.

    Examples
    --------
    >>> from nnpar import RMSNorm
    >>> RMSNorm(2, eps=0.0)([[3.0, -3.0]])
    array([[ 1., -1.]], dtype=float32)
    """

    centred = False

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        self.eps = None if eps is None else not_negative(eps, "RMSNorm", "eps")
        super().__init__(normalized_shape, bool(elementwise_affine), False)

    def _eps(self) -> float:
        return float(np.finfo(np.float32).eps) if self.eps is None else self.eps

    def settings(self) -> dict[str, Any]:
        return {
            "normalized_shape": list(self.normalized_shape),
            "eps": self.eps,
            "elementwise_affine": self.weight is not None,
        }
