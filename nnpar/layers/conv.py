"""Convolution."""

from __future__ import annotations

from typing import Any

from nnpar import _checks, convolution, initializers, shapes
from nnpar._checks import Array, IntOrPair, Pair
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Parameter, images_only, new_parameter
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Conv2d(Layer):
    """Two-dimensional convolution (cross-correlation), as PyTorch's ``nn.Conv2d`` with zero padding.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Height and width.
    stride, dilation : int or (int, int)
    padding : int or (int, int) or "valid" or "same"
        "valid" is 0. "same" gives outputs of the input's height and width; it needs a stride of 1 and an even number
        ``dilation * (kernel_size - 1)`` along each axis, so that both sides get the same padding.
    groups : int
        Divides both numbers of channels.
    bias : bool
    padding_mode : str
        "zeros"; a Pad layer before this one does the others.
    weight_init : callable, optional
        Shape to array, from :mod:`nnpar.initializers`; PyTorch's default otherwise.

    Attributes
    ----------
    weight : ndarray of shape (out_channels, in_channels / groups, KH, KW), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together, or are not supported.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Conv2d
    >>> Conv2d(1, 8, 3, padding=1)(np.zeros((2, 1, 5, 5))).shape
    (2, 8, 5, 5)
    >>> Conv2d(1, 8, 5, padding="same").padding
    (2, 2)
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
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        self.in_channels = _checks.integer(in_channels, "Conv2d", "in_channels", 1)
        self.out_channels = _checks.integer(out_channels, "Conv2d", "out_channels", 1)
        self.kernel_size = _checks.pair(kernel_size, "Conv2d", "kernel_size", 1)
        self.stride = _checks.pair(stride, "Conv2d", "stride", 1)
        self.dilation = _checks.pair(dilation, "Conv2d", "dilation", 1)
        if isinstance(padding, str):
            padding = _named_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.padding = _checks.pair(padding, "Conv2d", "padding", 0)
        if padding_mode != "zeros":
            raise ValueError(
                f"Conv2d: padding_mode: expected 'zeros' (a Pad layer does the others), got {padding_mode!r}"
            )
        self.groups = _checks.integer(groups, "Conv2d", "groups", 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"Conv2d: groups: expected a divisor of {name} {channels}, got {self.groups}")
        weight_shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self._arrays = {"weight": new_parameter(weight_init, weight_shape, "Conv2d")}
        if bias:
            bias_init = initializers.bias_default(initializers.fans(weight_shape)[0])
            self._arrays["bias"] = new_parameter(bias_init, (self.out_channels,), "Conv2d", "bias_init")

    def _shape(self, input_shape: Shape, name: str) -> shapes.Conv2dShape:
        who = self.describe(name)
        images_only(input_shape, who)
        return shapes.conv2d(input_shape, self.weight.shape, self.stride, self.padding, self.dilation, self.groups, who)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self._shape(input_shape, name).output_shape

    def forward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        at.y = Buffer(s.output_shape)
        at.saved["call"] = at.step(
            _forward, s, at.x, at.y, at.frozen,
            writes=at.y, fuses=("relu", "norm"), weight=self.weight, bias=self.bias,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        at.step(convolution.weight_grad, s, at.x, at.dy, at.gradients["weight"])
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.saved["call"].same_sums or at.dy, at.gradients["bias"])
        if at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(convolution.input_grad, s, at.dy, self.weight, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias is not None,
        }


def _named_padding(padding: str, kernel_size: Pair, stride: Pair, dilation: Pair) -> Pair:
    """The numbers that "valid" and "same" stand for."""
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise ValueError(f"Conv2d: padding: expected numbers, 'valid' or 'same', got {padding!r}")
    if stride != (1, 1):
        raise ValueError(f"Conv2d: stride: expected 1 with padding 'same', got {stride}")
    both_sides = [step * (size - 1) for step, size in zip(dilation, kernel_size, strict=True)]
    if any(total % 2 for total in both_sides):
        raise ValueError(
            "Conv2d: kernel_size: expected an even dilation * (kernel_size - 1) with padding 'same' "
            f"(a Pad layer pads one side more), got kernel_size {kernel_size} and dilation {dilation}"
        )
    return both_sides[0] // 2, both_sides[1] // 2


def _forward(
    shape: shapes.Conv2dShape, x: Array, y: Array, frozen: bool, weight: Array, bias: Array | None, relu: bool = False
) -> Step:
    return convolution.forward(shape, x, weight, bias, y, relu, prepacked=frozen)
