"""From batches to a change of the weights: gradients, summed over batches and clipped, and the optimizer's update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.elementwise import Add, Position
from nnpar._kernels.optimizer import ClipNorm, ClipValue
from nnpar._kernels.step import Program, Step
from nnpar.batches import take
from nnpar.layers.base import Layer
from nnpar.losses import Loss
from nnpar.optimizers import Optimizer
from nnpar.parameters import FlatParameters
from nnpar.plan import Arena, Plan, PlanCache
from nnpar.shapes import Shape
from nnpar.weight_average import WeightAverage, running_statistics

MOST_PLANS = 8


@dataclass(frozen=True)
class Batch:
    """Samples of one pass: those of the arrays that `index` picks, or all; `sample` is the first one's number in the
    epoch.
    """

    images: Array
    targets: NDArray[Any]
    weights: Array | None
    index: NDArray[np.int64] | None
    sample: int

    def __len__(self) -> int:
        return len(self.images) if self.index is None else len(self.index)


class NotFiniteError(FloatingPointError):
    """A loss or the gradient's norm is not finite."""


class Gradients:
    """A model's parameters and their gradients as flat arrays, the plans that compute these, and what changes those.

    Parameters
    ----------
    model, loss, optimizer, seed, recompute, clip_norm, clip_value, average, accumulate
        See :class:`nnpar.Trainer`.

    Attributes
    ----------
    by_name : dict of str to ndarray
        The gradient of each parameter, of the latest batch.
    latest : Plan or None
        That of the latest batch.
    average : WeightAverage or None
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        seed: int,
        recompute: bool,
        clip_norm: float | None,
        clip_value: float | None,
        average: float | None,
        accumulate: int,
    ) -> None:
        self._model, self._loss, self._optimizer, self._recompute = model, loss, optimizer, recompute
        flat = FlatParameters(model)
        self._values, self._gradient = flat.values, arrays.zeros(flat.values.shape)
        views = flat.views(self._gradient)
        self.by_name = {slot.name: view for slot, view in zip(flat.slots, views, strict=True)}
        self.change = Program([optimizer.attach(self._values, self._gradient, flat.slots)])
        clips: list[Step] = []
        if clip_value is not None:
            clips.append(ClipValue(self._gradient, _checks.above(clip_value, "Trainer", "clip_value")))
        self._norm = (
            None if clip_norm is None else ClipNorm(self._gradient, _checks.above(clip_norm, "Trainer", "clip_norm"))
        )
        if self._norm is not None:
            clips.append(self._norm)
        self._clip = Program(clips) if clips else None
        self._sum = arrays.zeros(self._values.shape) if accumulate > 1 else None
        self._add = None if self._sum is None else Program([Add(self._sum, self._gradient, self._sum)])
        self.average = None if average is None else WeightAverage(model, self._values, average)
        self._position = Position(seed)
        self.plans = PlanCache(MOST_PLANS)
        self.latest: Plan | None = None
        # What a pass changes before its loss is known, and as it was before.
        self._statistics = [(a.copy(), a) for a in running_statistics(model)]

    def plan_for(self, batch: Batch, training: bool) -> Plan:
        """The plan for such batches with the loss, filled with this one."""
        weighted, dtype = batch.weights is not None, batch.targets.dtype
        plan = self.plan((len(batch), *batch.images.shape[1:]), training, True, weighted, dtype)
        take(batch.images, batch.index, plan.x)
        take(batch.targets, batch.index, plan.target.reshape(len(batch), *batch.targets.shape[1:]))
        if batch.weights is not None and plan.sample_weights is not None:
            take(batch.weights, batch.index, plan.sample_weights)
        return plan

    def plan(
        self,
        input_shape: Shape,
        training: bool,
        with_loss: bool,
        weighted: bool = False,
        target_dtype: DTypeLike = np.int64,
    ) -> Plan:
        """The plan for batches of that shape."""

        def make(arena: Arena) -> Plan:
            return Plan(
                self._model,
                input_shape,
                training=training,
                loss=self._loss if with_loss else None,
                gradients=self.by_name,
                position=self._position,
                arena=arena,
                recompute=self._recompute,
                sample_weights=weighted,
                target_dtype=target_dtype,
            )

        return self.plans.get((input_shape, training, with_loss, weighted, target_dtype), make)

    def compute(self, batches: Sequence[Batch], epoch: int) -> NDArray[np.float64]:
        """The mean gradient of some batches, clipped; returns the sum of the losses' results.

        Raises
        ------
        NotFiniteError
            If a loss or the norm is not finite. Whatever is raised, also by Ctrl-C, statistics are as they were.
        """
        for kept, statistic in self._statistics:
            np.copyto(kept, statistic)
        try:
            return self._compute(batches, epoch)
        except BaseException:
            for kept, statistic in self._statistics:
                np.copyto(statistic, kept)
            raise

    def _compute(self, batches: Sequence[Batch], epoch: int) -> NDArray[np.float64]:
        totals = np.zeros(4)
        if self._sum is not None:
            self._sum[...] = 0.0
        for batch in batches:
            plan = self.latest = self.plan_for(batch, True)
            self._position.move(epoch, batch.sample)
            plan.run()
            if not np.isfinite(plan.result[0]):
                raise NotFiniteError(f"the loss is {plan.result[0]}")
            totals += plan.result
            if self._add is not None:  # batches count by the weight of their samples: the last may have less
                np.multiply(self._gradient, np.float32(plan.result[2]), out=self._gradient)
                self._add.run()
        if self._sum is not None:
            np.multiply(self._sum, np.float32(1.0 / totals[2]), out=self._gradient)
        if self._clip is not None:
            self._clip.run()
        if self._norm is not None and not np.isfinite(self._norm.norm):
            raise NotFiniteError(f"the gradient's norm is {self._norm.norm}")
        return totals

    def apply(self) -> None:
        """Change the weights by the gradient that was computed last."""
        self._optimizer.advance()
        self.change.run()
        if self.average is not None:
            self.average.update()
