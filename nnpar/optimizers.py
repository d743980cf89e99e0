"""Optimizers: arguments, defaults and updates as in PyTorch. An optimizer belongs to one trainer."""

from __future__ import annotations

from collections.abc import Sequence

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels.optimizer import AdagradUpdate, AdamUpdate, LAMBUpdate, LARSUpdate, RMSpropUpdate, SGDUpdate
from nnpar._kernels.step import Step
from nnpar.parameters import Slot

__all__ = ["LAMB", "LARS", "SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]


class Optimizer:
    """Base of the optimizers.

    Attributes
    ----------
    lr : float
        Learning rate; may be changed between steps.
    steps_done : int
    state : dict of str to ndarray
        What it keeps from step to step, by PyTorch's names; flat, as the parameters are. Empty before it is given to a
        trainer.
    """

    def __init__(self, lr: float, who: str) -> None:
        self.lr = lr
        self.steps_done = 0
        self.state: dict[str, Array] = {}
        self._update: Step | None = None
        self._part = slice(0, 0)
        self._size = 0
        _at_least(lr, 0.0, who, "lr")

    def attach(self, parameters: Array, gradients: Array, slots: Sequence[Slot], part: slice | None = None) -> Step:
        """Make the step that updates flat `parameters` by flat `gradients`, in which `slots` are the arrays; or only
        a part of them, where some slots lie.

        Raises
        ------
        ValueError
            If the optimizer has been given to a trainer before.
        """
        if self._update is not None:
            raise ValueError(
                f"{type(self).__name__}: expected an optimizer of its own for each trainer, got one in use"
            )
        own = self._part = slice(0, parameters.size) if part is None else part
        self._size = parameters.size
        slots = [slot._replace(start=slot.start - own.start) for slot in slots if own.start <= slot.start < own.stop]
        self._update = self._new_update(parameters[own], gradients[own], slots)
        return self._update

    def advance(self) -> None:
        """Set the update for the next step."""
        self.steps_done += 1
        self._set()

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        raise NotImplementedError

    def _kept(self, name: str, parameters: Array) -> Array:
        """A new array of the state, zeros, of which the part is kept."""
        self.state[name] = arrays.zeros((self._size,))
        return self.state[name][self._part]

    def _set(self) -> None:
        raise NotImplementedError


def _at_least(value: float, least: float, who: str, name: str) -> float:
    number = _checks.number(value, who, name)
    if number < least:
        raise ValueError(f"{who}: {name}: expected at least {least}, got {number}")
    return number


def _betas(betas: tuple[float, float], who: str) -> tuple[float, float]:
    if len(betas) != 2:
        raise ValueError(f"{who}: betas: expected two numbers, got {betas}")
    first, second = (_at_least(beta, 0.0, who, "betas") for beta in betas)
    if max(first, second) >= 1.0:
        raise ValueError(f"{who}: betas: expected numbers below 1, got {(first, second)}")
    return first, second


def _adapted(slots: Sequence[Slot]) -> list[tuple[int, int, bool]]:
    """Where each array lies, and whether it is a weight: biases and normalisations have one axis."""
    return [(slot.start, slot.size, slot.layer._arrays[slot.attribute].ndim > 1) for slot in slots]


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

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        return SGDUpdate(parameters, gradients, self._kept("momentum_buffer", parameters) if self.momentum else None)

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
        self.betas = _betas(betas, who)
        self.eps = _at_least(eps, 0.0, who, "eps")
        self.weight_decay = _at_least(weight_decay, 0.0, who, "weight_decay")

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        moments = (self._kept(name, parameters) for name in ("exp_avg", "exp_avg_sq"))
        return AdamUpdate(parameters, gradients, *moments)

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


class RMSprop(Optimizer):
    """RMSprop: Tieleman, Hinton, lecture 6.5 of "Neural networks for machine learning" (2012).

    ``g = grad + weight_decay * w``; ``v = alpha * v + (1 - alpha) * g^2``; ``w -= lr * g / (sqrt(v) + eps)``, with
    momentum ``b = momentum * b + g / (sqrt(v) + eps)`` and ``w -= lr * b``.

    Parameters
    ----------
    lr : float
    alpha : float
        Decay of the square's mean, from 0 to 1.
    eps, weight_decay, momentum : float
    centered : bool
        Whether v is reduced by the square of the gradient's mean.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        who = "RMSprop"
        super().__init__(lr, who)
        self.alpha = _at_least(alpha, 0.0, who, "alpha")
        if self.alpha > 1.0:
            raise ValueError(f"{who}: alpha: expected at most 1, got {self.alpha}")
        self.eps = _at_least(eps, 0.0, who, "eps")
        self.weight_decay = _at_least(weight_decay, 0.0, who, "weight_decay")
        self.momentum = _at_least(momentum, 0.0, who, "momentum")
        self.centered = bool(centered)

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        square = self._kept("square_avg", parameters)
        mean = self._kept("grad_avg", parameters) if self.centered else None
        buffer = self._kept("momentum_buffer", parameters) if self.momentum else None
        return RMSpropUpdate(parameters, gradients, square, mean, buffer)

    def _set(self) -> None:
        self._update.set(self.lr, self.alpha, self.eps, self.weight_decay, self.momentum)  # type: ignore[union-attr]


class Adagrad(Optimizer):
    """Adagrad: Duchi, Hazan, Singer, Journal of Machine Learning Research 12 (2011).

    ``g = grad + weight_decay * w``; ``s += g^2``; ``w -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps)``.

    Parameters
    ----------
    lr, lr_decay, weight_decay : float
    initial_accumulator_value : float
        Of s.
    eps : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        who = "Adagrad"
        super().__init__(lr, who)
        self.lr_decay = _at_least(lr_decay, 0.0, who, "lr_decay")
        self.weight_decay = _at_least(weight_decay, 0.0, who, "weight_decay")
        self.initial_accumulator_value = _at_least(initial_accumulator_value, 0.0, who, "initial_accumulator_value")
        self.eps = _at_least(eps, 0.0, who, "eps")

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        total = self._kept("sum", parameters)
        total += self.initial_accumulator_value
        return AdagradUpdate(parameters, gradients, total)

    def _set(self) -> None:
        lr = self.lr / (1.0 + (self.steps_done - 1) * self.lr_decay)
        self._update.set(lr, self.eps, self.weight_decay)  # type: ignore[union-attr]


class LARS(Optimizer):
    """SGD with a learning rate for each array of weights, for large batches: You, Gitman, Ginsburg, arXiv:1708.03888.

    ``r = trust_coefficient * |w| / (|grad| + weight_decay * |w| + eps)``; ``b = momentum * b + lr * r * (grad +
    weight_decay * w)``; ``w -= b``. Arrays of one axis, biases and those of normalisations, have r = 1 and no decay.

    Parameters
    ----------
    lr, momentum, weight_decay, trust_coefficient, eps : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(lr, "LARS")
        self.momentum = _at_least(momentum, 0.0, "LARS", "momentum")
        self.weight_decay = _at_least(weight_decay, 0.0, "LARS", "weight_decay")
        self.trust_coefficient = _at_least(trust_coefficient, 0.0, "LARS", "trust_coefficient")
        self.eps = _at_least(eps, 0.0, "LARS", "eps")

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        return LARSUpdate(parameters, gradients, _adapted(slots), self._kept("momentum_buffer", parameters))

    def _set(self) -> None:
        self._update.set(self.lr, self.momentum, self.weight_decay, self.trust_coefficient, self.eps)  # type: ignore[union-attr]


class LAMB(Optimizer):
    """Adam with a learning rate for each array of weights, for large batches: You et al., arXiv:1904.00962.

    With Adam's corrected moments m and v, ``r = m / (sqrt(v) + eps) + weight_decay * w``; ``w -= lr * |w| / |r| * r``.
    Arrays of one axis, biases and those of normalisations, have the ratio 1 and no decay.

    Parameters
    ----------
    lr : float
    betas : (float, float)
    eps, weight_decay : float

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, "LAMB")
        self.betas = _betas(betas, "LAMB")
        self.eps = _at_least(eps, 0.0, "LAMB", "eps")
        self.weight_decay = _at_least(weight_decay, 0.0, "LAMB", "weight_decay")

    def _new_update(self, parameters: Array, gradients: Array, slots: Sequence[Slot]) -> Step:
        moments = (self._kept(name, parameters) for name in ("exp_avg", "exp_avg_sq"))
        return LAMBUpdate(parameters, gradients, _adapted(slots), *moments)

    def _set(self) -> None:
        self._update.set(self.lr, *self.betas, self.eps, self.weight_decay, self.steps_done)  # type: ignore[union-attr]
