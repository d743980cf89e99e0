"""Values of different shapes together, as in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar._kernels.strided import Arithmetic, StridedCopy, SumAxes
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


def broadcast(shapes: Sequence[Shape], who: str) -> Shape:
    """Shape of what values of these shapes make together.

    Raises
    ------
    ValueError
        If they do not fit; the error names `who`.
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{who}: expected inputs whose shapes broadcast, got {', '.join(map(str, shapes))}") from None


def arithmetic(kind: str, a: Array, b: Array, y: Array) -> Step:
    """The step y = a op b, with broadcasting."""
    return Arithmetic(kind, np.broadcast_to(a, y.shape), np.broadcast_to(b, y.shape), y)


def pass_back_sum(at: Lowering, gradient: Buffer, number: int, owned: bool) -> None:
    """Pass back a gradient of the output's shape to an input that may have been broadcast."""
    x = at.inputs[number]
    if x.shape == gradient.shape:
        at.pass_back(gradient, number, owned)
        return
    dx = x.like()
    at.step(sum_to, gradient, dx)
    at.pass_back(dx, number)


def sum_to(gradient: Array, dx: Array) -> Step:
    """The step that sums over the axes along which dx was broadcast."""
    more = (np.newaxis,) * (gradient.ndim - dx.ndim)
    if dx.size == gradient.size:
        return StridedCopy(gradient, dx[more])
    return SumAxes(gradient, dx[more])
