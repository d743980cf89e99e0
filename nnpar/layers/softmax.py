"""Softmax, and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels import activation
from nnpar._kernels.strided import StridedCopy
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` along an axis.

    Parameters
    ----------
    dim : int

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Softmax
    >>> Softmax(1)([[0.0, 0.0]])
    array([[0.5, 0.5]], dtype=float32)
    """

    log = False

    def __init__(self, dim: int = -1) -> None:
        self.dim = _checks.integer(dim, type(self).__name__, "dim", -_checks.LARGEST)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        _checks.axis(self.dim, len(input_shape), self.describe(name), "dim")
        return input_shape

    def forward(self, at: Lowering) -> None:
        self.output_shape(at.x.shape, at.name)
        axis = self.dim % len(at.x.shape)
        x, at.y = at.x, at.x.like()
        if self._is_last(x, axis):
            at.step(_rows, x, at.y, self.log, writes=at.y)
            at.reads_y = "values"
            return
        rows = Buffer(_moved(x.shape, axis), channels_last=False)
        at.step(_copy_moved, x, rows, axis, False)
        at.step(activation.SoftmaxRows, rows, rows, self.log, writes=rows)
        at.step(_copy_moved, at.y, rows, axis, True, writes=at.y)
        at.saved["rows"] = rows

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        axis, rows = self.dim % len(at.x.shape), at.saved.get("rows")
        if rows is None:
            dx = at.overwritable_dy()
            at.step(_rows_grad, at.dy, at.y, dx, self.log)
        else:
            dx, slopes = at.dy.like(), rows.like()
            at.step(_copy_moved, at.dy, slopes, axis, False)
            at.step(activation.SoftmaxRowsGrad, slopes, rows, slopes, self.log)
            at.step(_copy_moved, dx, slopes, axis, True)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim}

    @staticmethod
    def _is_last(x: Buffer, axis: int) -> bool:
        """Whether the axis is the last one in memory."""
        return axis == (1 if x.channels_last and len(x.shape) > 2 else len(x.shape) - 1)


class LogSoftmax(Softmax):
    """``x - log(sum(exp(x)))`` along an axis.

    Parameters
    ----------
    dim : int

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import LogSoftmax
    >>> LogSoftmax(1)([[0.0, 0.0]])
    array([[-0.6931472, -0.6931472]], dtype=float32)
    """

    log = True


def _in_memory(x: Array) -> Array:
    """The array with its axes in the order of its memory."""
    return x if x.flags.c_contiguous else np.moveaxis(x, 1, -1)


def _rows(x: Array, y: Array, log: bool) -> activation.SoftmaxRows:
    return activation.SoftmaxRows(_in_memory(x), _in_memory(y), log)


def _rows_grad(dy: Array, y: Array, dx: Array, log: bool) -> activation.SoftmaxRowsGrad:
    return activation.SoftmaxRowsGrad(_in_memory(dy), _in_memory(y), _in_memory(dx), log)


def _moved(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :], shape[axis])


def _copy_moved(x: Array, rows: Array, axis: int, back: bool) -> StridedCopy:
    """Copies between x and rows, in which that axis is last."""
    view = np.moveaxis(x, axis, -1)
    return StridedCopy(rows, view) if back else StridedCopy(view, rows)
