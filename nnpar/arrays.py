"""Memory of image batches: (N, C, H, W) in meaning, channels-last in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.step import aligned_empty
from nnpar.shapes import Shape


def empty(shape: Shape) -> Array:
    """Uninitialised float32 array at a multiple of 64 bytes; with four axes, (N, C, H, W) in channels-last memory.

    Raises
    ------
    MemoryError
        If there is not so much memory.
    """
    memory_shape = (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape
    size = 1
    for length in shape:
        size *= length
    array = aligned_empty(4 * size).view(np.float32).reshape(memory_shape)
    return array.transpose(0, 3, 1, 2) if len(shape) == 4 else array


def zeros(shape: Shape) -> Array:
    """Like :func:`empty`, filled with zeros."""
    array = empty(shape)
    array[...] = 0.0
    return array


def is_ready(array: Array) -> bool:
    """Whether kernels can take the array as it is: contiguous, images channels-last."""
    return bool((array.transpose(0, 2, 3, 1) if array.ndim == 4 else array).flags.c_contiguous)


def ready(array: Array) -> Array:
    """The array itself if kernels can take it as it is, else a copy that they can."""
    if is_ready(array):
        return array
    copy = empty(array.shape)
    np.copyto(copy, array)
    return copy


def bytes_like(images: Array) -> NDArray[np.uint8]:
    """Uninitialised uint8 array of the shape and memory layout of a batch of images."""
    n, c, h, w = images.shape
    return np.transpose(np.empty((n, h, w, c), np.uint8), (0, 3, 1, 2))
