"""Arithmetic of two inputs, or of an input and parameters, with broadcasting as in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._kernels.activation import Activation
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.broadcasting import arithmetic, broadcast, pass_back_sum, sum_to
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.layers.merging import Merge
from nnpar.shapes import Shape


class PairOfInputs(Merge):
    """Base of the layers that combine two inputs."""

    kind = ""

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        if len(input_shapes) != 2:
            raise ValueError(f"{self.describe(name)}: expected two inputs, got {len(input_shapes)}")
        return broadcast(input_shapes, self.describe(name))

    def forward(self, at: Lowering) -> None:
        shape = self.merged_shape([x.shape for x in at.inputs], at.name)
        at.y = Buffer(shape, channels_last=max(at.inputs, key=lambda x: len(x.shape)).channels_last)
        at.step(functools.partial(arithmetic, self.kind), *at.inputs, at.y, writes=at.y)


class Sub(PairOfInputs):
    """Difference of two inputs whose shapes broadcast.

    Examples
    --------
    >>> from nnpar import Sub
    >>> Sub()([[3.0, 4.0]], [[1.0]])
    array([[2., 3.]], dtype=float32)
    """

    kind = "sub"

    def backward(self, at: Lowering) -> None:
        if at.needs[0]:
            pass_back_sum(at, at.dy, 0, at.owns_dy and not at.needs[1])
        if at.needs[1]:
            negative = at.dy.like()
            at.step(Activation, "scale", at.dy, negative, -1.0)
            pass_back_sum(at, negative, 1, True)


class Mul(PairOfInputs):
    """Product of two inputs whose shapes broadcast, such as images and a weight for each of their channels
    (squeeze and excitation: Hu, Shen, Albanie, Sun, Wu, arXiv:1709.01507).

    Examples
    --------
    >>> from nnpar import Mul
    >>> Mul()([[3.0, 4.0]], [[2.0]])
    array([[6., 8.]], dtype=float32)
    """

    kind = "mul"

    def backward(self, at: Lowering) -> None:
        for number in range(2):
            if at.needs[number]:
                gradient = at.dy.like()
                at.step(functools.partial(arithmetic, "mul"), at.dy, at.inputs[1 - number], gradient)
                pass_back_sum(at, gradient, number, True)


class Div(PairOfInputs):
    """Quotient of two inputs whose shapes broadcast.

    Examples
    --------
    >>> from nnpar import Div
    >>> Div()([[3.0, 4.0]], [[2.0]])
    array([[1.5, 2. ]], dtype=float32)
    """

    kind = "div"

    def forward(self, at: Lowering) -> None:
        super().forward(at)
        at.reads_y = "values"

    def backward(self, at: Lowering) -> None:
        a_gradient = at.dy.like()
        at.step(functools.partial(arithmetic, "div"), at.dy, at.inputs[1], a_gradient)
        if at.needs[1]:  # -dy a / b^2 = -(dy / b) y
            product, negative = at.dy.like(), at.dy.like()
            at.step(functools.partial(arithmetic, "mul"), a_gradient, at.y, product)
            at.step(Activation, "scale", product, negative, -1.0)
            pass_back_sum(at, negative, 1, True)
        if at.needs[0]:
            pass_back_sum(at, a_gradient, 0, True)


class Maximum(PairOfInputs):
    """The larger one of two inputs whose shapes broadcast; NaN if either is. Where both are equal each gets half of the
    gradient, as in PyTorch.

    Examples
    --------
    >>> from nnpar import Maximum
    >>> Maximum()([[3.0, 4.0]], [[3.5]])
    array([[3.5, 4. ]], dtype=float32)
    """

    kind = "max"

    def backward(self, at: Lowering) -> None:
        a, b = at.inputs
        first, second = (a, b) if self.kind == "max" else (b, a)
        for number, larger, smaller in ((0, first, second), (1, second, first)):
            if at.needs[number]:
                share, gradient = at.dy.like(), at.dy.like()
                at.step(functools.partial(arithmetic, "share"), larger, smaller, share)
                at.step(functools.partial(arithmetic, "mul"), at.dy, share, gradient)
                pass_back_sum(at, gradient, number, True)


class Minimum(Maximum):
    """The smaller one of two inputs whose shapes broadcast; NaN if either is. Where both are equal each gets half of
    the gradient, as in PyTorch.

    Examples
    --------
    >>> from nnpar import Minimum
    >>> Minimum()([[3.0, 4.0]], [[3.5]])
    array([[3. , 3.5]], dtype=float32)
    """

    kind = "min"


class _WithParameter(Layer):
    """Base of the layers that combine an input and a parameter."""

    kind, start = "", 0.0

    def __init__(self, shape: Sequence[int]) -> None:
        who = type(self).__name__
        self.shape = _checks.shape(shape, who, "shape", len(tuple(shape)))
        self._arrays = {"weight": new_parameter(initializers.constant(self.start), self.shape, who)}

    weight = Parameter()

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        shape = broadcast([input_shape, self.shape], self.describe(name))
        if shape != input_shape:
            raise ValueError(
                f"{self.describe(name)}: input: expected a shape that {self.shape} fits, got {input_shape}"
            )
        return shape

    def forward(self, at: Lowering) -> None:
        at.y = at.x.like()
        at.step(functools.partial(arithmetic, self.kind), at.x, self.weight, at.y, writes=at.y)

    def settings(self) -> dict[str, Any]:
        return {"shape": self.shape}


class Scale(_WithParameter):
    """``x * weight``, a parameter of any shape that broadcasts to that of x; ones at first.

    Parameters
    ----------
    shape : tuple of int

    Attributes
    ----------
    weight : ndarray of that shape, float32

    Raises
    ------
    ValueError
        When it is used: if the shape does not fit.

    Examples
    --------
    >>> from nnpar import Scale
    >>> Scale((2,))([[1.0, 4.0]])
    array([[1., 4.]], dtype=float32)
    """

    kind, start = "mul", 1.0

    def backward(self, at: Lowering) -> None:
        parts = at.x.like()
        at.step(functools.partial(arithmetic, "mul"), at.dy, at.x, parts)
        at.step(sum_to, parts, at.gradients["weight"])
        if at.needs_dx:
            dx = at.overwritable_dy()
            at.step(functools.partial(arithmetic, "mul"), at.dy, self.weight, dx)
            at.pass_back(dx)


class Shift(_WithParameter):
    """``x + weight``, a parameter of any shape that broadcasts to that of x; zeros at first.

    Parameters
    ----------
    shape : tuple of int

    Attributes
    ----------
    weight : ndarray of that shape, float32

    Raises
    ------
    ValueError
        When it is used: if the shape does not fit.

    Examples
    --------
    >>> from nnpar import Shift
    >>> Shift((2,))([[1.0, 4.0]])
    array([[1., 4.]], dtype=float32)
    """

    kind, start = "add", 0.0

    def backward(self, at: Lowering) -> None:
        at.step(sum_to, at.dy, at.gradients["weight"])
        if at.needs_dx:
            at.pass_back(at.dy, owned=at.owns_dy)


class Affine(Layer):
    """``scale * x + shift`` with two numbers, which are no parameters.

    Parameters
    ----------
    scale, shift : float

    Raises
    ------
    ValueError
        If they are not finite.

    Examples
    --------
    >>> from nnpar import Affine
    >>> Affine(2.0, -1.0)([[1.0, 4.0]])
    array([[1., 7.]], dtype=float32)
    """

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        self.scale = _checks.number(scale, "Affine", "scale")
        self.shift = _checks.number(shift, "Affine", "shift")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        at.y = at.overwritable()
        at.step(Activation, "scale", at.x, at.y, self.scale, writes=at.y)
        if self.shift != 0.0:
            at.step(functools.partial(arithmetic, "add"), at.y, np.full(1, self.shift, np.float32), at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.overwritable_dy()
            at.step(Activation, "scale", at.dy, dx, self.scale)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale, "shift": self.shift}
