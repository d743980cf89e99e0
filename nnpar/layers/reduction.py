"""Means, sums and largest elements over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.activation import Activation
from nnpar._kernels.pool import MaxPool2d, MaxPool2dGrad
from nnpar._kernels.step import Step
from nnpar._kernels.strided import StridedCopy, SumAxes
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.pooling import whole_passes
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


class Max(Mean):
    """Largest element over some axes; NaN if there is one. Of equal ones the first gets the gradient.

    Parameters
    ----------
    dim : tuple of int
        0 is the batch's.
    keepdim : bool
        Whether these axes stay, of size 1.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis, or nothing along one.

    Examples
    --------
    >>> from nnpar import Max
    >>> Max((1,))([[1.0, 6.0, 2.0]])
    array([6.], dtype=float32)
    """

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if any(input_shape[axis] == 0 for axis in self.dim if -len(input_shape) <= axis < len(input_shape)):
            raise ValueError(f"{self.describe(name)}: input: expected at least one element, got shape {input_shape}")
        return super().output_shape(input_shape, name)

    def _order(self, shape: Shape) -> tuple[list[int], list[int]]:
        """Kept and reduced axes."""
        reduced = sorted({axis % len(shape) for axis in self.dim})
        return [axis for axis in range(len(shape)) if axis not in reduced], reduced

    def forward(self, at: Lowering) -> None:
        """Pooling of images, whose pixels are the reduced elements and whose channels the kept ones."""
        output, (kept, reduced) = self.output_shape(at.x.shape, at.name), self._order(at.x.shape)
        channels, pixels = (math.prod(at.x.shape[axis] for axis in axes) for axes in (kept, reduced))
        moved = Buffer(tuple(at.x.shape[axis] for axis in (*reduced, *kept)), channels_last=False)
        at.step(_reorder, (*reduced, *kept), at.x, moved, writes=moved)
        x = moved.view((1, channels, 1, pixels), True)
        at.saved["passes"] = []
        for shape in whole_passes(x.shape):
            y = Buffer(shape.output_shape)
            argmax = Buffer(shape.output_shape, np.uint8) if at.training else None
            at.step(MaxPool2d, x, y, argmax, shape.window)
            at.saved["passes"].append((shape, argmax))
            x = y
        at.y = x.view(output, False)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dy = at.dy
        for shape, argmax in reversed(at.saved["passes"]):
            dx = Buffer(shape.input_shape)
            at.step(MaxPool2dGrad, dy.view(shape.output_shape, True), argmax, dx, shape.window)
            dy = dx
        kept, reduced = self._order(at.x.shape)
        dx = at.x.like()
        moved = dy.view(tuple(at.x.shape[axis] for axis in (*reduced, *kept)), False)
        at.step(_order_back, (*reduced, *kept), moved, dx)
        at.pass_back(dx)


def _reorder(axes: tuple[int, ...], x: Array, y: Array) -> Step:
    return StridedCopy(x.transpose(axes), y)


def _order_back(axes: tuple[int, ...], dy: Array, dx: Array) -> Step:
    return StridedCopy(dy, dx.transpose(axes))


def _spread(x: Array, y: Array) -> Step:
    return StridedCopy(np.broadcast_to(x, y.shape), y)
