"""Activations."""

from __future__ import annotations

from typing import Any

from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Lowering
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

    def forward(self, at: Lowering) -> list[Step]:
        at.y = at.x
        return [elementwise.Relu(at.x, at.y)]

    def backward(self, at: Lowering) -> list[Step]:
        if not at.needs_dx:
            return []
        at.dx = at.dy
        return [elementwise.ReluGrad(at.dy, at.y, at.dx)]

    def settings(self) -> dict[str, Any]:
        return {}
