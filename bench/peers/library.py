"""What a library's module gives to the worker.

A module ``with_NAME.py`` holds a class for each library. Its public methods are the operations that the library can do,
named and called as those of :mod:`nnpar.ops`, optimizers, ``sgd`` and ``adam``, and whole networks, ``train_step`` and
``predict``. What a class does not have is left out of its library's measurements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """An operation on arrays that lie ready in the library's own layout.

    Attributes
    ----------
    run : callable
        What is measured; returns when the result is there.
    result : callable
        Makes NumPy's array of what `run` returned, images as (N, C, H, W).
    flops, bytes : float
        Known to nnpar: of the definition, and what must be read and written at least.
    """

    run: Callable[[], Any]
    result: Callable[[Any], NDArray[Any]]
    flops: float = 0.0
    bytes: float = 0.0


def aligned_empty(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Uninitialised array at a multiple of 64 bytes, as most libraries make their own."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return array


# Name: module and class.
LIBRARIES = {
    "nnpar": "with_nnpar:Nnpar",
    "torch": "with_torch:Torch",
    "torch-channels-last": "with_torch:TorchChannelsLast",
    "onnxruntime": "with_onnxruntime:OnnxRuntime",
    "mnn": "with_mnn:Mnn",
    "openvino": "with_openvino:OpenVino",
    "ncnn": "with_ncnn:Ncnn",
    "openblas-numpy": "with_openblas:NumPy",
    "openblas-scipy": "with_openblas:SciPy",
    "torch-compile": "with_torch:TorchCompile",
    "jax": "with_jax:Jax",
}
