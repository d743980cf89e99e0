"""Convolution of images, its gradients, and that of a bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks, arrays, convolution, shapes
from nnpar._checks import Array, IntOrPair
from nnpar._kernels import elementwise
from nnpar.ops._arguments import Result, bias_of, images_of, relu_of
from nnpar.shapes import Shape


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
    relu = relu_of(activation, "conv2d")
    images = images_of(x, "conv2d", "x")
    weight = np.ascontiguousarray(_checks.floats(w, "conv2d", "w", 4))
    shape = shapes.conv2d(images.shape, weight.shape, stride, padding, dilation, groups, "conv2d")
    add = bias_of(bias, weight.shape[0], "conv2d")
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
