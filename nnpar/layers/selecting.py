"""Places of an axis by their numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks, resampling
from nnpar.layers.along_axes import resample
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Select(Layer):
    """Places of an axis by their numbers, in any order and repeated at will: ``numpy.take``.

    Parameters
    ----------
    dim : int
        0 is the batch's.
    indices : sequence of int
        Negative ones count from the end.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis or place.

    Examples
    --------
    >>> from nnpar import Select
    >>> Select(1, [2, 0, 0])([[1.0, 2.0, 3.0]])
    array([[3., 1., 1.]], dtype=float32)
    """

    def __init__(self, dim: int, indices: Sequence[int]) -> None:
        self.dim = _checks.integer(dim, "Select", "dim", -_checks.LARGEST)
        self.indices = _checks.integers(indices, "Select", "indices")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        axis = _checks.axis(self.dim, len(input_shape), who, "dim")
        size = input_shape[axis]
        if any(not -size <= index < size for index in self.indices):
            raise ValueError(f"{who}: indices: expected less than {size}, got {self.indices!r:.60}")
        return (*input_shape[:axis], len(self.indices), *input_shape[axis + 1 :])

    def _in_memory(self, at: Lowering) -> tuple[int, bool]:
        """The axis in the order of memory, and whether that is channels-last."""
        axis, rank = self.dim % len(at.x.shape), len(at.x.shape)
        last = at.x.channels_last and rank > 2
        return ((axis if axis == 0 else rank - 1 if axis == 1 else axis - 1) if last else axis), last

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=at.x.channels_last)
        size = at.x.shape[self.dim]
        taps = at.saved["taps"] = resampling.selected(size, np.asarray(self.indices, np.int64) % size)
        axis, last = self._in_memory(at)
        at.step(functools.partial(resample, axis, taps, None, last), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.x.like()
            axis, last = self._in_memory(at)
            at.step(functools.partial(resample, axis, at.saved["taps"].transposed, None, last), at.dy, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "indices": self.indices}
