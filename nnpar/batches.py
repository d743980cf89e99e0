"""Batches of data sets in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar.data.dataset import Dataset

Data: TypeAlias = Dataset | tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]


def as_dataset(data: Data, who: str) -> Dataset:
    """Arrays as a data set.

    Raises
    ------
    TypeError
        If they are not such; the error names `who`.
    """
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise TypeError(
            f"{who}: expected a Dataset, (images, targets) or (images, targets, weights), got {type(data).__name__}"
        )
    weights = np.asarray(data[2]) if len(data) == 3 else None
    return Dataset(np.asarray(data[0]), np.asarray(data[1]), who, weights=weights)


def in_order(count: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of all samples, a batch at a time."""
    for start in range(0, count, batch_size):
        yield np.arange(start, min(start + batch_size, count))


def take(values: NDArray[Any], index: NDArray[np.int64] | None, out: NDArray[Any]) -> None:
    """Out = values[index], or all values: straight into the plan's memory where both have one layout."""
    if values.ndim == 4:
        values, out = values.transpose(0, 2, 3, 1), out.transpose(0, 2, 3, 1)
    if index is None:
        np.copyto(out, values)
    elif values.dtype == out.dtype and values.flags.c_contiguous and out.flags.c_contiguous:
        np.take(values, index, axis=0, out=out, mode="clip")  # the default mode makes a copy more
    else:
        out[...] = values[index]
