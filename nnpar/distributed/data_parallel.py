"""Data parallelism: each process computes its part of every batch, and all take the same step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import Array
from nnpar.distributed import tree
from nnpar.distributed.batch_norm import SumsOfAll
from nnpar.distributed.pump import Pump
from nnpar.distributed.ranks import Ranks
from nnpar.parallel import Hook

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from nnpar.gradients import Batch, Gradients

MEBIBYTE = 2**20


class DataParallel(Ranks):
    """Processes that share the samples of each batch: ``Trainer(model, parallel=DataParallel())`` under ``mpiexec -n 4
    python train.py``, or alone.

    A batch is as large as `fit` is told, and divided among the processes: learning rates, schedules and checkpoints
    mean the same for any number of them. Weights begin as those of process 0, which alone prints, logs and saves. Data
    must be the same in all processes, each of which reads its part. An error in one that nothing catches ends all.

    Gradients go in buckets, those of the last layers first, while the backward pass still computes the others.

    Parameters
    ----------
    shards : int, optional
        A power of two, at least the number of processes: each batch is cut into as many parts, whose gradients are
        added in the order of a fixed tree. Then the weights are the same bits for any number of processes and threads,
        run after run. Without, parts are as large as can be, and sums are MPI's.
    bucket_mb : float
        MiB of a bucket, about; a layer is never divided.
    sync_batch_norm : bool
        Whether batch normalisation takes the statistics of the whole batch, at the price of two messages for each layer
        and step; not with `shards`.
    comm : mpi4py.MPI.Comm, optional
        All processes by default.

    Raises
    ------
    ImportError
        If mpiexec has started the program, and mpi4py is missing.
    ValueError
        If a number is out of range.

    Notes
    -----
    Batch normalisation takes the statistics of the samples that are computed together: those of a process, or of a
    shard, unless `sync_batch_norm` is set. Running statistics are the mean of theirs after each step.

    Examples
    --------
    >>> from nnpar import Trainer, data, zoo
    >>> from nnpar.distributed import DataParallel
    >>> train, test = data.digits()
    >>> trainer = Trainer(zoo.digits_cnn(), parallel=DataParallel(shards=8))
    >>> history = trainer.fit(train, validation=test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.5
    True
    """

    def __init__(
        self, shards: int | None = None, bucket_mb: float = 4.0, sync_batch_norm: bool = False, comm: Comm | None = None
    ) -> None:
        super().__init__(comm)
        self.shards = None if shards is None else _checks.integer(shards, "DataParallel", "shards", 1)
        if self.shards is not None and (self.shards & (self.shards - 1) or self.shards < self.size):
            raise ValueError(
                f"DataParallel: shards: expected a power of two of at least {self.size}, the number of processes, "
                f"got {shards}"
            )
        if self.shards is not None and sync_batch_norm:
            raise ValueError("DataParallel: sync_batch_norm: expected no shards, each of which is normalised by itself")
        self.sync_batch_norm = bool(sync_batch_norm)
        self._sums: SumsOfAll | None = None
        self.bucket_bytes = _checks.above(bucket_mb, "DataParallel", "bucket_mb") * MEBIBYTE
        self._requests: list[Request] = []
        self._buckets: list[slice] = []
        self._names: list[list[str]] = []
        self._ready: set[int] = set()
        self._sent = 0
        self._pump: Pump | None = None
        self._exchanges = self._computes = self._accumulated = False

    def attach(self, gradients: Gradients) -> None:
        """All begin with the weights of process 0."""
        self._buckets, self._names = _buckets(gradients, self.bucket_bytes)
        self._statistics = np.zeros(sum(array.size for array in gradients.statistics), np.float32)
        if self.sync_batch_norm and self._comm is not None and self.size > 1:
            self._sums = SumsOfAll(self._comm, lambda: 0.0 if gradients.latest is None else gradients.latest.result[2])
        self._tree = tree.TreeSum(gradients.flat.size + self._statistics.size)
        self.share_arrays([gradients.values, *gradients.statistics])

    def bucket_sizes(self) -> list[int]:
        """Bytes of each bucket, in the order in which they go; known once a trainer has it."""
        return [4 * (bucket.stop - bucket.start) for bucket in self._buckets]

    def parts(self, number: int, count: int) -> list[slice]:
        total = self.shards or self.size
        mine = range(self.rank, self.rank + 1) if self.shards is None else tree.owned(self.rank, self.size, total)
        return [slice(count * part // total, count * (part + 1) // total) for part in mine]

    def hooks(self, gradients: Gradients) -> Sequence[Hook]:
        if self.shards is not None or self.size == 1:
            return ()
        return [(names, partial(self._bucket_is_ready, gradients, k)) for k, names in enumerate(self._names)]

    def together(self, gradients: Gradients) -> SumsOfAll | None:
        return self._sums

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        if self.shards is not None:
            return self._compute_shards(gradients, batches, epoch)
        if self.size == 1:
            return super().compute(gradients, batches, epoch)
        if self._pump is None:
            assert self._comm is not None
            self._pump = Pump(self._comm)
        try:
            return self._compute_mean(gradients, batches, epoch)
        finally:
            self._pump.stop()

    def _compute_mean(
        self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int
    ) -> NDArray[np.float64]:
        totals, samples = np.zeros(4), 0
        for number, (batch,) in enumerate(batches):
            self._exchanges, self._computes, self._accumulated = number == len(batches) - 1, len(batch) > 0, number > 0
            self._requests, self._ready, self._sent = [], set(), 0
            if self._sums is not None:
                self._sums.begin()
            if len(batch):
                result = gradients.backward(batch, epoch)
            else:
                result = np.zeros(4)
                if self._sums is not None:
                    self._sums.take_part()
            totals += result
            samples += len(batch)
            if not self._exchanges:
                gradients.accumulate(float(result[2]), first=number == 0)
            elif not len(batch):
                gradients.flat[...] = 0.0
                for bucket in range(len(self._buckets)):
                    self._bucket_is_ready(gradients, bucket)
        return self._finish(gradients, totals, samples)

    def _compute_shards(
        self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int
    ) -> NDArray[np.float64]:
        """Each shard by itself, from the same statistics on, through all batches; then the tree."""
        assert self.shards is not None
        size = gradients.flat.size
        results = np.zeros((self.shards, 5))
        self._tree.begin()
        for k, shard in enumerate(tree.owned(self.rank, self.size, self.shards)):
            gradients.restore_statistics()
            values = self._tree.new()
            values[...] = 0.0
            for parts in batches:
                batch = parts[k]
                if len(batch):
                    result = gradients.backward(batch, epoch)
                    np.multiply(gradients.flat, np.float32(result[2]), out=gradients.flat)
                    np.add(values[:size], gradients.flat, out=values[:size])
                    results[shard, :4] += result
                    results[shard, 4] += len(batch)
            np.multiply(_joined(gradients.statistics, self._statistics), results[shard, 4], out=values[size:])
            self._tree.add(shard, values)
        total = self._tree.new()
        tree.sum_over_ranks(self._comm, self._tree.nodes, self.shards, total)
        self._tree.nodes[-1, 0] = total  # is free again with the others
        if self._comm is not None:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, results)  # of each row, all but one are 0
        totals = np.zeros(5)
        for row in results:
            totals += row
        np.multiply(total[:size], np.float32(1.0 / totals[2] if totals[2] else 0.0), out=gradients.flat)
        np.multiply(total[size:], np.float32(1.0 / totals[4]), out=self._statistics)
        _divided(self._statistics, gradients.statistics)
        return totals[:4]

    def _bucket_is_ready(self, gradients: Gradients, bucket: int) -> None:
        """Send this bucket, and those that have waited for it: the same order in all processes."""
        if not self._exchanges:
            return
        self._ready.add(bucket)
        while self._sent in self._ready:
            self._send(gradients, self._buckets[self._sent])
            self._sent += 1

    def _send(self, gradients: Gradients, bucket: slice) -> None:
        assert self._comm is not None
        from mpi4py import MPI

        values = gradients.flat[bucket]
        if self._computes:
            assert gradients.latest is not None
            np.multiply(values, np.float32(gradients.latest.result[2]), out=values)
        if self._accumulated:
            np.add(values, gradients.sum[bucket], out=values)
        self._requests.append(self._comm.Iallreduce(MPI.IN_PLACE, values))
        assert self._pump is not None
        self._pump.start()

    def _finish(self, gradients: Gradients, totals: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
        """The mean of what was summed, and of the statistics."""
        assert self._comm is not None
        from mpi4py import MPI

        numbers = np.concatenate([totals, [samples], samples * _joined(gradients.statistics, self._statistics)])
        self._comm.Allreduce(MPI.IN_PLACE, numbers)
        MPI.Request.Waitall(self._requests)
        totals = numbers[:4]
        np.multiply(gradients.flat, np.float32(1.0 / totals[2] if totals[2] else 0.0), out=gradients.flat)
        _divided((numbers[5:] / numbers[4]).astype(np.float32), gradients.statistics)
        return totals


def scaled_lr(lr: float, batch_size: int, base_batch_size: int = 256) -> float:
    """A learning rate that was found for one batch size, for another: in proportion, as Goyal et al., arXiv:1706.02677,
    who warm up for the first five epochs, see :class:`nnpar.schedules.LinearWarmup`.

    Parameters
    ----------
    lr : float
        For `base_batch_size`.
    batch_size, base_batch_size : int
        Of whole batches, all processes' parts together.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a number is not above 0.

    Examples
    --------
    >>> from nnpar.distributed import scaled_lr
    >>> scaled_lr(0.1, 1024)
    0.4
    """
    batch_size = _checks.integer(batch_size, "scaled_lr", "batch_size", 1)
    base = _checks.integer(base_batch_size, "scaled_lr", "base_batch_size", 1)
    return _checks.above(lr, "scaled_lr", "lr") * batch_size / base


def _buckets(gradients: Gradients, nbytes: float) -> tuple[list[slice], list[list[str]]]:
    """Where buckets of about so many bytes lie in the flat gradient, and whose parameters' they are, the last ones
    first.
    """
    buckets: list[slice] = []
    names: list[list[str]] = []
    stop = gradients.flat.size
    group: list[str] = []
    for slot in reversed(gradients.slots):
        group.append(slot.name)
        if 4 * (stop - slot.start) >= nbytes or slot is gradients.slots[0]:
            buckets.append(slice(slot.start, stop))
            names.append(group)
            stop, group = slot.start, []
    return buckets, names


def _joined(arrays: Sequence[Array], out: Array) -> Array:
    """All their elements in one array."""
    start = 0
    for array in arrays:
        out[start : start + array.size] = array.reshape(-1)
        start += array.size
    return out


def _divided(joined: Array, arrays: Sequence[Array]) -> None:
    """The opposite."""
    start = 0
    for array in arrays:
        array[...] = joined[start : start + array.size].reshape(array.shape)
        start += array.size
