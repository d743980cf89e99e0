"""Layers with several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpar._kernels import elementwise
from nnpar.layers.base import Layer
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
    """Sum of two inputs of one shape.

    Examples
    --------
    >>> from nnpar import Add, Graph, Input, ReLU
    >>> x = Input((2,))
    >>> Graph(x, Add()(x, ReLU()(x)))([[-1.0, 2.0]])
    array([[-1.,  4.]], dtype=float32)
    """

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        self._at_least_two(input_shapes, name)
        if len(input_shapes) > 2 or input_shapes[0] != input_shapes[1]:
            raise ValueError(
                f"{self.describe(name)}: expected two inputs of one shape, got {', '.join(map(str, input_shapes))}"
            )
        return input_shapes[0]

    def forward(self, at: Lowering) -> None:
        call = at.saved["fused"] = at.fuse_residual()
        if call is not None:
            at.y = at.inputs[call.fused_input]
            return
        # In training, who made an input may read it again for its gradient.
        at.y = at.x.like() if at.training else at.overwritable()
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
                at.pass_back(at.dy, number, at.owns_dy and not both)


class Concatenate(Merge):
    """Inputs side by side along the channels, (N, C, H, W), or the features, (N, F).

    Examples
    --------
    >>> from nnpar import Concatenate, Graph, Input, ReLU
    >>> x = Input((2,))
    >>> Graph(x, Concatenate()(x, ReLU()(x)))([[-1.0, 2.0]])
    array([[-1.,  2.,  0.,  2.]], dtype=float32)
    """

    channels_last = True

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        self._at_least_two(input_shapes, name)
        first = input_shapes[0]
        if any((shape[:1], shape[2:]) != (first[:1], first[2:]) for shape in input_shapes):
            raise ValueError(
                f"{self.describe(name)}: expected inputs that differ in channels at most, "
                f"got {', '.join(map(str, input_shapes))}"
            )
        return (first[0], sum(shape[1] for shape in input_shapes), *first[2:])

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.merged_shape([x.shape for x in at.inputs], at.name), channels_last=True)
        first = 0
        for x in at.inputs:
            at.step(elementwise.CopyChannels, x, at.y, 0, first, x.shape[1], writes=at.y)
            first += x.shape[1]

    def backward(self, at: Lowering) -> None:
        first = 0
        for number, x in enumerate(at.inputs):
            if at.needs[number]:
                dx = x.like()
                at.step(elementwise.CopyChannels, at.dy, dx, first, 0, x.shape[1])
                at.pass_back(dx, number)
            first += x.shape[1]
