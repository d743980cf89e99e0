"""Prediction by a model that no longer learns, for any number of Python threads."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar.layers.base import Layer
from nnpar.plan import PackedWeights, Plan, PlanCache
from nnpar.shapes import Shape

MOST_PLANS = 64  # of one Python thread: they share their memory


class Predictor:
    """A model as it is now, made ready for prediction: fast, and safe for many Python threads at once.

    Batch normalisation becomes part of the convolutions before it, weights are put into the order in which kernels read
    them, dropout is gone: once for all calls. Later changes of the model change nothing here.

    Parameters
    ----------
    model : Layer
    batch_size : int
        Samples that are computed at once, at most. More of them want more memory for activations.

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

    def __init__(self, model: Layer, batch_size: int = 256) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"Predictor: model: expected a layer, got {type(model).__name__}")
        self.batch_size = _checks.integer(batch_size, "Predictor", "batch_size", 1)
        self._model = copy.deepcopy(model)
        self._weights = PackedWeights()
        self._idle: list[PlanCache] = []
        self._lock = threading.Lock()

    def __call__(self, x: ArrayLike) -> Array:
        """Outputs of the model, for classes their logits.

        Parameters
        ----------
        x : array_like of shape (N, C, H, W) or (N, F)

        Returns
        -------
        ndarray of shape (N, ...), float32

        Raises
        ------
        ValueError
            If the model cannot take such an input; the error names the layer.
        """
        inputs = _checks.floats(x, "Predictor", "x", (2, 4))
        if len(inputs) <= self.batch_size:
            return self._predict(inputs)
        out = arrays.empty(self._model.output_shape(inputs.shape))
        for start in range(0, len(inputs), self.batch_size):
            out[start : start + self.batch_size] = self._predict(inputs[start : start + self.batch_size])
        return out

    def _predict(self, batch: Array) -> Array:
        with self._plans() as plans:
            plan = self._plan(plans, batch.shape)
            np.copyto(plan.x, batch)
            plan.run()
            y = arrays.empty(plan.y.shape)
            np.copyto(y, plan.y)
            return y

    @contextmanager
    def _plans(self) -> Iterator[PlanCache]:
        """Plans that nobody else uses meanwhile."""
        with self._lock:
            plans = self._idle.pop() if self._idle else PlanCache(MOST_PLANS)
        try:
            yield plans
        finally:
            with self._lock:
                self._idle.append(plans)

    def _plan(self, plans: PlanCache, shape: Shape) -> Plan:
        with self._lock:
            plan = plans.get(
                (shape,),
                lambda arena: Plan(self._model, shape, training=False, arena=arena, weights=self._weights),
            )
            plan.allocate()
            return plan
