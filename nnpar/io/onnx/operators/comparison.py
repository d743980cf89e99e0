"""Comparisons and choices out of ONNX. Bools are data whose numbers are 1 and 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np

from nnpar import layers
from nnpar.io.onnx.importer import Data, Known, Op, UnsupportedError, Value


def _number(op: Op, number: int) -> float | None:
    """A constant input that is one number; None if it depends on the inputs."""
    if not isinstance(op.inputs[number], Known):
        return None
    array = op.known(number)
    if array.size != 1:
        raise UnsupportedError(f"input {number}: expected data or one number, got a constant of shape {array.shape}")
    return float(array.reshape(-1)[0])


def _mask(op: Op, x: Data) -> Data:
    return replace(x, whole=True)


def _bools(op: Op, number: int) -> Data:
    """An input that is a comparison's result."""
    value = op.inputs[number]
    if not isinstance(value, Data) or not value.whole or value.symbol.layer is None:
        raise UnsupportedError(f"input {number}: expected the result of a comparison")
    return replace(value, whole=False)


def _less(op: Op, kind: type[layers.Less] | type[layers.LessOrEqual], turned: bool) -> Value:
    """A < b, or with `turned` b < a; of a number c, c < x is -x < -c."""
    first, second = (1, 0) if turned else (0, 1)
    left, right = _number(op, first), _number(op, second)
    if right is not None:
        return _mask(op, op.emit(kind(right), op.data(first)))
    if left is not None:
        return _mask(op, op.emit(kind(-left), op.emit(layers.Affine(scale=-1.0), op.data(second))))
    return _mask(op, op.emit(kind(), op.data(first), op.data(second)))


def _comparison(kind: type[layers.Less] | type[layers.LessOrEqual], turned: bool) -> Callable[[Op], Value]:
    return lambda op: _less(op, kind, turned)


def _equal(op: Op) -> Value:
    for number in (0, 1):
        value = _number(op, number)
        if value is not None:
            return _mask(op, op.emit(layers.Equal(value), op.data(1 - number)))
    return _mask(op, op.emit(layers.Equal(), op.data(0), op.data(1)))


def _not(op: Op) -> Value:
    return _mask(op, op.emit(layers.Affine(-1.0, 1.0), _bools(op, 0)))


def _and(op: Op) -> Value:
    return _mask(op, op.emit(layers.Mul(), _bools(op, 0), _bools(op, 1)))


def _or(op: Op) -> Value:
    return _mask(op, op.emit(layers.Maximum(), _bools(op, 0), _bools(op, 1)))


def _where(op: Op) -> Value:
    """A number c in place of data is c times the mask, or c - c times the mask."""
    mask = _bools(op, 0)
    yes, no = _number(op, 1), _number(op, 2)
    a = op.data(1) if yes is None else op.emit(layers.Affine(yes), mask)
    b = op.data(2) if no is None else op.emit(layers.Affine(-no, no), mask)
    return op.emit(layers.Where(), mask, a, b)


def _extreme(kind: type[layers.Maximum], clip: Callable[[float], layers.Layer]) -> Callable[[Op], Value]:
    def extreme(op: Op) -> Value:
        numbers = [_number(op, number) for number in range(len(op.inputs))]
        values = [op.data(number) for number, value in enumerate(numbers) if value is None]
        total = reduce(lambda a, b: op.emit(kind(), a, b), values)
        for value in numbers:
            if value is not None:
                total = op.emit(clip(value), total)
        return op.emit(layers.Dropout(0.0), total) if len(op.inputs) == 1 else total

    return extreme


def _at_least(value: float) -> layers.Layer:
    return layers.ReLU() if value == 0.0 else layers.Hardtanh(value, float(np.finfo(np.float32).max))


def _at_most(value: float) -> layers.Layer:
    return layers.Hardtanh(-float(np.finfo(np.float32).max), value)


OPERATORS: dict[str, Callable[[Op], Value | list[Value]]] = {
    "And": _and,
    "Equal": _equal,
    "Greater": _comparison(layers.Less, turned=True),
    "GreaterOrEqual": _comparison(layers.LessOrEqual, turned=True),
    "Less": _comparison(layers.Less, turned=False),
    "LessOrEqual": _comparison(layers.LessOrEqual, turned=False),
    "Max": _extreme(layers.Maximum, _at_least),
    "Min": _extreme(layers.Minimum, _at_most),
    "Not": _not,
    "Or": _or,
    "Where": _where,
}
