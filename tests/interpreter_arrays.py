"""The part of the interpreter that runs functions of elements, arithmetic and what moves numbers. Gradients are
differences, in float64, whatever the layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nnpar

Values = dict[str, np.ndarray[Any, Any]]
STEP = 1e-5

_erf = np.vectorize(math.erf)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _elu(x: Any, scale: float, below: float, factor: float) -> Any:
    return np.where(x > 0, scale * x, below * np.expm1(factor * np.minimum(x, 0)))


def _function(layer: nnpar.Layer, x: Any) -> Any:
    """A layer without parameters of one input."""
    match layer:
        case nnpar.ReLU6():
            return np.clip(x, 0, 6)
        case nnpar.Hardtanh():
            return np.clip(x, layer.min_val, layer.max_val)
        case nnpar.LeakyReLU():
            return np.where(x > 0, x, layer.negative_slope * x)
        case nnpar.ELU():
            return _elu(x, 1, layer.alpha, 1)
        case nnpar.SELU():
            return _elu(x, 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772, 1)
        case nnpar.CELU():
            return _elu(x, 1, layer.alpha, 1 / layer.alpha)
        case nnpar.GELU():
            if layer.approximate == "tanh":
                return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
            return x * (1 + _erf(x / np.sqrt(2))) / 2
        case nnpar.SiLU():
            return x * _sigmoid(x)
        case nnpar.Hardswish():
            return x * np.clip(x + 3, 0, 6) / 6
        case nnpar.Hardsigmoid():
            return np.clip(x + 3, 0, 6) / 6
        case nnpar.Mish():
            return x * np.tanh(np.logaddexp(0, x))
        case nnpar.Softplus():
            return np.logaddexp(0, layer.beta * x) / layer.beta
        case nnpar.Softsign():
            return x / (1 + abs(x))
        case nnpar.Sigmoid():
            return _sigmoid(x)
        case nnpar.Tanh():
            return np.tanh(x)
        case nnpar.Abs():
            return abs(x)
        case nnpar.Erf():
            return _erf(x)
        case nnpar.Exp():
            return np.exp(x)
        case nnpar.Log():
            return np.log(x)
        case nnpar.Reciprocal():
            return 1 / x
        case nnpar.Sqrt():
            return np.sqrt(x)
        case nnpar.LogSoftmax():
            return x - np.log(np.exp(x).sum(axis=layer.dim, keepdims=True))
        case nnpar.Softmax():
            return np.exp(x) / np.exp(x).sum(axis=layer.dim, keepdims=True)
        case nnpar.Affine():
            return layer.scale * x + layer.shift
    return _moved(layer, x)


def _moved(layer: nnpar.Layer, x: Any) -> Any:
    match layer:
        case nnpar.Reshape():
            return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(layer.shape)])
        case nnpar.Permute():
            return x.transpose(layer.dims)
        case nnpar.Slice():
            return np.moveaxis(np.moveaxis(x, layer.dim, 0)[layer.start : layer.end : layer.step], 0, layer.dim)
        case nnpar.ConstantPad():
            sides = list(zip(layer.before, layer.after, strict=True))
            kept = tuple(slice(max(0, -b), n - max(0, -a)) for (b, a), n in zip(sides, x.shape, strict=True))
            return np.pad(x[kept], [(max(0, b), max(0, a)) for b, a in sides], constant_values=layer.value)
        case nnpar.ChannelShuffle():
            n, c, h, w = x.shape
            return x.reshape(n, layer.groups, -1, h, w).transpose(0, 2, 1, 3, 4).reshape(n, c, h, w)
        case nnpar.PixelShuffle():
            n, c, h, w = x.shape
            r = layer.upscale_factor
            return x.reshape(n, -1, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * r, w * r)
        case nnpar.Sum():
            return x.sum(axis=layer.dim, keepdims=layer.keepdim)
        case nnpar.Mean():
            return x.mean(axis=layer.dim, keepdims=layer.keepdim)
    raise NotImplementedError(type(layer).__name__)


def forward(layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]]) -> Any:
    match layer:
        case nnpar.Add():
            return xs[0] + xs[1]
        case nnpar.Sub():
            return xs[0] - xs[1]
        case nnpar.Mul():
            return xs[0] * xs[1]
        case nnpar.Div():
            return xs[0] / xs[1]
        case nnpar.Concatenate():
            return np.concatenate(xs, axis=layer.dim)
        case nnpar.Scale():
            return xs[0] * p["weight"]
        case nnpar.Shift():
            return xs[0] + p["weight"]
        case nnpar.PReLU():
            weight = p["weight"].reshape(-1, *[1] * (xs[0].ndim - 2))
            return np.where(xs[0] > 0, xs[0], weight * xs[0])
    return _function(layer, xs[0])


def backward(
    layer: nnpar.Layer, p: Values, xs: list[np.ndarray[Any, Any]], dy: np.ndarray[Any, Any]
) -> tuple[list[np.ndarray[Any, Any]], Values]:
    def slope(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Differences of <dy, y> for each element of an input or a parameter."""
        result = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            value = array[place]
            sides = []
            for moved in (value - STEP, value + STEP):
                array[place] = moved
                sides.append(np.sum(dy * forward(layer, p, xs)))
            array[place] = value
            result[place] = (sides[1] - sides[0]) / (2 * STEP)
        return result

    xs[:] = [x.copy() for x in xs]
    return [slope(x) for x in xs], {key: slope(array) for key, array in p.items()}
