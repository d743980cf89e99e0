"""Dense layer."""

from __future__ import annotations

import math
from typing import Any

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import elementwise
from nnpar._kernels.gemm import gemm_step
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Linear(Layer):
    """Dense layer, ``y = x @ weight.T + bias``, as PyTorch's ``nn.Linear``: of (N, F), or of each token of (N, ..., F).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    weight_init : callable, optional
        Shape to array, from :mod:`nnpar.initializers`; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray of shape (out_features, in_features), float32
    bias : ndarray of shape (out_features,), float32, or None

    Raises
    ------
    ValueError
        If a number of features is not at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Linear
    >>> Linear(3, 2)(np.zeros((4, 3))).shape
    (4, 2)
    >>> Linear(3, 2)(np.zeros((4, 5, 3))).shape
    (4, 5, 2)
    """

    channels_last = False
    weight = Parameter()
    bias = Parameter()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        self.in_features = _checks.integer(in_features, "Linear", "in_features", 1)
        self.out_features = _checks.integer(out_features, "Linear", "out_features", 1)
        weight_shape = (self.out_features, self.in_features)
        self._arrays = {"weight": new_parameter(weight_init, weight_shape, "Linear")}
        if bias:
            bias_init = initializers.bias_default(self.in_features)
            self._arrays["bias"] = new_parameter(bias_init, (self.out_features,), "Linear", "bias_init")

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if len(input_shape) < 2 or input_shape[-1] != self.in_features:
            hint = "; put a Flatten() before it" if math.prod(input_shape[1:]) == self.in_features else ""
            raise ValueError(
                f"{self.describe(name)}: input: expected shape (N, {self.in_features}), with or without axes between, "
                f"got {input_shape}{hint}"
            )
        return *input_shape[:-1], self.out_features

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=False)
        at.step(
            gemm_step, rows_of(at.x), self.weight.T, rows_of(at.y), self.bias,
            writes=at.y, fuses=("relu",), prepacked=at.frozen,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        dy = rows_of(at.dy)
        at.step(weight_grad, dy, rows_of(at.x), at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, dy, at.gradients["bias"])
        if at.needs_dx:
            dx = at.x.like()
            at.step(gemm_step, dy, self.weight, rows_of(dx))
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
        }


def rows_of(x: Buffer) -> Buffer:
    """Rows of features: all axes but the last made one."""
    return x.view((math.prod(x.shape[:-1]), x.shape[-1]))


def weight_grad(dy: Array, x: Array, dw: Array) -> Step:
    """The step dw (out, in) = dy.T @ x, of rows of features."""
    return gemm_step(dy.T, x, dw)
