"""Optimizers: arguments, defaults and updates as in PyTorch. An optimizer belongs to one trainer."""

from __future__ import annotations

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.optimizer import AdamUpdate, SGDUpdate
from nnpar._kernels.step import Step

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """Base of the optimizers.

    Attributes
    ----------
    lr : float
        Learning rate; may be changed between steps.
    steps_done : int
    """

    def __init__(self, lr: float, who: str) -> None:
        self.lr = lr
        self.steps_done = 0
        self._update: Step | None = None
        _at_least(lr, 0.0, who, "lr")

    def attach(self, parameters: Array, gradients: Array) -> Step:
        """Make the step that updates flat `parameters` by flat `gradients`.

        Raises
        ------
        ValueError
            If the optimizer has been given to a trainer before.
        """
        if self._update is not None:
            raise ValueError(
                f"{type(self).__name__}: expected an optimizer of its own for each trainer, got one in use"
            )
        self._update = self._new_update(parameters, gradients)
        return self._update

    def advance(self) -> None:
        """Set the update for the next step."""
        self.steps_done += 1
        self._set()

    def _new_update(self, parameters: Array, gradients: Array) -> Step:
        raise NotImplementedError

    def _set(self) -> None:
        raise NotImplementedError


def _at_least(value: float, least: float, who: str, name: str) -> float:
    number = _checks.number(value, who, name)
    if number < least:
        raise ValueError(f"{who}: {name}: expected at least {least}, got {number}")
    return number


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    ``g = grad + weight_decay * w``; ``b = momentum * b + (1 - dampening) * g``, at first ``b = g``; ``w -= lr * b``,
    or with Nesterov's form ``w -= lr * (g + momentum * b)``.

    Parameters
    ----------
    lr : float
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs a momentum and no dampening.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from nnpar import SGD
    >>> SGD(0.1, momentum=0.9).lr
    0.1
    """

    def __init__(
        self,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(lr, "SGD")
        self.momentum = _at_least(momentum, 0.0, "SGD", "momentum")
        self.dampening = _checks.number(dampening, "SGD", "dampening")
        self.weight_decay = _at_least(weight_decay, 0.0, "SGD", "weight_decay")
        self.nesterov = bool(nesterov)
        if self.nesterov and (self.momentum == 0.0 or self.dampening != 0.0):
            raise ValueError("SGD: nesterov: expected a momentum and no dampening")

    def _new_update(self, parameters: Array, gradients: Array) -> Step:
        return SGDUpdate(parameters, gradients, arrays.zeros(parameters.shape) if self.momentum else None)

    def _set(self) -> None:
        first = self.steps_done == 1
        self._update.set(self.lr, self.momentum, self.dampening, self.weight_decay, self.nesterov, first)  # type: ignore[union-attr]


class Adam(Optimizer):
    """Adam: Kingma, Ba, arXiv:1412.6980.

    Parameters
    ----------
    lr : float
    betas : (float, float)
        Decay of the gradient's mean and of its square's, 0 <= beta < 1.
    eps : float
    weight_decay : float
        Added to the gradient as ``weight_decay * w``; see :class:`AdamW` for the other form.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    decoupled = False

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        who = type(self).__name__
        super().__init__(lr, who)
        self.betas = (_at_least(betas[0], 0.0, who, "betas"), _at_least(betas[1], 0.0, who, "betas"))
        if max(self.betas) >= 1.0:
            raise ValueError(f"{who}: betas: expected numbers below 1, got {self.betas}")
        self.eps = _at_least(eps, 0.0, who, "eps")
        self.weight_decay = _at_least(weight_decay, 0.0, who, "weight_decay")

    def _new_update(self, parameters: Array, gradients: Array) -> Step:
        return AdamUpdate(parameters, gradients, arrays.zeros(parameters.shape), arrays.zeros(parameters.shape))

    def _set(self) -> None:
        self._update.set(self.lr, *self.betas, self.eps, self.weight_decay, self.decoupled, self.steps_done)  # type: ignore[union-attr]


class AdamW(Adam):
    """Adam with decoupled weight decay, ``w -= lr * weight_decay * w``: Loshchilov, Hutter, arXiv:1711.05101.

    Parameters
    ----------
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    decoupled = True

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)
