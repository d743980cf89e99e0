"""Activations, softmax and dropout out of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nnpar import layers
from nnpar.io.onnx.importer import Data, Known, Op, UnsupportedError, Value
from nnpar.io.onnx.operators.shaping import in_shapes
from nnpar.shapes import Shape


def _relu(op: Op) -> Value:
    op.attribute("consumed_inputs")
    return op.emit(layers.ReLU(), op.data())


def _dropout(op: Op) -> list[Value]:
    op.attribute("seed")
    op.attribute("is_test")
    ratio = float(op.known(1)) if op.has(1) else op.attribute("ratio", 0.5)
    if op.has(2) and bool(op.known(2)) and ratio > 0.0:
        raise UnsupportedError("training_mode=True")
    mask = Known(tuple(np.ones(shape, bool) for shape in op.data().shapes)) if op.wants_output(1) else None
    return [op.emit(layers.Dropout(ratio), op.data()), mask]


def _softmax(kind: type[layers.Softmax]) -> Callable[[Op], Value]:
    """Before version 13, of all axes from the one given on together."""

    def softmax(op: Op) -> Value:
        x = op.data()
        axis = op.axis(op.attribute("axis", -1 if op.version >= 13 else 1), len(x.shape))
        if op.version >= 13 or axis == len(x.shape) - 1:
            return op.emit(kind(axis), x)
        rows = in_shapes(op, x, [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in x.shapes])
        return in_shapes(op, op.emit(kind(1), rows), x.shapes)

    return softmax


def _clip(op: Op) -> Value:
    op.attribute("consumed_inputs")
    limit = float(np.finfo(np.float32).max)
    low = float(op.known(1)) if op.has(1) else op.attribute("min", -limit)
    high = float(op.known(2)) if op.has(2) else op.attribute("max", limit)
    low, high = max(low, -limit), min(high, limit)
    return op.emit(layers.Hardtanh(min(low, high), high), op.data())


def _channel_shapes(op: Op, x: Data) -> list[Shape]:
    """Shapes of a number for each channel; before version 7 they were without axes for the pixels."""
    channels = x.shape[1]
    return [(channels, *[1] * (len(x.shape) - 2)), *([(channels,)] if op.version < 7 else [])]


def _prelu(op: Op) -> Value:
    x, slope = op.data(), op.weights(1)
    if slope.size == 1:
        layer = layers.PReLU()
    elif len(x.shape) > 1 and slope.shape in _channel_shapes(op, x):
        layer = layers.PReLU(x.shape[1])
    else:  # the positive part less the slope times that of -x
        below = op.emit(layers.ReLU(), op.emit(layers.Affine(scale=-1.0), x))
        scale = layers.Scale(slope.shape)
        scale.weight = slope
        return op.emit(layers.Sub(), op.emit(layers.ReLU(), x), op.emit(scale, below))
    layer.weight = slope.reshape(-1)
    return op.emit(layer, x)


def _function(kind: type[layers.Layer], **names: tuple[str, float]) -> Callable[[Op], Value]:
    """A layer whose arguments are attributes: the layer's name = (ONNX's name, default)."""

    def function(op: Op) -> Value:
        op.attribute("consumed_inputs")
        arguments = {name: op.attribute(attribute, default) for name, (attribute, default) in names.items()}
        return op.emit(kind(**arguments), op.data())

    return function


def _selu(op: Op) -> Value:
    op.attribute("consumed_inputs")
    alpha, gamma = op.attribute("alpha", 1.6732632), op.attribute("gamma", 1.050701)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.050701) < 1e-6:
        return op.emit(layers.SELU(), op.data())
    return op.emit(layers.Affine(scale=gamma), op.emit(layers.ELU(alpha), op.data()))


def _gelu(op: Op) -> Value:
    return op.emit(layers.GELU(op.attribute("approximate", "none")), op.data())


def _hard_sigmoid(op: Op) -> Value:
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    op.attribute("consumed_inputs")
    return op.emit(layers.Hardtanh(0.0, 1.0), op.emit(layers.Affine(alpha, beta), op.data()))


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "Abs": _function(layers.Abs),
    "Celu": _function(layers.CELU, alpha=("alpha", 1.0)),
    "Clip": _clip,
    "Dropout": _dropout,
    "Elu": _function(layers.ELU, alpha=("alpha", 1.0)),
    "Erf": _function(layers.Erf),
    "Exp": _function(layers.Exp),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _function(layers.Hardswish),
    "LeakyRelu": _function(layers.LeakyReLU, negative_slope=("alpha", 0.01)),
    "Log": _function(layers.Log),
    "LogSoftmax": _softmax(layers.LogSoftmax),
    "Mish": _function(layers.Mish),
    "PRelu": _prelu,
    "Reciprocal": _function(layers.Reciprocal),
    "Relu": _relu,
    "Selu": _selu,
    "Sigmoid": _function(layers.Sigmoid),
    "Softmax": _softmax(layers.Softmax),
    "Softplus": _function(layers.Softplus),
    "Softsign": _function(layers.Softsign),
    "Sqrt": _function(layers.Sqrt),
    "Tanh": _function(layers.Tanh),
}
