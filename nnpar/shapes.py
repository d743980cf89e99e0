"""Shapes of results, worked out and checked from the shapes of arguments. Shared by ops and layers."""

from __future__ import annotations

from dataclasses import dataclass

from nnpar import _checks
from nnpar._checks import IntOrPair, Pair

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv2dShape:
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


@dataclass(frozen=True)
class Pool2dShape:
    """A pooling's sizes."""

    input_shape: Shape
    output_shape: Shape
    kernel_size: Pair
    stride: Pair
    padding: Pair


MAX_POOL_POSITIONS = 256  # of a max pooling's window: they are kept as bytes


def pool2d_window(
    kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair, who: str, most_positions: int | None = None
) -> tuple[Pair, Pair, Pair]:
    """Check a pooling's window: (kernel, stride, padding); a stride of None is the kernel's size.

    Raises
    ------
    ValueError
        If the padding is more than half the kernel, or the window has more than `most_positions`.
    """
    kernel = _checks.pair(kernel_size, who, "kernel_size", 1)
    step = kernel if stride is None else _checks.pair(stride, who, "stride", 1)
    pad = _checks.pair(padding, who, "padding", 0)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise ValueError(f"{who}: padding: expected at most half of kernel_size {kernel}, got {pad}")
    if most_positions is not None and kernel[0] * kernel[1] > most_positions:
        raise ValueError(f"{who}: kernel_size: expected at most {most_positions} positions, got {kernel}")
    return kernel, step, pad


def pool2d(
    input_shape: Shape,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    who: str,
    most_positions: int | None = None,
) -> Pool2dShape:
    """Check a pooling's arguments, see :func:`pool2d_window`.

    Raises
    ------
    ValueError
        If they do not fit together; `who` names the operation or layer.
    """
    kernel, step, pad = pool2d_window(kernel_size, stride, padding, who, most_positions)
    size = window_positions(input_shape, kernel, step, pad, (1, 1), who)
    _checks.shape((*input_shape[:2], *size), who, "output", 4)
    return Pool2dShape(input_shape, (*input_shape[:2], *size), kernel, step, pad)


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
