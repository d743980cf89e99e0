"""Training on a stream: micro-batch after micro-batch, each once, whatever is restarted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpar import _checks, checkpoints
from nnpar.batches import Data
from nnpar.integrations.spark import columns
from nnpar.integrations.spark.partitions import Columns, packed, scaled, unpacked
from nnpar.integrations.spark.training import SparkTrainer
from nnpar.trainer import Trainer

PREFIX = "trained-"  # and the number of micro-batches that the checkpoint of this name has seen


def train_stream(
    df: Any,
    trainer: Trainer | SparkTrainer,
    folder: str | os.PathLike[str],
    image: str = "image",
    label: str = "label",
    shape: Sequence[int] | None = None,
    validation: Data | None = None,
    epochs: int = 1,
    batch_size: int = 64,
    keep: int = 2,
    trigger: Mapping[str, Any] | None = None,
) -> Any:
    """Train on the micro-batches of a stream, in the order in which they come.

    The trainer's state is saved after each, with the number of micro-batches in the file's name. A query that is
    started again, with the same folder and a trainer that is made anew, goes on with the state after the last whole
    micro-batch: each changes the weights exactly once.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A streaming one.
    trainer : Trainer or SparkTrainer
        A Trainer gets the rows of a micro-batch on the driver; a SparkTrainer trains on the cluster, and has columns
        and a shape of its own.
    folder : path-like
        On the driver, or shared: ``trained-NUMBER.safetensors`` and Spark's checkpoint, in ``spark``.
    image, label : str
        Columns: binary or arrays of numbers; and classes (integers), numbers, or arrays of numbers.
    shape : tuple of int, optional
        Of one sample: needed where images are bytes or flat arrays.
    validation : Dataset, (images, targets) or (images, targets, sample weights), optional
        Evaluated after each micro-batch.
    epochs : int
        Over each micro-batch.
    batch_size : int
    keep : int
        How many checkpoints to keep, the latest ones.
    trigger : dict, optional
        Arguments of Spark's ``trigger``, such as ``{"processingTime": "10 seconds"}`` or ``{"availableNow": True}``.

    Returns
    -------
    pyspark.sql.streaming.StreamingQuery
        Which runs; ``awaitTermination`` waits for it, and raises its errors.

    Raises
    ------
    ImportError
        If pyspark or pyarrow is missing.
    TypeError, ValueError
        If an argument is not such, or the folder has the state of another run, or parts of one.

    Examples
    --------
    >>> from nnpar import Trainer, zoo
    >>> from nnpar.integrations.spark import train_stream
    >>> stream = spark.readStream.schema("image binary, label int").parquet("digits")  # doctest: +SKIP
    >>> trainer = Trainer(zoo.digits_cnn())
    >>> query = train_stream(stream, trainer, "run", shape=(1, 8, 8))  # doctest: +SKIP
    >>> query.awaitTermination()  # doctest: +SKIP
    """
    who = "train_stream"
    columns.needed("pyspark", who)
    columns.needed("pyarrow", who)
    epochs, keep = _checks.integer(epochs, who, "epochs", 1), _checks.integer(keep, who, "keep", 1)
    batch_size = _checks.integer(batch_size, who, "batch_size", 1)
    if not isinstance(trainer, (Trainer, SparkTrainer)):
        raise TypeError(f"{who}: trainer: expected a Trainer or SparkTrainer, got {type(trainer).__name__}")
    if not df.isStreaming:
        raise ValueError(f"{who}: df: expected a streaming DataFrame, such as spark.readStream makes")
    if isinstance(trainer, SparkTrainer):
        of, local = trainer.columns, trainer.trainer
    else:
        of, local = Columns(image, label, columns.checked_shape(shape, who), who), trainer
    of.check(df)
    states = _States(Path(folder), keep)
    trained = states.begin(local)

    def train(batch: Any, number: int) -> None:
        nonlocal trained
        if number < trained:  # a restart, after it was saved and before Spark knew
            return
        if number > trained:
            raise RuntimeError(f"{who}: expected micro-batch {trained}, got {number}: some have not been trained on")
        if isinstance(trainer, SparkTrainer):
            if not batch.isEmpty():
                trainer.fit(batch, validation, epochs, batch_size)
        elif contents := packed(batch, of).collect():
            images, labels = unpacked(contents)
            trainer.fit((scaled(images), labels), validation, epochs, batch_size, progress=False)
        trained = number + 1
        states.save(local, trained)

    writer = df.writeStream.foreachBatch(train).option("checkpointLocation", str(states.spark.absolute()))
    return (writer.trigger(**trigger) if trigger else writer).start()


class _States:
    """Checkpoints by the number of micro-batches that they have seen, beside Spark's."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.spark, self._keep = folder, folder / "spark", keep

    def begin(self, trainer: Trainer) -> int:
        """Bring the trainer into the latest state, or save its first one; returns the number of micro-batches."""
        found, committed = self._all(), self._committed()
        trained = self._number(found[-1]) if found else 0
        if not committed <= trained <= committed + 1:
            raise ValueError(
                f"train_stream: folder: expected both checkpoints of one run in {self.folder}, got one after {trained} "
                f"micro-batches and Spark's after {committed}"
            )
        if found:
            checkpoints.restore(trainer, found[-1])
        else:
            self.save(trainer, 0)
        return trained

    def save(self, trainer: Trainer, trained: int) -> None:
        """A new checkpoint, and the oldest ones away."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.save(trainer, self.folder / f"{PREFIX}{trained:010}{checkpoints.SUFFIX}")
        for old in self._all()[: -self._keep]:
            old.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob(f"{PREFIX}*{checkpoints.SUFFIX}"))

    def _number(self, path: Path) -> int:
        return int(path.name.removeprefix(PREFIX).removesuffix(checkpoints.SUFFIX))

    def _committed(self) -> int:
        """Micro-batches of which Spark knows that they are done."""
        names = [path.name for path in (self.spark / "commits").glob("*") if path.name.isdecimal()]
        return 1 + max(map(int, names), default=-1)
