"""A moving average of a model's weights, kept while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.optimizer import Average
from nnpar._kernels.step import Program
from nnpar.layers.base import Layer


def running_statistics(model: Layer) -> list[Array]:
    """The arrays that a forward pass in training changes."""
    return [array for node in model.nodes() for array in node.layer._statistics.values()]


def put_statistics(statistics: Sequence[Array], joined: NDArray[Any]) -> None:
    """Give each its part of an array in which they follow each other."""
    start = 0
    for array in statistics:
        array[...] = joined[start : start + array.size].reshape(array.shape)
        start += array.size


class WeightAverage:
    """The moving average of a model's parameters, which lie in one flat array, and of its running statistics.

    Parameters
    ----------
    model : Layer
    values : ndarray of shape (size,), float32
        Its parameters.
    part : slice
        Of which this process has the average.
    decay : float
    """

    def __init__(self, model: Layer, values: Array, part: slice, decay: float) -> None:
        decay = _checks.number(decay, "Trainer", "average")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"Trainer: average: expected a decay of at least 0 and below 1, got {decay}")
        self._own = [values, *running_statistics(model)]
        self.averages = [arrays.zeros(array.shape) for array in self._own]
        flat, *statistics = zip(self.averages, self._own, strict=True)
        pairs = [(flat[0][part], flat[1][part]), *statistics]
        self._steps = [Average(average, own, decay) for average, own in pairs]
        self._program = Program(self._steps)

    def update(self) -> None:
        """Move towards the model's numbers; at first take them."""
        self._program.run()

    def begin(self, begun: bool) -> None:
        """Whether there is an average, which the next update moves, or it takes the model's numbers."""
        for step in self._steps:
            step.begin(begun)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average meanwhile."""
        kept = [array.copy() for array in self._own]
        try:
            for own, average in zip(self._own, self.averages, strict=True):
                np.copyto(own, average)
            yield
        finally:
            for own, values in zip(self._own, kept, strict=True):
                np.copyto(own, values)
