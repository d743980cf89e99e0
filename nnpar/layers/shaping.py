"""Layers that move numbers and change none: shapes, orders of axes, parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar._kernels.strided import Fill, StridedCopy
from nnpar.layers.base import Layer
from nnpar.layers.broadcasting import pass_back_sum
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Reshape(Layer):
    """The same numbers in another shape, in the order of the axes.

    Parameters
    ----------
    shape : tuple of int
        With the batch's axis: 0 keeps the input's size at that place, and one -1 stands for what is left.

    Raises
    ------
    ValueError
        If there are several -1; when it is used: if the input has another number of elements.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Reshape
    >>> Reshape((0, 2, -1))(np.zeros((5, 6, 4))).shape
    (5, 2, 12)
    """

    channels_last = False

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = _checks.integers(shape, "Reshape", "shape", -1)
        if self.shape.count(-1) > 1:
            raise ValueError(f"Reshape: shape: expected one -1 at most, got {self.shape}")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who, size = self.describe(name), math.prod(input_shape)
        if any(n == 0 and axis >= len(input_shape) for axis, n in enumerate(self.shape)):
            raise ValueError(f"{who}: input: expected an axis for each 0 of {self.shape}, got shape {input_shape}")
        sizes = [input_shape[axis] if n == 0 else n for axis, n in enumerate(self.shape)]
        rest = math.prod(n for n in sizes if n != -1)
        if -1 in sizes:
            sizes[sizes.index(-1)] = size // rest if rest else 0
        if math.prod(sizes) != size:
            raise ValueError(f"{who}: input: expected as many numbers as {self.shape} has, got shape {input_shape}")
        return tuple(sizes)

    def forward(self, at: Lowering) -> None:
        at.y = at.x.view(self.output_shape(at.x.shape, at.name), channels_last=False)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            at.pass_back(at.dy.view(at.x.shape, channels_last=False), owned=at.owns_dy)

    def settings(self) -> dict[str, Any]:
        return {"shape": self.shape}


class _View(Layer):
    """Base of the layers whose output is a view of their input, in NumPy's sense, copied."""

    covers = True  # whether every element of the input is in the output

    def view(self, x: Array) -> Array:
        """The view of an array."""
        raise NotImplementedError

    def check(self, input_shape: Shape, who: str) -> None:
        """The layer can take such an input."""

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        self.check(input_shape, self.describe(name))
        return self.view(np.broadcast_to(np.float32(0.0), input_shape)).shape

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=at.x.channels_last)
        at.step(_copy_view, self.view, at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.x.like()
            if not self.covers:
                at.step(Fill, dx, writes=dx)
            at.step(_fill_view, self.view, at.dy, dx, writes=dx)
            at.pass_back(dx)


def _copy_view(view: Any, x: Array, y: Array) -> Step:
    return StridedCopy(view(x), y)


def _fill_view(view: Any, dy: Array, dx: Array) -> Step:
    return StridedCopy(dy, view(dx))


class Permute(_View):
    """Axes in another order, as ``numpy.transpose`` and PyTorch's ``permute``.

    Parameters
    ----------
    dims : tuple of int
        For each axis of the output, the one of the input; with the batch's.

    Raises
    ------
    ValueError
        If they are no order of axes; when it is used: if the input has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Permute
    >>> Permute((0, 2, 1))(np.zeros((5, 6, 4))).shape
    (5, 4, 6)
    """

    def __init__(self, dims: Sequence[int]) -> None:
        self.dims = _checks.integers(dims, "Permute", "dims")
        if sorted(d % max(1, len(self.dims)) for d in self.dims) != list(range(len(self.dims))):
            raise ValueError(f"Permute: dims: expected each axis once, got {self.dims}")
        self._arrays = {}

    def check(self, input_shape: Shape, who: str) -> None:
        if len(input_shape) != len(self.dims):
            raise ValueError(f"{who}: input: expected {len(self.dims)} axes, got shape {input_shape}")

    def view(self, x: Array) -> Array:
        permuted: Array = x.transpose(self.dims)
        return permuted

    def settings(self) -> dict[str, Any]:
        return {"dims": self.dims}


class Slice(_View):
    """A part of an axis: ``x[..., start:end:step, ...]``.

    Parameters
    ----------
    dim : int
        0 is the batch's.
    start, end : int or None
        Negative ones count from the end; None is that of the axis.
    step : int
        Not 0; a negative one turns the order around.

    Raises
    ------
    ValueError
        If step is 0; when it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Slice
    >>> Slice(1, 1, None, 2)([[0.0, 1.0, 2.0, 3.0]])
    array([[1., 3.]], dtype=float32)
    """

    covers = False

    def __init__(self, dim: int, start: int | None = 0, end: int | None = None, step: int = 1) -> None:
        least = -_checks.LARGEST
        self.dim = _checks.integer(dim, "Slice", "dim", least)
        self.start = None if start is None else _checks.integer(start, "Slice", "start", least)
        self.end = None if end is None else _checks.integer(end, "Slice", "end", least)
        self.step = _checks.integer(step, "Slice", "step", least)
        if self.step == 0:
            raise ValueError("Slice: step: expected another number than 0, got 0")
        self._arrays = {}

    def check(self, input_shape: Shape, who: str) -> None:
        _checks.axis(self.dim, len(input_shape), who, "dim")

    def view(self, x: Array) -> Array:
        axis = self.dim % x.ndim
        part: Array = x[(slice(None),) * axis + (slice(self.start, self.end, self.step),)]
        return part

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "start": self.start, "end": self.end, "step": self.step}


class Expand(Layer):
    """Axes of size 1 repeated, as PyTorch's ``expand`` and NumPy's ``broadcast_to``.

    Parameters
    ----------
    shape : tuple of int
        With the batch's axis; -1 keeps a size. It may have more axes than the input, before the others.

    Raises
    ------
    ValueError
        When it is used: if an axis that is to change has another size than 1.

    Examples
    --------
    >>> from nnpar import Expand
    >>> Expand((-1, 3))([[1.0], [2.0]])
    array([[1., 1., 1.],
           [2., 2., 2.]], dtype=float32)
    """

    channels_last = False

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = _checks.integers(shape, "Expand", "shape", -1)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who, more = self.describe(name), len(self.shape) - len(input_shape)
        if more < 0 or -1 in self.shape[:more]:
            raise ValueError(f"{who}: input: expected shape {self.shape}, or less axes, got {input_shape}")
        old = (1,) * more + input_shape
        sizes = tuple(n if wanted == -1 else wanted for n, wanted in zip(old, self.shape, strict=True))
        if any(n not in (1, size) for n, size in zip(old, sizes, strict=True)):
            raise ValueError(f"{who}: input: expected 1 where {self.shape} is another size, got {input_shape}")
        return _checks.shape(sizes, who, "output", len(sizes))

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=False)
        at.step(_repeat, at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            pass_back_sum(at, at.dy, 0, at.owns_dy)

    def settings(self) -> dict[str, Any]:
        return {"shape": self.shape}


def _repeat(x: Array, y: Array) -> Step:
    return StridedCopy(np.broadcast_to(x, y.shape), y)


class ConstantPad(Layer):
    """More numbers at the ends of axes, all of them one value; or fewer, where a size is negative.

    Parameters
    ----------
    before, after : tuple of int
        For each axis, the batch's first.
    value : float

    Raises
    ------
    ValueError
        If they are not of one length; when it is used: if the input has another number of axes, or nothing is left.

    Examples
    --------
    >>> from nnpar import ConstantPad
    >>> ConstantPad((0, 1), (0, 0), 7.0)([[1.0, 2.0]])
    array([[7., 1., 2.]], dtype=float32)
    """

    def __init__(self, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> None:
        self.before = _checks.integers(before, "ConstantPad", "before")
        self.after = _checks.integers(after, "ConstantPad", "after")
        self.value = _checks.number(value, "ConstantPad", "value")
        if len(self.before) != len(self.after):
            raise ValueError(f"ConstantPad: after: expected {len(self.before)} sizes, got {self.after}")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        if len(input_shape) != len(self.before):
            raise ValueError(f"{who}: input: expected {len(self.before)} axes, got shape {input_shape}")
        sizes = tuple(b + n + a for b, n, a in zip(self.before, input_shape, self.after, strict=True))
        if min(sizes, default=0) < 0:
            raise ValueError(
                f"{who}: input: expected at least what {self.before} and {self.after} cut off, got {input_shape}"
            )
        return _checks.shape(sizes, who, "output", len(sizes))

    def _inside(self, large: Array, small: Array) -> tuple[Array, Array]:
        """The part that input and output have in common, in the output and in the input."""
        of_y = tuple(slice(max(0, b), max(0, b) + max(0, n + min(0, b) + min(0, a))) for b, n, a in self._each(small))
        of_x = tuple(slice(max(0, -b), max(0, -b) + max(0, n + min(0, b) + min(0, a))) for b, n, a in self._each(small))
        return large[of_y], small[of_x]

    def _each(self, x: Array) -> list[tuple[int, int, int]]:
        return list(zip(self.before, x.shape, self.after, strict=True))

    def _pad(self, x: Array, y: Array) -> Step:
        inner, whole = self._inside(y, x)
        return StridedCopy(whole, inner)

    def _cut(self, dy: Array, dx: Array) -> Step:
        inner, whole = self._inside(dy, dx)
        return StridedCopy(inner, whole)

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name), channels_last=at.x.channels_last)
        at.step(Fill, at.y, self.value, writes=at.y)
        at.step(self._pad, at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.x.like()
            if min(*self.before, *self.after) < 0:
                at.step(Fill, dx, writes=dx)
            at.step(self._cut, at.dy, dx, writes=dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"before": self.before, "after": self.after, "value": self.value}


class ZeroPad2d(ConstantPad):
    """Zeros around images, as PyTorch's ``nn.ZeroPad2d``.

    Parameters
    ----------
    padding : int or tuple of four ints
        Left, right, top, bottom; an int stands for all.

    Raises
    ------
    ValueError
        If they are not four.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ZeroPad2d
    >>> ZeroPad2d((0, 1, 0, 1))(np.ones((2, 3, 4, 4))).shape
    (2, 3, 5, 5)
    """

    def __init__(self, padding: int | Sequence[int]) -> None:
        sides = _checks.integers([padding] * 4 if np.ndim(padding) == 0 else padding, "ZeroPad2d", "padding")
        if len(sides) != 4:
            raise ValueError(f"ZeroPad2d: padding: expected an int or (left, right, top, bottom), got {sides}")
        self.padding = sides
        left, right, top, bottom = sides
        super().__init__((0, 0, top, left), (0, 0, bottom, right))

    def settings(self) -> dict[str, Any]:
        return {"padding": self.padding}
