"""Transposed convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import _checks, convolution, initializers, shapes
from nnpar._checks import Array, IntOrPair, Pair
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Parameter, images_only, new_parameter
from nnpar.layers.broadcasting import arithmetic
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class ConvTranspose2d(Layer):
    """Two-dimensional transposed convolution, as PyTorch's ``nn.ConvTranspose2d``: what a convolution's gradient does
    to its output, as a layer that makes images larger. Each pass runs the kernels of one of a convolution's.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride, padding : int or (int, int)
    output_padding : int or (int, int)
        Rows and columns more, below the stride: for sizes that a convolution of that stride would make equal.
    groups : int
        Divides both numbers of channels.
    bias : bool
    dilation : int or (int, int)
    padding_mode : {"zeros"}
    weight_init : callable, optional
        Shape to array, from :mod:`nnpar.initializers`; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray of shape (in_channels, out_channels / groups, KH, KW), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ConvTranspose2d
    >>> ConvTranspose2d(8, 4, 2, stride=2)(np.zeros((2, 8, 5, 5))).shape
    (2, 4, 10, 10)
    """

    channels_last = True
    weight = Parameter()
    bias = Parameter()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        output_padding: IntOrPair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrPair = 1,
        padding_mode: str = "zeros",
        *,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        who = "ConvTranspose2d"
        self.in_channels = _checks.integer(in_channels, who, "in_channels", 1)
        self.out_channels = _checks.integer(out_channels, who, "out_channels", 1)
        self.kernel_size = _checks.pair(kernel_size, who, "kernel_size", 1)
        self.stride = _checks.pair(stride, who, "stride", 1)
        self.padding = _checks.pair(padding, who, "padding", 0)
        self.output_padding = _checks.pair(output_padding, who, "output_padding", 0)
        self.groups = _checks.integer(groups, who, "groups", 1)
        self.dilation = _checks.pair(dilation, who, "dilation", 1)
        if padding_mode != "zeros":
            raise ValueError(f"{who}: padding_mode: expected 'zeros', got {padding_mode!r}")
        if any(more >= step for more, step in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(
                f"{who}: output_padding: expected less than stride {self.stride}, got {self.output_padding}"
            )
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"{who}: groups: expected a divisor of {name} {channels}, got {self.groups}")
        weight_shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self._arrays = {"weight": new_parameter(weight_init, weight_shape, who)}
        if bias:
            bias_init = initializers.bias_default(initializers.fans(weight_shape)[0])
            self._arrays["bias"] = new_parameter(bias_init, (self.out_channels,), who, "bias_init")

    def _shape(self, input_shape: Shape, name: str) -> shapes.Conv2dShape:
        """The convolution of which this is the gradient: from the output's shape to the input's."""
        who = self.describe(name)
        images_only(input_shape, who)
        if input_shape[1] != self.in_channels:
            raise ValueError(f"{who}: input: expected {self.in_channels} channels, got shape {input_shape}")
        size = self._output_size(input_shape)
        if min(*input_shape[2:], *size) < 1:
            raise ValueError(f"{who}: input: expected images that give at least one pixel, got shape {input_shape}")
        output = (input_shape[0], self.out_channels, *size)
        _checks.shape(output, who, "output", 4)
        return shapes.conv2d(output, self.weight.shape, self.stride, self.padding, self.dilation, self.groups, who)

    def _output_size(self, input_shape: Shape) -> Pair:
        sizes = zip(input_shape[2:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        height, width = ((n - 1) * step - 2 * pad + d * (k - 1) + 1 for n, step, pad, d, k in sizes)
        return height + self.output_padding[0], width + self.output_padding[1]

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self._shape(input_shape, name).input_shape

    def forward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        at.y = Buffer(s.input_shape)
        at.step(convolution.input_grad, s, at.x, self.weight, at.y, writes=at.y)
        if self.bias is not None:
            at.step(_add_bias, at.y, self.bias, writes=at.y)

    def backward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        at.step(convolution.weight_grad, s, at.dy, at.x, at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.dy, at.gradients["bias"])
        if at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(convolution.forward, s, at.dy, self.weight, None, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "bias": self.bias is not None,
            "dilation": self.dilation,
        }


def _add_bias(y: Array, bias: Array) -> Step:
    return arithmetic("add", y, bias[:, np.newaxis, np.newaxis], y)
