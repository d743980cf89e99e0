"""Layers that move numbers and change none: shapes, orders of axes, parts."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.activation import Activation
from nnpar._kernels.step import Step
from nnpar._kernels.strided import Fill, StridedCopy, SumAxes
from nnpar.layers.base import Layer, images_only
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


def _integers(values: Any, who: str, name: str, least: int = -(2**31)) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or np.ndim(values) != 1:
        raise TypeError(f"{who}: {name}: expected a sequence of ints, got {values!r:.60}")
    return tuple(_checks.integer(value, who, name, least) for value in values)


def _axis(value: int, rank: int, who: str, name: str) -> int:
    if not -rank <= value < rank:
        raise ValueError(f"{who}: {name}: expected an axis of {rank}, got {value}")
    return value % rank


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
        self.shape = _integers(shape, "Reshape", "shape", -1)
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
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
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
        self.dims = _integers(dims, "Permute", "dims")
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
        least = -(2**62)
        self.dim = _checks.integer(dim, "Slice", "dim", least)
        self.start = None if start is None else _checks.integer(start, "Slice", "start", least)
        self.end = None if end is None else _checks.integer(end, "Slice", "end", least)
        self.step = _checks.integer(step, "Slice", "step", least)
        if self.step == 0:
            raise ValueError("Slice: step: expected another number than 0, got 0")
        self._arrays = {}

    def check(self, input_shape: Shape, who: str) -> None:
        _axis(self.dim, len(input_shape), who, "dim")

    def view(self, x: Array) -> Array:
        axis = self.dim % x.ndim
        part: Array = x[(slice(None),) * axis + (slice(self.start, self.end, self.step),)]
        return part

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "start": self.start, "end": self.end, "step": self.step}


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
        self.before = _integers(before, "ConstantPad", "before")
        self.after = _integers(after, "ConstantPad", "after")
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
        sides = _integers([padding] * 4 if np.ndim(padding) == 0 else padding, "ZeroPad2d", "padding")
        if len(sides) != 4:
            raise ValueError(f"ZeroPad2d: padding: expected an int or (left, right, top, bottom), got {sides}")
        self.padding = sides
        left, right, top, bottom = sides
        super().__init__((0, 0, top, left), (0, 0, bottom, right))

    def settings(self) -> dict[str, Any]:
        return {"padding": self.padding}


class ChannelShuffle(Layer):
    """Channels of several groups in turn: Zhang, Zhou, Lin, Sun, arXiv:1707.01083, as PyTorch's ``nn.ChannelShuffle``.

    Parameters
    ----------
    groups : int
        Divides the number of channels.

    Raises
    ------
    ValueError
        When it is used: if it does not.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ChannelShuffle
    >>> ChannelShuffle(2)(np.arange(4.0).reshape(1, 4, 1, 1)).ravel()
    array([0., 2., 1., 3.], dtype=float32)
    """

    def __init__(self, groups: int) -> None:
        self.groups = _checks.integer(groups, "ChannelShuffle", "groups", 1)
        self._arrays = {}

    def _check(self, input_shape: Shape, who: str) -> None:
        images_only(input_shape, who)
        if input_shape[1] % self.groups:
            raise ValueError(f"{who}: groups: expected a divisor of {input_shape[1]} channels, got {self.groups}")

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        self._check(input_shape, self.describe(name))
        return input_shape

    def forward(self, at: Lowering) -> None:
        self._check(at.x.shape, self.describe(at.name))
        at.y = at.x.like()
        at.step(functools.partial(_shuffle, self.groups), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.x.like()
            at.step(functools.partial(_shuffle, at.x.shape[1] // self.groups), at.dy, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"groups": self.groups}


def _shuffle(groups: int, x: Array, y: Array) -> Step:
    """Channel g * (C / groups) + k becomes k * groups + g."""
    n, c, h, w = x.shape
    strides = x.strides
    parts = np.lib.stride_tricks.as_strided(
        x, (n, c // groups, groups, h, w), (strides[0], strides[1], strides[1] * (c // groups), *strides[2:])
    )
    to = y.strides
    whole = np.lib.stride_tricks.as_strided(y, parts.shape, (to[0], to[1] * groups, to[1], *to[2:]))
    return StridedCopy(parts, whole)


class PixelShuffle(Layer):
    """Channels become pixels: (N, C r^2, H, W) to (N, C, H r, W r). Shi et al., arXiv:1609.05158, as PyTorch's
    ``nn.PixelShuffle``.

    Parameters
    ----------
    upscale_factor : int

    Raises
    ------
    ValueError
        When it is used: if its square does not divide the number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import PixelShuffle
    >>> PixelShuffle(2)(np.arange(4.0).reshape(1, 4, 1, 1))[0, 0]
    array([[0., 1.],
           [2., 3.]], dtype=float32)
    """

    channels_last = True

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = _checks.integer(upscale_factor, "PixelShuffle", "upscale_factor", 1)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who, r = self.describe(name), self.upscale_factor
        images_only(input_shape, who)
        n, c, h, w = input_shape
        if c % (r * r):
            raise ValueError(f"{who}: input: expected a multiple of {r * r} channels, got {c}")
        return n, c // (r * r), h * r, w * r

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(functools.partial(_pixels, self.upscale_factor, False), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(functools.partial(_pixels, self.upscale_factor, True), dx, at.dy)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"upscale_factor": self.upscale_factor}


def _pixels(r: int, back: bool, few: Array, many: Array) -> Step:
    """Channel c r^2 + i r + j of pixel (h, w) is channel c of pixel (h r + i, w r + j)."""
    n, c, h, w = few.shape
    shape = (n, c // (r * r), r, r, h, w)
    a, b = few.strides, many.strides
    small = np.lib.stride_tricks.as_strided(few, shape, (a[0], a[1] * r * r, a[1] * r, a[1], a[2], a[3]))
    large = np.lib.stride_tricks.as_strided(many, shape, (b[0], b[1], b[2], b[3], b[2] * r, b[3] * r))
    return StridedCopy(large, small) if back else StridedCopy(small, large)


class Mean(Layer):
    """Mean over some axes.

    Parameters
    ----------
    dim : tuple of int
        0 is the batch's.
    keepdim : bool
        Whether these axes stay, of size 1.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Mean
    >>> Mean((1,))([[1.0, 2.0, 6.0]])
    array([3.], dtype=float32)
    """

    def __init__(self, dim: Sequence[int], keepdim: bool = False) -> None:
        self.dim = _integers(dim, type(self).__name__, "dim")
        self.keepdim = bool(keepdim)
        self._arrays = {}

    def _kept(self, input_shape: Shape, name: str) -> Shape:
        who = self.describe(name)
        axes = {_axis(axis, len(input_shape), who, "dim") for axis in self.dim}
        return tuple(1 if axis in axes else size for axis, size in enumerate(input_shape))

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        kept = self._kept(input_shape, name)
        axes = {axis % len(input_shape) for axis in self.dim}
        return kept if self.keepdim else tuple(size for axis, size in enumerate(kept) if axis not in axes)

    def _factor(self, input_shape: Shape) -> float:
        kept = self._kept(input_shape, "")
        return math.prod(kept) / max(1, math.prod(input_shape))

    def forward(self, at: Lowering) -> None:
        kept = Buffer(self._kept(at.x.shape, at.name), channels_last=False)
        at.step(SumAxes, at.x, kept, self._factor(at.x.shape), writes=kept)
        at.y = kept.view(self.output_shape(at.x.shape, at.name), channels_last=False)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            slope = at.dy.view(self._kept(at.x.shape, at.name), channels_last=False)
            scaled, dx = slope.like(), at.x.like()
            at.step(Activation, "scale", slope, scaled, self._factor(at.x.shape))
            at.step(_spread, scaled, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "keepdim": self.keepdim}


class Sum(Mean):
    """Sum over some axes.

    Parameters
    ----------
    dim : tuple of int
        0 is the batch's.
    keepdim : bool
        Whether these axes stay, of size 1.

    Raises
    ------
    ValueError
        When it is used: if there is no such axis.

    Examples
    --------
    >>> from nnpar import Sum
    >>> Sum((1,))([[1.0, 2.0, 6.0]])
    array([9.], dtype=float32)
    """

    def _factor(self, input_shape: Shape) -> float:
        return 1.0


def _spread(x: Array, y: Array) -> Step:
    return StridedCopy(np.broadcast_to(x, y.shape), y)
