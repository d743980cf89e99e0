"""Checks of arguments: each raises one error that says who, which argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Pair: TypeAlias = tuple[int, int]
IntOrPair: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]

LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST = 2**62  # bytes: sizes are signed 64-bit, and a sum of two of them must be, too
BATCH_AXES = tuple(range(1, 33))


def integer(value: Any, who: str, name: str, least: int, limit: int = LARGEST) -> int:
    """`value` as an int of at least `least` and below `limit`, a power of two."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{who}: {name}: expected an int, got {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{who}: {name}: expected at least {least}, got {number}")
    if number >= limit:
        raise ValueError(f"{who}: {name}: expected less than 2**{limit.bit_length() - 1}, got {number}")
    return number


def integers(values: Any, who: str, name: str, least: int = -LARGEST) -> tuple[int, ...]:
    """A sequence of ints as a tuple."""
    if isinstance(values, (str, bytes)) or np.ndim(values) != 1:
        raise TypeError(f"{who}: {name}: expected a sequence of ints, got {values!r:.60}")
    return tuple(integer(value, who, name, least) for value in values)


def axis(value: int, rank: int, who: str, name: str) -> int:
    """An axis from 0, of one that may count from the end."""
    if not -rank <= value < rank:
        raise ValueError(f"{who}: {name}: expected an axis of {rank}, got {value}")
    return value % rank


def pair(value: Any, who: str, name: str, least: int) -> Pair:
    """An int, or two of them, as (h, w)."""
    height, width = sizes(value, who, name, least, 2)
    return height, width


def sizes(value: Any, who: str, name: str, least: int, axes: int) -> tuple[int, ...]:
    """An int for all axes, or one for each."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        return (integer(value, who, name, least),) * axes
    values = tuple(value)
    if len(values) != axes:
        one_for_each = {1: "one of the length", 2: "a pair (h, w)", 3: "three (d, h, w)"}[axes]
        raise ValueError(f"{who}: {name}: expected an int or {one_for_each}, got {value!r}")
    return tuple(integer(size, who, name, least) for size in values)


def sides(value: Any, who: str, name: str, axes: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis: an int for all, one for each axis, or (before, after) for each."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        each = tuple(value)
        if len(each) == axes and all(isinstance(two, (tuple, list)) for two in each):
            if any(len(two) != 2 for two in each):
                raise ValueError(f"{who}: {name}: expected (before, after) for each axis, got {value!r}")
            before, after = (tuple(integer(two[k], who, name, 0) for two in each) for k in (0, 1))
            return before, after
    both = sizes(value, who, name, 0, axes)
    return both, both


def number(value: Any, who: str, name: str) -> float:
    """`value` as a float that is finite in float32."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{who}: {name}: expected a number, got {type(value).__name__}") from None
    if not abs(result) <= LARGEST_FLOAT:
        raise ValueError(f"{who}: {name}: expected a finite number, got {result}")
    return result


def above(value: Any, who: str, name: str) -> float:
    """`value` as a finite float above 0."""
    result = number(value, who, name)
    if result <= 0.0:
        raise ValueError(f"{who}: {name}: expected a number above 0, got {result}")
    return result


def shape(value: Any, who: str, name: str, ndim: int) -> tuple[int, ...]:
    """`value` as a tuple of `ndim` sizes whose array would not overflow."""
    try:
        sizes = tuple(integer(size, who, name, 0) for size in value)
    except TypeError:
        raise TypeError(f"{who}: {name}: expected {ndim} ints, got {value!r}") from None
    if len(sizes) != ndim:
        raise ValueError(f"{who}: {name}: expected {ndim} sizes, got {sizes}")
    total = 4
    for size in sizes:
        total *= max(size, 1)
    if total >= LARGEST:
        raise ValueError(f"{who}: {name}: {sizes} is too large")
    return sizes


def floats(value: Any, who: str, name: str, ndim: int | tuple[int, ...]) -> Array:
    """`value` as a float32 array of native byte order with `ndim` axes, copied only if it is not one.

    Float64, float16, ints and bools are converted, and become infinite beyond the range of float32; what would lose a
    part (complex) or has no numbers is refused.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{who}: {name}: expected numbers that float32 can hold, got dtype {array.dtype}")
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed) if len(allowed) < 4 else f"{allowed[0]} to {allowed[-1]}"
        raise ValueError(f"{who}: {name}: expected {wanted} axes, got shape {array.shape}")
    odd = not array.flags.c_contiguous and any(stride % 4 for stride in array.strides)
    if odd or array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not array.flags.aligned:
        array = array.copy()
    return array


def batch(value: Any, who: str, name: str) -> Array:
    """`value` as a float32 array of at least one axis, the samples'."""
    return floats(value, who, name, BATCH_AXES)


def same_shape(array: NDArray[Any], expected: tuple[int, ...], who: str, name: str) -> None:
    """`array` has the shape `expected`."""
    if array.shape != expected:
        raise ValueError(f"{who}: {name}: expected shape {expected}, got {array.shape}")


def labels(value: Any, who: str, shape: tuple[int, ...], classes: int, ignored: int | None = None) -> NDArray[np.int64]:
    """`value` as int64 class numbers below `classes`, or `ignored`, of that shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{who}: labels: expected integers, got dtype {array.dtype}")
    same_shape(array, shape, who, "labels")
    counted = array if ignored is None else array[array != ignored]
    low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
    if low < 0 or (counted.size and high >= classes):
        also = "" if ignored is None else f", or {ignored}"
        raise ValueError(f"{who}: labels: expected 0 to {classes - 1}{also}, got {low if low < 0 else high}")
    return np.ascontiguousarray(array, np.int64)


def output(value: Any, expected: tuple[int, ...], who: str, *inputs: NDArray[Any] | None) -> NDArray[Any] | None:
    """`out` of the right shape and dtype, writable, apart from the inputs; None stays None."""
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        got = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{who}: out: expected a float32 array, got {got}")
    same_shape(value, expected, who, "out")
    if not value.flags.writeable:
        raise ValueError(f"{who}: out: expected a writable array")
    if any(array is not None and np.may_share_memory(value, array) for array in inputs):
        raise ValueError(f"{who}: out: expected memory of its own, got an overlap with an input")
    return value
