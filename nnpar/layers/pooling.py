"""Pooling."""

from __future__ import annotations

from typing import Any

from nnpar import arrays, shapes
from nnpar._checks import IntOrPair
from nnpar._kernels import pool
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Lowering, images_only
from nnpar.shapes import Shape


class MaxPool2d(Layer):
    """Largest element of each window, as PyTorch's ``nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        At most 256 positions.
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int or (int, int)
        At most half the kernel.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import MaxPool2d
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0) -> None:
        s = shapes.pool2d_window(kernel_size, stride, padding, "MaxPool2d", shapes.MAX_POOL_POSITIONS)
        self.kernel_size, self.stride, self.padding = s
        self._arrays = {}

    def _shape(self, input_shape: Shape, name: str) -> shapes.Pool2dShape:
        who = self.describe(name)
        images_only(input_shape, who)
        return shapes.pool2d(input_shape, self.kernel_size, self.stride, self.padding, who)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return self._shape(input_shape, name).output_shape

    def forward(self, at: Lowering) -> list[Step]:
        at.y = arrays.empty(self.output_shape(at.x.shape, at.name))
        at.saved["argmax"] = arrays.bytes_like(at.y) if at.training else None
        return [pool.MaxPool2d(at.x, at.y, at.saved["argmax"], self.kernel_size, self.stride, self.padding)]

    def backward(self, at: Lowering) -> list[Step]:
        if not at.needs_dx:
            return []
        at.dx = arrays.empty(at.x.shape)
        return [pool.MaxPool2dGrad(at.dy, at.saved["argmax"], at.dx, self.kernel_size, self.stride, self.padding)]

    def settings(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}


class AvgPool2d(Layer):
    """Mean of each window, as PyTorch's ``nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int or (int, int)
        At most half the kernel.
    count_include_pad : bool
        Whether the mean counts the padding's zeros.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import AvgPool2d
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = shapes.pool2d_window(kernel_size, stride, padding, "AvgPool2d")
        self.count_include_pad = bool(count_include_pad)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        images_only(input_shape, who)
        return shapes.pool2d(input_shape, self.kernel_size, self.stride, self.padding, who).output_shape

    def forward(self, at: Lowering) -> list[Step]:
        at.y = arrays.empty(self.output_shape(at.x.shape, at.name))
        return [pool.AvgPool2d(at.x, at.y, self.kernel_size, self.stride, self.padding, self.count_include_pad)]

    def backward(self, at: Lowering) -> list[Step]:
        if not at.needs_dx:
            return []
        at.dx = arrays.empty(at.x.shape)
        return [pool.AvgPool2dGrad(at.dy, at.dx, self.kernel_size, self.stride, self.padding, self.count_include_pad)]

    def settings(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "count_include_pad": self.count_include_pad,
        }
