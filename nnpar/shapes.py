"""Shapes of results, worked out and checked from the shapes of arguments. Shared by ops and layers."""

from __future__ import annotations

import math
from typing import NamedTuple

from nnpar import _checks
from nnpar._checks import IntOrPair, Padding, Pair

Shape = tuple[int, ...]


class Conv2dShape(NamedTuple):
    """A convolution's sizes; `input_shape` (N, C, H, W), `weight_shape` (OC, C / groups, KH, KW)."""

    input_shape: Shape
    weight_shape: Shape
    output_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def output_shape(self) -> Shape:
        """(N, OC, OH, OW)."""
        return (self.input_shape[0], self.weight_shape[0], *self.output_size)


def conv2d(
    input_shape: Shape,
    weight_shape: Shape,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
    groups: int,
    who: str,
) -> Conv2dShape:
    """Check a convolution's arguments.

    Raises
    ------
    ValueError
        If they do not fit together; `who` names the operation or layer.
    """
    stride = _checks.pair(stride, who, "stride", 1)
    padding = _checks.pair(padding, who, "padding", 0)
    dilation = _checks.pair(dilation, who, "dilation", 1)
    groups = _checks.integer(groups, who, "groups", 1)
    channels, (out_channels, group_channels) = input_shape[1], weight_shape[:2]
    if min(weight_shape) < 1:
        raise ValueError(f"{who}: weight: expected sizes of at least 1, got shape {weight_shape}")
    if out_channels % groups:
        raise ValueError(f"{who}: groups: expected a divisor of {out_channels} output channels, got {groups}")
    if group_channels * groups != channels:
        expected = f"{group_channels * groups} channels ({group_channels} for each of {groups} groups)"
        raise ValueError(f"{who}: input: expected {expected}, got {channels} in shape {input_shape}")
    size = window_positions(input_shape, weight_shape[2:], stride, padding, dilation, who)
    framed = [length + 2 * pad for length, pad in zip(input_shape[2:], padding, strict=True)]
    _checks.shape((*input_shape[:2], *framed), who, "input with its padding", 4)
    _checks.shape((input_shape[0], out_channels, *size), who, "output", 4)
    return Conv2dShape(input_shape, weight_shape, size, stride, padding, dilation, groups)


class PoolWindow(NamedTuple):
    """A pooling's window: sizes along each axis, what surrounds the image before and after it, and whether windows that
    reach beyond that count.
    """

    kernel_size: Shape
    stride: Shape
    before: Shape
    after: Shape
    dilation: Shape
    ceil_mode: bool = False

    @property
    def padding(self) -> Shape | tuple[Shape, ...]:
        """As layers take it."""
        return padding_of(self.before, self.after)

    def along(self, *axes: int | None) -> PoolWindow:
        """The window along these axes alone; None is an axis along which it has one position."""

        def part(sizes: Shape, default: int) -> Shape:
            return tuple(default if axis is None else sizes[axis] for axis in axes)

        return PoolWindow(
            part(self.kernel_size, 1), part(self.stride, 1), part(self.before, 0), part(self.after, 0),
            part(self.dilation, 1), self.ceil_mode,
        )  # fmt: skip


def padding_of(before: Shape, after: Shape) -> Shape | tuple[Shape, ...]:
    """A padding as layers take it: one size for each axis, or (before, after) for each where these differ."""
    return before if before == after else tuple(zip(before, after, strict=True))


def side_by_side(size: Shape) -> PoolWindow:
    """Windows of that size that neither overlap nor leave gaps."""
    return PoolWindow(tuple(size), tuple(size), (0,) * len(size), (0,) * len(size), (1,) * len(size))


class PoolShape(NamedTuple):
    """A pooling's sizes."""

    input_shape: Shape
    output_shape: Shape
    window: PoolWindow


MAX_POOL_POSITIONS = 256  # of a max pooling's window: they are kept as bytes


def pool_window(
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: Padding,
    dilation: IntOrPair,
    ceil_mode: bool,
    who: str,
    axes: int = 2,
) -> PoolWindow:
    """Check a pooling's window; a stride of None is the kernel's size.

    Raises
    ------
    ValueError
        If sizes are out of range, or a window may lie in the padding.
    """
    kernel = _checks.sizes(kernel_size, who, "kernel_size", 1, axes)
    step = kernel if stride is None else _checks.sizes(stride, who, "stride", 1, axes)
    apart = _checks.sizes(dilation, who, "dilation", 1, axes)
    before, after = _checks.sides(padding, who, "padding", axes)
    spans = tuple(_span(k, d) for k, d in zip(kernel, apart, strict=True))
    if max(spans) >= _checks.LARGEST:
        raise ValueError(f"{who}: dilation: {apart} makes the window too large")
    if any(max(b, a) >= span for b, a, span in zip(before, after, spans, strict=True)):
        raise ValueError(f"{who}: padding: expected less than the window's {spans}, got {padding}")
    return PoolWindow(kernel, step, before, after, apart, bool(ceil_mode))


def pool(input_shape: Shape, window: PoolWindow, who: str) -> PoolShape:
    """Sizes of what a pooling of any number of axes gives.

    Raises
    ------
    ValueError
        If the window does not fit; `who` names the operation or layer.
    """
    size = tuple(_pooled(input_shape, window, axis, who) for axis in range(len(window.stride)))
    output = _checks.shape((*input_shape[:2], *size), who, "output", len(input_shape))
    return PoolShape(input_shape, output, window)


def pool2d(
    input_shape: Shape,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: Padding,
    dilation: IntOrPair,
    ceil_mode: bool,
    who: str,
    most_positions: int | None = None,
) -> PoolShape:
    """The same from the arguments of a pooling of images, see :func:`pool_window`.

    Raises
    ------
    ValueError
        If they do not fit together, or the window has more than `most_positions`.
    """
    window = pool_window(kernel_size, stride, padding, dilation, ceil_mode, who)
    if most_positions is not None and math.prod(window.kernel_size) > most_positions:
        raise ValueError(f"{who}: kernel_size: expected at most {most_positions} positions, got {window.kernel_size}")
    return pool(input_shape, window, who)


def _span(kernel: int, dilation: int) -> int:
    """How far a window reaches."""
    return dilation * (kernel - 1) + 1


AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _pooled(input_shape: Shape, window: PoolWindow, axis: int, who: str) -> int:
    """How many windows there are along an axis. With ceil_mode also such as end after the padding; each begins before
    the image's end, as in PyTorch.
    """
    size, before, after = input_shape[2 + axis], window.before[axis], window.after[axis]
    span, step = _span(window.kernel_size[axis], window.dilation[axis]), window.stride[axis]
    rest = size + before + after - span
    count = rest // step + 1
    if window.ceil_mode:
        count = -(-rest // step) + 1
        if (count - 1) * step >= size + before:
            count -= 1
    if size < 1 or count < 1:
        name = AXIS_NAMES[len(window.stride)][axis]
        raise ValueError(
            f"{who}: input: expected a {name} of at least {max(1, span - before - after)} "
            f"for a window of {span} and padding {(before, after)}, got shape {input_shape}"
        )
    return count


def upsample2d(input_shape: Shape, scale: Pair, who: str) -> Shape:
    """Shape of images whose pixels are repeated `scale` = (h, w) times.

    Raises
    ------
    ValueError
        If an image has no pixels, or the result is too large; `who` names the operation or layer.
    """
    if 0 in input_shape[2:]:
        raise ValueError(f"{who}: input: expected a height and width of at least 1, got shape {input_shape}")
    n, c, h, w = input_shape
    return _checks.shape((n, c, scale[0] * h, scale[1] * w), who, "output", 4)


def window_positions(input_shape: Shape, kernel: Shape, stride: Pair, padding: Pair, dilation: Pair, who: str) -> Pair:
    """How often a window fits along each axis of the images: (OH, OW)."""
    sizes = []
    for axis in range(2):
        padded = input_shape[2 + axis] + 2 * padding[axis]
        span = dilation[axis] * (kernel[axis] - 1) + 1
        if input_shape[2 + axis] < 1 or span > padded:
            name = ("height", "width")[axis]
            raise ValueError(
                f"{who}: input: expected a {name} of at least {max(1, span - 2 * padding[axis])} "
                f"for a window of {span} and padding {padding[axis]}, got shape {input_shape}"
            )
        sizes.append((padded - span) // stride[axis] + 1)
    return sizes[0], sizes[1]
