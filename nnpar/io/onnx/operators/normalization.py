"""Normalisations out of ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nnpar import layers
from nnpar.io.onnx.importer import Data, Op, UnsupportedError, Value
from nnpar.layers.nodes import Symbol

BATCH_NORMS = {2: layers.BatchNorm1d, 3: layers.BatchNorm1d, 4: layers.BatchNorm2d, 5: layers.BatchNorm3d}


def _batch_normalization(op: Op) -> Value:
    op.expect("training_mode", 0)
    op.expect("spatial", 1)
    op.attribute("is_test")
    op.attribute("consumed_inputs")
    x = op.data()
    if len(x.shape) not in BATCH_NORMS:
        raise UnsupportedError(f"input of shape {x.shape}")
    weights = [op.weights(number, x.shape[1:2]) for number in (1, 2, 3, 4)]
    before = x.symbol.layer
    if op.fold and op.alone[0] and isinstance(before, (layers.Conv1d, layers.Conv2d)):
        return _folded(op, before, *weights)
    # ONNX's momentum is the share of the old statistics.
    momentum = 1.0 - op.attribute("momentum", 0.9)
    layer = BATCH_NORMS[len(x.shape)](x.shape[1], op.attribute("epsilon", 1e-5), momentum)
    layer.weight, layer.bias, layer.running_mean, layer.running_var = weights
    return op.emit(layer, x)


def _folded(op: Op, conv: layers.Conv1d | layers.Conv2d, *weights: NDArray[np.float32]) -> Data:
    """A convolution that normalises what it gives: of weight * s, with s = scale / sqrt(var + eps)."""
    scale, shift, mean, var = (array.astype(np.float64) for array in weights)
    op.attribute("momentum")
    factor = scale / np.sqrt(var + op.attribute("epsilon", 1e-5))
    arguments = conv.settings() | {"bias": True}
    layer = type(conv)(**arguments, weight_init=lambda shape: conv.weight * factor.reshape(-1, *[1] * (len(shape) - 1)))
    layer.bias = shift + factor * ((0.0 if conv.bias is None else conv.bias) - mean)
    x = op.data()
    return Data(Symbol(layer, x.symbol.inputs, x.symbol.shape), x.shapes)


def _layer_normalization(op: Op) -> Value:
    x = op.data()
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    if axis == 0:
        raise UnsupportedError("axis=0, the batch's")
    rows, scale = x.shape[axis:], op.weights(1)
    bias = np.broadcast_to(op.weights(2), rows) if op.has(2) else None
    layer = layers.LayerNorm(rows, op.attribute("epsilon", 1e-5), bias=bias is not None)
    layer.weight = np.broadcast_to(scale, rows)
    if bias is not None:
        layer.bias = bias
    return op.emit(layer, x)


def _rms_normalization(op: Op) -> Value:
    x = op.data()
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    if axis == 0:
        raise UnsupportedError("axis=0, the batch's")
    layer = layers.RMSNorm(x.shape[axis:], op.attribute("epsilon", 1e-5))
    layer.weight = np.broadcast_to(op.weights(1), x.shape[axis:])
    return op.emit(layer, x)


def _instance_normalization(op: Op) -> Value:
    x = op.data()
    kinds = {3: layers.InstanceNorm1d, 4: layers.InstanceNorm2d}
    if len(x.shape) not in kinds:
        raise UnsupportedError(f"input of shape {x.shape}")
    weight, bias = (op.weights(number, x.shape[1:2]) for number in (1, 2))
    layer = kinds[len(x.shape)](x.shape[1], op.attribute("epsilon", 1e-5), affine=True)
    layer.weight, layer.bias = weight, bias
    return op.emit(layer, x)


def _group_normalization(op: Op) -> Value:
    x, groups = op.data(), op.attribute("num_groups")
    op.expect("stash_type", 1)
    size = x.shape[1] if op.version >= 21 else groups  # versions before have a weight for each group
    weight, bias = (op.weights(number, (size,)) for number in (1, 2))
    layer = layers.GroupNorm(groups, x.shape[1], op.attribute("epsilon", 1e-5))
    layer.weight, layer.bias = (np.repeat(array, x.shape[1] // size) for array in (weight, bias))
    return op.emit(layer, x)


def _lrn(op: Op) -> Value:
    size = op.attribute("size")
    if size % 2 == 0:
        raise UnsupportedError(f"size={size}, which is even")
    alpha, beta, k = op.attribute("alpha", 1e-4), op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    return op.emit(layers.LocalResponseNorm(size, alpha, beta, k), op.data())


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
}
