"""Training on a cluster: each of Spark's tasks has a partition of the samples."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nnpar import _checks, checkpoints, random
from nnpar.batches import Data, as_dataset
from nnpar.history import History
from nnpar.integrations.spark import barrier, columns, mpi_worker
from nnpar.integrations.spark.partitions import Columns, Spilled
from nnpar.integrations.spark.tree_reduce import OnExecutors
from nnpar.layers import Layer
from nnpar.losses import Loss
from nnpar.optimizers import Optimizer
from nnpar.trainer import Trainer

PATIENCE = 60.0  # seconds in which executors may come up
RESULTS = "part long, content binary, error string"
CHUNK = 2**26  # bytes of a row that brings a part of the result to the driver


class SparkTrainer:
    """Trains a model on a cluster, on the rows of a DataFrame.

    With MPI all tasks run at once, in a barrier stage. Each writes its partition to its disk, MPI's processes are
    started within the stage, and train as :class:`nnpar.distributed.DataParallel` does. They have no need of ssh;
    workers need mpi4py and MPICH (``pip install 'nnpar[mpi]' mpich``), under the same paths. Without MPI each step is a
    job of Spark's: weights are broadcast, and gradients added by ``treeReduce``, about 0.2 seconds more for a step.

    Parameters
    ----------
    model : Layer or callable
        A model, which is trained in place, or a function that makes one.
    loss : str or Loss
    optimizer : Optimizer, optional
        ``Adam()`` by default.
    image, label : str
        Columns: binary or arrays of numbers; and classes (integers), numbers, or arrays of numbers.
    shape : tuple of int, optional
        Of one sample: needed where images are bytes or flat arrays.
    workers : int, optional
        Partitions, and processes that train; as many as can run at once by default.
    mpi : bool, optional
        Whether to train by MPI; by default if all workers have it.
    **options
        Others of :class:`nnpar.Trainer`: seed, schedule, clip_norm, average, accumulate, metrics, ...

    Attributes
    ----------
    trainer : Trainer
        On the driver, with the weights, the optimizer's state and the history of what was trained.

    Raises
    ------
    ImportError
        If pyspark or pyarrow is missing.
    TypeError, ValueError
        If an argument is not such.

    Notes
    -----
    Each row is in one batch of each epoch, and counts as much as any other, however uneven the partitions are. A batch
    takes from each partition in proportion to its size, at random, and has up to `workers` samples more or less than
    `batch_size`. So the batches depend on the seed and on which rows are in which partition: they repeat if the
    DataFrame's partitions and `workers` are the same, in whatever order rows arrive. Sums are MPI's, which repeat on
    the same processes, or those of ``treeReduce``, whose order can vary with more than a few workers. Batch
    normalisation takes the statistics of each process's samples.

    If an executor is lost, Spark repeats the stage, and with it the call of `fit`, from its beginning.

    Examples
    --------
    >>> from nnpar import zoo
    >>> from nnpar.integrations.spark import SparkTrainer
    >>> trainer = SparkTrainer(zoo.digits_cnn(), shape=(1, 8, 8))  # doctest: +SKIP
    >>> trainer.fit(spark.read.parquet("digits"), epochs=5)["accuracy"]  # doctest: +SKIP
    >>> trainer.model.save("digits.safetensors")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Layer | Callable[[], Layer],
        loss: str | Loss = "cross_entropy",
        optimizer: Optimizer | None = None,
        image: str = "image",
        label: str = "label",
        shape: Sequence[int] | None = None,
        workers: int | None = None,
        mpi: bool | None = None,
        **options: Any,
    ) -> None:
        who = "SparkTrainer"
        cloudpickle = columns.needed("pyspark.cloudpickle", who)
        columns.needed("pyarrow", who)
        if "parallel" in options:
            raise TypeError(f"{who}: parallel: expected no such argument; this trainer is parallel by itself")
        self.columns = Columns(image, label, columns.checked_shape(shape, who), f"{who}.fit")
        self.workers = None if workers is None else _checks.integer(workers, who, "workers", 1)
        self.mpi = mpi
        if not isinstance(model, Layer) and callable(model):
            model = model()
        if options.get("seed") is None:
            options["seed"] = random.get_seed()
        # As it is now: what a trainer has taken cannot be sent.
        self._job = cloudpickle.dumps((model, loss, optimizer, options))
        self._on_executors = OnExecutors(self._job)
        self.trainer = Trainer(model, loss, optimizer, parallel=self._on_executors, **options)

    @property
    def model(self) -> Layer:
        """The model, as it has been trained so far."""
        return self.trainer.model

    @property
    def history(self) -> History:
        """One record for each epoch of all calls of `fit`."""
        return self.trainer.history

    def fit(
        self,
        df: Any,
        validation: Data | None = None,
        epochs: int = 10,
        batch_size: int = 64,
        shuffle: bool = True,
    ) -> History:
        """Train for some epochs. Called again, it goes on.

        Parameters
        ----------
        df : pyspark.sql.DataFrame
            It is read once.
        validation : Dataset, (images, targets) or (images, targets, sample weights), optional
            On the driver, and small: each worker gets it.
        epochs : int
        batch_size : int
            Of all workers' parts together, about; at least the number of workers.
        shuffle : bool
            Whether each epoch has an order of its own, within each partition.

        Returns
        -------
        History
            ``trainer.history``.

        Raises
        ------
        TypeError, ValueError
            If arguments or columns do not fit.
        RuntimeError
            If Spark cannot run so many tasks at once, or a worker fails, with its error.
        """
        who = self.columns.who
        epochs = _checks.integer(epochs, who, "epochs", 1)
        batch_size = _checks.integer(batch_size, who, "batch_size", 1)
        self.columns.check(df)
        held_out = None if validation is None else as_dataset(validation, f"{who}: validation")
        context = df.sparkSession.sparkContext
        workers = self.workers or _slots(context, 1)
        if batch_size < workers:
            raise ValueError(f"{who}: batch_size: expected at least {workers}, one for each worker, got {batch_size}")
        lacks = self._lacks_mpi(context, workers)
        if self.mpi and lacks:
            raise RuntimeError(f"{who}: mpi: {lacks}")
        self.mpi = self.mpi is not False and not lacks  # from now on
        if not self.mpi:
            return self._on_executors.fit(
                self.trainer, df, self.columns, workers, held_out, epochs, batch_size, shuffle
            )
        if _slots(context, workers) < workers:
            slots = _slots(context, 1)
            raise RuntimeError(f"{who}: workers: expected at most {slots}, which can run at once, got {workers}")
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder, mpi_worker.STATE)
            checkpoints.save(self.trainer, state)
            sent = (self._job, columns.needed("pyspark.cloudpickle", who).dumps(held_out), state.read_bytes())
            run = {"epochs": epochs, "batch_size": batch_size, "shuffle": shuffle}
            task = _Task(context.broadcast(sent), self.columns, run)
            rows = df.select(self.columns.image, self.columns.label).repartition(workers)
            results = rows.mapInArrow(lambda batches: task.results(batches), RESULTS, barrier=True).collect()
            task.sent.unpersist()
            errors = [row.error for row in results if row.error]
            if errors:
                raise RuntimeError(f"{who}: {errors[0]}")
            state.write_bytes(b"".join(row.content for row in sorted(results, key=lambda row: row.part)))
            checkpoints.restore(self.trainer, state)
        return self.trainer.history

    def _lacks_mpi(self, context: Any, workers: int) -> str:
        """What some worker lacks for MPI, in words."""
        if self.mpi is False:
            return ""
        lacks: str = max(context.parallelize(range(workers), workers).map(lambda _: barrier.missing()).collect())
        return lacks


@dataclasses.dataclass(frozen=True)
class _Task:
    """What each task of the barrier stage does. It raises nothing: Spark would try again, and again in vain."""

    sent: Any
    columns: Columns
    run: dict[str, Any]

    def results(self, batches: Iterator[Any]) -> Iterator[Any]:
        """One record batch for each part of the result, or for the error, of all tasks."""
        from pyspark import BarrierTaskContext

        pyarrow = columns.needed("pyarrow", self.columns.who)
        context = BarrierTaskContext.get()
        # Spark's own folders, on large disks and removed with the executor.
        local = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None
        folder = Path(tempfile.mkdtemp(prefix="nnpar-", dir=local))
        try:
            self._train(context, folder, batches)
            result = folder / mpi_worker.RESULT
            if result.exists():
                with open(result, "rb") as file:
                    for part, content in enumerate(iter(lambda: file.read(CHUNK), b"")):
                        yield pyarrow.RecordBatch.from_pydict({"part": [part], "content": [content], "error": [""]})
        except barrier.TaskError as error:
            yield pyarrow.RecordBatch.from_pydict({"part": [0], "content": [b""], "error": [str(error)]})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _train(self, context: Any, folder: Path, batches: Iterator[Any]) -> None:
        who = self.columns.who

        def spill() -> list[Any]:
            host = context.getTaskInfos()[context.partitionId()].address.split(":")[0]
            return [host, str(folder), dataclasses.astuple(Spilled.write(folder, batches, self.columns))]

        every = barrier.exchange(context, spill)
        hosts, folders, spilled = ([each[k] for each in every] for k in range(3))
        tasks = barrier.Places(hosts).tasks
        run = self.run | {"threads": max(1, context.cpus()), "spilled": [spilled[task] for task in tasks]}

        def prepare() -> None:
            kinds = {json.dumps(each[1:]) for each in spilled if each[0]}
            if len(kinds) != 1:
                raise ValueError(f"{who}: expected rows of one kind, got {' and '.join(sorted(kinds)) or 'no rows'}")
            job, validation, state = self.sent.value
            (folder / mpi_worker.JOB).write_bytes(job)
            (folder / mpi_worker.VALIDATION).write_bytes(validation)
            (folder / mpi_worker.STATE).write_bytes(state)
            (folder / mpi_worker.RUN).write_text(json.dumps(run))

        barrier.exchange(context, prepare)
        barrier.run(context, hosts, folders, mpi_worker.__name__)


def _slots(context: Any, wanted: int) -> int:
    """Tasks that can run at once; it waits for executors that are not yet up."""
    scheduler = context._jsc.sc()
    end = time.monotonic() + PATIENCE
    while True:
        slots = int(scheduler.maxNumConcurrentTasks(scheduler.resourceProfileManager().resourceProfileFromId(0)))
        if slots >= wanted or time.monotonic() > end:
            return slots
        time.sleep(0.2)
