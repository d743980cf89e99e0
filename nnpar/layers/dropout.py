"""Dropout, of elements and of whole channels."""

from __future__ import annotations

from typing import Any

from nnpar import _checks
from nnpar._kernels import elementwise
from nnpar.layers.base import Layer, images_only
from nnpar.layers.lowering import Buffer, Lowering
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
        self.p = probability(p, type(self).__name__, "p")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        if not at.training or self.p == 0.0:
            at.y = at.x
            return
        at.y = at.overwritable(keeps_sign=True)
        at.step(elementwise.Dropout, *self._arguments(at, at.x, at.y), writes=at.y)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if self.p == 0.0:
            at.pass_back(at.dy, owned=at.owns_dy)
            return
        dx = at.overwritable_dy()
        at.step(elementwise.Dropout, *self._arguments(at, at.dy, dx))
        at.pass_back(dx)

    def _arguments(self, at: Lowering, x: Buffer, y: Buffer) -> tuple[Any, ...]:
        return x, y, self.p, at.position, at.index

    def settings(self) -> dict[str, Any]:
        return {"p": self.p}


class Dropout2d(Dropout):
    """In training, zero each channel of an image with probability p and multiply the others by 1 / (1 - p): Tompson,
    Goroshin, Jain, LeCun, Bregler, arXiv:1411.4280. Which channels depends on the same as in :class:`Dropout`.

    Parameters
    ----------
    p : float
        0 <= p < 1.

    Raises
    ------
    ValueError
        If p is out of range, or the input is not of shape (N, C, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Dropout2d
    >>> Dropout2d(0.5)(np.ones((1, 1, 1, 2)))
    array([[[[1., 1.]]]], dtype=float32)
    """

    channels_last = True

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        images_only(input_shape, self.describe(name))
        return input_shape

    def _arguments(self, at: Lowering, x: Buffer, y: Buffer) -> tuple[Any, ...]:
        return *super()._arguments(at, x, y), x.shape[1]


def probability(p: float, who: str, name: str) -> float:
    """A probability of zeros, checked."""
    p = _checks.number(p, who, name)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{who}: {name}: expected 0 <= {name} < 1, got {p}")
    return p
