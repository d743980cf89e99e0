"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import shapes
from nnpar._checks import IntOrPair
from nnpar._kernels import elementwise, pool
from nnpar.layers.base import Layer, images_only
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class MaxPool2d(Layer):
    """Largest element of each window, as PyTorch's ``nn.MaxPool2d``. It takes the gradient of a ReLU before it upon
    itself.

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

    channels_last = True

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

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.saved["argmax"] = Buffer(at.y.shape, np.uint8) if at.training else None
        at.step(pool.MaxPool2d, at.x, at.y, at.saved["argmax"], self.kernel_size, self.stride, self.padding)
        at.saved["relu"] = at.mask_gradient()
        at.reads_y = "" if at.saved["relu"] is None else "sign"

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dy, relu = at.dy, at.saved["relu"]
        if relu is not None:
            # The largest element of a window is positive where the ReLU lets its gradient pass.
            dy = relu.same_sums = at.overwritable_dy()
            at.step(elementwise.ReluGrad, at.dy, at.y, dy)
        dx = Buffer(at.x.shape)
        at.step(pool.MaxPool2dGrad, dy, at.saved["argmax"], dx, self.kernel_size, self.stride, self.padding)
        at.pass_back(dx)

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

    channels_last = True

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

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(pool.AvgPool2d, at.x, at.y, self.kernel_size, self.stride, self.padding, self.count_include_pad)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dx = Buffer(at.x.shape)
        at.step(pool.AvgPool2dGrad, at.dy, dx, self.kernel_size, self.stride, self.padding, self.count_include_pad)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "count_include_pad": self.count_include_pad,
        }


class GlobalAvgPool2d(Layer):
    """Mean of each channel of each image, (N, C, H, W) to (N, C, 1, 1), as PyTorch's ``nn.AdaptiveAvgPool2d(1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import GlobalAvgPool2d
    >>> GlobalAvgPool2d()(np.arange(4.0).reshape(1, 1, 2, 2)).item()
    1.5
    """

    channels_last = True

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        images_only(input_shape, self.describe(name))
        return (*input_shape[:2], 1, 1)

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(pool.AvgPool2d, at.x, at.y, at.x.shape[2:], at.x.shape[2:], (0, 0), True)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dx = Buffer(at.x.shape)
        at.step(pool.AvgPool2dGrad, at.dy, dx, at.x.shape[2:], at.x.shape[2:], (0, 0), True)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {}
