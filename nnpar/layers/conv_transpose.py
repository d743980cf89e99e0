"""Transposed convolution of sequences and images."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import _checks, convolution, initializers, shapes
from nnpar._checks import Array, IntOrPair
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Parameter, check_axes, new_parameter
from nnpar.layers.broadcasting import arithmetic
from nnpar.layers.conv import of_image
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class BaseConvTranspose(Layer):
    """Base of the transposed convolutions: what a convolution's gradient does to its output. Each pass runs the kernels
    of one of a convolution's. A sequence is an image one pixel high.
    """

    channels_last = True
    axes = 2
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
        who = type(self).__name__
        self.in_channels = _checks.integer(in_channels, who, "in_channels", 1)
        self.out_channels = _checks.integer(out_channels, who, "out_channels", 1)
        self.kernel_size = _checks.sizes(kernel_size, who, "kernel_size", 1, self.axes)
        self.stride = _checks.sizes(stride, who, "stride", 1, self.axes)
        self.padding = _checks.sizes(padding, who, "padding", 0, self.axes)
        self.output_padding = _checks.sizes(output_padding, who, "output_padding", 0, self.axes)
        self.groups = _checks.integer(groups, who, "groups", 1)
        self.dilation = _checks.sizes(dilation, who, "dilation", 1, self.axes)
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
        """The convolution of images of which this is the gradient: from the output's shape to the input's."""
        who = self.describe(name)
        self._check(input_shape, name)
        size = self._output_size(input_shape)
        output = (input_shape[0], self.out_channels, *of_image(size, 1))
        _checks.shape(output, who, "output", 4)
        return shapes.conv2d(
            output, (*self.weight.shape[:2], *of_image(self.kernel_size, 1)), of_image(self.stride, 1),
            of_image(self.padding, 0), of_image(self.dilation, 1), self.groups, who,
        )  # fmt: skip

    def _check(self, input_shape: Shape, name: str) -> None:
        """The layer can take such an input."""
        who = self.describe(name)
        check_axes(input_shape, self.axes, who)
        if input_shape[1] != self.in_channels:
            raise ValueError(f"{who}: input: expected {self.in_channels} channels, got shape {input_shape}")
        if min(*input_shape[2:], *self._output_size(input_shape)) < 1:
            raise ValueError(f"{who}: input: expected images that give at least one pixel, got shape {input_shape}")

    def _output_size(self, input_shape: Shape) -> Shape:
        sizes = zip(
            input_shape[2:],
            self.stride,
            self.padding,
            self.dilation,
            self.kernel_size,
            self.output_padding,
            strict=True,
        )
        return tuple((n - 1) * step - 2 * pad + d * (k - 1) + 1 + more for n, step, pad, d, k, more in sizes)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        n, c, *size = self._shape(input_shape, name).input_shape
        return (n, c, *size[-self.axes :])

    def forward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        y = Buffer(s.input_shape)
        at.y = y.view(self.output_shape(at.x.shape), True)
        weight = self.weight.reshape(s.weight_shape)
        at.step(convolution.input_grad, s, at.x.view(s.output_shape, True), weight, y, writes=y)
        if self.bias is not None:
            at.step(_add_bias, y, self.bias, writes=y)

    def backward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        dy = at.dy.view(s.input_shape, True)
        x = at.x.view(s.output_shape, True)
        at.step(convolution.weight_grad, s, dy, x, at.gradients["weight"].reshape(s.weight_shape))
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.dy, at.gradients["bias"])
        if at.needs_dx:
            dx = Buffer(s.output_shape)
            at.step(convolution.forward, s, dy, self.weight.reshape(s.weight_shape), None, dx)
            at.pass_back(dx.view(at.x.shape, True))

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


class ConvTranspose2d(BaseConvTranspose):
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


class ConvTranspose1d(BaseConvTranspose):
    """Transposed convolution of sequences (N, C, L), as PyTorch's ``nn.ConvTranspose1d``.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode
        See :class:`ConvTranspose2d`; one number where that has two.
    weight_init : callable, optional
        Shape to array, from :mod:`nnpar.initializers`; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray of shape (in_channels, out_channels / groups, K), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ConvTranspose1d
    >>> ConvTranspose1d(8, 4, 2, stride=2)(np.zeros((2, 8, 5))).shape
    (2, 4, 10)
    """

    axes = 1


def _add_bias(y: Array, bias: Array) -> Step:
    return arithmetic("add", y, bias[:, np.newaxis, np.newaxis], y)
