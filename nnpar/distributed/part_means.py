"""Mean gradients as MPI adds them up: each process computes one part of each batch, as large as can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar.distributed.batch_norm import SumsOfAll
from nnpar.distributed.buckets import MEBIBYTE, Buckets, InOrder
from nnpar.distributed.pump import Pump
from nnpar.distributed.ranks import mean_statistics
from nnpar.parallel import Hook

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from nnpar.gradients import Batch, Gradients

MESSAGE_BYTES = MEBIBYTE  # of a larger bucket: while one part is added up, the next is on its way


class PartMeans:
    """Of several processes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    gradients : Gradients
        Whose `flat` becomes the mean.
    buckets : Buckets
    pump : Pump
    sums : SumsOfAll, optional
        Of batch normalisations.
    """

    def __init__(self, comm: Comm, gradients: Gradients, buckets: Buckets, pump: Pump, sums: SumsOfAll | None) -> None:
        self._comm, self._gradients, self._buckets, self._pump, self._sums = comm, gradients, buckets, pump, sums
        self._order = InOrder(self._send)
        self._requests: list[Request] = []
        self._exchanges = self._computes = self._accumulated = False

    def hooks(self) -> list[Hook]:
        """What the plans call."""
        return self._buckets.hooks(self._is_final)

    def compute(self, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        """See :meth:`nnpar.parallel.Parallel.compute`."""
        try:
            return self._compute(batches, epoch)
        finally:
            self._pump.stop()

    def _compute(self, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        gradients = self._gradients
        totals, samples = np.zeros(4), 0
        for number, (batch,) in enumerate(batches):
            self._exchanges, self._computes, self._accumulated = number == len(batches) - 1, len(batch) > 0, number > 0
            self._requests = []
            self._order.begin()
            result = self._pass(batch, epoch)
            totals += result
            samples += len(batch)
            if not self._exchanges:
                gradients.accumulate(float(result[2]), first=number == 0)
            elif not len(batch):
                gradients.flat[...] = 0.0
                for bucket in range(len(self._buckets.slices)):
                    self._is_final(bucket)
        totals = mean_statistics(self._comm, totals, samples, gradients.statistics)
        from mpi4py import MPI

        MPI.Request.Waitall(self._requests)
        np.multiply(gradients.flat, np.float32(1.0 / totals[2] if totals[2] else 0.0), out=gradients.flat)
        return totals

    def _pass(self, batch: Batch, epoch: int) -> NDArray[np.float64]:
        if self._sums is not None:
            self._sums.begin()
        if len(batch):
            return self._gradients.backward(batch, epoch)
        if self._sums is not None:
            self._sums.take_part()
        return np.zeros(4)

    def _is_final(self, bucket: int) -> None:
        if self._exchanges:
            self._order.is_ready(bucket)

    def _send(self, bucket: int) -> None:
        from mpi4py import MPI

        gradients, part = self._gradients, self._buckets.slices[bucket]
        values = gradients.flat[part]
        if self._computes:
            assert gradients.latest is not None
            np.multiply(values, np.float32(gradients.latest.result[2]), out=values)
        if self._accumulated:
            np.add(values, gradients.sum[part], out=values)
        for message in np.array_split(values, int(-(-values.nbytes // MESSAGE_BYTES))):
            self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, message))
        self._pump.start(self._comm.Iprobe)  # what it finds does not matter
