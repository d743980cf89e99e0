"""Mean gradients whose bits no number of processes changes: each batch in shards, which a fixed tree adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array
from nnpar._kernels.elementwise import Add
from nnpar._kernels.optimizer import Scale
from nnpar.distributed.buckets import Buckets, InOrder
from nnpar.distributed.pump import Pump
from nnpar.distributed.tree import SumOverRanks, TreeSum, owned
from nnpar.parallel import Hook
from nnpar.weight_average import put_statistics

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from nnpar.gradients import Batch, Gradients


class ShardSums:
    """Each shard is computed by itself; buckets go while the last one is.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
    shards : int
        Of a batch.
    gradients : Gradients
        Whose `flat` becomes the mean.
    buckets : Buckets
    pump : Pump
    """

    def __init__(self, comm: Comm | None, shards: int, gradients: Gradients, buckets: Buckets, pump: Pump) -> None:
        self._comm, self._shards, self._gradients, self._buckets = comm, shards, gradients, buckets
        rank, ranks = (0, 1) if comm is None else (comm.rank, comm.size)
        self._own = owned(rank, ranks, shards)
        self._trees = [TreeSum(part.stop - part.start) for part in buckets.slices]
        self._statistics = np.zeros(sum(array.size for array in gradients.statistics), np.float32)
        self._statistics_tree = TreeSum(self._statistics.size)
        self._sums = SumOverRanks(comm, shards)
        self._pump = pump
        self._order = InOrder(self._send)
        self._flat = [gradients.flat[part] for part in buckets.slices]
        self._scales = [Scale(flat, flat) for flat in self._flat]
        self._values: list[Array] = []  # of this shard; the trees use a few arrays in turn, with steps for each
        self._steps: dict[int, tuple[Scale, Add]] = {}
        self._shard, self._is_first, self._is_last = 0, False, False

    def hooks(self) -> list[Hook]:
        """What the plans call."""
        return self._buckets.hooks(self._add)

    def compute(self, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        """See :meth:`nnpar.parallel.Parallel.compute`."""
        for tree in (self._statistics_tree, *self._trees):
            tree.begin()
        self._sums.begin()
        self._order.begin()
        results = np.zeros((self._shards, 5))
        try:
            for k, shard in enumerate(self._own):
                self._shard = shard
                self._compute_shard([parts[k] for parts in batches if len(parts[k])], epoch, results[shard])
            self._sums.add(self._statistics_tree.nodes, self._statistics)
        finally:
            self._pump.stop()
        self._sums.finish()
        return self._mean(results)

    def _compute_shard(self, batches: Sequence[Batch], epoch: int, results: NDArray[np.float64]) -> None:
        """From the same statistics on as the others, through all batches."""
        gradients = self._gradients
        gradients.restore_statistics()
        self._values = [each.new() for each in self._trees]
        for number, batch in enumerate(batches):
            self._is_first, self._is_last = number == 0, number == len(batches) - 1
            results[:4] += gradients.backward(batch, epoch)
            results[4] += len(batch)
        if not batches:
            for bucket, values in enumerate(self._values):
                values[...] = 0.0
                self._add_to_tree(bucket)
        statistics = self._statistics_tree.new()
        if gradients.statistics:
            np.concatenate([array.reshape(-1) for array in gradients.statistics], out=statistics)
        np.multiply(statistics, np.float32(results[4]), out=statistics)
        self._statistics_tree.add(self._shard, statistics)

    def _add(self, bucket: int) -> None:
        """A batch's gradient, by the weight of its samples, to the shard's."""
        assert self._gradients.latest is not None
        weight, values, flat = self._gradients.latest.result[2], self._values[bucket], self._flat[bucket]
        if id(values) not in self._steps:
            self._steps[id(values)] = Scale(flat, values), Add(values, flat, values)
        take, add = self._steps[id(values)]
        if self._is_first:
            take.by(weight)
        else:
            self._scales[bucket].by(weight)
            add()
        if self._is_last:
            self._add_to_tree(bucket)

    def _add_to_tree(self, bucket: int) -> None:
        self._trees[bucket].add(self._shard, self._values[bucket])
        if self._shard == self._own[-1]:
            self._order.is_ready(bucket)

    def _send(self, bucket: int) -> None:
        self._sums.add(self._trees[bucket].nodes, self._flat[bucket])
        if self._comm is not None and self._comm.size > 1:
            self._pump.start(self._sums.go_on)

    def _mean(self, results: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was summed, by weights and samples; returns the sum of the losses' results."""
        if self._comm is not None:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, results)  # of each row, all but one are 0
        totals = np.zeros(5)
        for row in results:
            totals += row
        self._gradients.divide(totals[2])
        np.multiply(self._statistics, np.float32(1.0 / totals[4]), out=self._statistics)
        put_statistics(self._gradients.statistics, self._statistics)
        return totals[:4]
