"""Convolution of volumes, and transposed convolution.

It is one of images: the slices under a window's depth lie side by side as channels. x (N, C, D, H, W) becomes columns
(N * OD, C * KD, H, W), and a convolution of images does the rest. The gradient adds the columns up again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnpar import _checks, convolution, shapes
from nnpar._checks import Array
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar._kernels.strided import Fill, StridedCopy
from nnpar.layers.base import check_axes
from nnpar.layers.broadcasting import arithmetic
from nnpar.layers.conv import BaseConv, conv_step
from nnpar.layers.conv_transpose import BaseConvTranspose
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class _Columns(NamedTuple):
    """How columns are made of a volume, or frame: `volume` (N, C, D, H, W), `depth` of the columns."""

    volume: Shape
    depth: int
    kernel: int
    stride: int
    dilation: int
    groups: int

    @property
    def shape(self) -> Shape:
        """(N * depth, C * kernel, H, W)."""
        n, c, _, h, w = self.volume
        return (n * self.depth, c * self.kernel, h, w)

    def taps(self, volume: Array, columns: Array) -> list[tuple[Array, Array]]:
        """For each place in the kernel's depth: the slices of a volume, and where they lie in the columns."""
        n, c, _, h, w = self.volume
        slices = np.moveaxis(volume, 1, -1).reshape(n, -1, h, w, self.groups, c // self.groups)
        places = np.moveaxis(columns, 1, -1).reshape(n, self.depth, h, w, self.groups, self.kernel, c // self.groups)
        last = (self.depth - 1) * self.stride + 1
        return [
            (slices[:, k * self.dilation : k * self.dilation + last : self.stride], places[..., k, :])
            for k in range(self.kernel)
        ]

    def unfold(self, at: Lowering, volume: Buffer) -> Buffer:
        """The columns of a volume."""
        columns = Buffer(self.shape)
        for k in range(self.kernel):
            at.step(functools.partial(_unfold, self, k), volume, columns, writes=columns)
        return columns

    def fold(self, at: Lowering, columns: Buffer) -> Buffer:
        """The sum of what columns have of each slice."""
        volume = Buffer(self.volume, channels_last=True)
        at.step(Fill, volume, writes=volume)
        for k in range(self.kernel):
            at.step(functools.partial(_fold, self, k), columns, volume, writes=volume)
        return volume


def _unfold(how: _Columns, k: int, volume: Array, columns: Array) -> Step:
    slices, place = how.taps(volume, columns)[k]
    return StridedCopy(slices, place)


def _fold(how: _Columns, k: int, columns: Array, volume: Array) -> Step:
    slices, place = how.taps(volume, columns)[k]
    return arithmetic("add", slices, place, slices)


def _to_columns(weight: Array, flat: Array) -> Step:
    """Weights (O, C, KD, KH, KW) as those of a convolution of images, (O, KD * C, KH, KW)."""
    o, c, depth, h, w = weight.shape
    return StridedCopy(weight.transpose(0, 2, 1, 3, 4), flat.reshape(o, depth, c, h, w))


def _from_columns(flat: Array, weight: Array) -> Step:
    o, c, depth, h, w = weight.shape
    return StridedCopy(flat.reshape(o, depth, c, h, w), weight.transpose(0, 2, 1, 3, 4))


def _part(whole: Array, begin: Sequence[int], shape: Shape) -> Array:
    """The part of a frame that begins at some place along its axes of pixels."""
    where = (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(begin, shape[2:], strict=True)))
    part: Array = whole[where]
    return part


def _into(begin: Shape, x: Array, frame: Array) -> Step:
    return StridedCopy(x, _part(frame, begin, x.shape))


def _out_of(begin: Shape, frame: Array, x: Array) -> Step:
    return StridedCopy(_part(frame, begin, x.shape), x)


class Conv3d(BaseConv):
    """Convolution (cross-correlation) of volumes (N, C, D, H, W), as PyTorch's ``nn.Conv3d`` with zero padding.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init
        See :class:`Conv2d`; three numbers where that has two.

    Attributes
    ----------
    weight : ndarray of shape (out_channels, in_channels / groups, KD, KH, KW), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together, or are not supported.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Conv3d
    >>> Conv3d(1, 8, 3, padding=1)(np.zeros((2, 1, 4, 5, 6))).shape
    (2, 8, 4, 5, 6)
    """

    axes = 3

    def _frame_sides(self) -> tuple[Shape, Shape]:
        """Zeros around volumes before their columns are made: along the depth, or along all axes if they are uneven."""
        if self._framed:
            return self._before, self._after
        return (self._before[0], 0, 0), (self._after[0], 0, 0)

    def _plan(self, input_shape: Shape, name: str) -> tuple[_Columns, shapes.Conv2dShape]:
        who = self.describe(name)
        check_axes(input_shape, 3, who)
        before, after = self._frame_sides()
        n, c, *size = input_shape
        frame = [b + s + a for b, s, a in zip(before, size, after, strict=True)]
        window = shapes.PoolWindow(self.kernel_size, self.stride, self._before, self._after, self.dilation)
        depth = shapes.pool(input_shape, window, who).output_shape[2]
        kernel = self.kernel_size[0]
        columns = _Columns((n, c, *frame), depth, kernel, self.stride[0], self.dilation[0], self.groups)
        padding = (0, 0) if self._framed else self._before[1:]
        weight_shape = (self.out_channels, kernel * self.in_channels // self.groups, *self.kernel_size[1:])
        if c != self.in_channels:
            raise ValueError(f"{who}: input: expected {self.in_channels} channels, got shape {input_shape}")
        arguments = self.stride[1:], padding, self.dilation[1:], self.groups, who
        return columns, shapes.conv2d(columns.shape, weight_shape, *arguments)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        columns, s = self._plan(input_shape, name)
        return (input_shape[0], self.out_channels, columns.depth, *s.output_size)

    def forward(self, at: Lowering) -> None:
        columns, s = self._plan(at.x.shape, at.name)
        x, before = at.x, self._frame_sides()[0]
        if columns.volume != at.x.shape:
            x = Buffer(columns.volume, channels_last=True)
            at.step(Fill, x, writes=x)
            at.step(functools.partial(_into, before), at.x, x, writes=x)
        at.saved["columns"] = columns.unfold(at, x)
        at.saved["weight"] = weight = Buffer(s.weight_shape, channels_last=False)
        at.step(_to_columns, self.weight, weight, once=True)
        y = Buffer(s.output_shape)
        at.y = y.view(self.output_shape(at.x.shape), True)
        at.saved["call"] = at.step(
            conv_step, s, at.saved["columns"], y, at.frozen,
            writes=y, fuses=("relu",), weight=weight, bias=self.bias,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        columns, s = self._plan(at.x.shape, at.name)
        dy, dweight = at.dy.view(s.output_shape, True), Buffer(s.weight_shape, channels_last=False)
        at.step(convolution.weight_grad, s, at.saved["columns"], dy, dweight)
        at.step(_from_columns, dweight, at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.saved["call"].same_sums or at.dy, at.gradients["bias"])
        if not at.needs_dx:
            return
        dcolumns = Buffer(s.input_shape)
        at.step(convolution.input_grad, s, dy, at.saved["weight"], dcolumns)
        dx = columns.fold(at, dcolumns)
        if columns.volume != at.x.shape:
            frame, dx = dx, Buffer(at.x.shape, channels_last=True)
            at.step(functools.partial(_out_of, self._frame_sides()[0]), frame, dx)
        at.pass_back(dx)


class ConvTranspose3d(BaseConvTranspose):
    """Transposed convolution of volumes (N, C, D, H, W), as PyTorch's ``nn.ConvTranspose3d``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode
        See :class:`ConvTranspose2d`; three numbers where that has two.
    weight_init : callable, optional
        Shape to array, from :mod:`nnpar.initializers`; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray of shape (in_channels, out_channels / groups, KD, KH, KW), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ConvTranspose3d
    >>> ConvTranspose3d(8, 4, 2, stride=2)(np.zeros((2, 8, 3, 4, 5))).shape
    (2, 4, 6, 8, 10)
    """

    axes = 3

    def _plan(self, input_shape: Shape, name: str) -> tuple[_Columns, shapes.Conv2dShape]:
        """Columns of the output with its padding along the depth, and the convolution of which this is the gradient."""
        output = self.output_shape(input_shape, name)
        frame = (*output[:2], output[2] + 2 * self.padding[0], *output[3:])
        kernel = self.kernel_size[0]
        columns = _Columns(frame, input_shape[2], kernel, self.stride[0], self.dilation[0], self.groups)
        weight_shape = (self.in_channels, kernel * self.out_channels // self.groups, *self.kernel_size[1:])
        arguments = self.stride[1:], self.padding[1:], self.dilation[1:], self.groups, self.describe(name)
        return columns, shapes.conv2d(columns.shape, weight_shape, *arguments)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        self._check(input_shape, name)
        output = (input_shape[0], self.out_channels, *self._output_size(input_shape))
        return _checks.shape(output, self.describe(name), "output", 5)

    def forward(self, at: Lowering) -> None:
        columns, s = self._plan(at.x.shape, at.name)
        at.saved["weight"] = weight = Buffer(s.weight_shape, channels_last=False)
        at.step(_to_columns, self.weight, weight, once=True)
        sums = Buffer(s.input_shape)
        at.step(convolution.input_grad, s, at.x.view(s.output_shape, True), weight, sums)
        at.y = columns.fold(at, sums)
        if self.padding[0] > 0:
            frame, at.y = at.y, Buffer(self.output_shape(at.x.shape), channels_last=True)
            at.step(functools.partial(_out_of, (self.padding[0], 0, 0)), frame, at.y, writes=at.y)
        if self.bias is not None:
            at.step(_add_bias, at.y, self.bias, writes=at.y)

    def backward(self, at: Lowering) -> None:
        columns, s = self._plan(at.x.shape, at.name)
        dy = at.dy
        if self.padding[0] > 0:
            dy = Buffer(columns.volume, channels_last=True)
            at.step(Fill, dy, writes=dy)
            at.step(functools.partial(_into, (self.padding[0], 0, 0)), at.dy, dy, writes=dy)
        dcolumns = columns.unfold(at, dy)
        dweight = Buffer(s.weight_shape, channels_last=False)
        at.step(convolution.weight_grad, s, dcolumns, at.x.view(s.output_shape, True), dweight)
        at.step(_from_columns, dweight, at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.dy, at.gradients["bias"])
        if at.needs_dx:
            dx = Buffer(s.output_shape)
            at.step(convolution.forward, s, dcolumns, at.saved["weight"], None, dx)
            at.pass_back(dx.view(at.x.shape, True))


def _add_bias(y: Array, bias: Array) -> Step:
    return arithmetic("add", y, bias[:, np.newaxis, np.newaxis, np.newaxis], y)
