"""Layers with several inputs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar._kernels.strided import StridedCopy
from nnpar.layers.base import Layer
from nnpar.layers.broadcasting import arithmetic, broadcast, pass_back_sum
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Merge(Layer):
    """Base of the layers that join two inputs or more."""

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self.merged_shape([input_shape], name)

    def settings(self) -> dict[str, Any]:
        return {}

    def _at_least_two(self, input_shapes: Sequence[Shape], name: str) -> None:
        if len(input_shapes) < 2:
            raise ValueError(f"{self.describe(name)}: expected at least two inputs, got {len(input_shapes)}")


class Add(Merge):
    """Sum of two inputs whose shapes broadcast.

    Examples
    --------
    >>> from nnpar import Add, Graph, Input, ReLU
    >>> x = Input((2,))
    >>> Graph(x, Add()(x, ReLU()(x)))([[-1.0, 2.0]])
    array([[-1.,  4.]], dtype=float32)
    """

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        self._at_least_two(input_shapes, name)
        if len(input_shapes) > 2:
            raise ValueError(f"{self.describe(name)}: expected two inputs, got {len(input_shapes)}")
        return broadcast(input_shapes, self.describe(name))

    def forward(self, at: Lowering) -> None:
        if at.inputs[0].shape != at.inputs[1].shape:
            at.saved["fused"] = None
            shape = self.merged_shape([x.shape for x in at.inputs], at.name)
            at.y = Buffer(shape, channels_last=max(at.inputs, key=lambda x: len(x.shape)).channels_last)
            at.step(functools.partial(arithmetic, "add"), *at.inputs, at.y, writes=at.y)
            return
        call = at.saved["fused"] = at.fuse_residual()
        if call is not None:
            at.y = at.inputs[call.fused_input]
            return
        at.y = at.overwritable()
        at.step(elementwise.Add, *at.inputs, at.y, writes=at.y, fuses=("relu",))

    def backward(self, at: Lowering) -> None:
        call = at.saved["fused"]
        if call is not None:
            at.pass_back(at.dy, call.fused_input, at.owns_dy)
            call.residual_needs_gradient = at.needs[1 - call.fused_input]
            return
        both = all(at.needs)
        for number in range(2):
            if at.needs[number]:
                pass_back_sum(at, at.dy, number, at.owns_dy and not both)


class Concatenate(Merge):
    """Inputs side by side along an axis: by default the channels, (N, C, H, W), or the features, (N, F).

    Parameters
    ----------
    dim : int
        0 is the batch's.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis, or inputs differ along others.

    Examples
    --------
    >>> from nnpar import Concatenate, Graph, Input, ReLU
    >>> x = Input((2,))
    >>> Graph(x, Concatenate()(x, ReLU()(x)))([[-1.0, 2.0]])
    array([[-1.,  2.,  0.,  2.]], dtype=float32)
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = _checks.integer(dim, "Concatenate", "dim", -_checks.LARGEST)
        self.channels_last = self.dim == 1

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        self._at_least_two(input_shapes, name)
        first, who = input_shapes[0], self.describe(name)
        axis = _checks.axis(self.dim, len(first), who, "dim")
        others = [(len(shape), shape[:axis], shape[axis + 1 :]) for shape in input_shapes]
        if any(other != others[0] for other in others):
            along = "channels" if self.dim == 1 else f"axis {self.dim}"
            raise ValueError(
                f"{who}: expected inputs that differ in {along} at most, got {', '.join(map(str, input_shapes))}"
            )
        return (*first[:axis], sum(shape[axis] for shape in input_shapes), *first[axis + 1 :])

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim}

    def _parts(self, at: Lowering) -> list[tuple[slice, ...]]:
        """Where each input lies in the output."""
        axis = self.dim % len(at.x.shape)
        ends = list(itertools.accumulate(x.shape[axis] for x in at.inputs))
        return [(slice(None),) * axis + (slice(e - x.shape[axis], e),) for e, x in zip(ends, at.inputs, strict=True)]

    def forward(self, at: Lowering) -> None:
        if self.dim != 1:
            at.y = Buffer(self.merged_shape([x.shape for x in at.inputs], at.name), channels_last=False)
            for x, part in zip(at.inputs, self._parts(at), strict=True):
                at.step(functools.partial(_put_part, part), x, at.y, writes=at.y)
            return
        at.y = Buffer(self.merged_shape([x.shape for x in at.inputs], at.name), channels_last=True)
        first = 0
        for x in at.inputs:
            at.step(elementwise.CopyChannels, x, at.y, 0, first, x.shape[1], writes=at.y)
            first += x.shape[1]

    def backward(self, at: Lowering) -> None:
        if self.dim != 1:
            for number, part in enumerate(self._parts(at)):
                if at.needs[number]:
                    dx = at.inputs[number].like()
                    at.step(functools.partial(_take_part, part), at.dy, dx)
                    at.pass_back(dx, number)
            return
        first = 0
        for number, x in enumerate(at.inputs):
            if at.needs[number]:
                dx = x.like()
                at.step(elementwise.CopyChannels, at.dy, dx, first, 0, x.shape[1])
                at.pass_back(dx, number)
            first += x.shape[1]


def _put_part(part: tuple[slice, ...], x: Array, y: Array) -> Step:
    return StridedCopy(x, y[part])


def _take_part(part: tuple[slice, ...], dy: Array, dx: Array) -> Step:
    return StridedCopy(dy[part], dx)
