"""The plain NumPy twin of every function of `nnpar.ops`: same names, same signatures, the oracle of the tests.

Written to be read, not to be fast. Arguments are taken to be valid. Everything is computed in the dtype of the arrays
given, so that tests can ask for float64. `out`, where given, is filled and returned.

Convolution and pooling follow PyTorch. Images x and dx are (N, C, H, W); outputs y and dy are (N, OC, OH, OW), or
(N, C, OH, OW) in pooling; weights w and dw are (OC, C/groups, KH, KW), a bias is (OC,). `kernel_size`, `stride`,
`padding` and `dilation` are one int or an (h, w) pair; a pooling `stride` of None is the kernel size, and its padding
may be ((top, bottom), (left, right)). Each function is a loop over the taps of the kernel: at output pixel (oh, ow),
tap (kh, kw) meets the pixel

    h = oh * stride - padding + kh * dilation        w = ow * stride - padding + kw * dilation
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = int | tuple[int, int]
Padding = Pair | tuple[tuple[int, int], tuple[int, int]]


def gemm(a: Array, b: Array, *, alpha: float = 1.0, beta: float = 0.0, out: Array | None = None) -> Array:
    """Return alpha * a @ b + beta * out, for a (m, k), b (k, n), out (m, n); beta == 0 does not read `out`."""
    y = alpha * (a @ b)
    if out is not None and beta != 0:
        y += beta * out
    return _into(out, y)


def linear(
    x: Array, w: Array, bias: Array | None = None, *, activation: str | None = None, out: Array | None = None
) -> Array:
    """Return activation(x @ w.T + bias), for x (N, in), w (out, in), bias (out,)."""
    y = x @ w.T
    if bias is not None:
        y += bias
    return _into(out, relu(y) if activation else y)


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Cross-correlate images with weights: group g of the output channels sees group g of the input channels.

    y[n, o, oh, ow] = bias[o] + sum over c, kh, kw of w[o, c, kh, kw] * x[n, c, h, w], or the activation of it
    """
    xg = _split_channels(_pad(x, padding), groups)
    wg = w.reshape(groups, -1, *w.shape[1:])
    taps = _taps(xg, w.shape[2:], stride, dilation)
    y = sum(np.einsum("ngchw,goc->ngohw", pixels, wg[..., kh, kw]) for kh, kw, pixels in taps)
    y = y.reshape(len(x), len(w), *y.shape[3:])
    if bias is not None:
        y += bias[:, None, None]
    return _into(out, y)


def conv2d_input_grad(
    dy: Array,
    w: Array,
    input_shape: tuple[int, int, int, int],
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Array:
    """Return dx, of `input_shape`: every output gradient goes back to the pixels it came from, times their weights."""
    dx = _pad(np.zeros(input_shape, dy.dtype), padding)
    dyg = _split_channels(dy, groups)
    wg = w.reshape(groups, -1, *w.shape[1:])
    for kh, kw, pixels in _taps(_split_channels(dx, groups), w.shape[2:], stride, dilation):
        pixels += np.einsum("ngohw,goc->ngchw", dyg, wg[..., kh, kw])
    return _into(out, _crop(dx, padding))


def conv2d_weight_grad(
    x: Array,
    dy: Array,
    weight_shape: tuple[int, int, int, int],
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    out: Array | None = None,
) -> Array:
    """Return dw, of `weight_shape`: dw[o, c, kh, kw] = sum over n, oh, ow of dy[n, o, oh, ow] * x[n, c, h, w]."""
    xg = _split_channels(_pad(x, padding), groups)
    dyg = _split_channels(dy, groups)
    dw = np.empty(weight_shape, dy.dtype)
    for kh, kw, pixels in _taps(xg, weight_shape[2:], stride, dilation):
        dw[:, :, kh, kw] = np.einsum("ngchw,ngohw->goc", pixels, dyg).reshape(weight_shape[:2])
    return _into(out, dw)


def bias_grad(dy: Array, *, out: Array | None = None) -> Array:
    """Return db (C,): dy (N, C, H, W) or (N, C) summed over all axes but the channels."""
    return _into(out, dy.sum(axis=(0, *range(2, dy.ndim))))


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Take the maximum of every window; padding counts as -inf, and a window with a NaN gives NaN.

    Returns
    -------
    y : ndarray of shape (N, C, OH, OW)
    argmax : ndarray of shape (N, C, OH, OW), uint8
        Only with `return_argmax`: the position kh * KW + kw within its window of the element taken, which is the
        first maximum, or the last NaN. It lies inside the image, even in a window of nothing but -inf.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    windows = np.stack(_pool_taps(_pool_pad(x, window, -np.inf), window))
    inside = np.stack(_pool_taps(_pool_pad(np.ones(x.shape, bool), window), window))
    y = windows[0].copy()
    argmax = inside.argmax(axis=0).astype(np.uint8)  # the first position inside
    for position, pixels in enumerate(windows):
        taken = (pixels > y) | np.isnan(pixels)
        y[taken] = pixels[taken]
        argmax[taken] = position
    y = _into(out, y)
    return (y, argmax) if return_argmax else y


def max_pool2d_grad(
    dy: Array,
    argmax: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Return dx, of `input_shape`: every output gradient goes to the one element that `max_pool2d` took, its argmax."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    dx = _pool_pad(np.zeros(input_shape, dy.dtype), window)
    for position, pixels in enumerate(_pool_taps(dx, window)):
        pixels += np.where(argmax == position, dy, 0)
    return _into(out, _pool_crop(dx, input_shape, padding))


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    *,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Average every window; padding counts as zeros or, if not `count_include_pad`, not at all."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    total = np.sum(_pool_taps(_pool_pad(x, window), window), axis=0)
    return _into(out, total / _window_sizes(x, window, count_include_pad))


def avg_pool2d_grad(
    dy: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    *,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Return dx, of `input_shape`: every output gradient is shared equally by its window."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    dx = np.zeros(input_shape, dy.dtype)
    share = dy / _window_sizes(dx, window, count_include_pad)
    dx = _pool_pad(dx, window)
    for pixels in _pool_taps(dx, window):
        pixels += share
    return _into(out, _pool_crop(dx, input_shape, padding))


def upsample2d(x: Array, scale_factor: Pair, *, out: Array | None = None) -> Array:
    """Repeat every pixel scale_h times scale_w times: y[n, c, i, j] = x[n, c, i // scale_h, j // scale_w]."""
    scale_h, scale_w = _pair(scale_factor)
    return _into(out, x.repeat(scale_h, axis=2).repeat(scale_w, axis=3))


def upsample2d_grad(
    dy: Array, input_shape: tuple[int, int, int, int], scale_factor: Pair, *, out: Array | None = None
) -> Array:
    """Return dx, of `input_shape`: the sum over the repetitions of every pixel."""
    scale_h, scale_w = _pair(scale_factor)
    n, c, h, w = input_shape
    return _into(out, dy.reshape(n, c, h, scale_h, w, scale_w).sum(axis=(3, 5)))


def batch_norm2d(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    relu: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return y, and the mean and 1 / sqrt(biased variance + eps) of each channel, by which x is normalised.

    Source: Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate
    shift. ICML 2015, algorithm 1.
    """
    mean, invstd = batch_norm2d_statistics(x, running_mean, running_var, momentum, eps)
    y = batch_norm2d_normalize(x, mean, invstd, gamma, beta, residual=residual, relu=relu, out=out)
    return y, mean, invstd


def batch_norm2d_statistics(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array]:
    """Return the mean and 1 / sqrt(biased variance + eps); the running variance moves towards the unbiased one."""
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    if running_mean is not None and running_var is not None:
        n = x.size // x.shape[1]
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean
        running_var[...] = (1 - momentum) * running_var + momentum * var * n / (n - 1)
    return mean, 1 / np.sqrt(var + eps)


def batch_norm2d_normalize(
    x: Array,
    mean: Array,
    invstd: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    residual: Array | None = None,
    relu: bool = False,
    out: Array | None = None,
) -> Array:
    """Return relu((x - mean) * invstd * gamma + beta + residual), without what is None or False."""
    y = (x - _per_channel(mean)) * _per_channel(invstd)
    if gamma is not None:
        y = y * _per_channel(gamma)
    if beta is not None:
        y = y + _per_channel(beta)
    if residual is not None:
        y = y + residual
    return _into(out, np.maximum(y, 0) if relu else y)


def batch_norm2d_inference(
    x: Array,
    running_mean: Array,
    running_var: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    relu: bool = False,
    out: Array | None = None,
) -> Array:
    """Normalise by running statistics."""
    invstd = 1 / np.sqrt(running_var + eps)
    return batch_norm2d_normalize(x, running_mean, invstd, gamma, beta, residual=residual, relu=relu, out=out)


def batch_norm2d_grad(
    dy: Array,
    x: Array,
    mean: Array,
    invstd: Array,
    gamma: Array | None = None,
    *,
    y: Array | None = None,
    return_residual_grad: bool = False,
    out: Array | None = None,
) -> tuple[Array, ...]:
    """Return dx, dgamma, dbeta, and the residual's gradient if asked: that is dy where y > 0, or all of dy."""
    g = dy if y is None else np.where(y > 0, dy, 0)
    xhat = (x - _per_channel(mean)) * _per_channel(invstd)
    n = x.size // x.shape[1]
    dbeta, dgamma = g.sum(axis=(0, 2, 3)), (g * xhat).sum(axis=(0, 2, 3))
    scale = invstd if gamma is None else gamma * invstd
    dx = _per_channel(scale) * (g - _per_channel(dbeta) / n - xhat * _per_channel(dgamma) / n)
    return (_into(out, dx), dgamma, dbeta, g) if return_residual_grad else (_into(out, dx), dgamma, dbeta)


def relu(x: Array, *, out: Array | None = None) -> Array:
    """Return max(x, 0); NaN stays NaN."""
    return _into(out, np.maximum(x, 0))


def relu_grad(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Return dx: dy where the output y of `relu` is positive, else 0."""
    return _into(out, np.where(y > 0, dy, 0))


def softmax(logits: Array, *, out: Array | None = None) -> Array:
    """Return exp(logits) / its sum over the classes, for logits (N, K)."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return _into(out, e / e.sum(axis=1, keepdims=True))


def softmax_cross_entropy(logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Return the mean over n of -log softmax(logits[n])[labels[n]], and its gradient (softmax - onehot) / N.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
    labels : ndarray of shape (N,), integer
    """
    n = np.arange(len(logits))
    z = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    dlogits = np.exp(log_p)
    dlogits[n, labels] -= 1
    return float(-log_p[n, labels].mean()), _into(out, dlogits / len(n))


def mse(prediction: Array, target: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Return the mean of (prediction - target)^2 over all elements, and its gradient 2 (prediction - target) / size."""
    difference = prediction - target
    return float(np.mean(difference**2)), _into(out, 2 * difference / difference.size)


def philox4x32(counter: Array, key: tuple[int, int]) -> Array:
    """Philox4x32-10: four random 32-bit words (..., 4) for every counter (..., 4), under a key of two words.

    Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    low = 2**32 - 1
    c0, c1, c2, c3 = np.moveaxis(counter.astype(np.uint64), -1, 0)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 & low, (product0 >> 32) ^ c3 ^ k1, product0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def dropout(
    x: Array, p: float, *, seed: int, epoch: int = 0, sample: int = 0, layer: int = 0, out: Array | None = None
) -> Array:
    """Zero elements with probability p < 1 and multiply the others by 1 / (1 - p).

    Whether an element is kept depends on the seed, the epoch, the layer, its sample's place in the data set and its own
    place in the sample, and on nothing else; so the gradient is this function, applied to dy.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W) or (N, C)
    seed : 64-bit int, the key of the generator
    sample : int
        The place of x[0] in the data set; x[n] has sample + n.
    """
    low = 2**32 - 1
    n, c, *pixels = x.shape
    size = math.prod(x.shape[1:])
    # Element e of a sample, counted channels-last, has word e % 4 of the counter (e // 4, sample + n, epoch, layer).
    counter = np.empty((n, math.ceil(size / 4), 4), np.uint32)
    counter[..., 0] = np.arange(counter.shape[1])
    counter[..., 1] = ((sample + np.arange(n)) & low)[:, None]
    counter[..., 2] = epoch & low
    counter[..., 3] = layer & low
    words = philox4x32(counter, (seed & low, seed >> 32 & low)).reshape(n, 4 * counter.shape[1])[:, :size]
    words = np.moveaxis(words.reshape(n, *pixels, c), -1, 1)
    kept = words >= min(round(p * 2**32), low)
    return _into(out, np.where(kept, x * x.dtype.type(1 / (1 - p)), 0))


def sgd(
    parameter: Array,
    gradient: Array,
    momentum_buffer: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
) -> None:
    """Take one step of PyTorch's SGD, in place; all arrays have one shape.

    g = gradient + weight_decay * parameter
    buffer = momentum * buffer + (1 - dampening) * g, but g on the first step
    parameter -= lr * (g + momentum * buffer if nesterov else buffer)
    """
    gradient = gradient + weight_decay * parameter
    if momentum_buffer is not None and momentum != 0:
        momentum_buffer[...] = gradient if first_step else momentum * momentum_buffer + (1 - dampening) * gradient
        gradient = gradient + momentum * momentum_buffer if nesterov else momentum_buffer
    parameter -= lr * gradient


def adam(
    parameter: Array,
    gradient: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    *,
    lr: float,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Take step number `step`, from 1, of PyTorch's Adam, or AdamW if `decoupled`, in place; all arrays have one shape.

    Sources: Kingma, Ba: Adam: a method for stochastic optimization. ICLR 2015, algorithm 1.
    Loshchilov, Hutter: Decoupled weight decay regularization. ICLR 2019, algorithm 2 (AdamW).
    """
    if decoupled:
        parameter *= 1 - lr * weight_decay
    else:
        gradient = gradient + weight_decay * parameter
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * gradient
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * gradient**2
    mean = exp_avg / (1 - beta1**step)
    mean_square = exp_avg_sq / (1 - beta2**step)
    parameter -= lr * mean / (np.sqrt(mean_square) + eps)


def _taps(image: Array, kernel_size: Pair, stride: Pair | None, dilation: Pair = 1) -> Iterator[tuple[int, int, Array]]:
    """For every tap (kh, kw), row by row, the pixels that it meets: a view (..., OH, OW) of the padded image."""
    kernel, dilation = _pair(kernel_size), _pair(dilation)
    stride = kernel if stride is None else _pair(stride)
    # The first tap meets pixels 0, stride, 2 stride, ..., the last of them where the whole kernel still fits.
    end = [size - d * (k - 1) for size, k, d in zip(image.shape[-2:], kernel, dilation, strict=True)]
    for kh, kw in np.ndindex(kernel):
        h, w = kh * dilation[0], kw * dilation[1]
        yield kh, kw, image[..., h : h + end[0] : stride[0], w : w + end[1] : stride[1]]


def _sides(padding: Padding) -> list[tuple[int, int]]:
    """(before, after) for height and width."""
    return [(side, side) if isinstance(side, int) else tuple(side) for side in _pair(padding)]  # type: ignore[arg-type]


def _pool_pad(image: Array, window: tuple[Any, ...], value: float = 0.0, outermost: float | None = None) -> Array:
    """Surround an image (..., H, W) with a pooling's padding, of `value`, and with ceil_mode with what the windows that
    begin before the padding after it still reach, of `outermost` (`value` by default).
    """
    kernel_size, stride, padding, dilation, ceil_mode = window
    kernel = _pair(kernel_size)
    steps = zip(kernel, kernel if stride is None else _pair(stride), _pair(dilation), strict=True)
    more = []
    for size, (before, after), (k, step, apart) in zip(image.shape[-2:], _sides(padding), steps, strict=True):
        missing = -(size + before + after - apart * (k - 1) - 1) % step
        begins = size + before + after + missing - apart * (k - 1) - 1
        more.append((0, missing if ceil_mode and begins < size + before else 0))
    others = [(0, 0)] * (image.ndim - 2)
    image = np.pad(image, others + _sides(padding), constant_values=value)
    return np.pad(image, others + more, constant_values=value if outermost is None else outermost)


def _pool_taps(image: Array, window: tuple[Any, ...]) -> list[Array]:
    """The pixels under each position of a pooling's windows: views of an image that `_pool_pad` made."""
    kernel_size, stride, _, dilation, _ = window
    return [pixels for _, _, pixels in _taps(image, kernel_size, stride, dilation)]


def _pool_crop(image: Array, shape: tuple[int, ...], padding: Padding) -> Array:
    """Undo `_pool_pad`."""
    (top, _), (left, _) = _sides(padding)
    return image[..., top : top + shape[-2], left : left + shape[-1]]


def _window_sizes(x: Array, window: tuple[Any, ...], count_include_pad: bool) -> Array:
    """How many pixels of x, and of its padding if that counts, each pooling window has, at least 1: (OH, OW)."""
    ones = _pool_pad(np.ones(x.shape[2:], x.dtype), window, float(count_include_pad), 0.0)
    sizes: Array = np.maximum(np.sum(_pool_taps(ones, window), axis=0), 1)
    return sizes


def _per_channel(values: Array) -> Array:
    return values[:, None, None]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _pad(image: Array, padding: Pair, value: float = 0.0) -> Array:
    """Surround an image (..., H, W) with `padding` rows and columns of `value`; always a copy."""
    h, w = _pair(padding)
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(h, h), (w, w)], constant_values=value)


def _crop(image: Array, padding: Pair) -> Array:
    """Undo `_pad`."""
    h, w = _pair(padding)
    return image[..., h : image.shape[-2] - h, w : image.shape[-1] - w]


def _split_channels(image: Array, groups: int) -> Array:
    """View (N, C, H, W) as (N, groups, C/groups, H, W)."""
    n, c, h, w = image.shape
    return image.reshape(n, groups, c // groups, h, w)


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out
