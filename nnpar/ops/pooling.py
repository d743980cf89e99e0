"""Pooling and upsampling of images, and their gradients."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, arrays, shapes
from nnpar._checks import Array, IntOrPair, Padding
from nnpar._kernels import pool
from nnpar.ops._arguments import Result, images_of
from nnpar.shapes import Shape


@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = ...,
    padding: Padding = ...,
    *,
    dilation: IntOrPair = ...,
    ceil_mode: bool = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = ...,
    padding: Padding = ...,
    *,
    dilation: IntOrPair = ...,
    ceil_mode: bool = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, NDArray[np.uint8]]: ...


def max_pool2d(
    x: ArrayLike,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    *,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, NDArray[np.uint8]]:
    """Largest element of each window; a NaN in the window is the largest.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
    kernel_size : int or (int, int)
        A window of at most 256 positions.
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int, (int, int) or ((int, int), (int, int))
        Of minus infinity, less than the window: for all sides, for each axis, or before and after each axis.
    dilation : int or (int, int)
        How far a window's positions are apart.
    ceil_mode : bool
        Whether windows count that begin before the image's end and reach beyond its padding.
    return_argmax : bool
        Whether to return the positions as well, for :func:`max_pool2d_grad`.
    out : ndarray of shape (N, C, OH, OW), float32, optional

    Returns
    -------
    y : ndarray of shape (N, C, OH, OW), float32
    argmax : ndarray of shape (N, C, OH, OW), uint8
        With ``return_argmax=True``: position ``kh * KW + kw`` in the window of the first maximum, or of the last NaN.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    images = images_of(x, "max_pool2d", "x")
    most = shapes.MAX_POOL_POSITIONS
    shape = shapes.pool2d(images.shape, kernel_size, stride, padding, dilation, ceil_mode, "max_pool2d", most)
    result = Result(out, shape.output_shape, "max_pool2d", images)
    argmax = arrays.bytes_like(result.array) if return_argmax else None
    y = result.after(pool.MaxPool2d(images, result.array, argmax, shape.window))
    return y if argmax is None else (y, argmax)


def max_pool2d_grad(
    dy: ArrayLike,
    argmax: NDArray[np.uint8],
    input_shape: Shape,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    *,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`max_pool2d`.

    Parameters
    ----------
    dy : array_like of shape (N, C, OH, OW)
    argmax : ndarray of shape (N, C, OH, OW), uint8
        As :func:`max_pool2d` returned it.
    input_shape : tuple
        (N, C, H, W).
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass.
    out : ndarray of shape (N, C, H, W), float32, optional

    Returns
    -------
    ndarray of shape (N, C, H, W), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    who = "max_pool2d_grad"
    grad = images_of(dy, who, "dy")
    input_shape = _checks.shape(input_shape, who, "input_shape", 4)
    most = shapes.MAX_POOL_POSITIONS
    shape = shapes.pool2d(input_shape, kernel_size, stride, padding, dilation, ceil_mode, who, most)
    _checks.same_shape(grad, shape.output_shape, who, "dy")
    where = np.asarray(argmax)
    if where.dtype != np.uint8:
        raise TypeError(f"{who}: argmax: expected dtype uint8, got {where.dtype}")
    _checks.same_shape(where, shape.output_shape, who, "argmax")
    if not where.transpose(0, 2, 3, 1).flags.c_contiguous:
        where = np.ascontiguousarray(where.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    result = Result(out, shape.input_shape, who, grad, where)
    return result.after(pool.MaxPool2dGrad(grad, where, result.array, shape.window))


def avg_pool2d(
    x: ArrayLike,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    *,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Mean of each window.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size by default.
    padding : int, (int, int) or ((int, int), (int, int))
        Of zeros, less than the window: for all sides, for each axis, or before and after each axis.
    count_include_pad : bool
        Whether the mean counts the padding.
    dilation : int or (int, int)
        How far a window's positions are apart.
    ceil_mode : bool
        Whether windows count that begin before the image's end and reach beyond its padding.
    out : ndarray of shape (N, C, OH, OW), float32, optional

    Returns
    -------
    ndarray of shape (N, C, OH, OW), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    images = images_of(x, "avg_pool2d", "x")
    shape = shapes.pool2d(images.shape, kernel_size, stride, padding, dilation, ceil_mode, "avg_pool2d")
    result = Result(out, shape.output_shape, "avg_pool2d", images)
    return result.after(pool.AvgPool2d(images, result.array, shape.window, bool(count_include_pad)))


def avg_pool2d_grad(
    dy: ArrayLike,
    input_shape: Shape,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    *,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`avg_pool2d`.

    Parameters
    ----------
    dy : array_like of shape (N, C, OH, OW)
    input_shape : tuple
        (N, C, H, W).
    kernel_size, stride, padding, count_include_pad, dilation, ceil_mode
        As in the forward pass.
    out : ndarray of shape (N, C, H, W), float32, optional

    Returns
    -------
    ndarray of shape (N, C, H, W), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    who = "avg_pool2d_grad"
    grad = images_of(dy, who, "dy")
    input_shape = _checks.shape(input_shape, who, "input_shape", 4)
    shape = shapes.pool2d(input_shape, kernel_size, stride, padding, dilation, ceil_mode, who)
    _checks.same_shape(grad, shape.output_shape, who, "dy")
    result = Result(out, shape.input_shape, who, grad)
    return result.after(pool.AvgPool2dGrad(grad, result.array, shape.window, bool(count_include_pad)))


def upsample2d(x: ArrayLike, scale_factor: IntOrPair, *, out: Array | None = None) -> Array:
    """Larger images in which each pixel is repeated: upsampling by the nearest pixel.

    ``y[n, c, i, j] = x[n, c, i // scale_h, j // scale_w]``

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
    scale_factor : int or (int, int)
        Of the height and the width.
    out : ndarray of shape (N, C, scale_h * H, scale_w * W), float32, optional

    Returns
    -------
    ndarray of shape (N, C, scale_h * H, scale_w * W), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ops
    >>> ops.upsample2d(np.array([[[[1.0, 2.0]]]]), 2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """
    images = images_of(x, "upsample2d", "x")
    scale = _checks.pair(scale_factor, "upsample2d", "scale_factor", 1)
    result = Result(out, shapes.upsample2d(images.shape, scale, "upsample2d"), "upsample2d", images)
    return result.after(pool.Upsample2d(images, result.array, scale))


def upsample2d_grad(dy: ArrayLike, input_shape: Shape, scale_factor: IntOrPair, *, out: Array | None = None) -> Array:
    """Gradient of :func:`upsample2d`: the sum of dy over the repetitions of each pixel.

    Parameters
    ----------
    dy : array_like of shape (N, C, scale_h * H, scale_w * W)
    input_shape : tuple
        (N, C, H, W).
    scale_factor : int or (int, int)
        As in the forward pass.
    out : ndarray of shape (N, C, H, W), float32, optional

    Returns
    -------
    ndarray of shape (N, C, H, W), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    who = "upsample2d_grad"
    grad = images_of(dy, who, "dy")
    input_shape = _checks.shape(input_shape, who, "input_shape", 4)
    scale = _checks.pair(scale_factor, who, "scale_factor", 1)
    _checks.same_shape(grad, shapes.upsample2d(input_shape, scale, who), who, "dy")
    result = Result(out, input_shape, who, grad)
    return result.after(pool.Upsample2dGrad(grad, result.array, scale))
