"""Products of two inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpar._checks import Array
from nnpar._kernels.gemm import BatchedGemm, gemm_step
from nnpar._kernels.step import Step
from nnpar.layers.broadcasting import broadcast, pass_back_sum
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.merging import Merge
from nnpar.shapes import Shape


class MatMul(Merge):
    """Matrix products of two inputs of two axes or more, whose other axes broadcast: ``numpy.matmul``.

    Raises
    ------
    ValueError
        When it is used: if shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import MatMul
    >>> MatMul()(np.zeros((5, 2, 3)), np.zeros((5, 3, 4))).shape
    (5, 2, 4)
    """

    channels_last = False

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        who = self.describe(name)
        if len(input_shapes) != 2:
            raise ValueError(f"{who}: expected two inputs, got {len(input_shapes)}")
        a, b = input_shapes
        if min(len(a), len(b)) < 2 or a[-1] != b[-2]:
            raise ValueError(f"{who}: expected inputs of shapes (..., m, k) and (..., k, n), got {a} and {b}")
        return (*broadcast([a[:-2], b[:-2]], who), a[-2], b[-1])

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.merged_shape([x.shape for x in at.inputs], at.name), channels_last=False)
        at.step(_product, *at.inputs, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        """Da = dy b^T and db = a^T dy, summed over the axes along which a or b was repeated."""
        a, b = at.inputs
        for number, make, left, right in ((0, _by_turned, at.dy, b), (1, _turned_by, a, at.dy)):
            if at.needs[number]:
                shape = (*at.dy.shape[:-2], *at.inputs[number].shape[-2:])
                gradient = Buffer(shape, channels_last=False)
                at.step(make, left, right, gradient)
                pass_back_sum(at, gradient, number, True)


def _product(a: Array, b: Array, y: Array) -> Step:
    if y.ndim == 2:
        return gemm_step(a, b, y)
    return BatchedGemm(_spread(a, y), _spread(b, y), y)


def _spread(x: Array, y: Array) -> Array:
    """The matrices of x for each of y's."""
    return np.broadcast_to(x, (*y.shape[:-2], *x.shape[-2:]))


def _by_turned(a: Array, b: Array, y: Array) -> Step:
    return _product(a, b.swapaxes(-1, -2), y)


def _turned_by(a: Array, b: Array, y: Array) -> Step:
    return _product(a.swapaxes(-1, -2), b, y)
