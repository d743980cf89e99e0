"""Columns of Spark as arrays of NumPy, and what is wrong with them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar.shapes import Shape

NUMBERS = ("tinyint", "smallint", "int", "bigint", "float", "double", "boolean")  # as Spark's simpleString says


def needed(name: str, who: str) -> Any:
    """A module of pyspark, pandas or pyarrow.

    Raises
    ------
    ImportError
        That names the extra, if it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f"{who}: {package} is needed: pip install 'nnpar[spark]' ({error})") from error


def checked_shape(shape: Sequence[int] | None, who: str) -> Shape | None:
    """The shape of one sample, of sizes of at least 1."""
    return None if shape is None else _checks.integers(shape, who, "shape", 1)


def check(df: Any, column: str, who: str, binary: bool) -> None:
    """A column is there, and of a type that can become numbers; `binary` says whether bytes can.

    Raises
    ------
    ValueError
        If it is not there.
    TypeError
        If its type is another one.
    """
    if column not in df.columns:
        raise ValueError(f"{who}: column {column!r}: expected one of {', '.join(df.columns)}")
    kind = found = df.schema[column].dataType.simpleString()
    while kind.startswith("array<"):
        kind = kind[len("array<") : -1]
    if kind in NUMBERS or (binary and found == "binary"):
        return
    expected = "binary or arrays of numbers" if binary else "numbers or arrays of numbers"
    hint = "; pyspark.ml.functions.vector_to_array makes arrays of vectors" if kind == "vector" else ""
    raise TypeError(f"{who}: column {column!r}: expected {expected}, got {found}{hint}")


def images(array: Any, column: str, who: str, shape: Shape | None) -> NDArray[Any]:
    """Samples (N, *shape) of an Arrow array: bytes as they are, numbers as float32.

    Parameters
    ----------
    array : pyarrow.Array
        Not empty.
    column, who : str
        For errors.
    shape : tuple of int or None
        Of one sample; that of the arrays within arrays by default.

    Raises
    ------
    TypeError, ValueError
        If the column has another type, nulls, or samples of another size.
    """
    this = f"{who}: column {column!r}"
    kind = str(array.type)
    if kind in ("binary", "large_binary"):
        found = _bytes(array, this, shape)
    elif "list" in kind:
        found = numbers(array, this)
        found = found.astype(np.float32, copy=False)
    else:
        raise TypeError(f"{this}: expected binary or arrays of numbers, got {kind}")
    if shape is None:
        return found
    if math.prod(found.shape[1:]) != math.prod(shape):
        raise ValueError(f"{this}: expected {math.prod(shape)} numbers for shape {shape}, got {found.shape[1:]}")
    return found.reshape(len(found), *shape)


def _bytes(array: Any, this: str, shape: Shape | None) -> NDArray[np.uint8]:
    if shape is None:
        raise ValueError(f"{this}: expected a shape for bytes, such as shape=(1, 28, 28), got None")
    _no_nulls(array, this)
    array = array.cast("large_binary")
    ends = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    sizes, wanted = np.diff(ends), math.prod(shape)
    if (sizes != wanted).any():
        raise ValueError(f"{this}: expected {wanted} bytes for shape {shape}, got {sizes[sizes != wanted][0]}")
    return np.frombuffer(array.buffers()[2], np.uint8)[ends[0] : ends[-1]].reshape(len(array), wanted)


def numbers(array: Any, this: str) -> NDArray[Any]:
    """Numbers, or arrays of them, whose lengths become the shape."""
    kind, shape = str(array.type), [len(array)]
    while "list" in str(array.type):
        _no_nulls(array, this)
        lengths = array.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            raise ValueError(f"{this}: expected arrays of one length, got {min(lengths)} to {max(lengths)}")
        shape += lengths
        array = array.flatten()
    _no_nulls(array, this)
    found: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{this}: expected numbers or arrays of numbers, got {kind}")
    return found.reshape(shape)


def targets(array: Any, column: str, who: str) -> NDArray[np.int64] | NDArray[np.float32]:
    """Classes as int64, other numbers as float32, of an Arrow array."""
    found = numbers(array, f"{who}: column {column!r}")
    return found.astype(np.float32) if found.dtype.kind == "f" else found.astype(np.int64)


def _no_nulls(array: Any, this: str) -> None:
    if array.null_count:
        raise ValueError(f"{this}: expected no nulls, got {array.null_count} in {len(array)}")


def combined(array: Any) -> Any:
    """An Arrow array of one, or of one in pieces."""
    return array.combine_chunks() if hasattr(array, "combine_chunks") else array
