"""Predictions in Apache Flink: a function for SQL and the Table API. Needs ``nnpar[flink]``."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import tempfile
import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

import nnpar
from nnpar import _checks, ops
from nnpar._checks import Array
from nnpar.data import files
from nnpar.layers import Layer
from nnpar.predictor import Predictor
from nnpar.shapes import Shape

try:
    from pyflink.table.udf import ScalarFunction
except ImportError as error:
    ScalarFunction = object
    _missing: ImportError | None = error
else:
    _missing = None

__all__ = ["predict_udf"]

OUTPUTS = ("class", "probabilities", "outputs")

# Subtasks in one process share a model. It is forgotten when the last of them closes.
_predictors: WeakValueDictionary[str, Predictor] = WeakValueDictionary()
_lock = threading.Lock()


def predict_udf(
    model: Layer | str | os.PathLike[str], shape: Shape, output: str = "class", batch_size: int = 16
) -> Any:
    """A vectorised function of images for ``create_temporary_function``, with which SQL predicts on streams and tables.

    Each worker process loads the model once, before its first row. The column of images is ``VARBINARY``, each pixel a
    byte, which is divided by 255, or ``ARRAY<FLOAT>``, taken as it is; both with channels first, in C order. The
    prediction for NULL is NULL.

    Parameters
    ----------
    model : Layer, str or path-like
        A model, which travels with the function as it is now, also with layers of the user's own; or the file of one
        that ``model.save`` wrote, which workers read: a path that they all have, one that ``add_python_archive`` puts
        into their current folder, or an address for fsspec (``nnpar[data]``).
    shape : tuple of int
        Of one image, such as (3, 32, 32).
    output : {"class", "probabilities", "outputs"}
        The number of the largest output, ``INT``; or the softmax of all, or what the model says, ``ARRAY<FLOAT>``.
    batch_size : int
        Images that are computed at once. The last batch of those that Flink hands over together is filled up, so that
        a prediction has the same bits whichever rows come with it, as Flink expects when it computes one again.

    Returns
    -------
    UserDefinedScalarFunctionWrapper
        Of PyFlink.

    Raises
    ------
    ImportError
        If apache-flink is missing.
    ValueError
        If `output` is unknown, or the model cannot take such images or has other outputs than numbers for each image.
        For a model in a file, and for an image of another size, the job fails with it.
    TypeError
        If an argument has another type.

    Notes
    -----
    Workers need nnpar in their Python: in their image, or by ``add_python_archive`` or ``set_python_requirements``.

    Each worker process uses :func:`nnpar.get_num_threads` threads, all cores of its machine unless it is told another
    number. Flink starts a process for each slot that a TaskManager has in use, so with several slots give each its
    share: ``NNPAR_NUM_THREADS=4`` in the TaskManagers' environment for 4 slots on 16 cores. Fewer slots with more
    threads need less memory, since each process has the model. Neither number changes a prediction. Where Flink runs in
    the program itself, all subtasks share one process, the program's own, and one model.

    Rows wait until ``python.fn-execution.bundle.time`` (1000 ms by default) has passed or
    ``python.fn-execution.bundle.size`` of them have come. At 100 rows a second half of them have their prediction after
    1.1 s by default, after 58 ms with a bundle time of 50 ms (``bench/flink_latency.py``).

    Examples
    --------
    >>> from nnpar import zoo
    >>> from nnpar.integrations.flink import predict_udf
    >>> predict = predict_udf(zoo.digits_cnn(), (1, 8, 8))  # doctest: +SKIP
    >>> environment.create_temporary_function("predict", predict)  # doctest: +SKIP
    >>> environment.execute_sql("SELECT id, predict(image) FROM images").print()  # doctest: +SKIP
    """
    if _missing is not None:
        raise ImportError(f"predict_udf: apache-flink is needed: pip install 'nnpar[flink]' ({_missing})") from _missing
    import cloudpickle
    from pyflink.table import DataTypes
    from pyflink.table.udf import udf

    shape = _checks.integers(shape, "predict_udf", "shape", 1)
    batch_size = _checks.integer(batch_size, "predict_udf", "batch_size", 1)
    if output not in OUTPUTS:
        raise ValueError(f"predict_udf: output: expected one of {', '.join(OUTPUTS)}, got {output!r}")
    if isinstance(model, Layer):
        _check_outputs(model.output_shapes([(1, *shape)]), output)
        source: bytes | str = cloudpickle.dumps(model)
    elif isinstance(model, (str, os.PathLike)):
        source = os.fspath(model)
        if os.path.exists(source):
            source = os.path.abspath(source)  # workers have another current folder
    else:
        raise TypeError(f"predict_udf: model: expected a layer or a path, got {type(model).__name__}")
    result = DataTypes.INT() if output == "class" else DataTypes.ARRAY(DataTypes.FLOAT())
    function = _Predict(source, shape, output, batch_size)
    return udf(function, result_type=result, func_type="pandas", name="predict")


class _Predict(ScalarFunction):  # type: ignore[misc]
    """What workers run; `source` is a pickled model, or where its file is."""

    def __init__(self, source: bytes | str, shape: Shape, output: str, batch_size: int) -> None:
        self._source = source
        self._shape = shape
        self._output = output
        self._batch_size = batch_size
        self._predictor: Predictor | None = None

    def open(self, function_context: Any) -> None:
        predictor = _load(self._source)
        # The plan is made now, not when the first row waits for it.
        outputs = predictor(np.zeros((self._batch_size, *self._shape), np.float32))
        _check_outputs([y.shape for y in outputs] if isinstance(outputs, tuple) else [outputs.shape], self._output)
        self._predictor = predictor

    def close(self) -> None:
        self._predictor = None

    def eval(self, images: Any) -> Any:
        """A pandas.Series of predictions for one of images."""
        import pandas

        rows = [row for row in images if row is not None]
        found: list[Any] = []
        for start in range(0, len(rows), self._batch_size):
            found.extend(self._predict(rows[start : start + self._batch_size]))
        if len(rows) == len(images):
            return pandas.Series(found, dtype=np.int32 if self._output == "class" else object)
        predictions = iter(found)
        return pandas.Series([None if row is None else next(predictions) for row in images], dtype=object)

    def _predict(self, rows: list[Any]) -> NDArray[Any]:
        assert self._predictor is not None, "open() comes first"
        batch = np.zeros((self._batch_size, *self._shape), np.float32)
        batch[: len(rows)] = self._pixels(rows)
        outputs: Array = self._predictor(batch)[: len(rows)]
        if self._output == "class":
            labels: NDArray[Any] = outputs.argmax(axis=1).astype(np.int32)
            return labels
        return ops.softmax(outputs) if self._output == "probabilities" else outputs

    def _pixels(self, rows: list[Any]) -> Array:
        size, binary = math.prod(self._shape), isinstance(rows[0], bytes)
        for row in rows:
            if not isinstance(row, bytes) and not (isinstance(row, np.ndarray) and row.dtype.kind in "fiu"):
                raise TypeError(
                    f"predict_udf: images: expected VARBINARY or ARRAY<FLOAT>, got {type(row).__name__} {row!r:.60}"
                )
            if len(row) != size:
                raise ValueError(
                    f"predict_udf: images: expected {size} {'bytes' if binary else 'numbers'} for shape {self._shape}, "
                    f"got {len(row)}"
                )
        if binary:
            pixels = np.frombuffer(b"".join(rows), np.uint8)
            return np.divide(pixels, 255, dtype=np.float32).reshape(-1, *self._shape)
        numbers = np.stack(rows).astype(np.float32)
        if np.isnan(numbers).any():
            raise ValueError("predict_udf: images: expected numbers, got NULL or NaN in an ARRAY")
        return numbers.reshape(-1, *self._shape)


def _check_outputs(shapes: Sequence[Shape], output: str) -> None:
    """A model has one row of numbers for an image, several for a class."""
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"predict_udf: model: expected one output of shape (N, K), got {', '.join(map(str, shapes))}")
    if output != "outputs" and shapes[0][1] < 2:
        raise ValueError(f"predict_udf: model: expected two outputs or more for output={output!r}, got {shapes[0][1]}")


def _load(source: bytes | str) -> Predictor:
    """The model made ready, or the one that another subtask of this process has made ready."""
    content = source if isinstance(source, bytes) else _read(source)
    key = hashlib.sha256(content).hexdigest()
    with _lock:
        predictor = _predictors.get(key)
        if predictor is None:
            model = pickle.loads(content) if isinstance(source, bytes) else _model(content, source)
            predictor = _predictors[key] = Predictor(model, batch_size=None)
        return predictor


def _read(path: str) -> bytes:
    try:
        with files.open_file(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"predict_udf: model: {path}: no such file on a worker") from error


def _model(content: bytes, path: str) -> Layer:
    """The model in a file's content; errors name the file."""
    with tempfile.TemporaryDirectory(prefix="nnpar-") as folder:
        copied = os.path.join(folder, "model.safetensors")
        with open(copied, "wb") as file:
            file.write(content)
        try:
            return nnpar.load(copied)
        except ValueError as error:
            raise ValueError(f"predict_udf: model: {path}: {error}") from error
