"""A grid of processes: those that share samples, those that share layers, and those that share what is in a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nnpar import _checks
from nnpar.distributed import world

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


class Axis(NamedTuple):
    """The processes along one axis of a mesh that this one belongs to.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm or None
        None without MPI.
    rank, size : int
        This process's number among them, and how many they are.
    """

    comm: Comm | None
    rank: int
    size: int


class Mesh:
    """Processes as a grid of ``data * pipeline * tensor``, all of them.

    Those that differ in `tensor` alone follow each other in MPI's order, so that they are on one machine if that has
    room for them: they talk most. Then come those that differ in `pipeline`, then `data`.

    Parameters
    ----------
    data, pipeline, tensor : int
        How many there are along each axis.
    comm : mpi4py.MPI.Comm, optional
        All processes by default; without MPI, this one alone.

    Attributes
    ----------
    data, pipeline, tensor : Axis
        Of each axis a communicator, for `DataParallel`, `PipelineParallel` and `TensorParallel`, this process's number
        in it, and its size.
    comm : mpi4py.MPI.Comm or None
        All of them.

    Raises
    ------
    ImportError
        If mpiexec has started the program, and mpi4py is missing.
    ValueError
        If the product is not the number of processes.

    Examples
    --------
    >>> from nnpar.distributed import Mesh
    >>> mesh = Mesh(data=1, tensor=1)  # of one process: without mpiexec
    >>> mesh.tensor.rank, mesh.tensor.size
    (0, 1)
    """

    def __init__(self, data: int = 1, pipeline: int = 1, tensor: int = 1, comm: Comm | None = None) -> None:
        self.comm = world.world() if comm is None else comm
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        given = {"data": data, "pipeline": pipeline, "tensor": tensor}
        data, pipeline, tensor = (_checks.integer(count, "Mesh", name, 1) for name, count in given.items())
        if data * pipeline * tensor != size:
            raise ValueError(
                f"Mesh: expected data * pipeline * tensor to be {size}, the number of processes, "
                f"got {data} * {pipeline} * {tensor} = {data * pipeline * tensor}"
            )
        self.data = self._axis(data, rank // (tensor * pipeline), rank % (tensor * pipeline))
        self.pipeline = self._axis(
            pipeline, rank // tensor % pipeline, rank // (tensor * pipeline) * tensor + rank % tensor
        )
        self.tensor = self._axis(tensor, rank % tensor, rank // tensor)

    def _axis(self, size: int, rank: int, others: int) -> Axis:
        """The axis along which this process has that number, among those of equal `others`."""
        return Axis(None if self.comm is None else self.comm.Split(others, rank), rank, size)

    def __repr__(self) -> str:
        return f"Mesh(data={self.data.size}, pipeline={self.pipeline.size}, tensor={self.tensor.size})"


Place: TypeAlias = "Mesh | Axis | Comm | None"


def axis_of(place: Place) -> Axis:
    """The processes that share what is in a layer: of a mesh its axis `tensor`, else all of the communicator, of which
    None is that of all processes.
    """
    if isinstance(place, Mesh):
        return place.tensor
    if isinstance(place, Axis):
        return place
    comm = world.world() if place is None else place
    return Axis(None, 0, 1) if comm is None else Axis(comm, comm.rank, comm.size)
