"""Mean gradients as MPI adds them up: each process computes one part of each batch, as large as can be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar._kernels.elementwise import Add
from nnpar._kernels.optimizer import Scale
from nnpar.distributed.batch_norm import SumsOfAll
from nnpar.distributed.buckets import MEBIBYTE, Buckets, InOrder
from nnpar.distributed.pump import Pump
from nnpar.distributed.ranks import mean_statistics
from nnpar.parallel import Hook

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from nnpar._checks import Array
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
    messages : Sums
        Of these processes, by another communicator: a process without samples calls them in another order.
    pump : Pump
    sums : SumsOfAll, optional
        Of batch normalisations.
    """

    def __init__(
        self,
        comm: Comm,
        gradients: Gradients,
        buckets: Buckets,
        messages: Sums,
        pump: Pump,
        sums: SumsOfAll | None,
    ) -> None:
        self._comm, self._gradients, self._buckets = comm, gradients, buckets
        self._messages, self._pump, self._sums = messages, pump, sums
        self._order = InOrder(self._send)
        self._values = [gradients.flat[part] for part in buckets.slices]
        self._scales = [Scale(values, values) for values in self._values]
        earlier = [gradients.sum[part] for part in buckets.slices] if gradients.sum.size else []
        self._adds = [Add(values, each, values) for values, each in zip(self._values, earlier, strict=False)]
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
            self._messages.begin()
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
        self._messages.finish()
        gradients.divide(totals[2])
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
        gradients, values = self._gradients, self._values[bucket]
        if self._computes:
            assert gradients.latest is not None
            self._scales[bucket].by(gradients.latest.result[2])
        if self._accumulated:
            self._adds[bucket]()
        for message in np.array_split(values, int(-(-values.nbytes // MESSAGE_BYTES))):
            self._messages.add(message)
        self._pump.start(self._messages.go_on)


class Sums:
    """Sums of arrays over all processes, in place, while these do other things.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Its processes add the same arrays in the same order.
    """

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Forget what was added."""
        with self._lock:
            self._requests: list[Request] = []

    def add(self, values: Array) -> None:
        """Begin a sum, which is there by the end of `finish`."""
        from mpi4py import MPI

        with self._lock:
            self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, values))

    def go_on(self) -> bool:
        """As far as is possible without waiting; returns whether there is more to do."""
        with self._lock:
            self._requests = [request for request in self._requests if not request.Test()]
            return bool(self._requests)

    def finish(self) -> None:
        """Until all sums are there."""
        with self._lock:
            for request in self._requests:
                request.Wait()
