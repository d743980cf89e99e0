"""Layers of the user's own, in Python and NumPy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.step import PythonStep
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class CustomLayer(Layer):
    """Base of the layers that users write in Python and NumPy; they take part in plans, training and files like all
    others.

    A subclass implements `compute`, `compute_gradient` if it shall be trained through, `compute_parameter_gradients` if
    it has parameters, and `output_shape` (or `merged_shape`, with several inputs) if its output has not the shape of
    its first input. To be saved, it implements `settings`, the arguments that make it again; to be loaded, it is named
    in ``nnpar.load(path, layers=[ThatLayer])``.

    Parameters
    ----------
    **parameters : array_like
        Arrays that training changes, float32; in the class each is named by ``name = nnpar.Parameter()``.

    Notes
    -----
    Arrays come and go in the shapes of PyTorch, images as (N, C, H, W), whatever their memory layout. Those that come
    must not be written to, and belong to the plan: keep none. An error that is raised ends the step, and arrives where
    the model was called; weights stay as they were.

    Examples
    --------
    >>> import numpy as np
    >>> import nnpar
    >>> class Swish(nnpar.CustomLayer):
    ...     beta = nnpar.Parameter()
    ...
    ...     def __init__(self):
    ...         super().__init__(beta=np.ones(1))
    ...
    ...     def compute(self, x):
    ...         return x / (1 + np.exp(-self.beta * x))
    ...
    ...     def compute_gradient(self, dy, x):
    ...         s = 1 / (1 + np.exp(-self.beta * x))
    ...         return dy * s * (1 + self.beta * x * (1 - s))
    ...
    ...     def compute_parameter_gradients(self, dy, x):
    ...         s = 1 / (1 + np.exp(-self.beta * x))
    ...         return {"beta": np.sum(dy * x * x * s * (1 - s)).reshape(1)}
    >>> nnpar.Sequential(nnpar.Linear(2, 3), Swish())(np.ones((4, 2))).shape
    (4, 3)
    """

    def __init__(self, **parameters: ArrayLike) -> None:
        self._arrays = {}
        for name, value in parameters.items():
            array = np.asarray(value)
            self._arrays[name] = _checks.floats(array, type(self).__name__, name, array.ndim).copy()

    def compute(self, *inputs: Array) -> ArrayLike:
        """The output."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method compute(*inputs)")

    def compute_gradient(self, dy: Array, *inputs: Array) -> Any:
        """The gradient of the input, or a tuple of one for each of several, out of that of the output."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a method compute_gradient(dy, *inputs) to be trained"
        )

    def compute_parameter_gradients(self, dy: Array, *inputs: Array) -> dict[str, ArrayLike]:
        """The gradients of the parameters by name."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected a method compute_parameter_gradients(dy, *inputs) to be trained"
        )

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def merged_shape(self, input_shapes: Sequence[Shape], name: str = "") -> Shape:
        if not input_shapes:
            raise ValueError(f"{self.describe(name)}: expected an input, got none")
        return self.output_shape(input_shapes[0], name)

    def settings(self) -> dict[str, Any]:
        return {}

    def forward(self, at: Lowering) -> None:
        shape = self.merged_shape([x.shape for x in at.inputs], at.name)
        at.y = Buffer(shape, channels_last=at.x.channels_last if len(shape) == len(at.x.shape) else None)
        at.step(functools.partial(_compute, self, at.name), at.y, *at.inputs)

    def backward(self, at: Lowering) -> None:
        if self._arrays:
            at.step(functools.partial(_parameter_gradients, self, at.name, dict(at.gradients)), at.dy, *at.inputs)
        if at.needs_dx:
            dxs = [x.like() for x in at.inputs]
            at.step(functools.partial(_gradient, self, at.name, len(dxs)), *dxs, at.dy, *at.inputs)
            for number, dx in enumerate(dxs):
                if at.needs[number]:
                    at.pass_back(dx, number)


def _readable(array: Array) -> Array:
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _put(value: Any, out: Array, who: str, what: str) -> None:
    """`out` = what a user's method returned, if it has that shape."""
    array = _checks.floats(value, who, what, np.ndim(value))
    _checks.same_shape(array, out.shape, who, what)
    np.copyto(out, array)


def _step(layer: CustomLayer, what: str, run: Any, arrays: Sequence[Array]) -> PythonStep:
    return PythonStep(run, f"{type(layer).__name__}.{what}", sum(array.nbytes for array in arrays))


def _compute(layer: CustomLayer, name: str, y: Array, *inputs: Array) -> PythonStep:
    xs = [_readable(x) for x in inputs]
    who = layer.describe(name)
    return _step(layer, "compute", lambda: _put(layer.compute(*xs), y, who, "compute"), [y, *xs])


def _gradient(layer: CustomLayer, name: str, count: int, *arrays: Array) -> PythonStep:
    dxs, (dy, *xs) = arrays[:count], [_readable(array) for array in arrays[count:]]
    who = layer.describe(name)

    def run() -> None:
        values = layer.compute_gradient(dy, *xs)
        values = values if count > 1 else (values,)
        if not isinstance(values, tuple) or len(values) != count:
            raise ValueError(
                f"{who}: compute_gradient: expected a tuple of {count} arrays, got {type(values).__name__}"
            )
        for value, dx in zip(values, dxs, strict=True):
            _put(value, dx, who, "compute_gradient")

    return _step(layer, "compute_gradient", run, arrays)


def _parameter_gradients(layer: CustomLayer, name: str, gradients: dict[str, Array], *arrays: Array) -> PythonStep:
    dy, *xs = [_readable(array) for array in arrays]
    who = layer.describe(name)

    def run() -> None:
        values = layer.compute_parameter_gradients(dy, *xs)
        if not isinstance(values, dict) or set(values) != set(gradients):
            raise ValueError(
                f"{who}: compute_parameter_gradients: expected a dict of {', '.join(gradients)}, got {values!s:.60}"
            )
        for key, value in values.items():
            _put(value, gradients[key], who, f"compute_parameter_gradients: {key}")

    return _step(layer, "compute_parameter_gradients", run, arrays)
