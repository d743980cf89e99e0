"""OpenBLAS, in the builds that NumPy and SciPy bring."""

from functools import partial

import numpy as np
import scipy
import scipy.linalg.blas
from library import Array, Prepared, aligned_empty


class NumPy:
    """``np.matmul`` of contiguous matrices calls sgemm."""

    def __init__(self, threads: int) -> None:
        self.versions = {"numpy": np.__version__}

    def gemm(self, a: Array, b: Array) -> Prepared:
        c = aligned_empty((len(a), b.shape[1]))
        return Prepared(partial(np.matmul, a, b, out=c), lambda _: c)


class SciPy:
    """sgemm itself, whose matrices are stored by columns: ``c.T = b.T @ a.T``."""

    def __init__(self, threads: int) -> None:
        self.versions = {"scipy": scipy.__version__}

    def gemm(self, a: Array, b: Array) -> Prepared:
        c = aligned_empty((len(a), b.shape[1]))
        run = partial(scipy.linalg.blas.sgemm, 1.0, b.T, a.T, c=c.T, overwrite_c=1)
        return Prepared(run, lambda _: c)
