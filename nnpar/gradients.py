"""From batches to a change of the weights: gradients, summed over batches and clipped, and the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.elementwise import Add, Position
from nnpar._kernels.optimizer import ClipValue, Scale
from nnpar._kernels.step import Program, Step
from nnpar.batches import take
from nnpar.layers.base import Layer
from nnpar.losses import Loss
from nnpar.optimizers import Optimizer
from nnpar.parallel import Parallel
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
    model, loss, optimizer, seed, recompute, clip_norm, clip_value, average, accumulate, parallel
        See :class:`nnpar.Trainer`.

    Attributes
    ----------
    model, loss, optimizer
        As given.
    recompute : bool
    values, flat : ndarray of shape (size,), float32
        The parameters, and their gradient.
    slots : list of Slot
        Where each parameter's part lies.
    by_name : dict of str to ndarray
        The same as views in the parameters' shapes.
    sum : ndarray of shape (size,), float32
        What `accumulate` adds up.
    position : Position
        Where training stands, for dropout.
    statistics : list of ndarray
        Of the model: a pass changes them before its loss is known.
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
        parallel: Parallel,
    ) -> None:
        self.model, self.loss, self.optimizer, self.recompute = model, loss, optimizer, recompute
        parameters = FlatParameters(model)
        self.values, self.flat, self.slots = parameters.values, arrays.zeros(parameters.values.shape), parameters.slots
        views = parameters.views(self.flat)
        self.by_name = {slot.name: view for slot, view in zip(self.slots, views, strict=True)}
        part = parallel.part(model, self.slots, self.values.size)
        self.change = Program([optimizer.attach(self.values, self.flat, self.slots, part)])
        clips: list[Step] = []
        if clip_value is not None:
            clips.append(ClipValue(self.flat, _checks.above(clip_value, "Trainer", "clip_value")))
        self._norm: Callable[[], float] | None = None
        if clip_norm is not None:
            most = _checks.above(clip_norm, "Trainer", "clip_norm")
            clip, self._norm = parallel.clip(self.flat, self.slots, most)
            clips.append(clip)
        self._clip = Program(clips) if clips else None
        self.sum = arrays.zeros(self.flat.shape if accumulate > 1 else (0,))
        self._scale = Scale(self.flat, self.flat)
        self._add = Add(self.sum, self.flat, self.sum) if accumulate > 1 else None
        self._take_sum = Scale(self.sum, self.flat) if accumulate > 1 else None
        self.average = None if average is None else WeightAverage(model, self.values, part, average)
        self.position = Position(seed)
        self.plans = PlanCache(MOST_PLANS)
        self.latest: Plan | None = None
        self.statistics = running_statistics(model)
        self._kept = [array.copy() for array in self.statistics]
        self._parallel = parallel
        parallel.attach(self)

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
                self.model,
                input_shape,
                training=training,
                loss=self.loss if with_loss else None,
                gradients=self.by_name,
                position=self.position,
                arena=arena,
                recompute=self.recompute,
                sample_weights=weighted,
                target_dtype=target_dtype,
                hooks=self._parallel.hooks(self) if training and with_loss else (),
                together=self._parallel.together(self) if training else None,
            )

        return self.plans.get((input_shape, training, with_loss, weighted, target_dtype), make)

    def compute(self, batches: Sequence[Sequence[Batch]], epoch: int) -> NDArray[np.float64]:
        """The mean gradient of some batches, clipped; returns the sum of the losses' results.

        Parameters
        ----------
        batches : sequence of sequences of Batch
            Of each batch the parts that this process computes.
        epoch : int

        Raises
        ------
        NotFiniteError
            If a loss or the norm is not finite. Whatever is raised, also by Ctrl-C, statistics are as they were.
        """
        for kept, statistic in zip(self._kept, self.statistics, strict=True):
            np.copyto(kept, statistic)
        try:
            totals = self._parallel.compute(self, batches, epoch)
            if not np.isfinite(totals[0]):
                raise NotFiniteError(f"the loss is {totals[0]}")
            if self._clip is not None:
                self._clip.run()
            if self._norm is not None and not np.isfinite(norm := self._norm()):
                raise NotFiniteError(f"the gradient's norm is {norm}")
            return totals
        except BaseException:
            self.restore_statistics()
            raise

    def restore_statistics(self) -> None:
        """As they were before `compute`."""
        for kept, statistic in zip(self._kept, self.statistics, strict=True):
            np.copyto(statistic, kept)

    def backward(self, batch: Batch, epoch: int) -> NDArray[np.float64]:
        """Make `flat` the mean gradient of one batch; returns the loss's result."""
        plan = self.latest = self.plan_for(batch, True)
        self.position.move(epoch, batch.sample)
        plan.run()
        return plan.result

    def accumulate(self, weight: float, first: bool) -> None:
        """Add weight times the gradient to the sum, which begins with the first: batches count by the weight of their
        samples.
        """
        if first:
            self.sum[...] = 0.0
        self._scale.by(weight)
        assert self._add is not None
        self._add()

    def divide(self, weight: float, accumulated: bool = False) -> None:
        """Make what is in `flat`, or else in `sum`, the mean: gradients were added by the weight of their samples."""
        scale = self._take_sum if accumulated else self._scale
        assert scale is not None
        scale.by(1.0 / weight if weight else 0.0)

    def apply(self) -> None:
        """Change the weights by the gradient that was computed last."""
        self.optimizer.advance()
        self.change.run()
        if self.average is not None:
            self.average.update()
