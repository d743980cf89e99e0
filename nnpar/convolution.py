"""Which algorithm computes a convolution: chosen by its shape alone, so that threads change no bit."""

from __future__ import annotations

from nnpar._checks import Array
from nnpar._kernels import conv, depthwise
from nnpar._kernels.conv import Geometry
from nnpar._kernels.step import Step
from nnpar.shapes import Conv2dShape


def forward(shape: Conv2dShape, x: Array, w: Array, bias: Array | None, y: Array) -> Step:
    """Return the step y = conv2d(x, w) + bias; images in channels-last memory, w and bias contiguous."""
    if _is_depthwise(shape):
        return depthwise.DepthwiseConv2d(Geometry(shape), x, w, bias, y)
    return conv.Conv2d(Geometry(shape), x, w, bias, y)


def input_grad(shape: Conv2dShape, dy: Array, w: Array, dx: Array) -> Step:
    """Return the step dx = the gradient with respect to x."""
    if _is_depthwise(shape):
        return depthwise.DepthwiseConv2dInputGrad(Geometry(shape), dy, w, dx)
    return conv.Conv2dInputGrad(Geometry(shape), dy, w, dx)


def weight_grad(shape: Conv2dShape, x: Array, dy: Array, dw: Array) -> Step:
    """Return the step dw = the gradient with respect to w."""
    if _is_depthwise(shape) and shape.groups > 1:  # of one channel, the general way sums a row of the kernel at once
        return depthwise.DepthwiseConv2dWeightGrad(Geometry(shape), x, dy, dw)
    return conv.Conv2dWeightGrad(Geometry(shape), x, dy, dw)


def _is_depthwise(shape: Conv2dShape) -> bool:
    """Whether each channel is a group of its own. Several output channels to a group take the general way."""
    return shape.groups == shape.input_shape[1] == shape.weight_shape[0]
