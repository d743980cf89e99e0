"""Dropout."""

from __future__ import annotations

from typing import Any

from nnpar import _checks
from nnpar._kernels import elementwise
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Lowering
from nnpar.shapes import Shape


class Dropout(Layer):
    """In training, zero each element with probability p and multiply the others by 1 / (1 - p).

    Which elements depends on the seed, the epoch, the sample's place in it and the layer's in the model, and on
    nothing else: not on batch size, threads or what was computed before. In prediction the input passes.

    Parameters
    ----------
    p : float
        0 <= p < 1.

    Raises
    ------
    ValueError
        If p is out of range.

    Examples
    --------
    >>> from nnpar import Dropout
    >>> Dropout(0.5)([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _checks.number(p, "Dropout", "p")
        if not 0.0 <= self.p < 1.0:
            raise ValueError(f"Dropout: p: expected 0 <= p < 1, got {self.p}")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        if not at.training or self.p == 0.0:
            at.y = at.x
            return
        at.y = at.overwritable()
        at.step(elementwise.Dropout, at.x, at.y, self.p, at.position, at.index, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if self.p == 0.0:
            at.pass_back(at.dy, owned=at.owns_dy)
            return
        dx = at.overwritable_dy()
        at.step(elementwise.Dropout, at.dy, dx, self.p, at.position, at.index)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"p": self.p}
