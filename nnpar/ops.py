"""Checked functions on NumPy arrays: each makes one step and runs it.

Arguments may have any strides and any real dtype: what is not float32 of native byte order, or not in the memory
layout that the kernels read, is copied once. Image batches have shape (N, C, H, W) and come back as such, as views of
channels-last memory. ``out=`` receives the result and is returned; it must not overlap an input. A batch of 0 images
gives an empty result, or a gradient of zeros.

NaN and infinity propagate to every result that they take part in; whether a product with the zeros of a padding takes
part is left open. Winograd's convolution (see :func:`nnpar.convolution.choose`) carries them to all 4x4 outputs of a
tile, and to all taps of a filter's gradient. Float64 beyond the range of float32 becomes infinite. Denormal numbers
count as zero.

Each function has a twin of the same name and arguments, but for `algorithm`, in :mod:`nnpar.reference`.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, arrays, convolution, random, shapes
from nnpar._checks import Array, IntOrPair, Padding
from nnpar._kernels import activation, elementwise, loss, pool
from nnpar._kernels.gemm import gemm_step
from nnpar._results import Result, images_of
from nnpar.batch_norm import (
    batch_norm2d,
    batch_norm2d_grad,
    batch_norm2d_inference,
    batch_norm2d_normalize,
    batch_norm2d_statistics,
)
from nnpar.shapes import Shape

__all__ = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm2d",
    "batch_norm2d_grad",
    "batch_norm2d_inference",
    "batch_norm2d_normalize",
    "batch_norm2d_statistics",
    "bias_grad",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "dropout",
    "gemm",
    "linear",
    "max_pool2d",
    "max_pool2d_grad",
    "mse",
    "relu",
    "relu_grad",
    "softmax",
    "softmax_cross_entropy",
    "upsample2d",
    "upsample2d_grad",
]


def gemm(a: ArrayLike, b: ArrayLike, *, alpha: float = 1.0, beta: float = 0.0, out: Array | None = None) -> Array:
    """Matrix product ``alpha * a @ b + beta * out``.

    Parameters
    ----------
    a : array_like of shape (m, k)
        Any strides: ``x.T`` is the transposition.
    b : array_like of shape (k, n)
    alpha, beta : float
        With ``beta=0`` the old values of `out` are not read, with ``alpha=0`` those of a and b.
    out : ndarray of shape (m, n), float32, optional
        Required unless beta is 0.

    Returns
    -------
    ndarray of shape (m, n), float32

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ops
    >>> ops.gemm(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]], dtype=float32)
    """
    left, right = _checks.floats(a, "gemm", "a", 2), _checks.floats(b, "gemm", "b", 2)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"gemm: b: expected shape ({left.shape[1]}, n), got {right.shape}")
    alpha, beta = _checks.number(alpha, "gemm", "alpha"), _checks.number(beta, "gemm", "beta")
    if beta != 0.0 and out is None:
        raise ValueError("gemm: out: expected an array, since beta is not 0")
    result = Result(out, (left.shape[0], right.shape[1]), "gemm", left, right)
    if beta != 0.0 and result.out is not None and result.out is not result.array:
        np.copyto(result.array, result.out)
    if not result.array.size:
        return result.after()
    return result.after(gemm_step(left, right, result.array, None, False, alpha, beta))


def linear(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Dense layer ``activation(x @ w.T + bias)``.

    Parameters
    ----------
    x : array_like of shape (N, in)
    w : array_like of shape (out, in)
    bias : array_like of shape (out,), optional
    activation : {None, "relu"}
        Applied to the sums before they are stored.
    out : ndarray of shape (N, out), float32, optional

    Returns
    -------
    ndarray of shape (N, out), float32

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no such activation.
    """
    relu = _relu(activation, "linear")
    inputs, weight = _checks.floats(x, "linear", "x", 2), _checks.floats(w, "linear", "w", 2)
    if inputs.shape[1] != weight.shape[1]:
        raise ValueError(f"linear: x: expected shape (N, {weight.shape[1]}), got {inputs.shape}")
    add = _bias(bias, weight.shape[0], "linear")
    result = Result(out, (inputs.shape[0], weight.shape[0]), "linear", inputs, weight, add)
    if not result.array.size:
        return result.after()
    return result.after(gemm_step(inputs, weight.T, result.array, add, relu))


def _relu(activation: str | None, who: str) -> bool:
    if activation not in (None, "relu"):
        raise ValueError(f"{who}: activation: expected None or 'relu', got {activation!r}")
    return activation is not None


def _bias(bias: ArrayLike | None, size: int, who: str) -> Array | None:
    if bias is None:
        return None
    array = _checks.floats(bias, who, "bias", 1)
    _checks.same_shape(array, (size,), who, "bias")
    return np.ascontiguousarray(array)


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    algorithm: str | None = None,
    out: Array | None = None,
) -> Array:
    """Two-dimensional cross-correlation, the convolution of neural networks.

    ``y[n, o, i, j] = bias[o] + sum over c, kh, kw of w[o, c, kh, kw] * x[n, c, i * stride - padding + kh * dilation,
    ...]``

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
    w : array_like of shape (OC, C / groups, KH, KW)
    bias : array_like of shape (OC,), optional
    stride, padding, dilation : int or (int, int)
        Along height and width; the padding, of zeros, is on both sides.
    groups : int
        Output channels of group g see only the input channels of group g.
    activation : {None, "relu"}
        Applied to the sums before they are stored.
    algorithm : str, optional
        Instead of the one that :func:`nnpar.convolution.choose` would take.
    out : ndarray of shape (N, OC, OH, OW), float32, optional

    Returns
    -------
    ndarray of shape (N, OC, OH, OW), float32
        ``OH = (H + 2 * padding - dilation * (KH - 1) - 1) // stride + 1``, and OW likewise.

    Raises
    ------
    ValueError
        If the shapes do not fit, the algorithm cannot compute this, or there is no such activation.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ops
    >>> ops.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), padding=1)[0, 0]
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]], dtype=float32)
    """
    relu = _relu(activation, "conv2d")
    images = images_of(x, "conv2d", "x")
    weight = np.ascontiguousarray(_checks.floats(w, "conv2d", "w", 4))
    shape = shapes.conv2d(images.shape, weight.shape, stride, padding, dilation, groups, "conv2d")
    add = _bias(bias, weight.shape[0], "conv2d")
    result = Result(out, shape.output_shape, "conv2d", images, weight, add)
    return result.after(convolution.forward(shape, images, weight, add, result.array, relu, algorithm))


def conv2d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Shape,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`conv2d` with respect to its input.

    Parameters
    ----------
    dy : array_like of shape (N, OC, OH, OW)
    w : array_like of shape (OC, C / groups, KH, KW)
    input_shape : tuple
        (N, C, H, W).
    stride, padding, dilation, groups
        As in the forward pass.
    algorithm : str, optional
        Instead of the one that :func:`nnpar.convolution.choose` would take.
    out : ndarray of shape (N, C, H, W), float32, optional

    Returns
    -------
    ndarray of shape (N, C, H, W), float32

    Raises
    ------
    ValueError
        If the shapes do not fit, or the algorithm cannot compute this.
    """
    who = "conv2d_input_grad"
    grad = images_of(dy, who, "dy")
    weight = np.ascontiguousarray(_checks.floats(w, who, "w", 4))
    input_shape = _checks.shape(input_shape, who, "input_shape", 4)
    shape = shapes.conv2d(input_shape, weight.shape, stride, padding, dilation, groups, who)
    _checks.same_shape(grad, shape.output_shape, who, "dy")
    result = Result(out, input_shape, who, grad, weight)
    return result.after(convolution.input_grad(shape, grad, weight, result.array, algorithm))


def conv2d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    weight_shape: Shape,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`conv2d` with respect to its weights.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W)
    dy : array_like of shape (N, OC, OH, OW)
    weight_shape : tuple
        (OC, C / groups, KH, KW).
    stride, padding, dilation, groups
        As in the forward pass.
    algorithm : str, optional
        Instead of the one that :func:`nnpar.convolution.choose` would take.
    out : ndarray of shape (OC, C / groups, KH, KW), float32, optional

    Returns
    -------
    ndarray of shape (OC, C / groups, KH, KW), float32

    Raises
    ------
    ValueError
        If the shapes do not fit, or the algorithm cannot compute this.
    """
    who = "conv2d_weight_grad"
    images, grad = images_of(x, who, "x"), images_of(dy, who, "dy")
    weight_shape = _checks.shape(weight_shape, who, "weight_shape", 4)
    shape = shapes.conv2d(images.shape, weight_shape, stride, padding, dilation, groups, who)
    _checks.same_shape(grad, shape.output_shape, who, "dy")
    out = _checks.output(out, weight_shape, who, images, grad)
    array = out if out is not None and out.flags.c_contiguous else np.empty(weight_shape, np.float32)
    convolution.weight_grad(shape, images, grad, array, algorithm)()
    if out is None or out is array:
        return array
    np.copyto(out, array)
    return out


def bias_grad(dy: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient with respect to a bias: the sum over all axes but the channels.

    Parameters
    ----------
    dy : array_like of shape (N, C, H, W) or (N, C)
    out : ndarray of shape (C,), float32, optional

    Returns
    -------
    ndarray of shape (C,), float32
    """
    grad = arrays.ready(_checks.floats(dy, "bias_grad", "dy", (2, 4)))
    result = Result(out, (grad.shape[1],), "bias_grad", grad)
    return result.after(elementwise.BiasGrad(grad, result.array))


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


def _elementwise(value: ArrayLike, who: str, name: str) -> Array:
    array = np.asarray(value)
    return arrays.ready(_checks.floats(array, who, name, tuple(range(array.ndim + 1))))


def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Positive part, ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array_like of any shape
    out : ndarray of x's shape, float32, optional

    Returns
    -------
    ndarray of x's shape, float32

    Examples
    --------
    >>> from nnpar import ops
    >>> ops.relu([-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """
    values = _elementwise(x, "relu", "x")
    result = Result(out, values.shape, "relu", values)
    return result.after(elementwise.Relu(values, result.array))


def relu_grad(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of :func:`relu`, from its result: dy where y > 0, else 0.

    Parameters
    ----------
    dy, y : array_like of one shape
    out : ndarray of dy's shape, float32, optional

    Returns
    -------
    ndarray of dy's shape, float32

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    grad, values = _elementwise(dy, "relu_grad", "dy"), _elementwise(y, "relu_grad", "y")
    _checks.same_shape(grad, values.shape, "relu_grad", "dy")
    result = Result(out, values.shape, "relu_grad", grad, values)
    return result.after(elementwise.ReluGrad(grad, values, result.array))


def dropout(
    x: ArrayLike,
    p: float,
    *,
    seed: int,
    epoch: int = 0,
    sample: int = 0,
    layer: int = 0,
    out: Array | None = None,
) -> Array:
    """Zero each element with probability p and multiply the others by 1 / (1 - p).

    Which ones depends only on the seed, the epoch, the sample's global index, the layer and the element's place in the
    sample (channels last): Philox4x32-10 with key `seed` and counter (place // 4, sample, epoch, layer). The gradient
    is the same function of dy.

    Parameters
    ----------
    x : array_like of shape (N, ...)
    p : float
        0 <= p < 1.
    seed : int
        64 bits.
    epoch, sample, layer : int
        32 bits each; `sample` is the global index of the first sample.
    out : ndarray of x's shape, float32, optional

    Returns
    -------
    ndarray of x's shape, float32

    Raises
    ------
    ValueError
        If p is out of range.
    """
    array = np.asarray(x)
    values = arrays.ready(_checks.floats(array, "dropout", "x", tuple(range(1, max(2, array.ndim + 1)))))
    p = _checks.number(p, "dropout", "p")
    if not 0.0 <= p < 1.0:
        raise ValueError(f"dropout: p: expected 0 <= p < 1, got {p}")
    position = elementwise.Position(random.checked_seed(seed, "dropout"))
    position.move(
        _checks.integer(epoch, "dropout", "epoch", 0, 2**32), _checks.integer(sample, "dropout", "sample", 0, 2**32)
    )
    result = Result(out, values.shape, "dropout", values)
    layer = _checks.integer(layer, "dropout", "layer", 0, 2**32)
    return result.after(elementwise.Dropout(values, result.array, p, position, layer))


def softmax(logits: ArrayLike, *, out: Array | None = None) -> Array:
    """Probabilities ``exp(logits) / sum of exp(logits)`` of each sample.

    Parameters
    ----------
    logits : array_like of shape (N, K)
    out : ndarray of shape (N, K), float32, optional

    Returns
    -------
    ndarray of shape (N, K), float32

    Raises
    ------
    ValueError
        If there are not two axes.

    Examples
    --------
    >>> from nnpar import ops
    >>> ops.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    scores = arrays.ready(_checks.floats(logits, "softmax", "logits", 2))
    result = Result(out, scores.shape, "softmax", scores)
    return result.after(activation.SoftmaxRows(scores, result.array, False))


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean of ``-log softmax(logits)[label]`` over the batch, and its gradient.

    Parameters
    ----------
    logits : array_like of shape (N, K)
        At least one sample and one class.
    labels : array_like of shape (N,), int
        0 <= label < K.
    out : ndarray of shape (N, K), float32, optional
        Receives the gradient.

    Returns
    -------
    loss : float
    dlogits : ndarray of shape (N, K), float32
        ``(softmax(logits) - onehot(labels)) / N``.

    Notes
    -----
    exp is taken in float32, within 1.02 units in the last place of exp(z), where z is the difference of a logit from
    the largest, rounded to float32; sums and the logarithm are in double.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is out of range, or the batch is empty.

    Examples
    --------
    >>> from nnpar import ops
    >>> loss, grad = ops.softmax_cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), grad
    (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """
    who = "softmax_cross_entropy"
    scores = arrays.ready(_checks.floats(logits, who, "logits", 2))
    if 0 in scores.shape:
        raise ValueError(f"{who}: logits: expected at least one sample and one class, got shape {scores.shape}")
    classes = _checks.labels(labels, who, scores.shape[:1], scores.shape[1])
    result = Result(out, scores.shape, who, scores)
    total = np.empty(4)
    grad = result.after(loss.SoftmaxCrossEntropy(scores, classes, result.array, total))
    return float(total[0]) / len(scores), grad


def mse(prediction: ArrayLike, target: ArrayLike, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean squared error over all elements, and its gradient with respect to the prediction.

    Parameters
    ----------
    prediction, target : array_like of one shape (N, ...)
        At least one element.
    out : ndarray of the same shape, float32, optional
        Receives the gradient.

    Returns
    -------
    loss : float
    grad : ndarray of prediction's shape, float32
        ``2 * (prediction - target) / prediction.size``.

    Raises
    ------
    ValueError
        If the shapes differ or there is no element.
    """
    guess, truth = _elementwise(prediction, "mse", "prediction"), _elementwise(target, "mse", "target")
    _checks.same_shape(truth, guess.shape, "mse", "target")
    if guess.size == 0 or guess.ndim == 0:
        raise ValueError(f"mse: prediction: expected at least one sample, got shape {guess.shape}")
    result = Result(out, guess.shape, "mse", guess, truth)
    total = np.empty(4)
    grad = result.after(loss.SquaredError(guess, truth, result.array, total))
    return float(total[0]) / len(guess), grad
