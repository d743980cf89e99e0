"""JAX: compiled functions on channels-last images, the layout that its compiler runs fastest on processors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax_networks
import numpy as np
from jax import lax
from library import Array, Pair, Prepared
from numpy.typing import NDArray

Arrays = list[jax.Array]

FLOAT = jnp.float32
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
TO_HWIO, TO_OIHW = (2, 3, 1, 0), (3, 2, 0, 1)
PIXELS = (0, 1, 2)  # axes of channels-last images


class Jax:
    """Gradients are the transposes of the linear functions, compiled alone."""

    def __init__(self, threads: int) -> None:
        self.versions = {"jax": jax.__version__}

    def gemm(self, a: Array, b: Array) -> Prepared:
        return _compiled(jnp.matmul, jnp.asarray(a), jnp.asarray(b))

    def conv2d(self, x: Array, w: Array, bias: Array, **window: Any) -> Prepared:
        convolve = _convolution(**window)

        def forward(x: jax.Array, w: jax.Array, bias: jax.Array) -> jax.Array:
            return convolve(x, w) + bias

        return _compiled(forward, _images(x), _weights(w), jnp.asarray(bias), axes=TO_NCHW)

    def conv2d_input_grad(self, dy: Array, w: Array, input_shape: tuple[int, ...], **window: Any) -> Prepared:
        convolve, x = _convolution(**window), _like(input_shape, TO_NHWC)

        def grad(dy: jax.Array, w: jax.Array) -> Any:
            return jax.linear_transpose(lambda x: convolve(x, w), x)(dy)[0]

        return _compiled(grad, _images(dy), _weights(w), axes=TO_NCHW)

    def conv2d_weight_grad(self, x: Array, dy: Array, weight_shape: tuple[int, ...], **window: Any) -> Prepared:
        convolve, w = _convolution(**window), _like(weight_shape, TO_HWIO)

        def grad(x: jax.Array, dy: jax.Array) -> Any:
            return jax.linear_transpose(lambda w: convolve(x, w), w)(dy)[0]

        return _compiled(grad, _images(x), _images(dy), axes=TO_OIHW)

    def relu(self, x: Array) -> Prepared:
        return _compiled(jax.nn.relu, jnp.asarray(x))

    def relu_grad(self, dy: Array, y: Array) -> Prepared:
        return _compiled(lambda dy, y: jnp.where(y > 0, dy, 0), jnp.asarray(dy), jnp.asarray(y))

    def max_pool2d(self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        return _compiled(_max_pool(kernel_size, stride, padding), _images(x), axes=TO_NCHW)

    def max_pool2d_grad(self, x: Array, dy: Array, kernel_size: Pair, stride: Pair, padding: Pair) -> Prepared:
        pool = _max_pool(kernel_size, stride, padding)
        return _compiled(lambda x, dy: jax.vjp(pool, x)[1](dy)[0], _images(x), _images(dy), axes=TO_NCHW)

    def avg_pool2d(self, x: Array, kernel_size: Pair, stride: Pair) -> Prepared:
        return _compiled(_avg_pool(kernel_size, stride), _images(x), axes=TO_NCHW)

    def avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...], kernel_size: Pair, stride: Pair) -> Prepared:
        pool, x = _avg_pool(kernel_size, stride), _like(input_shape, TO_NHWC)
        return _compiled(lambda dy: jax.linear_transpose(pool, x)(dy)[0], _images(dy), axes=TO_NCHW)

    def batch_norm2d(self, x: Array, gamma: Array, beta: Array, eps: float, relu: bool) -> Prepared:
        def forward(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
            mean, var = x.mean(PIXELS), x.var(PIXELS)
            y = (x - mean) * (lax.rsqrt(var + eps) * gamma) + beta
            return jax.nn.relu(y) if relu else y

        return _compiled(forward, _images(x), jnp.asarray(gamma), jnp.asarray(beta), axes=TO_NCHW)

    def batch_norm2d_grad(
        self, dy: Array, x: Array, mean: Array, invstd: Array, gamma: Array, y: Array | None = None
    ) -> Prepared:
        def grad(
            dy: jax.Array, x: jax.Array, mean: jax.Array, invstd: jax.Array, gamma: jax.Array, *output: jax.Array
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            g = jnp.where(output[0] > 0, dy, 0) if output else dy
            xhat, pixels = (x - mean) * invstd, math.prod(dy.shape[:3])
            dbeta, dgamma = g.sum(PIXELS), (g * xhat).sum(PIXELS)
            return gamma * invstd * (g - dbeta / pixels - xhat * (dgamma / pixels)), dgamma, dbeta

        vectors, output = map(jnp.asarray, (mean, invstd, gamma)), () if y is None else (_images(y),)
        run = _compiled(grad, _images(dy), _images(x), *vectors, *output).run
        return Prepared(run, lambda grads: np.asarray(grads[0]).transpose(TO_NCHW))

    def softmax(self, logits: Array) -> Prepared:
        return _compiled(jax.nn.softmax, jnp.asarray(logits))

    def softmax_cross_entropy(self, logits: Array, labels: NDArray[Any]) -> Prepared:
        def loss(scores: jax.Array, classes: jax.Array) -> jax.Array:
            chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), classes[:, None], axis=1)
            return -chosen.mean()

        classes = jnp.asarray(labels.astype(np.int32))
        run = _compiled(jax.value_and_grad(loss), jnp.asarray(logits), classes).run
        return Prepared(run, lambda loss_and_grad: np.asarray(loss_and_grad[1]))

    def train_step(
        self, x: Array, labels: NDArray[Any], parameters: Array, name: str, lr: float, momentum: float
    ) -> Prepared:
        """Runs go on from each other's parameters and buffers, whose memory they reuse."""
        images, classes = _images(x), jnp.asarray(labels.astype(np.int32))
        state = jax_networks.parameters(name, parameters, images.shape)
        buffers = list(map(jnp.zeros_like, state))
        step = jax.jit(_momentum_step(name, lr, momentum), donate_argnums=(0, 1))

        def run() -> jax.Array:
            nonlocal state, buffers
            state, buffers, loss = jax.block_until_ready(step(state, buffers, images, classes))
            return loss

        return Prepared(run, np.atleast_1d)

    def sgd(self, parameters: Array, gradients: Array, lr: float, momentum: float) -> Prepared:
        def step(state: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, ...]:
            w, buffer = state
            buffer = momentum * buffer + g
            return w - lr * buffer, buffer

        return _update(step, parameters, gradients, buffers=1)

    def adam(self, parameters: Array, gradients: Array, lr: float) -> Prepared:
        def step(state: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, ...]:
            w, mean, square, count = state
            count = count + 1
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
            scale = jnp.sqrt(square / (1 - 0.999**count)) + 1e-8
            return w - lr / (1 - 0.9**count) * mean / scale, mean, square, count

        return _update(step, parameters, gradients, buffers=2, counts=1)


def _momentum_step(name: str, lr: float, momentum: float) -> Callable[..., Any]:
    """Loss, gradients and SGD with momentum, as one function of parameters and their buffers."""

    def step(arrays: Arrays, buffers: Arrays, x: jax.Array, labels: jax.Array) -> tuple[Arrays, Arrays, jax.Array]:
        loss, grads = jax.value_and_grad(partial(jax_networks.loss, name))(arrays, x, labels)
        buffers = [momentum * buffer + grad for buffer, grad in zip(buffers, grads, strict=True)]
        return [array - lr * buffer for array, buffer in zip(arrays, buffers, strict=True)], buffers, loss

    return step


def _images(array: Array) -> jax.Array:
    return jnp.asarray(np.ascontiguousarray(array.transpose(TO_NHWC)))


def _weights(array: Array) -> jax.Array:
    return jnp.asarray(np.ascontiguousarray(array.transpose(TO_HWIO)))


def _like(shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct([shape[axis] for axis in axes], FLOAT)


def _compiled(function: Callable[..., Any], *arguments: jax.Array, axes: tuple[int, ...] | None = None) -> Prepared:
    compiled = jax.jit(function).lower(*arguments).compile()

    def result(y: jax.Array) -> NDArray[Any]:
        array: NDArray[Any] = np.asarray(y)
        return array.transpose(axes) if axes else array

    return Prepared(lambda: jax.block_until_ready(compiled(*arguments)), result)


def _convolution(stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Callable[..., jax.Array]:
    return partial(
        lax.conv_general_dilated,
        window_strides=stride,
        padding=[(pad, pad) for pad in padding],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _max_pool(kernel_size: Pair, stride: Pair, padding: Pair) -> Callable[[jax.Array], jax.Array]:
    pads = [(0, 0), *((pad, pad) for pad in padding), (0, 0)]
    return lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, *kernel_size, 1), (1, *stride, 1), pads)


def _avg_pool(kernel_size: Pair, stride: Pair) -> Callable[[jax.Array], jax.Array]:
    def pool(x: jax.Array) -> jax.Array:
        total = lax.reduce_window(x, 0.0, lax.add, (1, *kernel_size, 1), (1, *stride, 1), "VALID")
        return total / math.prod(kernel_size)

    return pool


def _update(
    step: Callable[..., tuple[jax.Array, ...]], parameters: Array, gradients: Array, buffers: int, counts: int = 0
) -> Prepared:
    """Runs go on from each other's state, whose memory they reuse."""
    compiled = jax.jit(step, donate_argnums=0)
    zeros = [jnp.zeros(parameters.shape, FLOAT) for _ in range(buffers)]
    state = (jnp.array(parameters), *zeros, *(jnp.zeros((), FLOAT) for _ in range(counts)))
    grad = jnp.asarray(gradients)

    def run() -> jax.Array:
        nonlocal state
        state = jax.block_until_ready(compiled(state, grad))
        return state[0]

    return Prepared(run, np.array)
