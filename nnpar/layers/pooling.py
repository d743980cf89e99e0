"""Pooling of sequences, images and volumes.

The kernels pool images. A sequence is an image one pixel high; a volume is pooled in two passes, its slices first: the
largest of the largest is the largest, and a mean of means of equally many the mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnpar import shapes
from nnpar._checks import IntOrPair, Padding
from nnpar._kernels import elementwise, pool
from nnpar.layers.base import Layer, check_axes
from nnpar.layers.lowering import Buffer, Call, Lowering
from nnpar.shapes import PoolShape, PoolWindow, Shape


class _Pool(Layer):
    """Base of the pooling layers."""

    channels_last = True
    axes = 2

    def window(self, input_shape: Shape) -> PoolWindow:
        """The window for inputs of that shape."""
        raise NotImplementedError

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        check_axes(input_shape, self.axes, who)
        return shapes.pool(input_shape, self.window(input_shape), who).output_shape

    def passes(self, input_shape: Shape) -> list[PoolShape]:
        """Poolings of images, one after the other."""
        window, (n, c, *size) = self.window(input_shape), input_shape
        if self.axes == 1:
            return [_pass((n, c, 1, *size), window.along(None, 0))]
        if self.axes == 2:
            return [_pass(input_shape, window)]
        depth, height, width = size
        slices = _pass((n * depth, c, height, width), window.along(1, 2))
        return [slices, _pass((n, c, depth, math.prod(slices.output_shape[2:])), window.along(0, None))]


def _pass(input_shape: Shape, window: PoolWindow) -> PoolShape:
    return shapes.pool(input_shape, window, "pooling")


class _WindowPool(_Pool):
    """Base of the layers whose window is given."""

    def _set(
        self, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding, dilation: IntOrPair, ceil_mode: bool
    ) -> None:
        who = type(self).__name__
        w = shapes.pool_window(kernel_size, stride, padding, dilation, ceil_mode, who, self.axes)
        self._window, self.ceil_mode = w, w.ceil_mode
        self.kernel_size, self.stride, self.padding, self.dilation = w.kernel_size, w.stride, w.padding, w.dilation
        self._arrays = {}

    def window(self, input_shape: Shape) -> PoolWindow:
        return self._window

    def settings(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }


class _Max(_Pool):
    """Largest elements. It takes the gradient of a ReLU before it upon itself."""

    def forward(self, at: Lowering) -> None:
        x, kept = at.x, []
        for shape in self.passes(at.x.shape):
            y = Buffer(shape.output_shape)
            argmax = Buffer(shape.output_shape, np.uint8) if at.training else None
            at.step(pool.MaxPool2d, x.view(shape.input_shape, True), y, argmax, shape.window)
            kept.append((shape, argmax))
            x = y
        at.y = x.view(self.output_shape(at.x.shape, at.name), True)
        at.saved["passes"], at.saved["relu"] = kept, at.mask_gradient()
        at.reads_y = "" if at.saved["relu"] is None else "sign"

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        relu: Call | None = at.saved["relu"]
        dy = at.dy
        if relu is not None:
            # The largest element of a window is positive where the ReLU lets its gradient pass.
            dy = relu.same_sums = at.overwritable_dy()
            at.step(elementwise.ReluGrad, at.dy, at.y, dy)
        for shape, argmax in reversed(at.saved["passes"]):
            dx = Buffer(shape.input_shape)
            at.step(pool.MaxPool2dGrad, dy.view(shape.output_shape, True), argmax, dx, shape.window)
            dy = dx
        at.pass_back(dy.view(at.x.shape, True))


class _MaxPool(_WindowPool, _Max):
    """Base of the max poolings."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        who, most = type(self).__name__, shapes.MAX_POOL_POSITIONS
        if return_indices:
            raise ValueError(f"{who}: return_indices: expected False, positions are not an output, got True")
        self._set(kernel_size, stride, padding, dilation, ceil_mode)
        if max(self.kernel_size) > most:
            raise ValueError(f"{who}: kernel_size: expected at most {most} along each axis, got {self.kernel_size}")

    def passes(self, input_shape: Shape) -> list[PoolShape]:
        """A window of more positions than a byte can name goes along the rows first, and then along the columns."""
        result = []
        for shape in super().passes(input_shape):
            if math.prod(shape.window.kernel_size) <= shapes.MAX_POOL_POSITIONS:
                result.append(shape)
            else:
                result.append(_pass(shape.input_shape, shape.window.along(None, 1)))
                result.append(_pass(result[-1].output_shape, shape.window.along(0, None)))
        return result


class MaxPool2d(_MaxPool):
    """Largest element of each window, as PyTorch's ``nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
        At most 256 along each axis.
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int, (int, int) or ((int, int), (int, int))
        For all sides, for height and width, or (before, after) for each; less than the window.
    dilation : int or (int, int)
        How far a window's positions are apart.
    return_indices : bool
        PyTorch's; only False is supported.
    ceil_mode : bool
        Whether windows count that begin before the image's end and reach beyond its padding.

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


class MaxPool1d(_MaxPool):
    """Largest element of each window of sequences (N, C, L), as PyTorch's ``nn.MaxPool1d``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode
        See :class:`MaxPool2d`.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> from nnpar import MaxPool1d
    >>> MaxPool1d(2)([[[1.0, 3.0, 2.0, 0.0]]])
    array([[[3., 2.]]], dtype=float32)
    """

    axes = 1


class MaxPool3d(_MaxPool):
    """Largest element of each window of volumes (N, C, D, H, W), as PyTorch's ``nn.MaxPool3d``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode
        See :class:`MaxPool2d`; three numbers where that has two.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import MaxPool3d
    >>> MaxPool3d(2)(np.zeros((1, 3, 4, 6, 8))).shape
    (1, 3, 2, 3, 4)
    """

    axes = 3


class _Avg(_Pool):
    """Means."""

    count_include_pad = True

    def forward(self, at: Lowering) -> None:
        x = at.x
        for shape in self.passes(at.x.shape):
            y = Buffer(shape.output_shape)
            at.step(pool.AvgPool2d, x.view(shape.input_shape, True), y, shape.window, self.count_include_pad)
            x = y
        at.y = x.view(self.output_shape(at.x.shape, at.name), True)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dy = at.dy
        for shape in reversed(self.passes(at.x.shape)):
            dx = Buffer(shape.input_shape)
            at.step(pool.AvgPool2dGrad, dy.view(shape.output_shape, True), dx, shape.window, self.count_include_pad)
            dy = dx
        at.pass_back(dy.view(at.x.shape, True))


class _AvgPool(_WindowPool, _Avg):
    """Base of the average poolings."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        dilation: IntOrPair = 1,
    ) -> None:
        self._set(kernel_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "count_include_pad": self.count_include_pad}


class AvgPool2d(_AvgPool):
    """Mean of each window, as PyTorch's ``nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int, (int, int) or ((int, int), (int, int))
        For all sides, for height and width, or (before, after) for each; less than the window.
    ceil_mode : bool
        Whether windows count that begin before the image's end and reach beyond its padding.
    count_include_pad : bool
        Whether the mean counts the padding's zeros.
    dilation : int or (int, int)
        How far a window's positions are apart, as in ONNX; PyTorch has none.

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


class AvgPool1d(_AvgPool):
    """Mean of each window of sequences (N, C, L), as PyTorch's ``nn.AvgPool1d``.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, dilation
        See :class:`AvgPool2d`.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> from nnpar import AvgPool1d
    >>> AvgPool1d(2)([[[1.0, 3.0, 2.0, 0.0]]])
    array([[[2., 1.]]], dtype=float32)
    """

    axes = 1


class AvgPool3d(_AvgPool):
    """Mean of each window of volumes (N, C, D, H, W), as PyTorch's ``nn.AvgPool3d``.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, dilation
        See :class:`AvgPool2d`; three numbers where that has two.

    Raises
    ------
    ValueError
        If the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import AvgPool3d
    >>> AvgPool3d(2)(np.zeros((1, 3, 4, 6, 8))).shape
    (1, 3, 2, 3, 4)
    """

    axes = 3


class _Global(_Pool):
    """Base of the layers whose window is the image."""

    def __init__(self) -> None:
        self._arrays = {}

    def window(self, input_shape: Shape) -> PoolWindow:
        return shapes.side_by_side(input_shape[2:])

    def settings(self) -> dict[str, Any]:
        return {}


class GlobalAvgPool2d(_Global, _Avg):
    """Mean of each channel of each image, (N, C, H, W) to (N, C, 1, 1), as PyTorch's ``nn.AdaptiveAvgPool2d(1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import GlobalAvgPool2d
    >>> GlobalAvgPool2d()(np.arange(4.0).reshape(1, 1, 2, 2)).item()
    1.5
    """


class GlobalMaxPool2d(_Global, _Max):
    """Largest element of each channel of each image, (N, C, H, W) to (N, C, 1, 1), as PyTorch's
    ``nn.AdaptiveMaxPool2d(1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import GlobalMaxPool2d
    >>> GlobalMaxPool2d()(np.arange(4.0).reshape(1, 1, 2, 2)).item()
    3.0
    """

    def passes(self, input_shape: Shape) -> list[PoolShape]:
        return whole_passes(input_shape)


def whole_passes(input_shape: Shape) -> list[PoolShape]:
    """The largest element of whole images: along the rows, then along the columns, in as many steps as bytes can name
    the positions.
    """
    result: list[PoolShape] = []
    for axis in (3, 2):
        while input_shape[axis] > 1:
            size = [1, 1]
            size[axis - 2] = min(input_shape[axis], shapes.MAX_POOL_POSITIONS)
            window = shapes.side_by_side(tuple(size))
            result.append(_pass(input_shape, window._replace(ceil_mode=True)))
            input_shape = result[-1].output_shape
    return result or [_pass(input_shape, shapes.side_by_side((1, 1)))]
