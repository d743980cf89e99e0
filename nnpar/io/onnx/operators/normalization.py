"""Normalisations out of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nnpar import layers
from nnpar.io.onnx.importer import Data, Op, UnsupportedError, Value
from nnpar.io.onnx.operators.shaping import in_shapes
from nnpar.layers.nodes import Symbol

BATCH_NORMS = {2: layers.BatchNorm1d, 3: layers.BatchNorm1d, 4: layers.BatchNorm2d, 5: layers.BatchNorm3d}


def _batch_normalization(op: Op) -> Value | list[Value]:
    training = bool(op.attribute("training_mode", 0))
    op.expect("spatial", 1)
    op.attribute("is_test")
    op.attribute("consumed_inputs")
    x = op.data()
    if len(x.shape) not in BATCH_NORMS:
        raise UnsupportedError(f"input of shape {x.shape}")
    weights = [op.weights(number, x.shape[1:2]) for number in (1, 2, 3, 4)]
    before = x.symbol.layer
    if op.fold and op.alone[0] and isinstance(before, (layers.Conv1d, layers.Conv2d)) and not training:
        return _folded(op, before, *weights)
    # ONNX's momentum is the share of the old statistics.
    momentum, epsilon = op.attribute("momentum", 0.9), op.attribute("epsilon", 1e-5)
    layer = BATCH_NORMS[len(x.shape)](x.shape[1], epsilon, 1.0 - momentum, track_running_stats=not training)
    layer.weight, layer.bias = weights[:2]
    if training:
        return [op.emit(layer, x), *_moved(op, x, momentum, *weights[2:])]
    layer.running_mean, layer.running_var = weights[2:]
    return op.emit(layer, x)


def _moved(op: Op, x: Data, momentum: float, mean: NDArray[np.float32], var: NDArray[np.float32]) -> list[Data]:
    """Running statistics after this batch: momentum times the old, and the rest of the batch's."""
    axes = [axis for axis in range(len(x.shape)) if axis != 1]
    of_batch, spread = _moments(op, x, axes)
    moved = []
    for new, old in ((of_batch, mean), (spread, var)):
        shift = layers.Shift(old.shape)
        shift.weight = np.float32(momentum) * old
        flat = in_shapes(op, new, [(x.shape[1],)] * op.trials)
        moved.append(op.emit(shift, op.emit(layers.Affine(1.0 - momentum), flat)))
    return moved


def _moments(op: Op, x: Data, axes: Sequence[int]) -> tuple[Data, Data]:
    """Mean and variance over axes, which stay, of size 1."""
    mean = op.emit(layers.Mean(axes, True), x)
    difference = op.emit(layers.Sub(), x, mean)
    return mean, op.emit(layers.Mean(axes, True), op.emit(layers.Mul(), difference, difference))


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


def _layer_normalization(op: Op) -> list[Value]:
    x, epsilon = op.data(), op.attribute("epsilon", 1e-5)
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    rows = x.shape[axis:]
    bias = np.broadcast_to(op.weights(2), rows) if op.has(2) else None
    layer = layers.LayerNorm(rows, epsilon, bias=bias is not None)
    layer.weight = np.broadcast_to(op.weights(1), rows)
    if bias is not None:
        layer.bias = bias
    outputs: list[Value] = [_normalized(op, layer, x, axis)]
    if op.wants_output(1) or op.wants_output(2):
        mean, variance = _moments(op, x, list(range(axis, len(x.shape))))
        deviation = op.emit(layers.Sqrt(), op.emit(layers.Affine(shift=epsilon), variance))
        outputs += [mean, op.emit(layers.Reciprocal(), deviation)]
    return outputs


def _normalized(op: Op, layer: layers.LayerNorm | layers.RMSNorm, x: Data, axis: int) -> Data:
    """Rows of all axes from one on; if that is the batch's, which must be given then, the rows of one sample."""
    if axis > 0:
        return op.emit(layer, x)
    if op.trials > 1:
        raise UnsupportedError("axis=0, the batch's, whose size is not given")
    return in_shapes(op, op.emit(layer, in_shapes(op, x, [(1, *x.shape)])), x.shapes)


def _rms_normalization(op: Op) -> Value:
    x = op.data()
    axis = op.axis(op.attribute("axis", -1), len(x.shape))
    op.expect("stash_type", 1)
    layer = layers.RMSNorm(x.shape[axis:], op.attribute("epsilon", 1e-5))
    layer.weight = np.broadcast_to(op.weights(1), x.shape[axis:])
    return _normalized(op, layer, x, axis)


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
