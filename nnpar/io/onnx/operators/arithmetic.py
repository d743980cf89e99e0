"""Dense layers, products and sums out of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nnpar import layers
from nnpar.io.onnx.importer import Data, Known, Op, UnsupportedError, Value
from nnpar.io.onnx.operators.shaping import in_shapes
from nnpar.layers.nodes import Symbol


def _dense(op: Op, x: Data, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> Data:
    """``x @ weight.T + bias``."""
    out_features, in_features = weight.shape
    layer = layers.Linear(in_features, out_features, bias is not None, weight_init=lambda shape: weight)
    if bias is not None:
        layer.bias = bias
    return op.emit(layer, x)


def _gemm(op: Op) -> Value:
    """``alpha * a @ b + beta * c``."""
    turned = op.attribute("transA", 0), op.attribute("transB", 0)
    op.attribute("broadcast")
    alpha, beta = np.float32(op.attribute("alpha", 1.0)), np.float32(op.attribute("beta", 1.0))
    x = op.data()
    if len(x.shape) != 2:
        raise ValueError(f"expected matrices, got {x.shape}")
    x = op.emit(layers.Permute((1, 0)), x) if turned[0] else x
    if isinstance(op.inputs[1], Data):
        return _with_matrix(op, _scaled(op, _of_data(op, x, turned[1]), alpha), beta)
    weight = op.weights(1) if turned[1] else op.weights(1).T
    if weight.ndim != 2:
        raise ValueError(f"expected matrices, got {weight.shape}")
    if op.has(2) and isinstance(op.inputs[2], Known):
        bias = op.weights(2)
        if bias.size == 1 or bias.shape[:-1] in ((), (1,)):
            return _dense(op, x, alpha * weight, np.broadcast_to(beta * bias.reshape(-1), weight.shape[:1]))
    return _with_matrix(op, _dense(op, x, alpha * weight, None), beta)


def _of_data(op: Op, a: Data, turned: bool) -> Data:
    b = op.data(1)
    return op.emit(layers.MatMul(), a, op.emit(layers.Permute((1, 0)), b) if turned else b)


def _with_matrix(op: Op, product: Data, beta: np.float32) -> Data:
    """A product plus beta times Gemm's third input, if there is one."""
    if not op.has(2):
        return product
    if isinstance(op.inputs[2], Known):
        return _shifted(op, product, beta * op.weights(2))
    return op.emit(layers.Add(), product, _scaled(op, op.data(2), beta))


def _matmul(op: Op) -> Value:
    if isinstance(op.inputs[1], Known):
        weight = op.weights(1)
        if weight.ndim == 2 and len(op.data().shape) > 1:
            return _dense(op, op.data(), weight.T, None)
        raise UnsupportedError(f"of {op.data().shape} and a constant of shape {weight.shape}")
    if isinstance(op.inputs[0], Known):  # w x = (x^T w^T)^T
        weight, x = op.weights(0), op.data(1)
        if weight.ndim != 2 or len(x.shape) < 3:
            raise UnsupportedError(f"of a constant of shape {weight.shape} and {x.shape}")
        turn = layers.Permute((*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2))
        return op.emit(turn, _dense(op, op.emit(turn, x), weight, None))
    a, b = op.data(0), op.data(1)
    left = in_shapes(op, a, [(1, *shape) for shape in a.shapes]) if len(a.shape) == 1 else a
    right = in_shapes(op, b, [(*shape, 1) for shape in b.shapes]) if len(b.shape) == 1 else b
    y = op.emit(layers.MatMul(), left, right)
    if left is not a:
        y = in_shapes(op, y, [(*shape[:-2], shape[-1]) for shape in y.shapes])
    return in_shapes(op, y, [shape[:-1] for shape in y.shapes]) if right is not b else y


def _pow(op: Op) -> Value:
    """Of a whole number, or a square root."""
    exponent = op.known(1)
    x, power = op.data(), float(exponent.reshape(-1)[0]) if exponent.size == 1 else math.nan
    if power == 0.5:
        return op.emit(layers.Sqrt(), x)
    if not power.is_integer() or not 1 <= abs(power) <= 8:
        raise UnsupportedError(f"of exponent {exponent.tolist()!r:.60}: expected a whole number from 1 to 8, or 0.5")
    y = x
    for _ in range(int(abs(power)) - 1):
        y = op.emit(layers.Mul(), y, x)
    y = op.emit(layers.Reciprocal(), y) if power < 0 else y
    return op.emit(layers.Dropout(0.0), x) if y is x else y


def _sum(op: Op) -> Value:
    """Add, Sum."""
    _old_broadcast(op)
    if len(op.inputs) == 2 and any(isinstance(value, Known) for value in op.inputs):
        return _with_bias(op)
    inputs = [op.data(number) for number in range(len(op.inputs))]
    if len(inputs) == 1:
        return op.emit(layers.Dropout(0.0), inputs[0])
    return reduce(lambda a, b: op.emit(layers.Add(), a, b), inputs)


def _with_bias(op: Op) -> Data:
    """A constant added to what a dense layer without bias gives: such layers of tokens are two operators in ONNX."""
    number = 0 if isinstance(op.inputs[0], Data) else 1
    x, bias = op.data(number), op.weights(1 - number)
    before = x.symbol.layer
    if isinstance(before, layers.PositionEmbedding) and op.alone[number] and not before.weight.any():
        before.weight = np.broadcast_to(bias, before.weight.shape)  # made for the class token alone
        return x
    plain = isinstance(before, layers.Linear) and before.bias is None and op.alone[number]
    if not plain or bias.shape != x.shape[-1:]:
        return _shifted(op, x, bias)
    assert isinstance(before, layers.Linear)
    layer = layers.Linear(before.in_features, before.out_features, weight_init=lambda shape: before.weight)
    layer.bias = bias
    return Data(Symbol(layer, x.symbol.inputs, x.symbol.shape), x.shapes)


def _old_broadcast(op: Op) -> None:
    """Attributes of versions below 7: broadcasting from another axis than the last is not supported."""
    op.attribute("consumed_inputs")
    op.attribute("broadcast")
    op.expect("axis", None)


def _mean(op: Op) -> Value:
    total = _sum(op)
    assert isinstance(total, Data)
    return op.emit(layers.Affine(scale=1.0 / len(op.inputs)), total)


def _scaled(op: Op, x: Data, factor: NDArray[np.float32] | np.float32) -> Data:
    """Data times a constant. One number is no parameter: it stays as it is when the model learns on."""
    factor = np.asarray(factor)
    if factor.size == 1 and factor.ndim <= len(x.shape):
        return op.emit(layers.Affine(scale=factor.item()), x)
    return _with_parameter(op, layers.Scale, x, factor)


def _shifted(op: Op, x: Data, shift: NDArray[np.float32]) -> Data:
    """Data plus a constant, likewise."""
    if shift.size == 1 and shift.ndim <= len(x.shape):
        return op.emit(layers.Affine(shift=shift.item()), x)
    return _with_parameter(op, layers.Shift, x, shift)


def _with_parameter(op: Op, kind: type[layers.Scale] | type[layers.Shift], x: Data, value: NDArray[np.float32]) -> Data:
    if any(np.broadcast_shapes(shape, value.shape) != shape for shape in x.shapes):
        raise UnsupportedError(f"of data of shape {x.shape} and a larger constant of shape {value.shape}")
    layer = kind(value.shape)
    layer.weight = value
    return op.emit(layer, x)


def _sub(op: Op) -> Value:
    _old_broadcast(op)
    if isinstance(op.inputs[1], Known):
        return _shifted(op, op.data(), -op.weights(1))
    if isinstance(op.inputs[0], Known):
        return _shifted(op, op.emit(layers.Affine(scale=-1.0), op.data(1)), op.weights(0))
    return op.emit(layers.Sub(), op.data(0), op.data(1))


def _mul(op: Op) -> Value:
    _old_broadcast(op)
    for number in (0, 1):
        if isinstance(op.inputs[number], Known):
            return _scaled(op, op.data(1 - number), op.weights(number))
    return op.emit(layers.Mul(), op.data(0), op.data(1))


def _div(op: Op) -> Value:
    _old_broadcast(op)
    if isinstance(op.inputs[1], Known):
        return _scaled(op, op.data(), np.float32(1.0) / op.weights(1))
    if isinstance(op.inputs[0], Known):
        return _scaled(op, op.emit(layers.Reciprocal(), op.data(1)), op.weights(0))
    return op.emit(layers.Div(), op.data(0), op.data(1))


def _neg(op: Op) -> Value:
    return op.emit(layers.Affine(scale=-1.0), op.data())


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "Add": _sum,
    "Div": _div,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Mean": _mean,
    "Mul": _mul,
    "Neg": _neg,
    "Pow": _pow,
    "Sub": _sub,
    "Sum": _sum,
}
