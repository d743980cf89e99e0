"""Prediction by a model that no longer learns, for any number of Python threads."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar.layers.base import Layer, check_values, choosy
from nnpar.plan import Arena, PackedWeights, Plan, PlanCache
from nnpar.shapes import Shape

MOST_PLANS = 64  # of one Python thread: they share their memory


class Predictor:
    """A model as it is now, made ready for prediction: fast, and safe for many Python threads at once.

    Batch normalisation becomes part of the convolutions before it, weights are put into the order in which kernels read
    them, dropout is gone: once for all calls. Later changes of the model change nothing here.

    Parameters
    ----------
    model : Layer
    batch_size : int or None
        Samples that are computed at once, at most. More of them want more memory for activations. With None inputs are
        never cut.

    Raises
    ------
    TypeError
        If the model is not a layer.

    Notes
    -----
    As many calls run at once as there are Python threads, each on up to :func:`nnpar.get_num_threads` cores. For the
    most predictions per second from many Python threads, let each use one core: ``nnpar.set_num_threads(1)``. Each
    has memory for its own activations; packed weights are shared.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Predictor, zoo
    >>> predict = Predictor(zoo.lenet5())
    >>> predict(np.zeros((3, 1, 28, 28))).shape
    (3, 10)
    """

    def __init__(self, model: Layer, batch_size: int | None = 256) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"Predictor: model: expected a layer, got {type(model).__name__}")
        self.batch_size = None if batch_size is None else _checks.integer(batch_size, "Predictor", "batch_size", 1)
        self._model = copy.deepcopy(model)
        self._choosy = choosy(self._model.nodes())
        self._weights = PackedWeights()
        self._idle: list[PlanCache] = []  # of Python threads that are not here now
        self._lock = threading.Lock()  # for making plans, which pack weights

    def __call__(self, *inputs: ArrayLike) -> Any:
        """Outputs of the model, for classes their logits.

        Parameters
        ----------
        *inputs : array_like of shape (N, C, H, W), (N, F) or another that the model takes
            One, unless the model has more.

        Returns
        -------
        ndarray of shape (N, ...), float32
            For a model of several outputs, a tuple of them.

        Raises
        ------
        ValueError
            If the model cannot take such an input; the error names the layer.
        """
        values = [_checks.batch(x, "Predictor", "x") for x in inputs]
        check_values(self._choosy, values)
        outputs = self._all(values)
        return outputs if len(outputs) > 1 else outputs[0]

    def _all(self, inputs: list[Array]) -> tuple[Array, ...]:
        if self.batch_size is None:
            return self._predict(inputs)
        sizes = {len(x) for x in inputs}
        if max(sizes, default=0) <= self.batch_size:
            return self._predict(inputs)
        if len(sizes) > 1:
            raise ValueError(f"Predictor: x: expected inputs of one number of samples, got {sorted(sizes)}")
        (count,) = sizes
        shapes = self._model.output_shapes([x.shape for x in inputs])
        outputs = tuple(arrays.empty(shape) for shape in shapes)
        for start in range(0, count, self.batch_size):
            part = slice(start, start + self.batch_size)
            for out, y in zip(outputs, self._predict([x[part] for x in inputs]), strict=True):
                out[part] = y
        return outputs

    def _predict(self, batch: list[Array]) -> tuple[Array, ...]:
        try:
            plans = self._idle.pop()
        except IndexError:
            plans = PlanCache(MOST_PLANS)
        try:
            shapes = tuple([x.shape for x in batch])
            plan = plans.get(shapes, lambda arena: self._make(shapes, arena))
            for x, values in zip(plan.inputs, batch, strict=True):
                np.copyto(x, values)
            plan.run()
            return tuple([y.copy(order="K") for y in plan.outputs])
        finally:
            self._idle.append(plans)

    def _make(self, shapes: Sequence[Shape], arena: Arena) -> Plan:
        with self._lock:
            plan = Plan(self._model, shapes, training=False, arena=arena, weights=self._weights)
            plan.allocate()
        return plan
