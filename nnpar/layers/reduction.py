"""Means and sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.activation import Activation
from nnpar._kernels.step import Step
from nnpar._kernels.strided import StridedCopy, SumAxes
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Mean(Layer):
    """Mean over some axes.

    Parameters
    ----------
    dim : tuple of int
        0 is the batch's.
    keepdim : bool
        Whether these axes stay, of size 1.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Mean
    >>> Mean((1,))([[1.0, 2.0, 6.0]])
    array([3.], dtype=float32)
    """

    def __init__(self, dim: Sequence[int], keepdim: bool = False) -> None:
        self.dim = _checks.integers(dim, type(self).__name__, "dim")
        self.keepdim = bool(keepdim)
        self._arrays = {}

    def _kept(self, input_shape: Shape, name: str) -> Shape:
        who = self.describe(name)
        axes = {_checks.axis(axis, len(input_shape), who, "dim") for axis in self.dim}
        return tuple(1 if axis in axes else size for axis, size in enumerate(input_shape))

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        kept = self._kept(input_shape, name)
        axes = {axis % len(input_shape) for axis in self.dim}
        return kept if self.keepdim else tuple(size for axis, size in enumerate(kept) if axis not in axes)

    def _factor(self, input_shape: Shape) -> float:
        kept = self._kept(input_shape, "")
        return math.prod(kept) / max(1, math.prod(input_shape))

    def forward(self, at: Lowering) -> None:
        kept = Buffer(self._kept(at.x.shape, at.name), channels_last=False)
        at.step(SumAxes, at.x, kept, self._factor(at.x.shape), writes=kept)
        at.y = kept.view(self.output_shape(at.x.shape, at.name), channels_last=False)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            slope = at.dy.view(self._kept(at.x.shape, at.name), channels_last=False)
            scaled, dx = slope.like(), at.x.like()
            at.step(Activation, "scale", slope, scaled, self._factor(at.x.shape))
            at.step(_spread, scaled, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "keepdim": self.keepdim}


class Sum(Mean):
    """Sum over some axes.

    Parameters
    ----------
    dim : tuple of int
        0 is the batch's.
    keepdim : bool
        Whether these axes stay, of size 1.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Sum
    >>> Sum((1,))([[1.0, 2.0, 6.0]])
    array([9.], dtype=float32)
    """

    def _factor(self, input_shape: Shape) -> float:
        return 1.0


def _spread(x: Array, y: Array) -> Step:
    return StridedCopy(np.broadcast_to(x, y.shape), y)
