"""The networks of nnpar.zoo as functions of channels-last images for JAX, their parameters in the same order.

A network takes its parameters one after the other from what `take` gives: `Cut`, the first time, or `Given`. Batch
normalisations are those of training; running statistics, which their training would not read, are not kept.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from library import Array

relu = jax.nn.relu
TO_HWIO = (2, 3, 1, 0)


class Source(Protocol):
    """Where parameters come from."""

    def take(self, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> jax.Array:
        """The next one, of that shape in PyTorch, its axes in another order."""


@dataclass
class Cut:
    """Parameters out of one array in PyTorch's order and layout; `arrays` has them afterwards."""

    values: Array
    arrays: list[Array] = field(default_factory=list)

    def take(self, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> jax.Array:
        """Cut it off."""
        part, self.values = np.split(self.values, [math.prod(shape)])
        self.arrays.append(np.ascontiguousarray(part.reshape(shape).transpose(axes)))
        return jnp.asarray(self.arrays[-1])


@dataclass
class Given:
    """Parameters in JAX's layout."""

    arrays: Iterator[jax.Array]

    def take(self, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> jax.Array:
        """The next of them."""
        return next(self.arrays)


Network = Callable[[Source, jax.Array], jax.Array]


def parameters(name: str, values: Array, shape: tuple[int, ...]) -> list[jax.Array]:
    """The parameters of a network in the layout in which it takes them, for images (N, H, W, C) of that shape."""
    cut = Cut(values)
    jax.eval_shape(lambda x: NETWORKS[name](cut, x), jax.ShapeDtypeStruct(shape, jnp.float32))
    return list(map(jnp.asarray, cut.arrays))


def loss(name: str, arrays: list[jax.Array], x: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of a class for each image or pixel."""
    scores = NETWORKS[name](Given(iter(arrays)), x)
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[..., None], axis=-1).mean()


def _conv(
    p: Source, x: jax.Array, out: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1, bias: bool = True
) -> jax.Array:
    w = p.take((out, x.shape[-1] // groups, kernel, kernel), TO_HWIO)
    layout = ("NHWC", "HWIO", "NHWC")
    y: jax.Array = lax.conv_general_dilated(
        x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=layout, feature_group_count=groups
    )
    return y + p.take((out,)) if bias else y


def _linear(p: Source, x: jax.Array, out: int) -> jax.Array:
    """Of images, flattened in PyTorch's order: it is the weights that are turned, beforehand."""
    if x.ndim == 2:
        return x @ p.take((out, x.shape[1]), (1, 0)) + p.take((out,))
    n, h, w, c = x.shape
    return x.reshape(n, -1) @ p.take((out, c, h, w), TO_HWIO).reshape(-1, out) + p.take((out,))


def _norm(p: Source, x: jax.Array) -> jax.Array:
    gamma, beta = p.take(x.shape[-1:]), p.take(x.shape[-1:])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * (lax.rsqrt(var + 1e-5) * gamma) + beta


def _conv_norm(p: Source, x: jax.Array, out: int, kernel: int, stride: int = 1, groups: int = 1) -> jax.Array:
    return _norm(p, _conv(p, x, out, kernel, stride, kernel // 2, groups, bias=False))


def _max_pool(x: jax.Array, size: int = 2, stride: int = 2, pad: int = 0) -> Any:
    pads = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), pads)


def _mlp(p: Source, x: jax.Array) -> jax.Array:
    return _linear(p, relu(_linear(p, relu(_linear(p, x, 512)), 512)), 10)


def _lenet5(p: Source, x: jax.Array) -> jax.Array:
    x = _max_pool(relu(_conv(p, x, 6, 5, pad=2)))
    x = _max_pool(relu(_conv(p, x, 16, 5)))
    return _linear(p, relu(_linear(p, relu(_linear(p, x, 120)), 84)), 10)


def _mnist_cnn(p: Source, x: jax.Array) -> jax.Array:
    x = _max_pool(relu(_conv(p, relu(_conv(p, x, 32, 3)), 64, 3)))
    return _linear(p, relu(_linear(p, x, 128)), 10)


def _vgg_small(p: Source, x: jax.Array) -> jax.Array:
    for width in (64, 128, 256):
        for _ in range(2):
            x = relu(_conv_norm(p, x, width, 3))
        x = _max_pool(x)
    return _linear(p, x, 10)


def _stages(p: Source, x: jax.Array, widths: tuple[int, ...], blocks: int) -> jax.Array:
    for number, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if number > 0 and block == 0 else 1
            same = stride == 1 and x.shape[-1] == width
            shortcut = x if same else _conv_norm(p, x, width, 1, stride)
            body = _conv_norm(p, relu(_conv_norm(p, x, width, 3, stride)), width, 3)
            x = relu(body + shortcut)
    return x


def _resnet20(p: Source, x: jax.Array) -> jax.Array:
    x = _stages(p, relu(_conv_norm(p, x, 16, 3)), (16, 32, 64), 3)
    return _linear(p, x.mean((1, 2)), 10)


def _resnet18(p: Source, x: jax.Array) -> jax.Array:
    x = _max_pool(relu(_conv_norm(p, x, 64, 7, 2)), 3, 2, 1)
    return _linear(p, _stages(p, x, (64, 128, 256, 512), 2).mean((1, 2)), 1000)


def _mobilenet_v1(p: Source, x: jax.Array) -> jax.Array:
    x = relu(_conv_norm(p, x, 32, 3, 2))
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in blocks:
        x = relu(_conv_norm(p, x, x.shape[-1], 3, stride, groups=x.shape[-1]))
        x = relu(_conv_norm(p, x, width, 1))
    return _linear(p, x.mean((1, 2)), 1000)


def _densenet_small(p: Source, x: jax.Array) -> jax.Array:
    x = _conv(p, x, 24, 3, pad=1, bias=False)
    for block in range(3):
        if block > 0:
            x = _conv(p, relu(_norm(p, x)), x.shape[-1] // 2, 1, bias=False)
            x = lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
        for _ in range(6):
            x = jnp.concatenate([x, _conv(p, relu(_norm(p, x)), 12, 3, pad=1, bias=False)], -1)
    return _linear(p, relu(_norm(p, x)).mean((1, 2)), 10)


def _unet_level(p: Source, x: jax.Array, width: int, levels: int) -> jax.Array:
    def twice(x: jax.Array) -> jax.Array:
        return relu(_conv_norm(p, relu(_conv_norm(p, x, width, 3)), width, 3))

    x = twice(x)
    if levels == 1:
        return x
    below = _unet_level(p, _max_pool(x), 2 * width, levels - 1)
    up = relu(_conv_norm(p, below.repeat(2, 1).repeat(2, 2), width, 3))
    return twice(jnp.concatenate([x, up], -1))


def _unet_small(p: Source, x: jax.Array) -> jax.Array:
    return _conv(p, _unet_level(p, x, 16, 4), 2, 1)


NETWORKS: dict[str, Network] = {
    "mlp": _mlp,
    "lenet5": _lenet5,
    "mnist_cnn": _mnist_cnn,
    "vgg_small": _vgg_small,
    "resnet20": _resnet20,
    "resnet18": _resnet18,
    "mobilenet_v1": _mobilenet_v1,
    "densenet_small": _densenet_small,
    "unet_small": _unet_small,
}
