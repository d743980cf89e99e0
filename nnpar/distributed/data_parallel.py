"""Data parallelism: each process computes its part of every batch, and all take the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar.distributed.batch_norm import SumsOfAll
from nnpar.distributed.buckets import BUCKET_MB, MEBIBYTE, Buckets
from nnpar.distributed.part_means import PartMeans, Sums
from nnpar.distributed.pump import Pump
from nnpar.distributed.ranks import Ranks
from nnpar.distributed.shard_sums import ShardSums
from nnpar.distributed.tree import owned
from nnpar.parallel import Hook

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from nnpar.gradients import Batch, Gradients


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
        run after run. As many as processes cost no time; of more, each is a smaller pass, the last of which hides
        messages. Without, parts are as large as can be, and sums are MPI's.
    bucket_mb : float
        MiB of a bucket, at least; what a larger layer has goes together, in messages of 1 MiB. Small buckets end soon
        after the backward pass; large ones need less messages, for networks of many hosts.
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
        self,
        shards: int | None = None,
        bucket_mb: float = BUCKET_MB,
        sync_batch_norm: bool = False,
        comm: Comm | None = None,
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
        self._bucket_bytes = _checks.above(bucket_mb, "DataParallel", "bucket_mb") * MEBIBYTE
        self._buckets = Buckets([], 0.0)
        self._pump = Pump()
        self._messages: Sums | None = None
        self._sums: SumsOfAll | None = None
        self._way: ShardSums | PartMeans | None = None  # without: this process's gradients are the mean

    def attach(self, gradients: Gradients) -> None:
        """All begin with the weights of process 0."""
        self._buckets = Buckets(gradients.slots, self._bucket_bytes)
        self._sums = self._way = None
        if self.shards is not None:
            self._way = ShardSums(self._comm, self.shards, gradients, self._buckets, self._pump)
        elif self._comm is not None and self.size > 1:
            if self.sync_batch_norm:
                self._sums = SumsOfAll(
                    self._comm, lambda: 0.0 if gradients.latest is None else gradients.latest.result[2]
                )
            if self._messages is None:
                self._messages = Sums(self._comm.Dup())
            self._way = PartMeans(self._comm, gradients, self._buckets, self._messages, self._pump, self._sums)
        self.share_arrays([gradients.values, *gradients.statistics])

    def bucket_sizes(self) -> list[int]:
        """Bytes of each bucket, in the order in which they go; known once a trainer has it."""
        return [4 * (bucket.stop - bucket.start) for bucket in self._buckets.slices]

    def parts(self, number: int, count: int) -> list[slice]:
        total = self.shards or self.size
        mine = range(self.rank, self.rank + 1) if self.shards is None else owned(self.rank, self.size, total)
        return [slice(count * part // total, count * (part + 1) // total) for part in mine]

    def hooks(self, gradients: Gradients) -> Sequence[Hook]:
        return () if self._way is None else self._way.hooks()

    def together(self, gradients: Gradients) -> SumsOfAll | None:
        return self._sums

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        if self._way is None:
            return super().compute(gradients, batches, epoch)
        return self._way.compute(batches, epoch)


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
