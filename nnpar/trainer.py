"""Training: minibatches through a plan, gradients to an optimizer."""

from __future__ import annotations

import itertools
import math
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, checkpoints, losses, random
from nnpar._checks import Array
from nnpar.batches import Data, as_dataset, in_order, take
from nnpar.callbacks import Callback, Record, as_callbacks
from nnpar.data.dataset import Dataset
from nnpar.data.loader import Loader
from nnpar.feeds import ArrayFeed, Feed, LoaderFeed, Parts
from nnpar.gradients import Batch, Gradients, NotFiniteError
from nnpar.history import History
from nnpar.interrupts import Interrupts
from nnpar.layers.base import Layer, check_values, choosy
from nnpar.losses import Loss, weights
from nnpar.metrics import Metric
from nnpar.metrics import by_name as of_names
from nnpar.optimizers import Adam, Optimizer
from nnpar.parallel import Parallel
from nnpar.plan import Plan
from nnpar.progress import Progress
from nnpar.schedules import Schedule
from nnpar.shapes import Shape

# Of one batch: its first sample, the loss's result, and with metrics the outputs and targets.
Evaluated = tuple[int, NDArray[np.float64], Array | None, NDArray[Any] | None]


GO_ON, STOP = 0, 1  # what a process wants; a larger number is a signal's: SIGINT is 2, SIGTERM 15


@dataclass
class Place:
    """Where a run stands: what has been done of it, in whole steps.

    Attributes
    ----------
    epoch, step : int
        Done, of the run.
    samples : int
        Done of the epoch that has begun.
    totals : ndarray of shape (4,)
        What the losses' results of that epoch add up to.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    totals: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))


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
    accumulate : int
        Batches whose gradients are averaged for one step of the optimizer: as much as a batch so many times as large,
        but for batch normalisation, in the memory of one.
    on_nan : {"raise", "skip"}
        What a loss or a gradient's norm that is not finite does: end training with an error, or leave that step out.
        Either way no weight changes by it.
    metrics : sequence of str or callable
        What `evaluate` and `fit`'s validation compute besides loss and accuracy: names, such as ``"f1"``,
        ``"top5_accuracy"`` or ``"roc_auc"``, or functions of outputs and targets, see :mod:`nnpar.metrics`.
    parallel : Parallel, optional
        Several processes that train together, such as :class:`nnpar.distributed.DataParallel`: all of them run the same
        program. This process alone by default.

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
        accumulate: int = 1,
        on_nan: str = "raise",
        metrics: Sequence[str | Metric] = (),
        parallel: Parallel | None = None,
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
        self._choosy = choosy(model.nodes())
        self.schedule = schedule
        self._base_lr = self.optimizer.lr
        self.accumulate = _checks.integer(accumulate, "Trainer", "accumulate", 1)
        if parallel is not None and not isinstance(parallel, Parallel):
            raise TypeError(f"Trainer: parallel: expected a Parallel, got {type(parallel).__name__}")
        self.parallel = parallel or Parallel()
        self._gradients = Gradients(
            model, self.loss, self.optimizer, self.seed, recompute, clip_norm, clip_value, average, self.accumulate,
            self.parallel,
        )  # fmt: skip
        self._place = Place()
        if on_nan not in ("raise", "skip"):
            raise ValueError(f"Trainer: on_nan: expected 'raise' or 'skip', got {on_nan!r}")
        self.on_nan = on_nan
        self.skipped_steps = 0
        self.metrics = of_names(metrics, "Trainer")
        self._interrupts = Interrupts(together=self.parallel.size > 1)
        self._callbacks: list[Callback] = []
        self._stopping = self._agreed_to_end = self._looks_at_steps = False
        self._fitting: tuple[int, int] | None = None  # samples of an epoch, and of a batch
        self._shapes: tuple[Shape, Shape] | None = None
        self._lock = threading.Lock()

    def fit(
        self,
        train: Data | Loader,
        validation: Data | Loader | None = None,
        epochs: int = 10,
        batch_size: int = 64,
        shuffle: bool = True,
        progress: bool = True,
        callbacks: Sequence[Callback | Callable[[Trainer, Record], Any]] = (),
        validate_every: int = 1,
        max_seconds: float | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some epochs. Called again, it goes on.

        Parameters
        ----------
        train, validation : Dataset, (images, targets), (images, targets, sample weights) or Loader
            The validation set is evaluated after each epoch.
        epochs, batch_size : int
            The last batch of an epoch may be smaller. A loader has a batch size of its own.
        shuffle : bool
            Whether each epoch has an order of its own, which depends on the seed and the epoch alone. A loader knows
            for itself.
        progress : bool
            Whether to show a progress bar: loss, accuracy, images per second, time left.
        callbacks : sequence of Callback or callable
            See :mod:`nnpar.callbacks`. Functions are called after each epoch with the trainer and its record.
        validate_every : int
            Epochs between validations; the last epoch has one in any case.
        max_seconds : float, optional
            Training ends after the step that is being done when this time is up; another call goes on there.
        resume : path-like, optional
            A checkpoint, or the folder of a :class:`nnpar.callbacks.Checkpoint`: training goes on from the latest one,
            in the middle of its epoch, and `epochs` counts those that it has done, too. If there is none yet, it
            begins.

        Returns
        -------
        History
            ``trainer.history``.

        Raises
        ------
        ValueError
            If arguments do not fit the model, or the checkpoint is that of another run; nothing has been trained then.
        FloatingPointError
            If the loss is not finite; the weights are those before that step.
        KeyboardInterrupt, SystemExit
            On Ctrl-C, and on SIGTERM with status 143; the weights are those after the last whole step.
        """
        epochs = _checks.integer(epochs, "fit", "epochs", 1)
        batch_size = _checks.integer(batch_size, "fit", "batch_size", 1)
        feed = self._feed(train, batch_size, shuffle)
        held_out = validation
        if validation is not None and not isinstance(validation, Loader):
            held_out = as_dataset(validation, "fit: validation")
            self._check(held_out, "fit: validation")
        validate_every = _checks.integer(validate_every, "fit", "validate_every", 1)
        end = math.inf if max_seconds is None else time.monotonic() + _checks.number(max_seconds, "fit", "max_seconds")
        self._callbacks = [each for each in as_callbacks(callbacks) if self.parallel.rank == 0 or each.on_every_rank]
        if self._fitting != (len(feed), feed.batch_size):  # another epoch than the one that had begun
            self._fitting, self._place.samples, self._place.totals = (len(feed), feed.batch_size), 0, np.zeros(4)
        last = self._place.epoch + epochs
        if resume is not None:
            last = epochs
            checkpoints.resume(self, resume)
        self._stopping = self._agreed_to_end = False
        with self._interrupts:
            try:
                for callback in self._callbacks:
                    callback.on_fit_begin(self)
                self._looks_at_steps = bool(self.parallel.most(any(each.acts_on_steps for each in self._callbacks)))
                while self._place.epoch < last and not self._stopping:
                    self._one_epoch(feed, held_out, progress, last, validate_every, end)
                with self._interrupts.deferred():
                    self.collect()
                    for callback in self._callbacks:
                        callback.on_fit_end(self)
            except BaseException as error:
                with self._interrupts.deferred():
                    if self._agreed_to_end:
                        self.collect()
                    for callback in self._callbacks:
                        callback.on_exception(self, error)
                if self._agreed_to_end:
                    self.parallel.wait()  # until process 0 has saved
                raise
        return self.history

    def _one_epoch(
        self,
        feed: Feed,
        held_out: Data | Loader | None,
        progress: bool,
        last: int,
        validate_every: int,
        end: float,
    ) -> None:
        """The rest of the epoch that has begun, its validation and its record."""
        shown = progress and self.parallel.rank == 0
        with Progress(f"epoch {self._place.epoch + 1}/{last}", len(feed), shown) as bar:
            started, first = time.perf_counter(), self._place.samples
            bar.update(first, self._means(self._place.totals))
            self._train_epoch(feed, bar, end)
            if self._place.samples < len(feed):
                return
            seconds = max(time.perf_counter() - started, 1e-9)
            self.collect()
            record = self._means(self._place.totals)
            number = self._place.epoch + 1
            if held_out is not None and (number % validate_every == 0 or number == last):
                record |= {f"validation_{key}": value for key, value in self._validate(held_out).items()}
            bar.finish(record, (len(feed) - first) / seconds)
        with self._interrupts.deferred():
            self._place = Place(number, self._place.step)
            if self.schedule is not None:
                self.schedule.after_epoch(record.get("validation_loss", record["loss"]))
            rate = (len(feed) - first) / seconds
            record = {"epoch": number, **record, "lr": self.optimizer.lr, "seconds": seconds, "images_per_second": rate}
            for callback in self._callbacks:
                callback.on_epoch_end(self, record)
            self.history.append(**record)
            for callback in self._callbacks:
                callback.on_record(self, record)
        self._agree()

    def _train_epoch(self, feed: Feed, bar: Progress, end: float) -> None:
        """The steps that the epoch still has, until there is a reason to stop."""
        epoch, group = self._place.epoch, feed.batch_size * self.accumulate
        steps = -(-len(feed) // group)
        batches = feed.batches(epoch, self._place.samples, self.parallel.parts)
        try:
            while self._place.samples < len(feed) and not self._stopping:
                start = self._place.samples
                stop = min(start + group, len(feed))
                if self.schedule is not None:
                    self.optimizer.lr = self.schedule.lr(self._base_lr, epoch * steps + start // group, steps)
                step = self._place.step
                self._step_on(list(itertools.islice(batches, -(-(stop - start) // feed.batch_size))), stop)
                if self._place.step > step:
                    if self._looks_at_steps and self._one_looks():
                        self.collect()
                    for callback in self._callbacks:
                        callback.on_step_end(self)
                bar.update(stop - start, self._means(self._place.totals))
                self._stopping |= time.monotonic() >= end
                self._agree()
        finally:
            batches.close()

    def _one_looks(self) -> bool:
        """Whether a callback of a process needs the whole model after this step."""
        return bool(self.parallel.most(any([each.looks_at_step(self) for each in self._callbacks])))

    def _agree(self) -> None:
        """All processes stop, or end by a signal, if one does."""
        agreed = self.parallel.most(self._interrupts.pending or (STOP if self._stopping else GO_ON))
        self._stopping = agreed != GO_ON
        if agreed not in (GO_ON, STOP):
            self._agreed_to_end = True
            self._interrupts.raise_for(agreed)

    def _feed(self, train: Data | Loader, batch_size: int, shuffle: bool) -> Feed:
        if isinstance(train, Loader):
            return LoaderFeed(train, self.seed, self._check_target)
        data = as_dataset(train, "fit: train")
        self._check(data, "fit: train")
        return ArrayFeed(data, batch_size, shuffle, self.seed)

    def _check_target(self, targets: Any, input_shape: Shape) -> NDArray[Any]:
        """Targets of a batch of a loader, as the loss wants them."""
        return self.loss.check_target(targets, self._output_shape(input_shape), "loader")

    def stop(self) -> None:
        """End `fit` after the step that is being done, or in a callback after an epoch."""
        self._stopping = True

    @property
    def epochs_done(self) -> int:
        """Whole epochs of all calls of `fit`."""
        return self._place.epoch

    @property
    def steps_done(self) -> int:
        """Changes of the weights."""
        return self._place.step

    def state_arrays(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps of the model, the optimizer and the average: the arrays themselves."""
        found: dict[str, NDArray[Any]] = {f"model/{name}": array for name, array in self.model.state().items()}
        found |= {f"optimizer/{name}": array for name, array in self.optimizer.state.items()}
        return found | {f"average/{number}": array for number, array in enumerate(self.averages)}

    def collect(self) -> None:
        """All processes together: see :meth:`nnpar.parallel.Parallel.collect`."""
        self.parallel.collect(self._gradients)

    @property
    def averages(self) -> list[Array]:
        """The arrays of the moving average, if there is one."""
        return [] if self._gradients.average is None else self._gradients.average.averages

    def run_state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides arrays, as JSON can hold it."""
        place, (samples, batch_size) = self._place, self._fitting or (None, None)
        return {
            "optimizer": type(self.optimizer).__name__,
            "schedule": None if self.schedule is None else type(self.schedule).__name__,
            "averaged": self._gradients.average is not None,
            "seed": self.seed,
            "samples_per_epoch": samples,
            "batch_size": batch_size,
            "accumulate": self.accumulate,
            "epoch": place.epoch,
            "step": place.step,
            "samples": place.samples,
            "totals": place.totals.tolist(),
            "skipped_steps": self.skipped_steps,
            "lr": self.optimizer.lr,
            "base_lr": self._base_lr,
            "optimizer_steps": self.optimizer.steps_done,
            "schedule_state": {} if self.schedule is None else self.schedule.state(),
            "history": self.history.epochs,
            "callbacks": [[type(callback).__name__, callback.state()] for callback in self._callbacks],
        }

    @property
    def callbacks(self) -> list[Callback]:
        """Those of the call of `fit` that runs."""
        return self._callbacks

    def callback_arrays(self) -> dict[str, Array]:
        """What a checkpoint keeps of callbacks: arrays by "NUMBER/NAME"."""
        return {
            f"{number}/{name}": array
            for number, callback in enumerate(self._callbacks)
            for name, array in callback.arrays().items()
        }

    def load_run(self, state: dict[str, Any], callback_arrays: Mapping[str, Array]) -> None:
        """Go on from what `run_state` and `callback_arrays` gave; callbacks of the same names get theirs."""
        place = Place(int(state["epoch"]), int(state["step"]), int(state["samples"]), np.array(state["totals"], float))
        history = History(state["history"])
        if place.totals.shape != (4,) or min(place.epoch, place.step, place.samples) < 0:
            raise ValueError("expected a place in a run, got none")
        lr, base_lr, optimizer_steps = float(state["lr"]), float(state["base_lr"]), int(state["optimizer_steps"])
        skipped = int(state["skipped_steps"])
        given = [(number, name, kept) for number, (name, kept) in enumerate(state["callbacks"])]
        if self.schedule is not None:
            self.schedule.load_state(state["schedule_state"])
        for callback in self._callbacks:
            own = next((each for each in given if each[1] == type(callback).__name__), None)
            if own is not None:
                given.remove(own)
                callback.load_state(own[2])
                prefix = f"{own[0]}/"
                callback.load_arrays(
                    {name[len(prefix) :]: array for name, array in callback_arrays.items() if name.startswith(prefix)}
                )
        self.optimizer.lr, self._base_lr, self.optimizer.steps_done = lr, base_lr, optimizer_steps
        self.history._epochs, self._place, self.skipped_steps = history.epochs, place, skipped
        if self._gradients.average is not None:
            self._gradients.average.begin(place.step > 0)

    def _means(self, totals: NDArray[np.float64]) -> dict[str, float]:
        """Of what a loss's `result` sums up; NaN if nothing counts."""
        loss_sum, correct, total_weight, counted = totals.tolist()
        means = {"loss": loss_sum / total_weight if total_weight else math.nan}
        if self.loss.counts_correct:
            means["accuracy"] = correct / counted if counted else math.nan
        return means

    def train_step(self, x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """One step on one batch: forward, loss, backward, update. With `parallel`, all processes give the whole batch,
        of which each computes its part.

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
        parts = [
            Batch(
                images[part],
                target[part],
                None if of_samples is None else of_samples[part],
                None,
                self._place.step + part.start,
            )
            for part in self.parallel.parts(0, len(images))
        ]
        return self._means(self._step_on([parts], None))["loss"]

    def _step_on(self, batches: Sequence[Sequence[Batch]], samples: int | None) -> NDArray[np.float64]:
        """One change of the weights by some batches, after which `samples` of the epoch are done; returns the sum of
        the losses' results. Nothing as large as a batch is allocated after the first one.
        """
        with self._lock:
            try:
                totals, stepped = self._gradients.compute(batches, self._place.epoch), True
            except NotFiniteError as error:
                if self.on_nan == "raise":
                    raise self._not_finite(error) from None
                totals, stepped = np.zeros(4), False
            with self._interrupts.deferred():
                if stepped:
                    self._gradients.apply()
                else:
                    self.skipped_steps += 1
                place = self._place
                self._place = Place(
                    place.epoch,
                    place.step + stepped,
                    place.samples if samples is None else samples,
                    place.totals if samples is None else place.totals + totals,
                )
        return totals

    def _not_finite(self, error: NotFiniteError) -> FloatingPointError:
        return FloatingPointError(
            f"{error} at step {self._place.step + 1} (epoch {self._place.epoch + 1}); the weights are those before it. "
            "Is there a NaN in the data, or is the learning rate too high?"
        )

    @contextmanager
    def averaged(self) -> Iterator[Layer]:
        """``with trainer.averaged() as model:`` the model has the averaged weights and statistics, to be evaluated or
        saved; afterwards its own again.

        Raises
        ------
        ValueError
            If the trainer keeps no average, or has taken no step yet.
        """
        if self._gradients.average is None:
            raise ValueError("averaged: expected a trainer with an average, such as Trainer(model, average=0.999)")
        if self._place.step == 0:
            raise ValueError("averaged: expected a training step before")
        with self._gradients.average.in_place():
            yield self.model

    @contextmanager
    def validated(self) -> Iterator[Layer]:
        """The model as `fit` validates it: with the averaged weights, if there are some."""
        if self._gradients.average is None:
            yield self.model
            return
        with self.averaged() as model:
            yield model

    def _validate(self, data: Data | Loader) -> dict[str, float]:
        with self.validated():
            return self.evaluate(data)

    @property
    def plan(self) -> Plan:
        """The plan of the latest training step. Printed, it shows each step, its work and its share of the time.

        Raises
        ------
        RuntimeError
            Before the first step.
        """
        if self._gradients.latest is None:
            raise RuntimeError("plan: expected a training step before; there is a plan for each shape of a batch")
        return self._gradients.latest

    def evaluate(self, data: Data | Loader, batch_size: int = 256) -> dict[str, float]:
        """Mean loss and, for cross-entropy, accuracy on a data set.

        Parameters
        ----------
        data : Dataset, (images, targets), (images, targets, sample weights) or Loader
        batch_size : int
            It does not change the result but for rounding of the sum. A loader has one of its own.

        Returns
        -------
        dict
            ``loss``, for losses that know what is correct ``accuracy``, and the trainer's metrics.

        Raises
        ------
        ValueError
            If the data do not fit the model.
        """
        batch_size = _checks.integer(batch_size, "evaluate", "batch_size", 1)
        totals = np.zeros(4)
        self.collect()
        rank, size = self.parallel.replica, self.parallel.replicas
        own: list[Evaluated] = []
        for batch in self._in_order(data, batch_size, lambda number, count: [slice(0, count)][: number % size == rank]):
            with self._lock:
                plan = self._gradients.plan_for(batch, False)
                plan.run()
                y = np.array(plan.y) if self.metrics else None
            wanted = batch.targets if batch.index is None else batch.targets[batch.index]
            own.append((batch.sample, plan.result.copy(), y, wanted if self.metrics else None))
        # In the batches' order, so that the number of processes does not change how sums are rounded.
        every = itertools.chain.from_iterable(self.parallel.gather_replicas(own))
        evaluated = sorted(every, key=operator.itemgetter(0))
        for _, part, _, _ in evaluated:
            totals += part
        result = self._means(totals)
        if self.metrics:
            y, wanted = (np.concatenate([each[k] for each in evaluated]) for k in (2, 3))
            result |= {name: float(metric(y, wanted)) for name, metric in self.metrics.items()}
        return result

    def _in_order(self, data: Data | Loader, batch_size: int, parts: Parts) -> Iterator[Batch]:
        """Batches, those of a loader as an epoch has them; the parts of each that are wanted."""
        feed: Feed
        if isinstance(data, Loader):
            feed = LoaderFeed(data, self.seed, self._check_target)
        else:
            samples = as_dataset(data, "evaluate: data")
            self._check(samples, "evaluate: data")
            feed = ArrayFeed(samples, batch_size, False, self.seed)
        return itertools.chain.from_iterable(feed.batches(0, 0, parts))

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
            for index in in_order(len(images), batch_size):
                plan = self._gradients.plan((len(index), *images.shape[1:]), False, False)
                take(images, index, plan.x)
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
