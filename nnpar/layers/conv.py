"""Convolution of sequences and images."""

from __future__ import annotations

from typing import Any

from nnpar import _checks, convolution, initializers, shapes
from nnpar._checks import Array, IntOrPair, Padding
from nnpar._kernels import elementwise
from nnpar._kernels.step import Step
from nnpar._kernels.strided import Fill, StridedCopy
from nnpar.layers.base import Layer, Parameter, check_axes, new_parameter
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class BaseConv(Layer):
    """Base of the convolutions. A sequence is an image one pixel high."""

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
        padding: Padding | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        weight_init: initializers.Initializer = initializers.torch_default,
    ) -> None:
        who = type(self).__name__
        self.in_channels = _checks.integer(in_channels, who, "in_channels", 1)
        self.out_channels = _checks.integer(out_channels, who, "out_channels", 1)
        self.kernel_size = _checks.sizes(kernel_size, who, "kernel_size", 1, self.axes)
        self.stride = _checks.sizes(stride, who, "stride", 1, self.axes)
        self.dilation = _checks.sizes(dilation, who, "dilation", 1, self.axes)
        if isinstance(padding, str):
            padding = _named_padding(padding, self.kernel_size, self.stride, self.dilation, who)
        self._before, self._after = _checks.sides(padding, who, "padding", self.axes)
        self.padding = shapes.padding_of(self._before, self._after)
        if padding_mode != "zeros":
            raise ValueError(
                f"{who}: padding_mode: expected 'zeros' (a Pad layer does the others), got {padding_mode!r}"
            )
        self.groups = _checks.integer(groups, who, "groups", 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"{who}: groups: expected a divisor of {name} {channels}, got {self.groups}")
        weight_shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self._arrays = {"weight": new_parameter(weight_init, weight_shape, who)}
        if bias:
            bias_init = initializers.bias_default(initializers.fans(weight_shape)[0])
            self._arrays["bias"] = new_parameter(bias_init, (self.out_channels,), who, "bias_init")

    @property
    def _framed(self) -> bool:
        """Whether the padding differs before and after: then the image is copied into a frame of zeros."""
        return self._before != self._after

    def _shape(self, input_shape: Shape, name: str) -> shapes.Conv2dShape:
        """Of the convolution of images; of those in their frames, if there are some."""
        who = self.describe(name)
        check_axes(input_shape, self.axes, who)
        n, c, *size = input_shape
        padding = self._before
        if self._framed:
            size = [b + s + a for b, s, a in zip(self._before, size, self._after, strict=True)]
            padding = (0,) * self.axes
        return shapes.conv2d(
            (n, c, *of_image(size, 1)), (*self.weight.shape[:2], *of_image(self.kernel_size, 1)),
            of_image(self.stride, 1), of_image(padding, 0), of_image(self.dilation, 1), self.groups, who,
        )  # fmt: skip

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        n, c, *size = self._shape(input_shape, name).output_shape
        return (n, c, *size[-self.axes :])

    def forward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        x = at.saved["x"] = self._frame(at, s)
        y = Buffer(s.output_shape)
        at.y = y.view(self.output_shape(at.x.shape), True)
        at.saved["call"] = at.step(
            conv_step, s, x, y, at.frozen,
            writes=y, fuses=("relu", "norm"), weight=self.weight.reshape(s.weight_shape), bias=self.bias,
        )  # fmt: skip

    def _frame(self, at: Lowering, s: shapes.Conv2dShape) -> Buffer:
        """The images that are convolved."""
        if not self._framed:
            return at.x.view(s.input_shape, True)
        x = Buffer(s.input_shape)
        at.step(Fill, x, writes=x)
        at.step(self._into_frame, at.x, x.view((*at.x.shape[:2], *s.input_shape[-self.axes :]), True), writes=x)
        return x

    def _inside(self, frame: Array, shape: Shape) -> Array:
        inside = (slice(b, b + size) for b, size in zip(self._before, shape[2:], strict=True))
        where = (slice(None), slice(None), *inside)
        part: Array = frame[where]
        return part

    def _into_frame(self, x: Array, frame: Array) -> Step:
        return StridedCopy(x, self._inside(frame, x.shape))

    def _out_of_frame(self, frame: Array, x: Array) -> Step:
        return StridedCopy(self._inside(frame, x.shape), x)

    def backward(self, at: Lowering) -> None:
        s = self._shape(at.x.shape, at.name)
        dy = at.dy.view(s.output_shape, True)
        at.step(convolution.weight_grad, s, at.saved["x"], dy, at.gradients["weight"].reshape(s.weight_shape))
        if self.bias is not None:
            at.step(elementwise.BiasGrad, at.saved["call"].same_sums or at.dy, at.gradients["bias"])
        if not at.needs_dx:
            return
        dx = Buffer(s.input_shape)
        at.step(convolution.input_grad, s, dy, self.weight.reshape(s.weight_shape), dx)
        if not self._framed:
            at.pass_back(dx.view(at.x.shape, True))
            return
        inner = Buffer(at.x.shape, channels_last=True)
        at.step(self._out_of_frame, dx.view((*at.x.shape[:2], *s.input_shape[-self.axes :]), True), inner)
        at.pass_back(inner)

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


def of_image(sizes: Any, default: int) -> tuple[int, int]:
    """Sizes along the axes of an image that stands for a sequence, or is one."""
    *height, width = sizes
    return (height[0] if height else default), width


class Conv2d(BaseConv):
    """Two-dimensional convolution (cross-correlation), as PyTorch's ``nn.Conv2d`` with zero padding.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Height and width.
    stride, dilation : int or (int, int)
    padding : int, (int, int), ((int, int), (int, int)), "valid" or "same"
        For all sides, for height and width, or (before, after) for each. "valid" is 0. "same" gives outputs of the
        input's height and width; it needs a stride of 1. Where before and after differ, images are copied into a frame
        of zeros first.
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


class Conv1d(BaseConv):
    """Convolution (cross-correlation) of sequences (N, C, L), as PyTorch's ``nn.Conv1d`` with zero padding.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, weight_init
        See :class:`Conv2d`; one number where that has two.

    Attributes
    ----------
    weight : ndarray of shape (out_channels, in_channels / groups, K), float32
    bias : ndarray of shape (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If the arguments do not fit together, or are not supported.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Conv1d
    >>> Conv1d(3, 8, 5, padding="same")(np.zeros((2, 3, 100))).shape
    (2, 8, 100)
    """

    axes = 1


def _named_padding(padding: str, kernel_size: Shape, stride: Shape, dilation: Shape, who: str) -> Padding:
    """The numbers that "valid" and "same" stand for; what is odd has one more after the image, as in PyTorch."""
    if padding == "valid":
        return 0
    if padding != "same":
        raise ValueError(f"{who}: padding: expected numbers, 'valid' or 'same', got {padding!r}")
    if max(stride) > 1:
        raise ValueError(f"{who}: stride: expected 1 with padding 'same', got {stride}")
    totals = [step * (size - 1) for step, size in zip(dilation, kernel_size, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def conv_step(
    shape: shapes.Conv2dShape, x: Array, y: Array, frozen: bool, weight: Array, bias: Array | None, relu: bool = False
) -> Step:
    """The step of a convolution of images into which a ReLU may be fused."""
    return convolution.forward(shape, x, weight, bias, y, relu, prepacked=frozen)
