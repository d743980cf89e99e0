"""What the functions of :mod:`nnpar.ops` share: arguments as kernels read them, and where results go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar.shapes import Shape


def images_of(value: ArrayLike, who: str, name: str) -> Array:
    """`value` as float32 (N, C, H, W) in channels-last memory, copied only if it is not."""
    return arrays.ready(_checks.floats(value, who, name, 4))


def bias_of(bias: ArrayLike | None, size: int, who: str) -> Array | None:
    """One number for each channel, or None."""
    if bias is None:
        return None
    array = _checks.floats(bias, who, "bias", 1)
    _checks.same_shape(array, (size,), who, "bias")
    return np.ascontiguousarray(array)


def relu_of(activation: str | None, who: str) -> bool:
    """Whether a ReLU is wanted."""
    if activation not in (None, "relu"):
        raise ValueError(f"{who}: activation: expected None or 'relu', got {activation!r}")
    return activation is not None


def values_of(value: ArrayLike, who: str, name: str) -> Array:
    """`value` as float32 of any shape."""
    array = np.asarray(value)
    return arrays.ready(_checks.floats(array, who, name, tuple(range(array.ndim + 1))))


class Result:
    """Where a step writes: `out` itself if its memory fits, else a new array that is copied into it."""

    def __init__(self, out: Any, shape: Shape, who: str, *inputs: NDArray[Any] | None) -> None:
        self.out = _checks.output(out, shape, who, *inputs)
        self.array = self.out if self.out is not None and arrays.is_ready(self.out) else arrays.empty(shape)

    def after(self, *steps: Step) -> Array:
        """Run the steps and return the result."""
        if self.array.size:
            for step in steps:
                step()
        if self.out is None or self.out is self.array:
            return self.array
        np.copyto(self.out, self.array)
        return self.out
