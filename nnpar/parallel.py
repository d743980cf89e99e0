"""Who trains a model: this process alone, or, in :mod:`nnpar.distributed`, several that divide the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.optimizer import ClipNorm
from nnpar._kernels.step import Step

if TYPE_CHECKING:
    from nnpar.gradients import Batch, Gradients
    from nnpar.layers.base import Layer
    from nnpar.layers.lowering import Together
    from nnpar.parameters import Slot

# What MPI's launchers set: MPICH, Intel MPI and Slurm's PMI; Open MPI; PMIx.
LAUNCHER_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")

Hook = tuple[Collection[str], Callable[[], None]]


def launched() -> bool:
    """Whether an MPI launcher, such as mpiexec, has started this process."""
    return any(name in os.environ for name in LAUNCHER_VARIABLES)


class Parallel:
    """One process. Others override what they do together; each process makes the same calls in the same order.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    divides_layers : bool
        Whether no process ever has the whole model.
    """

    rank, size = 0, 1
    divides_layers = False

    @property
    def replica(self) -> int:
        """The number of the group of processes that this one belongs to: a group computes the same samples."""
        return self.rank

    @property
    def replicas(self) -> int:
        """How many such groups there are."""
        return self.size

    def part(self, model: Layer, slots: Sequence[Slot], size: int) -> slice:
        """Which part of the flat parameters, of that size, this process changes.

        Raises
        ------
        ValueError
            If the model is not one that is trained this way.
        """
        for node in model.nodes():
            if node.layer.trained_by:
                raise ValueError(
                    f"{node.layer.describe(node.name)}: expected Trainer(parallel={node.layer.trained_by}(...)), "
                    f"got {type(self).__name__}"
                )
        return slice(0, size)

    def clip(self, flat: Array, slots: Sequence[Slot], most: float) -> tuple[Step, Callable[[], float]]:
        """The step that scales the flat gradient if its norm is above `most`, and what tells that of its latest run."""
        step = ClipNorm(flat, most)
        return step, lambda: step.norm

    def attach(self, gradients: Gradients) -> None:
        """Before anything else: whose gradients are divided."""

    def parts(self, number: int, count: int) -> list[slice]:
        """Which samples of batch `number`, of `count`, this process computes: slices, always as many of them."""
        return [slice(0, count)]

    def hooks(self, gradients: Gradients) -> Sequence[Hook]:
        """What a plan calls in its backward pass once the gradients of some parameters are final."""
        return ()

    def together(self, gradients: Gradients) -> Together | None:
        """Who makes the sums of batch normalisations those of all processes."""
        return None

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        """Make `gradients.flat` the mean gradient of the parts of some batches, and statistics those after them;
        returns the sum of the losses' results.
        """
        totals = np.zeros(4)
        if len(batches) == 1:
            (batch,) = batches[0]
            totals += gradients.backward(batch, epoch)
            return totals
        for number, (batch,) in enumerate(batches):
            result = gradients.backward(batch, epoch)
            gradients.accumulate(float(result[2]), first=number == 0)
            totals += result
        gradients.divide(totals[2], accumulated=True)
        return totals

    def collect(self, gradients: Gradients) -> None:
        """Before the model is looked at: all processes have all weights, and process 0 all of the optimizer's state."""

    def whole_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What a checkpoint has of a trainer's arrays, after `collect`: the arrays themselves, or those of all
        processes put together.
        """
        return dict(arrays)

    def take_whole(self, arrays: Mapping[str, NDArray[Any]], whole: Mapping[str, NDArray[Any]]) -> None:
        """Give a trainer's arrays their part of what `whole_arrays` returned, which has other numbers now."""

    def most(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        return number

    def gather(self, value: Any) -> list[Any]:
        """What each process gives, in their order."""
        return [value]

    def gather_replicas(self, value: Any) -> list[Any]:
        """What one process of each group gives, in their order."""
        return self.gather(value)

    def share(self, value: Any) -> Any:
        """What process 0 gives."""
        return value

    def share_arrays(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Make the arrays those of process 0."""

    def wait(self) -> None:
        """Until all processes are here."""
