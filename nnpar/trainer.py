"""Training: minibatches through a plan, gradients to an optimizer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, arrays, losses, random
from nnpar._checks import Array
from nnpar._kernels.elementwise import Position
from nnpar._kernels.optimizer import ClipNorm, ClipValue
from nnpar._kernels.step import Program, Step
from nnpar.data.dataset import Dataset
from nnpar.history import History
from nnpar.layers.base import Layer, check_values, choosy
from nnpar.losses import Loss, weights
from nnpar.optimizers import Adam, Optimizer
from nnpar.parameters import FlatParameters
from nnpar.plan import Arena, Plan, PlanCache
from nnpar.progress import Progress
from nnpar.schedules import Schedule
from nnpar.shapes import Shape
from nnpar.weight_average import WeightAverage, running_statistics

Data = Dataset | tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]

MOST_PLANS = 8


class Trainer:
    """Trains a model, and evaluates it.

    Parameters
    ----------
    model : Layer
        Usually a Sequential. Its parameters are moved into one buffer, and changed in place.
    loss : str or Loss
        ``"cross_entropy"`` (targets: class numbers), ``"bce_with_logits"``, ``"mse"``, ``"l1"``, ``"huber"``,
        ``"kl_div"``, or one with its arguments, from :mod:`nnpar.losses`.
    optimizer : Optimizer, optional
        ``Adam()`` by default; one for each trainer.
    seed : int, optional
        Of shuffling and dropout; the one of :func:`nnpar.manual_seed` by default.
    recompute : bool
        Whether the backward pass computes some activations again instead of keeping them: half the memory or less where
        there is a way, the same bits, and a few percent more time, which ``print(trainer.plan)`` shows.
    schedule : Schedule, optional
        Sets the optimizer's learning rate before each step of `fit`.
    clip_norm : float, optional
        Gradients whose Euclidean norm, of all together, is larger are scaled down to it: Pascanu, Mikolov, Bengio,
        arXiv:1211.5063. A norm that is not finite is an error, and changes no weight.
    clip_value : float, optional
        Each element of the gradients is limited to this size, before the norm is taken.
    average : float, optional
        Decay, such as 0.999, of a moving average of the weights and running statistics, taken after each step. `fit`
        validates with it; ``with trainer.averaged():`` puts it into the model.

    Attributes
    ----------
    history : History
        One record for each epoch of all calls of ``fit``.

    Examples
    --------
    >>> from nnpar import Adam, Flatten, Linear, Sequential, Trainer, data
    >>> train, test = data.digits()
    >>> trainer = Trainer(Sequential(Flatten(), Linear(64, 10)), optimizer=Adam(1e-2))
    >>> history = trainer.fit(train, validation=test, epochs=3, progress=False)
    >>> trainer.evaluate(test)["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        model: Layer,
        loss: str | Loss = "cross_entropy",
        optimizer: Optimizer | None = None,
        seed: int | None = None,
        recompute: bool = False,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        average: float | None = None,
    ) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"Trainer: model: expected a layer, got {type(model).__name__}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer: optimizer: expected an Optimizer, got {type(optimizer).__name__}")
        if schedule is not None and not isinstance(schedule, Schedule):
            raise TypeError(f"Trainer: schedule: expected a Schedule, got {type(schedule).__name__}")
        if not model.parameters():
            raise ValueError("Trainer: model: expected parameters to train, got a model without any")
        self.model = model
        self.loss = losses.get(loss)
        self.optimizer = optimizer or Adam()
        self.seed = random.get_seed() if seed is None else random.checked_seed(seed, "Trainer")
        self.recompute = recompute
        self.history = History()
        nodes = model.nodes()
        self._choosy = choosy(nodes)
        self._flat = FlatParameters(model)
        self._gradients = arrays.zeros(self._flat.values.shape)
        views = self._flat.views(self._gradients)
        self._views = {slot.name: view for slot, view in zip(self._flat.slots, views, strict=True)}
        self.schedule = schedule
        self._base_lr = self.optimizer.lr
        self._update = Program([self.optimizer.attach(self._flat.values, self._gradients, self._flat.slots)])
        clips: list[Step] = []
        if clip_value is not None:
            clips.append(ClipValue(self._gradients, _above(clip_value, "clip_value")))
        self._norm = None if clip_norm is None else ClipNorm(self._gradients, _above(clip_norm, "clip_norm"))
        if self._norm is not None:
            clips.append(self._norm)
        self._clip = Program(clips) if clips else None
        self._average = None if average is None else WeightAverage(model, self._flat.values, average)
        self._position = Position(self.seed)
        self._epoch = 0
        self._step = 0
        self._plans = PlanCache(MOST_PLANS)
        self._latest: Plan | None = None
        self._shapes: tuple[Shape, Shape] | None = None
        # What a step changes before its loss is known, and as it was before the step.
        self._statistics = [(a.copy(), a) for a in running_statistics(model)]
        self._lock = threading.Lock()

    def fit(
        self,
        train: Data,
        validation: Data | None = None,
        epochs: int = 10,
        batch_size: int = 64,
        shuffle: bool = True,
        progress: bool = True,
    ) -> History:
        """Train for some epochs. Called again, it goes on.

        Parameters
        ----------
        train, validation : Dataset, (images, targets) or (images, targets, sample weights)
            The validation set is evaluated after each epoch.
        epochs, batch_size : int
            The last batch of an epoch may be smaller.
        shuffle : bool
            Whether each epoch has an order of its own, which depends on the seed and the epoch alone.
        progress : bool
            Whether to show a progress bar: loss, accuracy, images per second, time left.

        Returns
        -------
        History
            ``trainer.history``.

        Raises
        ------
        ValueError
            If arguments do not fit the model; nothing has been trained then.
        FloatingPointError
            If the loss is not finite; the weights are those before that step.
        KeyboardInterrupt
            On Ctrl-C; the weights are those after the last whole step.
        """
        data = _dataset(train, "fit: train")
        held_out = None if validation is None else _dataset(validation, "fit: validation")
        epochs = _checks.integer(epochs, "fit", "epochs", 1)
        batch_size = min(_checks.integer(batch_size, "fit", "batch_size", 1), len(data))
        self._check(data, "fit: train")
        if held_out is not None:
            self._check(held_out, "fit: validation")
        last = self._epoch + epochs
        for _ in range(epochs):
            with Progress(f"epoch {self._epoch + 1}/{last}", len(data), progress) as bar:
                started = time.perf_counter()
                record = self._train_epoch(data, batch_size, shuffle, bar)
                seconds = time.perf_counter() - started
                if held_out is not None:
                    record |= {f"validation_{key}": value for key, value in self._validate(held_out).items()}
                bar.finish(record, len(data) / seconds)
            self._epoch += 1
            if self.schedule is not None:
                self.schedule.after_epoch(record.get("validation_loss", record["loss"]))
            self.history.append(
                epoch=self._epoch,
                **record,
                lr=self.optimizer.lr,
                seconds=seconds,
                images_per_second=len(data) / seconds,
            )
        return self.history

    def _train_epoch(self, data: Dataset, batch_size: int, shuffle: bool, bar: Progress) -> dict[str, float]:
        order = random.permutation(len(data), self.seed, self._epoch) if shuffle else np.arange(len(data))
        totals = np.zeros(4)
        steps = -(-len(data) // batch_size)
        for number, start in enumerate(range(0, len(data), batch_size)):
            index = order[start : start + batch_size]
            if self.schedule is not None:
                self.optimizer.lr = self.schedule.lr(self._base_lr, self._epoch * steps + number, steps)
            totals += self._step_on(data.images, data.labels, data.weights, index, start)
            bar.update(len(index), self._means(totals))
        return self._means(totals)

    def _means(self, totals: NDArray[np.float64]) -> dict[str, float]:
        """Of what a loss's `result` sums up; NaN if nothing counts."""
        loss_sum, correct, total_weight, counted = totals.tolist()
        means = {"loss": loss_sum / total_weight if total_weight else math.nan}
        if self.loss.counts_correct:
            means["accuracy"] = correct / counted if counted else math.nan
        return means

    def train_step(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """One step on one batch: forward, loss, backward, update.

        Parameters
        ----------
        x : array_like of shape (N, C, H, W) or (N, F)
        y : array_like
            Targets, as the loss wants them.
        sample_weight : array_like of shape (N,), optional
            How much each sample counts: its loss and gradient are multiplied by it, and the mean is over their sum.

        Returns
        -------
        float
            Mean loss of the batch, before the update.

        Raises
        ------
        ValueError
            If the batch does not fit the model or is empty, or there is a schedule, which counts the epochs of `fit`.
        FloatingPointError
            If the loss is not finite; the weights are then unchanged.
        """
        if self.schedule is not None:
            raise ValueError("train_step: expected a trainer without a schedule, which counts the epochs of fit")
        images = _checks.batch(x, "train_step", "x")
        if len(images) == 0:
            raise ValueError("train_step: x: expected at least one sample, got an empty batch")
        check_values(self._choosy, [images])
        target = self.loss.check_target(y, self._output_shape(images.shape), "train_step")
        of_samples = None
        if sample_weight is not None:
            of_samples = weights(sample_weight, images.shape[:1], "train_step", "sample_weight")
        return self._means(self._step_on(images, target, of_samples, None, self._step))["loss"]

    def _step_on(
        self,
        images: Array,
        targets: NDArray[Any],
        sample_weights: Array | None,
        index: NDArray[np.int64] | None,
        sample: int,
    ) -> NDArray[np.float64]:
        """One step on the samples that `index` picks, or all; returns the loss's `result`. Nothing as large as a batch
        is allocated after the first one.
        """
        count = len(images) if index is None else len(index)
        with self._lock:
            plan = self._plan((count, *images.shape[1:]), True, True, sample_weights is not None)
            self._latest = plan
            _take(images, index, plan.x)
            _take(targets, index, plan.target.reshape(count, *targets.shape[1:]))
            if sample_weights is not None and plan.sample_weights is not None:
                _take(sample_weights, index, plan.sample_weights)
            self._position.move(self._epoch, sample)
            for kept, statistic in self._statistics:
                np.copyto(kept, statistic)
            try:
                plan.run()
                if self._clip is not None:
                    self._clip.run()
            except BaseException:  # Ctrl-C
                self._restore_statistics()
                raise
            if not np.isfinite(plan.result[0]):
                self._restore_statistics()
                raise self._not_finite("loss", self._means(plan.result)["loss"])
            if self._norm is not None and not np.isfinite(self._norm.norm):
                self._restore_statistics()
                raise self._not_finite("gradient's norm", self._norm.norm)
            self.optimizer.advance()
            self._step += 1
            self._update.run()  # it answers Ctrl-C when it is done
            if self._average is not None:
                self._average.update()
            return plan.result

    def _not_finite(self, what: str, value: float) -> FloatingPointError:
        return FloatingPointError(
            f"the {what} is {value} at step {self._step + 1} (epoch {self._epoch + 1}); the weights are those before "
            "it. Is there a NaN in the data, or is the learning rate too high?"
        )

    def _restore_statistics(self) -> None:
        for kept, statistic in self._statistics:
            np.copyto(statistic, kept)

    @contextmanager
    def averaged(self) -> Iterator[Layer]:
        """``with trainer.averaged() as model:`` the model has the averaged weights and statistics, to be evaluated or
        saved; afterwards its own again.

        Raises
        ------
        ValueError
            If the trainer keeps no average, or has taken no step yet.
        """
        if self._average is None:
            raise ValueError("averaged: expected a trainer with an average, such as Trainer(model, average=0.999)")
        if self._step == 0:
            raise ValueError("averaged: expected a training step before")
        with self._average.in_place():
            yield self.model

    def _validate(self, data: Dataset) -> dict[str, float]:
        if self._average is None:
            return self.evaluate(data)
        with self.averaged():
            return self.evaluate(data)

    @property
    def plan(self) -> Plan:
        """The plan of the latest training step. Printed, it shows each step, its work and its share of the time.

        Raises
        ------
        RuntimeError
            Before the first step.
        """
        if self._latest is None:
            raise RuntimeError("plan: expected a training step before; there is a plan for each shape of a batch")
        return self._latest

    def evaluate(self, data: Data, batch_size: int = 256) -> dict[str, float]:
        """Mean loss and, for cross-entropy, accuracy on a data set.

        Parameters
        ----------
        data : Dataset, (images, targets) or (images, targets, sample weights)
        batch_size : int
            It does not change the result but for rounding of the sum.

        Returns
        -------
        dict
            ``loss`` and, for losses that know what is correct, ``accuracy``.

        Raises
        ------
        ValueError
            If the data do not fit the model.
        """
        samples = _dataset(data, "evaluate: data")
        self._check(samples, "evaluate: data")
        batch_size = _checks.integer(batch_size, "evaluate", "batch_size", 1)
        totals, weighted = np.zeros(4), samples.weights is not None
        with self._lock:
            for index in _batches(len(samples), batch_size):
                plan = self._plan((len(index), *samples.images.shape[1:]), False, True, weighted)
                _take(samples.images, index, plan.x)
                plan.target[...] = samples.labels[index].reshape(plan.target.shape)
                if samples.weights is not None and plan.sample_weights is not None:
                    _take(samples.weights, index, plan.sample_weights)
                plan.run()
                totals += plan.result
        return self._means(totals)

    def predict(self, x: ArrayLike, batch_size: int = 256) -> Array:
        """Outputs of the model, for classes their logits.

        Parameters
        ----------
        x : array_like of shape (N, C, H, W) or (N, F)
        batch_size : int

        Returns
        -------
        ndarray of shape (N, ...), float32

        Raises
        ------
        ValueError
            If x does not fit the model.
        """
        images = _checks.batch(x, "predict", "x")
        batch_size = _checks.integer(batch_size, "predict", "batch_size", 1)
        check_values(self._choosy, [images])
        out = np.empty(self.model.output_shape(images.shape), np.float32)
        with self._lock:
            for index in _batches(len(images), batch_size):
                plan = self._plan((len(index), *images.shape[1:]), False, False)
                _take(images, index, plan.x)
                plan.run()
                out[index] = plan.y
        return out

    def _check(self, data: Dataset, who: str) -> None:
        """The whole set fits the model and the loss."""
        check_values(self._choosy, [data.images])
        self.loss.check_target(data.labels, self.model.output_shape(data.images.shape), who)

    def _output_shape(self, input_shape: Shape) -> Shape:
        """Of the model, which takes as long to ask as a layer of a small one takes to run: so the last is kept."""
        shapes = self._shapes
        if shapes is None or shapes[0] != input_shape:
            shapes = self._shapes = (input_shape, self.model.output_shape(input_shape))
        return shapes[1]

    def _plan(self, input_shape: Shape, training: bool, with_loss: bool, weighted: bool = False) -> Plan:
        def make(arena: Arena) -> Plan:
            return Plan(
                self.model,
                input_shape,
                training=training,
                loss=self.loss if with_loss else None,
                gradients=self._views,
                position=self._position,
                arena=arena,
                recompute=self.recompute,
                sample_weights=weighted,
            )

        return self._plans.get((input_shape, training, with_loss, weighted), make)


def _above(value: float, name: str) -> float:
    number = _checks.number(value, "Trainer", name)
    if number <= 0.0:
        raise ValueError(f"Trainer: {name}: expected a number above 0, got {number}")
    return number


def _dataset(data: Data, who: str) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise TypeError(
            f"{who}: expected a Dataset, (images, targets) or (images, targets, weights), got {type(data).__name__}"
        )
    weights_of_samples = np.asarray(data[2]) if len(data) == 3 else None
    return Dataset(np.asarray(data[0]), np.asarray(data[1]), who, weights=weights_of_samples)


def _batches(count: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, batch_size):
        yield np.arange(start, min(start + batch_size, count))


def _take(values: NDArray[Any], index: NDArray[np.int64] | None, out: NDArray[Any]) -> None:
    """Out = values[index], or all values: straight into the plan's memory where both have one layout."""
    if values.ndim == 4:
        values, out = values.transpose(0, 2, 3, 1), out.transpose(0, 2, 3, 1)
    if index is None:
        np.copyto(out, values)
    elif values.dtype == out.dtype and values.flags.c_contiguous and out.flags.c_contiguous:
        np.take(values, index, axis=0, out=out, mode="clip")  # the default mode makes a copy more
    else:
        out[...] = values[index]
