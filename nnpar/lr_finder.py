"""Which learning rate: a range test (L. Smith, "Cyclical learning rates for training neural networks", WACV 2017)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnpar import _checks
from nnpar.data.loader import Loader
from nnpar.layers import Layer
from nnpar.losses import Loss
from nnpar.optimizers import Adam, Optimizer
from nnpar.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.9  # of a loss's moving average
DIVERGED = 4.0  # times the least loss


@dataclass(frozen=True)
class LRRange:
    """What `find_lr` found.

    Attributes
    ----------
    lrs : list of float
    losses : list of float
        Of the step with each, averaged over the steps before it.
    suggestion : float
        A tenth of the learning rate with the least loss.
    """

    lrs: list[float]
    losses: list[float]
    suggestion: float

    def plot(self) -> Figure:
        """Draw the losses over the learning rates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        from nnpar.plots import figures

        figure = figures.empty(4.6, 3.0)
        axes = figure.subplots()
        figures.style(axes, f"suggested: {self.suggestion:.2g}", "learning rate", "loss, smoothed")
        axes.set_xscale("log")
        axes.plot(self.lrs, self.losses, color=figures.COLOURS[0])
        axes.axvline(self.suggestion, color=figures.COLOURS[1], linestyle="--")
        return figure


def find_lr(
    model: Layer,
    train: Any,
    loss: str | Loss = "cross_entropy",
    optimizer: Optimizer | None = None,
    batch_size: int = 64,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
) -> LRRange:
    """Train a copy of the model with learning rates that grow from step to step, until the loss does.

    Parameters
    ----------
    model : Layer
        It stays as it is.
    train : Dataset, (images, targets), (images, targets, sample weights) or Loader
        Begun again as often as needed. A loader has a batch size of its own.
    loss : str or Loss
    optimizer : Optimizer, optional
        Adam by default. It stays as it is.
    batch_size : int
    low, high : float
        The first and the last learning rate; from step to step it is multiplied by the same number.
    steps : int

    Returns
    -------
    LRRange

    Raises
    ------
    ValueError
        If arguments are out of range, the data do not fit the model, or the loss is not finite from the first step on.

    Examples
    --------
    >>> from nnpar import data, zoo
    >>> from nnpar.lr_finder import find_lr
    >>> found = find_lr(zoo.digits_cnn(), data.digits()[0])
    >>> 1e-4 < found.suggestion < 1e-1
    True
    """
    low, high = _checks.number(low, "find_lr", "low"), _checks.number(high, "find_lr", "high")
    if not 0 < low < high:
        raise ValueError(f"find_lr: expected 0 < low < high, got {low} and {high}")
    steps = _checks.integer(steps, "find_lr", "steps", 10)
    trainer = Trainer(copy.deepcopy(model), loss, copy.deepcopy(optimizer) if optimizer is not None else Adam())
    loader = train if isinstance(train, Loader) else Loader(train, batch_size)
    lrs: list[float] = []
    losses: list[float] = []
    mean, epoch = 0.0, 0
    while True:
        for batch in loader.batches(trainer.seed, epoch):
            trainer.optimizer.lr = low * (high / low) ** (len(lrs) / (steps - 1))
            try:
                value = trainer.train_step(batch.images, batch.labels, batch.weights)
            except FloatingPointError:
                value = math.inf
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            smooth = mean / (1 - SMOOTHING ** (len(lrs) + 1))
            if not math.isfinite(smooth) or (losses and smooth > DIVERGED * min(losses)):
                return _found(lrs, losses)
            lrs.append(trainer.optimizer.lr)
            losses.append(smooth)
            if len(lrs) == steps:
                return _found(lrs, losses)
        epoch += 1


def _found(lrs: list[float], losses: list[float]) -> LRRange:
    if not losses:
        raise ValueError("find_lr: expected a finite loss in the first step; is there a NaN in the data?")
    return LRRange(lrs, losses, lrs[losses.index(min(losses))] / 10)
