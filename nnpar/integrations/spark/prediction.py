"""Predictions of columns: one model in each of Spark's Python processes, ready from the first batch on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnpar
from nnpar import _checks, ops, threads
from nnpar.integrations.spark import columns
from nnpar.integrations.spark.partitions import scaled
from nnpar.layers import Composite, CustomLayer
from nnpar.predictor import Predictor
from nnpar.shapes import Shape

OUTPUTS = {"class": "int", "probabilities": "array<float>", "outputs": "array<float>"}  # and their types in Spark
MOST_MODELS = 4  # that a worker process keeps

Model = Composite | str | os.PathLike[str]

_predictors: dict[str, Predictor] = {}  # of this worker process, by what they are made of


@dataclass(frozen=True)
class _Job:
    """What workers are sent: the model's file by way of a broadcast, all else with the function."""

    key: str
    file: Any  # its bytes are file.value
    layers: Sequence[type[CustomLayer]]
    shape: Shape | None
    output: str
    batch_size: int
    column: str
    who: str

    def predict(self, array: Any) -> Any:
        """Predictions, an Arrow array, of an Arrow array of images."""
        pyarrow = columns.needed("pyarrow", self.who)
        if len(array) == 0:
            return pyarrow.array([], pyarrow.int32() if self.output == "class" else pyarrow.list_(pyarrow.float32()))
        found = columns.images(array, self.column, self.who, self.shape)
        y = self._outputs(self._predictor()(scaled(found)))
        if self.output == "class":
            return pyarrow.array(y.argmax(axis=1).astype(np.int32))
        if self.output == "probabilities":
            y = ops.softmax(y)
        ends = np.arange(0, y.size + 1, y[0].size, dtype=np.int32)
        return pyarrow.ListArray.from_arrays(pyarrow.array(ends), pyarrow.array(np.ascontiguousarray(y).reshape(-1)))

    def _outputs(self, y: Any) -> NDArray[np.float32]:
        if isinstance(y, tuple):
            raise ValueError(f"{self.who}: model: expected one output, got {len(y)}")
        outputs: NDArray[np.float32] = y
        if self.output != "outputs" and outputs.ndim != 2:
            raise ValueError(f"{self.who}: output: expected 'outputs' for a model with outputs of {outputs.shape[1:]}")
        return outputs

    def _predictor(self) -> Predictor:
        if self.key not in _predictors:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.safetensors")
                path.write_bytes(self.file.value)
                model = nnpar.load(path, self.layers)
            while len(_predictors) >= MOST_MODELS:
                del _predictors[next(iter(_predictors))]
            _predictors[self.key] = Predictor(model, self.batch_size)
        use_threads_of_the_task()
        return _predictors[self.key]


def use_threads_of_the_task() -> None:
    """As many threads as Spark has planned processors for a task, ``spark.task.cpus``, unless ``NNPAR_NUM_THREADS``
    says otherwise.
    """
    from pyspark import TaskContext

    context = TaskContext.get()
    if context is not None and threads.num_threads_source() != "NNPAR_NUM_THREADS":
        threads.set_num_threads(max(1, context.cpus()))


@dataclass(frozen=True)
class _InClosure:
    """A value that travels with a function, where there is no broadcast."""

    value: bytes


def _job(
    model: Model,
    shape: Sequence[int] | None,
    output: str,
    batch_size: int,
    layers: Sequence[type[CustomLayer]],
    column: str,
    who: str,
) -> _Job:
    import hashlib

    context = columns.needed("pyspark", who).SparkContext._active_spark_context
    cloudpickle = columns.needed("pyspark.cloudpickle", who)
    columns.needed("pyarrow", who)
    if output not in OUTPUTS:
        raise ValueError(f"{who}: output: expected one of {', '.join(OUTPUTS)}, got {output!r}")
    batch_size = _checks.integer(batch_size, who, "batch_size", 1)
    sample = columns.checked_shape(shape, who)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        if isinstance(model, Composite):
            model.save(path)
        elif isinstance(model, (str, os.PathLike)):
            path = Path(model)
        else:
            raise TypeError(f"{who}: model: expected a Sequential or the like, or a path, got {type(model).__name__}")
        loaded, content = nnpar.load(path, layers), path.read_bytes()
    if sample is not None:
        loaded.output_shapes([(1, *sample)])
    key = hashlib.sha256(content + cloudpickle.dumps((tuple(layers), batch_size))).hexdigest()
    file = _InClosure(content) if context is None else context.broadcast(content)
    return _Job(key, file, tuple(layers), sample, output, batch_size, column, who)


def predict_udf(
    model: Model,
    shape: Sequence[int] | None = None,
    output: str = "class",
    batch_size: int = 256,
    layers: Sequence[type[CustomLayer]] = (),
) -> Any:
    """A function of a column of images, for ``df.withColumn("digit", predict_udf(model)("image"))`` and, registered by
    ``spark.udf.register``, for SQL.

    Parameters
    ----------
    model : Sequential, Graph, ... or path-like
        A model as it is now, or one that ``model.save`` wrote. It is broadcast once, and loaded once by each of Spark's
        Python processes.
    shape : tuple of int, optional
        Of one sample: needed where images are bytes or flat arrays.
    output : {"class", "probabilities", "outputs"}
        The class of the largest output, an int; or all outputs as arrays, as they are or after a softmax.
    batch_size : int
        Samples that are computed at once, at most.
    layers : sequence of classes
        The user's own layers that the model may hold.

    Returns
    -------
    pandas user-defined function

    Raises
    ------
    ImportError
        If pyspark, pandas or pyarrow is missing.
    TypeError, ValueError
        If an argument is not such, or the model cannot take that shape; in the workers: if a column has another type,
        nulls, or images of another size.

    Notes
    -----
    Spark hands over ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows at a time, 10,000 by default: less of them
    take less memory. Threads are those of ``spark.task.cpus``.

    Examples
    --------
    >>> from nnpar import zoo
    >>> from nnpar.integrations.spark import predict_udf
    >>> digit = predict_udf(zoo.digits_cnn(), shape=(1, 8, 8))  # doctest: +SKIP
    >>> df.withColumn("digit", digit("image")).show()  # doctest: +SKIP
    """
    who = "predict_udf"
    job = _job(model, shape, output, batch_size, layers, "image", who)
    pandas, functions = columns.needed("pandas", who), columns.needed("pyspark.sql.functions", who)

    def predict(images: Any) -> Any:
        pyarrow = columns.needed("pyarrow", who)
        return job.predict(pyarrow.array(images, from_pandas=True)).to_pandas()

    predict.__annotations__ = {"images": pandas.Series, "return": pandas.Series}  # tell Spark what kind it is
    return functions.pandas_udf(predict, OUTPUTS[output])


def predict_stream(
    df: Any,
    model: Model,
    column: str = "image",
    shape: Sequence[int] | None = None,
    output: str = "class",
    prediction: str = "prediction",
    batch_size: int = 256,
    layers: Sequence[type[CustomLayer]] = (),
) -> Any:
    """A DataFrame, also a streaming one, with a column of predictions in place of the images.

    It keeps no state: with a sink that is written exactly once, such as files, and Spark's checkpoint, each row is
    there exactly once, whatever was restarted.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        Its other columns stay.
    model : Sequential, Graph, ... or path-like
        A model as it is now, or one that ``model.save`` wrote.
    column : str
        Of images.
    shape : tuple of int, optional
        Of one sample: needed where images are bytes or flat arrays.
    output : {"class", "probabilities", "outputs"}
        See :func:`predict_udf`.
    prediction : str
        Name of the new column.
    batch_size : int
        Samples that are computed at once, at most.
    layers : sequence of classes
        The user's own layers that the model may hold.

    Returns
    -------
    pyspark.sql.DataFrame

    Raises
    ------
    ImportError
        If pyspark or pyarrow is missing.
    TypeError, ValueError
        If an argument is not such, or the model cannot take that shape; in the workers: if the column has nulls, or
        images of another size.

    Examples
    --------
    >>> from nnpar.integrations.spark import predict_stream
    >>> images = spark.readStream.schema("id long, image binary").parquet("images")  # doctest: +SKIP
    >>> predicted = predict_stream(images, "model.safetensors", shape=(1, 8, 8))  # doctest: +SKIP
    >>> predicted.writeStream.option("checkpointLocation", "state").start("predicted")  # doctest: +SKIP
    """
    who = "predict_stream"
    job = _job(model, shape, output, batch_size, layers, column, who)
    types = columns.needed("pyspark.sql.types", who)
    columns.check(df, column, who, True)
    kept = [name for name in df.columns if name != column]
    if prediction in kept:
        raise ValueError(f"{who}: prediction: expected a name that no column has, got {prediction!r}")
    fields = [df.schema[name] for name in kept]
    kind = types.IntegerType() if output == "class" else types.ArrayType(types.FloatType())

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        pyarrow = columns.needed("pyarrow", who)
        for batch in batches:
            arrays = [batch.column(name) for name in kept] + [job.predict(batch.column(column))]
            yield pyarrow.RecordBatch.from_arrays(arrays, names=[*kept, prediction])

    return df.mapInArrow(predict, types.StructType([*fields, types.StructField(prediction, kind)]))
