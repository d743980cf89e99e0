"""Activations."""

from __future__ import annotations

from typing import Any

from nnpar._kernels import elementwise
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Lowering
from nnpar.shapes import Shape


class ReLU(Layer):
    """Positive part, ``max(x, 0)``; NaN stays NaN. In a model it works in place.

    Examples
    --------
    >>> from nnpar import ReLU
    >>> ReLU()([[-1.0, 2.0]])
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        call = at.fuse_relu()
        if call is not None:
            at.y = at.x
        else:
            at.y = at.overwritable()
            call = at.step(elementwise.Relu, at.x, at.y, writes=at.y)
            call.ends_with_relu = True
        at.saved["call"] = call

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if at.saved["call"].masked or at.saved["call"].grad_of_relu:
            at.pass_back(at.dy, owned=at.owns_dy)
            return
        dx = at.overwritable_dy()
        at.step(elementwise.ReluGrad, at.dy, at.y, dx)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {}
