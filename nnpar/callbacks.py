"""Callbacks: what happens beside training. ``trainer.fit(..., callbacks=[...])`` takes them, and plain functions, which
are called after each epoch with the trainer and its record.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nnpar import _checks, checkpoints
from nnpar._checks import Array
from nnpar.layers.composite import Composite

if TYPE_CHECKING:
    from pathlib import Path

    from nnpar.trainer import Trainer

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "JSONLinesLog"]

Record: TypeAlias = dict[str, float]


class Callback:
    """Base of the callbacks, and of users' own: each method does nothing by itself.

    What a method raises ends `fit`, with the trainer as it is after the last whole step; it can go on.

    Attributes
    ----------
    on_every_rank : bool
        Where several processes train together: whether each of them calls it, since it changes the model, or only
        process 0, which prints, logs and saves.
    """

    on_every_rank = False

    @property
    def acts_on_steps(self) -> bool:
        """Whether `on_step_end` does something."""
        return type(self).on_step_end is not Callback.on_step_end

    def looks_at_step(self, trainer: Trainer) -> bool:
        """Asked after each step, if it acts on steps: whether `on_step_end`, which follows, needs the whole model,
        which processes that divide it put together then.
        """
        return self.acts_on_steps

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each change of the weights."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """After each epoch and its validation: numbers that are put into `record` come into the history."""

    def on_record(self, trainer: Trainer, record: Record) -> None:
        """After that, when the record is in the history."""

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """When `fit` ends by an error, Ctrl-C or SIGTERM, after the last whole step."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch, or when the time is up."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, as JSON can hold it."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""

    def arrays(self) -> dict[str, Array]:
        """What a checkpoint keeps of it besides, as arrays by name."""
        return {}

    def load_arrays(self, arrays: dict[str, Array]) -> None:
        """Go on from what `arrays` gave."""


class _Function(Callback):
    def __init__(self, function: Callable[[Trainer, Record], Any]) -> None:
        self._function = function

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        self._function(trainer, record)


def as_callbacks(callbacks: Iterable[Callback | Callable[[Trainer, Record], Any]]) -> list[Callback]:
    """Functions as callbacks, too.

    Raises
    ------
    TypeError
        If there is something else.
    """
    found: list[Callback] = []
    for callback in callbacks:
        if not isinstance(callback, Callback) and not callable(callback):
            raise TypeError(f"fit: callbacks: expected callbacks and functions, got {type(callback).__name__}")
        found.append(callback if isinstance(callback, Callback) else _Function(callback))
    return found


class _Best:
    """The best value of a record so far: the smallest loss, or the largest of anything else."""

    def __init__(self, monitor: str | None, min_delta: float = 0.0) -> None:
        self.monitor, self.min_delta = monitor, min_delta
        self.value: float | None = None

    def improves(self, record: Record, who: str) -> bool:
        """Whether this record has a better value; it is then the best."""
        name = self.monitor or ("validation_loss" if "validation_loss" in record else "loss")
        if name not in record:
            raise ValueError(f"{who}: monitor: expected one of {', '.join(record)}, got {name!r}")
        value = record[name]
        if math.isnan(value):
            return False
        sign = 1.0 if name.endswith("loss") else -1.0
        better = self.value is None or sign * value < sign * self.value - self.min_delta
        if better:
            self.value = value
        return better


class EarlyStopping(Callback):
    """End training when a value has not become better for some epochs.

    Parameters
    ----------
    monitor : str, optional
        A name in the records, such as ``"validation_accuracy"``. Losses are better if smaller, all else if larger. The
        loss of the validation set by default, or without one of the training set.
    patience : int
        Epochs without a better value before the end.
    min_delta : float
        What is better by less does not count.
    restore_best : bool
        Whether the model gets back the weights and statistics of its best epoch when training ends.

    Attributes
    ----------
    best : float or None
    stopped_epoch : int or None
        The epoch after which training ended early.

    Raises
    ------
    ValueError
        If a number is out of range; in training: if there is no value of that name.

    Examples
    --------
    >>> from nnpar import Flatten, Linear, SGD, Sequential, Trainer, data
    >>> from nnpar.callbacks import EarlyStopping
    >>> train, test = data.digits()
    >>> trainer = Trainer(Sequential(Flatten(), Linear(64, 10)), optimizer=SGD(0.0))  # learns nothing
    >>> history = trainer.fit(train, test, epochs=9, callbacks=[EarlyStopping(patience=2)], progress=False)
    >>> len(history)
    3
    """

    on_every_rank = True

    def __init__(
        self, monitor: str | None = None, patience: int = 5, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        self.patience = _checks.integer(patience, "EarlyStopping", "patience", 1)
        min_delta = _checks.number(min_delta, "EarlyStopping", "min_delta")
        if min_delta < 0.0:
            raise ValueError(f"EarlyStopping: min_delta: expected at least 0, got {min_delta}")
        self.restore_best = bool(restore_best)
        self.stopped_epoch: int | None = None
        self._best = _Best(monitor, min_delta)
        self._waited = 0
        self._weights: dict[str, Array] | None = None

    @property
    def best(self) -> float | None:
        """The best value so far."""
        return self._best.value

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.stopped_epoch is not None:  # another call of `fit`, which goes on
            self._waited, self.stopped_epoch = 0, None
        own = {name: array.shape for name, array in trainer.model.state().items()}
        if self._weights is not None and {name: array.shape for name, array in self._weights.items()} != own:
            raise ValueError("EarlyStopping: the best weights so far are those of another model")
        self._end_if_enough(trainer, trainer.epochs_done)  # what a checkpoint was written after

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        if self._best.improves(record, "EarlyStopping"):
            self._waited = 0
            if self.restore_best:
                self._weights = trainer.model.state_dict()
            return
        self._waited += 1
        self._end_if_enough(trainer, int(record["epoch"]))

    def _end_if_enough(self, trainer: Trainer, epoch: int) -> None:
        if self._waited >= self.patience:
            self.stopped_epoch = epoch
            trainer.stop()

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        return {"best": self._best.value, "waited": self._waited}

    def load_state(self, state: dict[str, Any]) -> None:
        self._best.value = None if state["best"] is None else float(state["best"])
        self._waited = int(state["waited"])

    def arrays(self) -> dict[str, Array]:
        return self._weights or {}

    def load_arrays(self, arrays: dict[str, Array]) -> None:
        self._weights = arrays or None


class Checkpoint(Callback):
    """Save the whole state of training, so that `fit(..., resume=folder)` goes on as if it had never stopped, bit for
    bit.

    Files are replaced as a whole: a process that is killed while it saves loses nothing that was saved before. Ctrl-C
    and SIGTERM save what the last whole step left.

    Parameters
    ----------
    folder : path-like
        Gets ``step-NUMBER.safetensors`` and, with `best`, ``best.safetensors``, a model for :func:`nnpar.load`.
    every_epochs : int, optional
        Save after so many epochs; None for not at all. After the last one it saves in any case.
    every_steps : int, optional
        Save after so many steps, too.
    every_seconds : float, optional
        Save after the step that ends so long after the last time, too.
    keep : int
        How many checkpoints to keep, the latest ones.
    best : bool
        Whether to keep the best model.
    monitor : str, optional
        What is best, see :class:`EarlyStopping`.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> import tempfile
    >>> from nnpar import Flatten, Linear, Sequential, Trainer, data
    >>> from nnpar.callbacks import Checkpoint
    >>> train, test = data.digits()
    >>> with tempfile.TemporaryDirectory() as run:
    ...     for epochs in (1, 3):  # the second time it goes on
    ...         trainer = Trainer(Sequential(Flatten(), Linear(64, 10)))
    ...         history = trainer.fit(train, epochs=epochs, callbacks=[Checkpoint(run)], resume=run, progress=False)
    >>> history["epoch"]
    [1, 2, 3]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 2,
        best: bool = True,
        monitor: str | None = None,
    ) -> None:
        who = "Checkpoint"
        for name, value in (("every_epochs", every_epochs), ("every_steps", every_steps)):
            if value is not None:
                _checks.integer(value, who, name, 1)
        if every_seconds is not None and _checks.number(every_seconds, who, "every_seconds") < 0.0:
            raise ValueError(f"{who}: every_seconds: expected at least 0, got {every_seconds}")
        self.every_epochs, self.every_steps, self.every_seconds = every_epochs, every_steps, every_seconds
        self._folder = checkpoints.Folder(folder, _checks.integer(keep, who, "keep", 1))
        self._best = _Best(monitor) if best else None
        self._saved_at = time.monotonic()
        self._saved_step: int | None = None
        self._due = False

    @property
    def folder(self) -> Path:
        """Where checkpoints are."""
        return self._folder.path

    def _save(self, trainer: Trainer) -> None:
        self._folder.save(trainer)
        self._saved_at, self._saved_step = time.monotonic(), trainer.steps_done

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self._best is not None and not isinstance(trainer.model, Composite):
            raise ValueError("Checkpoint: best: expected a model such as a Sequential, got a single layer")
        if trainer.parallel.divides_layers:
            who = type(trainer.parallel).__name__
            if self._best is not None:
                raise ValueError(f"Checkpoint: best: expected False with {who}, where no process has the whole model")
            if any(isinstance(each, EarlyStopping) and each.restore_best for each in trainer.callbacks):
                raise ValueError(f"EarlyStopping: restore_best: expected False with {who} and a Checkpoint")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._folder.sweep()
        self._saved_at = time.monotonic()

    def looks_at_step(self, trainer: Trainer) -> bool:
        by_steps = self.every_steps is not None and trainer.steps_done % self.every_steps == 0
        elapsed = time.monotonic() - self._saved_at
        self._due = by_steps or (self.every_seconds is not None and elapsed >= self.every_seconds)
        return self._due

    def on_step_end(self, trainer: Trainer) -> None:
        if self._due:
            self._save(trainer)

    def on_record(self, trainer: Trainer, record: Record) -> None:
        if self._best is not None and self._best.improves(record, "Checkpoint"):
            with trainer.validated() as model:
                assert isinstance(model, Composite)
                model.save(self.folder / f"best{checkpoints.SUFFIX}")
        if self.every_epochs is not None and trainer.epochs_done % self.every_epochs == 0:
            self._save(trainer)

    @property
    def acts_on_steps(self) -> bool:
        return self.every_steps is not None or self.every_seconds is not None

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._saved_step != trainer.steps_done:
            self._save(trainer)

    def state(self) -> dict[str, Any]:
        return {"best": None if self._best is None else self._best.value}

    def load_state(self, state: dict[str, Any]) -> None:
        if self._best is not None and state["best"] is not None:
            self._best.value = float(state["best"])


class CSVLog(Callback):
    """One line for each epoch in a CSV file, with a first line of names. A run that goes on adds to what is there.

    Parameters
    ----------
    path : path-like

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nnpar import Flatten, Linear, Sequential, Trainer, data
    >>> from nnpar.callbacks import CSVLog
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = Trainer(Sequential(Flatten(), Linear(64, 10)))
    ...     history = trainer.fit(data.digits()[0], epochs=2, callbacks=[CSVLog(f"{folder}/log.csv")], progress=False)
    ...     lines = Path(folder, "log.csv").read_text().splitlines()
    >>> lines[0]
    'epoch,loss,accuracy,lr,seconds,images_per_second'
    >>> len(lines)
    3
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from pathlib import Path

        self.path = Path(path)

    def on_fit_begin(self, trainer: Trainer) -> None:
        _keep_first(self.path, trainer.epochs_done + 1 if trainer.epochs_done else 0)

    def on_record(self, trainer: Trainer, record: Record) -> None:
        names = list(record)
        if self.path.exists() and self.path.stat().st_size:
            with open(self.path, newline="") as file:
                names = next(csv.reader(file))
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, names, restval="", extrasaction="ignore", lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(record)


class JSONLinesLog(Callback):
    """One JSON object for each epoch, on a line of its own. A run that goes on adds to what is there.

    Parameters
    ----------
    path : path-like

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from nnpar import Flatten, Linear, Sequential, Trainer, data
    >>> from nnpar.callbacks import JSONLinesLog
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = Trainer(Sequential(Flatten(), Linear(64, 10)))
    ...     callbacks = [JSONLinesLog(f"{folder}/log.jsonl")]
    ...     history = trainer.fit(data.digits()[0], epochs=2, callbacks=callbacks, progress=False)
    ...     records = [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]
    >>> [record["epoch"] for record in records]
    [1, 2]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from pathlib import Path

        self.path = Path(path)

    def on_fit_begin(self, trainer: Trainer) -> None:
        _keep_first(self.path, trainer.epochs_done)

    def on_record(self, trainer: Trainer, record: Record) -> None:
        # JSON has no NaN nor infinity.
        finite = {name: value if np.isfinite(value) else None for name, value in record.items()}
        with open(self.path, "a") as file:
            file.write(json.dumps(finite) + "\n")


def _keep_first(path: Path, lines: int) -> None:
    """Cut off what a run wrote after the checkpoint from which it goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        kept = path.read_text().splitlines(keepends=True)[:lines]
        path.write_text("".join(kept))
