"""Weighted sums along axes, by tables: what resampling, padding, selecting and adaptive pooling have in common."""

from __future__ import annotations

import functools
import math

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.resample import Resample
from nnpar._kernels.step import Step
from nnpar.layers.base import AXES, Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.resampling import Taps
from nnpar.shapes import Shape


def _in_memory(x: Array, channels_last: bool) -> Array:
    """The array with its axes in the order of memory."""
    return np.moveaxis(x, 1, -1) if channels_last and x.ndim > 2 else x


def resample(axis: int, rows: Taps | None, columns: Taps | None, channels_last: bool, x: Array, y: Array) -> Step:
    """The step along an axis of memory, and the one after it if there is a table for the columns."""
    x, y = _in_memory(x, channels_last), _in_memory(y, channels_last)
    inner = axis + (1 if columns is None else 2)

    def view(array: Array) -> Array:
        outer, rest = math.prod(array.shape[:axis]), math.prod(array.shape[inner:])
        return array.reshape(outer, array.shape[axis], array.shape[axis + 1] if columns is not None else 1, rest)

    return Resample(view(x), view(y), rows, columns)


def _transposed(taps: Taps | None) -> Taps | None:
    return None if taps is None else taps.transposed


class AlongPixels(Layer):
    """Base of the layers that work along the axes of sequences, images or volumes."""

    channels_last = True

    def axes_of(self, input_shape: Shape, who: str) -> int:
        """How many axes of pixels there are."""
        if len(input_shape) - 2 not in AXES:
            raise ValueError(f"{who}: input: expected shape {', '.join(AXES.values())}, got {input_shape}")
        return len(input_shape) - 2

    def output_pixels(self, input_shape: Shape, who: str) -> Shape:
        """The output's sizes along these axes."""
        raise NotImplementedError

    def taps(self, input_shape: Shape) -> list[Taps | None]:
        """Tables for these axes; None leaves one as it is."""
        raise NotImplementedError

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        self.axes_of(input_shape, who)
        if 0 in input_shape[2:]:
            raise ValueError(f"{who}: input: expected at least one pixel, got shape {input_shape}")
        shape = (*input_shape[:2], *self.output_pixels(input_shape, who))
        return _checks.shape(shape, who, "output", len(shape))

    def passes(self, input_shape: Shape) -> list[tuple[Shape, Shape, int, Taps | None, Taps | None]]:
        """Shapes before and after each step, the axis in memory, and its tables: two axes at once."""
        taps, result = self.taps(input_shape), []
        axes = [axis for axis, table in enumerate(taps) if table is not None]
        while axes:
            axis = axes.pop(0)
            columns = taps[axes.pop(0)] if axes and axes[0] == axis + 1 else None
            tables = taps[axis], columns
            sizes = list(input_shape)
            for k, table in enumerate(tables):
                if table is not None:
                    sizes[2 + axis + k] = table.count
            result.append((input_shape, tuple(sizes), 1 + axis, *tables))
            input_shape = tuple(sizes)
        return result

    def forward(self, at: Lowering) -> None:
        self.output_shape(at.x.shape, at.name)
        at.saved["passes"] = self.passes(at.x.shape)
        at.y = at.x
        for before, after, axis, rows, columns in at.saved["passes"]:
            y = Buffer(after, channels_last=True)
            at.step(functools.partial(resample, axis, rows, columns, True), at.y.view(before, True), y, writes=y)
            at.y = y

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dy, owned = at.dy, at.owns_dy
        for before, _, axis, rows, columns in reversed(at.saved["passes"]):
            dx = Buffer(before, channels_last=True)
            at.step(functools.partial(resample, axis, _transposed(rows), _transposed(columns), True), dy, dx)
            dy, owned = dx, True
        at.pass_back(dy, owned=owned)
