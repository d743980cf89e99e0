"""Schedules: the learning rate of each step. Names, arguments and values are PyTorch's; times are counted in epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnpar import _checks

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LinearWarmup",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
]


class Schedule:
    """Base of the schedules, and of users' own: ``Trainer(schedule=...)`` asks before each step of `fit`."""

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        """The learning rate.

        Parameters
        ----------
        base : float
            The optimizer's, as it was given to the trainer.
        step : int
            From 0, over all epochs.
        steps_per_epoch : int

        Returns
        -------
        float
        """
        raise NotImplementedError

    def after_epoch(self, loss: float) -> None:
        """Told after each epoch: the loss of the validation set, or without one of the training set."""

    def state(self) -> dict[str, float]:
        """What it has learnt since it began, for a checkpoint: numbers by name."""
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from what `state` gave."""


class StepLR(Schedule):
    """``base * gamma ** (epoch // step_size)``.

    Parameters
    ----------
    step_size : int
        Epochs.
    gamma : float

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from nnpar.schedules import StepLR
    >>> [round(StepLR(2, gamma=0.5).lr(0.4, step, 10), 3) for step in (0, 19, 20, 40)]
    [0.4, 0.4, 0.2, 0.1]
    """

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = _checks.integer(step_size, "StepLR", "step_size", 1)
        self.gamma = _checks.above(gamma, "StepLR", "gamma")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        return base * self.gamma ** (step // steps_per_epoch // self.step_size)


class MultiStepLR(Schedule):
    """``base`` times gamma for each milestone that has been reached.

    Parameters
    ----------
    milestones : sequence of int
        Epochs.
    gamma : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = [_checks.integer(epoch, "MultiStepLR", "milestones", 0) for epoch in milestones]
        self.gamma = _checks.above(gamma, "MultiStepLR", "gamma")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        return base * self.gamma ** sum(step // steps_per_epoch >= epoch for epoch in self.milestones)


class ExponentialLR(Schedule):
    """``base * gamma ** epoch``.

    Parameters
    ----------
    gamma : float

    Raises
    ------
    ValueError
        If it is not above 0.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = _checks.above(gamma, "ExponentialLR", "gamma")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        return float(base * self.gamma ** (step // steps_per_epoch))


class CosineAnnealingLR(Schedule):
    """Half a cosine from ``base`` to ``eta_min``, by steps, and ``eta_min`` from then on: Loshchilov, Hutter,
    arXiv:1608.03983. At the beginning of each epoch it is PyTorch's value.

    Parameters
    ----------
    T_max : int
        Epochs.
    eta_min : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(self, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = _checks.integer(T_max, "CosineAnnealingLR", "T_max", 1)
        self.eta_min = _at_least(eta_min, "CosineAnnealingLR", "eta_min")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        return _cosine(base, self.eta_min, min(1.0, step / (self.T_max * steps_per_epoch)))


class LinearWarmup(Schedule):
    """From ``start_factor * base`` up to ``base`` in a straight line, then another schedule from its beginning.

    Parameters
    ----------
    epochs : float
        Of the warm-up.
    then : Schedule, optional
        ``base`` stays without one.
    start_factor : float
        From 0 to 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from nnpar.schedules import CosineAnnealingLR, LinearWarmup
    >>> schedule = LinearWarmup(2, CosineAnnealingLR(10))
    >>> [round(schedule.lr(0.4, step, 100), 3) for step in (0, 100, 200, 700, 1200)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
    """

    def __init__(self, epochs: float, then: Schedule | None = None, start_factor: float = 0.0) -> None:
        who = "LinearWarmup"
        self.epochs = _checks.above(epochs, who, "epochs")
        if then is not None and not isinstance(then, Schedule):
            raise TypeError(f"{who}: then: expected a Schedule, got {type(then).__name__}")
        self.then = then
        self.start_factor = _at_least(start_factor, who, "start_factor")
        if self.start_factor > 1.0:
            raise ValueError(f"{who}: start_factor: expected at most 1, got {self.start_factor}")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        steps = max(1, round(self.epochs * steps_per_epoch))
        if step < steps:
            return base * (self.start_factor + (1.0 - self.start_factor) * step / steps)
        return base if self.then is None else self.then.lr(base, step - steps, steps_per_epoch)

    def after_epoch(self, loss: float) -> None:
        if self.then is not None:
            self.then.after_epoch(loss)

    def state(self) -> dict[str, float]:
        return {} if self.then is None else self.then.state()

    def load_state(self, state: dict[str, float]) -> None:
        if self.then is not None:
            self.then.load_state(state)


class OneCycleLR(Schedule):
    """Up to ``max_lr``, and down to nearly nothing: Smith, Topin, arXiv:1708.07120.

    From ``max_lr / div_factor``, in `pct_start` of the steps, up to ``max_lr``, then down to ``max_lr / div_factor /
    final_div_factor`` in the last step. Momentum stays as it is, as PyTorch's ``cycle_momentum=False``.

    Parameters
    ----------
    max_lr : float
    epochs : int
    pct_start : float
        From 0 to 1.
    anneal_strategy : {"cos", "linear"}
    div_factor, final_div_factor : float

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        max_lr: float,
        epochs: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        who = "OneCycleLR"
        self.max_lr = _checks.above(max_lr, who, "max_lr")
        self.epochs = _checks.integer(epochs, who, "epochs", 1)
        self.pct_start = _at_least(pct_start, who, "pct_start")
        if self.pct_start > 1.0:
            raise ValueError(f"{who}: pct_start: expected at most 1, got {self.pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"{who}: anneal_strategy: expected 'cos' or 'linear', got {anneal_strategy!r}")
        self.anneal_strategy = anneal_strategy
        self.div_factor = _checks.above(div_factor, who, "div_factor")
        self.final_div_factor = _checks.above(final_div_factor, who, "final_div_factor")

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        total = self.epochs * steps_per_epoch
        top, last, step = self.pct_start * total - 1.0, total - 1.0, min(step, total - 1)
        first = self.max_lr / self.div_factor
        between = _cosine if self.anneal_strategy == "cos" else _line
        if step <= top:
            return between(first, self.max_lr, step / top if top > 0.0 else 1.0)
        return between(self.max_lr, first / self.final_div_factor, (step - top) / (last - top) if last > top else 1.0)


class ReduceLROnPlateau(Schedule):
    """``base``, less by a factor each time when the loss has not become better for more than `patience` epochs.

    The loss is that of the validation set, or without one of the training set.

    Parameters
    ----------
    factor : float
        Below 1.
    patience : int
        Epochs.
    threshold : float
        A loss is better if it is below ``best * (1 - threshold)``.
    cooldown : int
        Epochs after a reduction in which none is counted.
    min_lr : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        who = "ReduceLROnPlateau"
        self.factor = _checks.above(factor, who, "factor")
        if self.factor >= 1.0:
            raise ValueError(f"{who}: factor: expected a number below 1, got {self.factor}")
        self.patience = _checks.integer(patience, who, "patience", 0)
        self.threshold = _at_least(threshold, who, "threshold")
        self.cooldown = _checks.integer(cooldown, who, "cooldown", 0)
        self.min_lr = _at_least(min_lr, who, "min_lr")
        self.best = math.inf
        self._reductions = self._bad_epochs = self._cooling = 0

    def lr(self, base: float, step: int, steps_per_epoch: int) -> float:
        return max(min(base, self.min_lr), base * self.factor**self._reductions)

    def after_epoch(self, loss: float) -> None:
        if loss < self.best * (1.0 - self.threshold):
            self.best, self._bad_epochs = loss, 0
        else:
            self._bad_epochs += 1
        if self._cooling > 0:
            self._cooling, self._bad_epochs = self._cooling - 1, 0
        if self._bad_epochs > self.patience:
            self._reductions, self._cooling, self._bad_epochs = self._reductions + 1, self.cooldown, 0

    def state(self) -> dict[str, float]:
        return {
            "best": self.best,
            "reductions": self._reductions,
            "bad_epochs": self._bad_epochs,
            "cooling": self._cooling,
        }

    def load_state(self, state: dict[str, float]) -> None:
        self.best = float(state["best"])
        self._reductions, self._bad_epochs, self._cooling = (
            int(state[name]) for name in ("reductions", "bad_epochs", "cooling")
        )


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * part)) / 2.0


def _line(start: float, end: float, part: float) -> float:
    return start + (end - start) * part


def _at_least(value: float, who: str, name: str) -> float:
    number = _checks.number(value, who, name)
    if number < 0.0:
        raise ValueError(f"{who}: {name}: expected at least 0, got {number}")
    return number
