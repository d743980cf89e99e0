"""Processes that say and learn the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar.distributed import world
from nnpar.parallel import Parallel
from nnpar.weight_average import put_statistics

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


class Ranks(Parallel):
    """Base of the ways to train on several processes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        All processes by default; without MPI, this one alone.
    """

    def __init__(self, comm: Comm | None = None) -> None:
        self._comm = world.world() if comm is None else comm
        self.rank, self.size = (0, 1) if self._comm is None else (self._comm.rank, self._comm.size)

    def most(self, number: int) -> int:
        if self._comm is None or self.size == 1:
            return number
        from mpi4py import MPI

        result: int = self._comm.allreduce(number, MPI.MAX)
        return result

    def gather(self, value: Any) -> list[Any]:
        return [value] if self._comm is None else self._comm.allgather(value)

    def share(self, value: Any) -> Any:
        return value if self._comm is None else self._comm.bcast(value)

    def share_arrays(self, arrays: Sequence[NDArray[Any]]) -> None:
        if self._comm is None or self.size == 1:
            return
        for array in arrays:
            values = np.ascontiguousarray(array)
            self._comm.Bcast(values)
            np.copyto(array, values)

    def wait(self) -> None:
        if self._comm is not None:
            self._comm.Barrier()


def mean_statistics(
    comm: Comm, totals: NDArray[np.float64], samples: int, statistics: Sequence[Array]
) -> NDArray[np.float64]:
    """Make statistics the mean over all processes' samples; returns the sum of their `totals`."""
    from mpi4py import MPI

    numbers = np.concatenate([totals, [samples], *(samples * array.astype(float) for array in statistics)])
    comm.Allreduce(MPI.IN_PLACE, numbers)
    put_statistics(statistics, numbers[len(totals) + 1 :] / numbers[len(totals)])
    return numbers[: len(totals)]
