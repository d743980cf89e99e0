"""What all ways have in common in which several processes compute the same samples together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.step import PythonStep
from nnpar.distributed import world
from nnpar.distributed.buckets import BUCKET_MB
from nnpar.distributed.data_parallel import DataParallel
from nnpar.distributed.mesh import Mesh, Place, axis_of
from nnpar.distributed.ranks import Ranks
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Together
from nnpar.parallel import Hook

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from nnpar.gradients import Batch, Gradients
    from nnpar.parameters import Slot


class ModelParallel(Ranks):
    """Base of `TensorParallel` and `RowParallel`: processes along a mesh's axis `tensor` compute the same samples; each
    such group, of which its axis `data` has several, its part of a batch.

    Parameters
    ----------
    comm : Mesh or mpi4py.MPI.Comm, optional
        All processes by default, as one group.
    bucket_mb, sync_batch_norm
        See :class:`DataParallel`, for the axis `data`.
    """

    def __init__(self, comm: Place = None, bucket_mb: float = BUCKET_MB, sync_batch_norm: bool = False) -> None:
        if isinstance(comm, Mesh) and comm.pipeline.size > 1:
            raise ValueError(f"{type(self).__name__}: expected a mesh with pipeline=1, got {comm}")
        self.axis = axis_of(comm)
        super().__init__(comm.comm if isinstance(comm, Mesh) else self.axis.comm)
        data = comm.data.comm if isinstance(comm, Mesh) else _alone()
        self._data = DataParallel(comm=data, bucket_mb=bucket_mb, sync_batch_norm=sync_batch_norm)

    @property
    def replica(self) -> int:
        return self._data.rank

    @property
    def replicas(self) -> int:
        return self._data.size

    def gather_replicas(self, value: Any) -> list[Any]:
        return self._data.gather(value)

    def check(self, model: Layer) -> None:
        """The model is one that these processes can compute together.

        Raises
        ------
        ValueError
            If not; the error names the layer.
        """
        raise NotImplementedError

    def part(self, model: Layer, slots: Sequence[Slot], size: int) -> slice:
        self.check(model)
        return slice(0, size)

    def parts(self, number: int, count: int) -> list[slice]:
        return self._data.parts(number, count)

    def hooks(self, gradients: Gradients) -> Sequence[Hook]:
        return self._data.hooks(gradients)

    def together(self, gradients: Gradients) -> Together | None:
        return self._data.together(gradients)

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        return self._data.compute(gradients, batches, epoch)

    def _begin_as_first(self, gradients: Gradients, arrays: Sequence[Array]) -> None:
        """Make these arrays of each group those of its process 0, and all arrays those of the first group."""
        if self.axis.comm is not None and self.axis.size > 1:
            for array in arrays:
                self.axis.comm.Bcast(array)
        self._data.attach(gradients)


def _alone() -> Comm | None:
    """The communicator of this process alone, where there is MPI."""
    if world.world() is None:
        return None
    from mpi4py import MPI

    return MPI.COMM_SELF


def sum_step(comm: Comm, y: Array) -> PythonStep:
    """The step y = the sum of all processes' y, in place."""
    from mpi4py import MPI

    return PythonStep(lambda: comm.Allreduce(MPI.IN_PLACE, y), "sum over processes", 2.0 * y.nbytes)
