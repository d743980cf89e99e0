"""Batch normalisation over the samples of all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


class SumsOfAll:
    """Makes a step's sums those of all processes, in one message each.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    weight : callable
        The weight of this process's samples in the loss: gradients are those of its own mean.
    """

    def __init__(self, comm: Comm, weight: Callable[[], float]) -> None:
        self._comm, self._weight = comm, weight
        self._sizes: list[int] = []
        self._calls = 0

    def begin(self) -> None:
        """Before a batch is computed."""
        self._calls = 0

    def moments(self, pixels: int, sums: NDArray[np.float64]) -> float:
        """Of means m and biased variances v, ``n m`` and ``n (v + m^2)`` are sums over pixels."""
        mean, variance = sums
        variance += mean * mean
        sums *= pixels
        count = self._sum(pixels, sums)
        if count < 2:
            raise ValueError("DataParallel: batch normalisation needs at least 2 values in each channel, got 1")
        sums /= count
        variance -= mean * mean
        np.maximum(variance, 0.0, out=variance)
        return count

    def slopes(self, pixels: int, sums: NDArray[np.float64]) -> float:
        """The gradients are of the means of each process's samples: in units of this one's, the others' count in
        proportion to their weight.
        """
        weight = self._weight()
        sums *= weight
        count = self._sum(pixels, sums)
        if weight:
            sums /= weight
        return count

    def take_part(self) -> None:
        """What the others do in a batch of which this process has no sample: the same messages, of zeros."""
        if not self._sizes:
            raise ValueError(
                "DataParallel: sync_batch_norm: expected at least one sample for each process in the first batch"
            )
        for size in list(self._sizes):
            self._sum(0, np.zeros((2, size)))

    def _sum(self, pixels: int, sums: NDArray[np.float64]) -> float:
        from mpi4py import MPI

        size = sums.shape[1]
        if self._calls == len(self._sizes):
            self._sizes.append(size)
        self._calls += 1
        message = np.append(sums.reshape(-1), pixels)
        self._comm.Allreduce(MPI.IN_PLACE, message)
        sums[...] = message[:-1].reshape(sums.shape)
        return float(message[-1])
