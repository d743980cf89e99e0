"""Training on Spark without MPI: each step is a job, whose tasks compute gradients, added by ``treeReduce``."""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import losses, random
from nnpar.data.dataset import Dataset
from nnpar.gradients import Batch, Gradients
from nnpar.history import History
from nnpar.integrations.spark.partitions import Columns, PositionLoader, by_content, packed, scaled, share, unpacked
from nnpar.integrations.spark.prediction import use_threads_of_the_task
from nnpar.layers import Layer
from nnpar.optimizers import SGD
from nnpar.parallel import Parallel
from nnpar.trainer import Trainer
from nnpar.weight_average import put_statistics

Sums = list[NDArray[Any]]  # gradient, statistics, and the loss's result with the number of samples

# The latest one of this worker process, by what it is made of.
_learners: dict[str, tuple[Layer, losses.Loss, Gradients]] = {}


class OnExecutors(Parallel):
    """What a trainer on the driver computes gradients by: executors while `fit` runs, else this process.

    Parameters
    ----------
    job : bytes
        A pickle of the model, its loss, its optimizer and the trainer's other arguments.
    """

    def __init__(self, job: bytes) -> None:
        self._job = job
        self._partitions: _Partitions | None = None

    def fit(
        self,
        trainer: Trainer,
        df: Any,
        of: Columns,
        workers: int,
        validation: Dataset | None,
        epochs: int,
        batch_size: int,
        shuffle: bool,
    ) -> History:
        """Train this trainer, whose `parallel` this is, see :class:`SparkTrainer`."""
        contents = packed(df.select(of.image, of.label).repartition(workers), of)
        rdd = contents.mapPartitions(lambda some: [_in_order(*unpacked(some))]).cache()
        try:
            counts = rdd.map(lambda samples: len(samples[0])).collect()
            if not sum(counts):
                raise ValueError(f"{of.who}: expected rows, got none")
            job = rdd.context.broadcast(self._job)
            key = hashlib.sha256(self._job).hexdigest()
            loader = PositionLoader(sum(counts), batch_size)
            self._partitions = _Partitions(rdd, _Work(key, job, counts, trainer.seed, shuffle), loader.batch_size)
            return trainer.fit(loader, validation, epochs, progress=False)
        finally:
            self._partitions = None
            rdd.unpersist()

    def compute(self, gradients: Gradients, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        if self._partitions is None:
            return super().compute(gradients, batches, epoch)
        sums = self._partitions.sums(gradients, [batch.sample for (batch,) in batches], epoch)
        flat, statistics, numbers = sums
        totals: NDArray[np.float64] = numbers[:4]
        gradients.flat[...] = flat
        gradients.divide(totals[2])
        put_statistics(gradients.statistics, statistics / numbers[4])
        return totals


@dataclass(frozen=True)
class _Partitions:
    """The samples, cached by Spark, and what is done with them."""

    rdd: Any
    work: _Work
    batch_size: int

    def sums(self, gradients: Gradients, firsts: Sequence[int], epoch: int) -> Sums:
        """Of the batches that begin at these samples of the epoch, over all partitions."""
        work, total = self.work, sum(self.work.counts)
        spans = [(first, min(first + self.batch_size, total)) for first in firsts]
        weights = self.rdd.context.broadcast([gradients.values, *gradients.statistics])
        try:
            parts = self.rdd.mapPartitionsWithIndex(
                lambda index, samples: [work.sums(index, samples, weights, spans, epoch)]
            )
            sums: Sums = parts.treeReduce(_added)
            return sums
        finally:
            weights.destroy()


def _in_order(images: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    order = by_content(images, labels)
    return images[order], labels[order]


def _added(one: Sums, other: Sums) -> Sums:
    return [x + y for x, y in zip(one, other, strict=True)]


@dataclass(frozen=True)
class _Work:
    """What a worker computes: the same for all steps."""

    key: str
    job: Any
    counts: Sequence[int]
    seed: int
    shuffle: bool

    def sums(
        self,
        number: int,
        partition: Iterable[tuple[NDArray[Any], NDArray[Any]]],
        weights: Any,
        spans: Sequence[tuple[int, int]],
        epoch: int,
    ) -> Sums:
        """Of the parts of some batches that are in partition `number`."""
        model, loss, gradients = self._learner()
        ((images, labels),) = partition  # to its end: Spark ends a process that leaves some
        use_threads_of_the_task()
        for array, value in zip([gradients.values, *gradients.statistics], weights.value, strict=True):
            np.copyto(array, value)
        flat, numbers = np.zeros_like(gradients.flat), np.zeros(5)
        total, offset = sum(self.counts), sum(self.counts[:number])
        for span in spans:
            first, stop = share(len(images), total, *span)
            if first == stop:
                continue
            index = _order(len(images), self.seed, epoch, self.shuffle)[first:stop]
            x = scaled(images[index])
            target = loss.check_target(labels[index], model.output_shape(x.shape), "SparkTrainer.fit")
            result = gradients.backward(Batch(x, target, None, None, offset + first), epoch)
            flat += gradients.flat * np.float32(result[2])
            numbers += [*result, len(x)]
        joined = [array.reshape(-1) for array in gradients.statistics]
        statistics = np.concatenate([np.zeros(0, np.float32), *joined]) * np.float32(numbers[4])
        return [flat, statistics, numbers]

    def _learner(self) -> tuple[Layer, losses.Loss, Gradients]:
        if self.key not in _learners:
            model, loss, _, options = pickle.loads(self.job.value)
            loss = losses.get(loss)
            # The driver clips, averages and changes weights.
            gradients = Gradients(
                model, loss, SGD(0.0), self.seed, bool(options.get("recompute", False)), None, None, None, 1, Parallel()
            )
            _learners.clear()
            _learners[self.key] = model, loss, gradients
        return _learners[self.key]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    return random.permutation(count, seed, epoch) if shuffle else np.arange(count)
