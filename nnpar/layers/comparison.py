"""Comparisons, whose results are 1 and 0, and what they choose."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar.layers.arithmetic import PairOfInputs
from nnpar.layers.broadcasting import arithmetic, broadcast, pass_back_sum
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.merging import Merge
from nnpar.shapes import Shape


class _Comparison(PairOfInputs):
    """Base of the comparisons of two inputs, or of one and a number. No gradient passes through them."""

    def __init__(self, value: float | None = None) -> None:
        self.value = None if value is None else _checks.number(value, type(self).__name__, "value")
        self._arrays = {}

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        if self.value is None:
            return super().merged_shape(input_shapes, name)
        if len(input_shapes) != 1:
            raise ValueError(f"{self.describe(name)}: expected one input beside a value, got {len(input_shapes)}")
        return input_shapes[0]

    def forward(self, at: Lowering) -> None:
        if self.value is None:
            super().forward(at)
            return
        at.y = at.x.like()
        at.step(functools.partial(_compare, self.kind, self.value), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        for number in range(len(at.inputs)):
            if at.needs[number]:
                dx = at.inputs[number].like()
                at.step(_zeros, dx)
                at.pass_back(dx, number)

    def settings(self) -> dict[str, Any]:
        return {"value": self.value}


def _compare(kind: str, value: float, x: Array, y: Array) -> Step:
    return arithmetic(kind, x, np.full(1, value, np.float32), y)


def _zeros(x: Array) -> Step:
    return arithmetic("keep", np.zeros(1, np.float32), np.zeros(1, np.float32), x)


class Less(_Comparison):
    """1 where one input is less than another or than a number, else 0.

    Parameters
    ----------
    value : float, optional
        Compared with the only input.

    Raises
    ------
    ValueError
        If the value is not finite; when it is used: if the inputs' shapes do not broadcast.

    Examples
    --------
    >>> from nnpar import Less
    >>> Less()([[1.0, 2.0]], [[2.0, 2.0]])
    array([[1., 0.]], dtype=float32)
    """

    kind = "less"


class LessOrEqual(_Comparison):
    """1 where one input is at most another or a number, else 0.

    Parameters
    ----------
    value : float, optional
        Compared with the only input.

    Raises
    ------
    ValueError
        If the value is not finite; when it is used: if the inputs' shapes do not broadcast.

    Examples
    --------
    >>> from nnpar import LessOrEqual
    >>> LessOrEqual(2.0)([[1.0, 2.0, 3.0]])
    array([[1., 1., 0.]], dtype=float32)
    """

    kind = "less_equal"


class Equal(_Comparison):
    """1 where one input equals another or a number, else 0.

    Parameters
    ----------
    value : float, optional
        Compared with the only input.

    Raises
    ------
    ValueError
        If the value is not finite; when it is used: if the inputs' shapes do not broadcast.

    Examples
    --------
    >>> from nnpar import Equal
    >>> Equal(2.0)([[1.0, 2.0, 3.0]])
    array([[0., 1., 0.]], dtype=float32)
    """

    kind = "equal"


class Where(Merge):
    """The second input where the first is not 0, the third where it is: ``numpy.where``. Their shapes broadcast.

    Examples
    --------
    >>> from nnpar import Where
    >>> Where()([[1.0, 0.0]], [[3.0, 4.0]], [[5.0, 6.0]])
    array([[3., 6.]], dtype=float32)
    """

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        if len(input_shapes) != 3:
            raise ValueError(f"{self.describe(name)}: expected three inputs, got {len(input_shapes)}")
        return broadcast(input_shapes, self.describe(name))

    def forward(self, at: Lowering) -> None:
        mask, a, b = at.inputs
        shape = self.merged_shape([x.shape for x in at.inputs], at.name)
        at.y = Buffer(shape, channels_last=max(at.inputs, key=lambda x: len(x.shape)).channels_last)
        rest = at.y.like()
        at.step(functools.partial(arithmetic, "keep"), a, mask, at.y, writes=at.y)
        at.step(functools.partial(arithmetic, "drop"), b, mask, rest)
        at.step(functools.partial(arithmetic, "add"), at.y, rest, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        for number, kind in ((1, "keep"), (2, "drop")):
            if at.needs[number]:
                gradient = at.dy.like()
                at.step(functools.partial(arithmetic, kind), at.dy, at.inputs[0], gradient)
                pass_back_sum(at, gradient, number, True)
        if at.needs[0]:
            dx = at.inputs[0].like()
            at.step(_zeros, dx)
            at.pass_back(dx, 0)
