"""Losses: what training makes small. Each is a mean over the batch, weighted where samples have weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels import loss
from nnpar._kernels.step import PythonStep, Step
from nnpar.shapes import Shape

__all__ = ["L1", "MSE", "BCEWithLogits", "CrossEntropy", "CustomLoss", "Huber", "KLDiv", "Loss", "get"]


class Loss:
    """Base of the losses."""

    counts_correct = False

    def new_target(self, output_shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
        """Array for the targets of a batch, which `check_target` made an array of that type."""
        return arrays.empty(output_shape)

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        """`target` as an array for outputs of `output_shape`.

        Raises
        ------
        TypeError, ValueError
            If it does not fit.
        """
        array = np.asarray(target)
        if array.shape == output_shape[:1] and output_shape[1:] == (1,):
            array = array.reshape(output_shape)
        values = _checks.floats(array, who, "target", len(output_shape))
        _checks.same_shape(values, output_shape, who, "target")
        return values

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        """The step that sets `grad` to the gradient of the mean loss, and `result` to the sum of the samples' losses,
        each times its weight, the number of correct samples, the sum of the weights, and the number of samples that
        count. Of a sample with a label for each pixel, its loss is their mean, and it is correct in so far as its
        pixels are.
        """
        raise NotImplementedError


class CrossEntropy(Loss):
    """Softmax cross-entropy, ``-log softmax(output)[label]``, as PyTorch's ``nn.CrossEntropyLoss`` of class numbers.

    The model's output has shape (N, K) or, for a class of each pixel, (N, K, H, W); the targets are integers from 0 to
    K - 1, of shape (N,) or (N, H, W), or probabilities t of the classes, of the output's shape: then the loss is ``-sum
    of t log softmax(output)``. It counts correct samples as well, of pixels their share.

    Parameters
    ----------
    weight : array_like of shape (K,), optional
        Of each class, at least 0; the mean is over the sum of the labels' weights, with probabilities over samples.
    ignore_index : int, optional
        A label that does not count: it has no loss, no gradient, and no part in the mean. None by default, where
        PyTorch has -100; a batch without any other label has the loss NaN in both.
    label_smoothing : float
        From 0 to 1: the share of a label that is dealt to all classes equally. Szegedy et al., arXiv:1512.00567.

    Raises
    ------
    ValueError
        If an argument is out of range; with `weight`, when it is used: if the model has another number of classes.

    Examples
    --------
    >>> from nnpar import CrossEntropy, Linear, Trainer
    >>> trainer = Trainer(Linear(4, 3), loss=CrossEntropy(weight=[1, 2, 2], label_smoothing=0.1))
    >>> trainer.train_step([[1.0, 0.0, 0.0, 0.0]], [2]) > 0
    True
    """

    counts_correct = True

    def __init__(
        self, weight: ArrayLike | None = None, ignore_index: int | None = None, label_smoothing: float = 0.0
    ) -> None:
        who = "CrossEntropy"
        self.weight = None if weight is None else weights(weight, None, who, "weight")
        self.ignore_index = (
            None if ignore_index is None else _checks.integer(ignore_index, who, "ignore_index", -(2**62))
        )
        self.label_smoothing = _checks.number(label_smoothing, who, "label_smoothing")
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"{who}: label_smoothing: expected a number from 0 to 1, got {self.label_smoothing}")

    def new_target(self, output_shape: Shape, dtype: DTypeLike) -> NDArray[Any]:
        if dtype == np.float32:
            return arrays.empty(output_shape)
        return np.zeros((output_shape[0], *output_shape[2:]), np.int64)

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        if len(output_shape) not in (2, 4):
            raise ValueError(
                f"{who}: cross_entropy: expected a model output of shape (N, classes) or (N, classes, H, W), "
                f"got {output_shape}"
            )
        classes = output_shape[1]
        if self.weight is not None and self.weight.size != classes:
            raise ValueError(f"{who}: CrossEntropy: weight: expected {classes}, one per class, got {self.weight.size}")
        array = np.asarray(target)
        if array.dtype.kind != "f" or array.shape != output_shape:
            return _checks.labels(array, who, (output_shape[0], *output_shape[2:]), classes, self.ignore_index)
        if self.ignore_index is not None:
            raise ValueError(f"{who}: CrossEntropy: ignore_index: expected class numbers as targets, got probabilities")
        return _between(_checks.floats(array, who, "target", array.ndim), 0.0, np.inf, who)

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        logits, slopes = _rows(output), None if grad is None else _rows(grad)
        pixels = len(logits) // max(1, len(output))
        if target.dtype == np.float32:
            weight = np.ones(output.shape[1], np.float32) if self.weight is None else self.weight
            return loss.SoftCrossEntropy(
                logits, _rows(target), slopes, result, pixels, weight, sample_weights, self.label_smoothing
            )
        labels = target.reshape(-1)
        if self.weight is None and self.ignore_index is None and not self.label_smoothing and sample_weights is None:
            return loss.SoftmaxCrossEntropy(logits, labels, slopes, result, pixels)
        weight = np.ones(output.shape[1], np.float32) if self.weight is None else self.weight
        ignored = -1 if self.ignore_index is None else self.ignore_index
        return loss.WeightedCrossEntropy(
            logits, labels, slopes, result, pixels, weight, sample_weights, ignored, self.label_smoothing
        )


def _rows(logits: Array) -> Array:
    """Logits of images as (N * H * W, K): a view, since memory is channels-last."""
    return logits if logits.ndim == 2 else logits.transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])


def weights(value: ArrayLike, shape: Shape | None, who: str, name: str) -> Array:
    """Weights, float32, of one axis: none negative, and not all of them 0."""
    array = np.ascontiguousarray(_checks.floats(value, who, name, 1))
    if shape is not None:
        _checks.same_shape(array, shape, who, name)
    if not np.isfinite(array).all() or (array < 0.0).any() or not array.any():
        raise ValueError(f"{who}: {name}: expected numbers of at least 0, and one above, got {array.tolist()!s:.60}")
    return array


class MSE(Loss):
    """Mean squared error over all elements, as PyTorch's ``nn.MSELoss``; targets have the output's shape."""

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        if sample_weights is None:
            return loss.SquaredError(output, target, grad, result)
        return loss.ElementwiseLoss("mse", output, target, grad, result, sample_weights)


class L1(Loss):
    """Mean absolute error over all elements, as PyTorch's ``nn.L1Loss``; targets have the output's shape."""

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        return loss.ElementwiseLoss("l1", output, target, grad, result, sample_weights)


class Huber(Loss):
    """Squared for small errors, absolute for large ones, as PyTorch's ``nn.HuberLoss``: Huber, Annals of Mathematical
    Statistics 35 (1964).

    The mean over all elements of ``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)``, with d the
    difference of output and target; targets have the output's shape.

    Parameters
    ----------
    delta : float
        Above 0.

    Raises
    ------
    ValueError
        If it is not.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = _checks.above(delta, "Huber", "delta")

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        return loss.ElementwiseLoss("huber", output, target, grad, result, sample_weights, self.delta)


class BCEWithLogits(Loss):
    """Cross-entropy of yes or no for each element, as PyTorch's ``nn.BCEWithLogitsLoss``.

    The mean over all elements of ``-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x))``. Targets have the output's shape
    and are from 0 to 1; for outputs of shape (N, 1), also shape (N,). Elements on the target's side of one half count
    as correct.

    Parameters
    ----------
    pos_weight : float or array_like of shape (C,), optional
        Of the first term, for all or for each class, the output's axis 1; at least 0.

    Raises
    ------
    ValueError
        If an argument is out of range; when it is used: if a target is, or the model has other classes.
    """

    counts_correct = True

    def __init__(self, pos_weight: ArrayLike | None = None) -> None:
        self.pos_weight = None
        if pos_weight is not None:
            self.pos_weight = weights(np.atleast_1d(pos_weight), None, "BCEWithLogits", "pos_weight")

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        values = super().check_target(target, output_shape, who)
        classes = 1 if self.pos_weight is None else self.pos_weight.size
        if classes > 1 and (len(output_shape) not in (2, 4) or output_shape[1] != classes):
            raise ValueError(
                f"{who}: BCEWithLogits: pos_weight: expected one per class of an output of shape (N, C) or "
                f"(N, C, H, W), got {classes} for {output_shape}"
            )
        return _between(values, 0.0, 1.0, who)

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        return loss.ElementwiseLoss(
            "bce_with_logits", output, target, grad, result, sample_weights, positive=self.pos_weight
        )


class KLDiv(Loss):
    """Kullback-Leibler divergence of the output, logarithms of probabilities, from probabilities, as PyTorch's
    ``nn.KLDivLoss(reduction="batchmean")``.

    The sum over a sample's elements of ``t (log(t) - x)``, 0 where t is; put a ``LogSoftmax`` at the model's end.
    Targets have the output's shape and are not negative.

    Raises
    ------
    ValueError
        When it is used: if a target is negative.
    """

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        return _between(super().check_target(target, output_shape, who), 0.0, np.inf, who)

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        return loss.ElementwiseLoss("kl_div", output, target, grad, result, sample_weights)


def _between(values: Array, least: float, most: float, who: str) -> Array:
    low, high = (float(values.min()), float(values.max())) if values.size else (least, least)
    if not (low >= least and high <= most):
        raise ValueError(f"{who}: target: expected numbers from {least:g} to {most:g}, got {low:g} to {high:g}")
    return values


class CustomLoss(Loss):
    """Base of the losses that users write in NumPy: a subclass implements `compute` and `compute_gradient`.

    Notes
    -----
    Arrays that come must not be written to, and belong to the plan: keep none. An error that is raised ends the step,
    and arrives where the trainer was called; weights stay as they were. For targets of another shape than the output's,
    or of integers, a subclass implements `new_target` and `check_target`, too.

    Examples
    --------
    >>> import numpy as np
    >>> import nnpar
    >>> class LogCosh(nnpar.CustomLoss):
    ...     def compute(self, output, target):
    ...         return np.log(np.cosh(output - target)).mean(axis=1)
    ...
    ...     def compute_gradient(self, output, target):
    ...         return np.tanh(output - target) / output.shape[1]
    >>> trainer = nnpar.Trainer(nnpar.Linear(4, 3), loss=LogCosh())
    >>> trainer.train_step(np.ones((2, 4)), np.zeros((2, 3))) > 0
    True
    """

    def compute(self, output: Array, target: NDArray[Any]) -> ArrayLike:
        """The loss of each sample, of shape (N,)."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method compute(output, target)")

    def compute_gradient(self, output: Array, target: NDArray[Any]) -> ArrayLike:
        """The gradient of each sample's loss, of the output's shape."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method compute_gradient(output, target)")

    def step(
        self,
        output: Array,
        target: NDArray[Any],
        grad: Array | None,
        result: NDArray[np.float64],
        sample_weights: Array | None = None,
    ) -> Step:
        who, samples = type(self).__name__, len(output)
        x, t = output.view(), target.view()
        x.flags.writeable = t.flags.writeable = False

        def run() -> None:
            w = np.ones(samples, np.float32) if sample_weights is None else sample_weights
            losses = np.asarray(self.compute(x, t), np.float64)
            _checks.same_shape(losses, (samples,), who, "compute")
            result[:] = np.sum(losses * w), 0.0, w.sum(dtype=np.float64), samples
            if grad is not None:
                slope = _checks.floats(self.compute_gradient(x, t), who, "compute_gradient", output.ndim)
                _checks.same_shape(slope, output.shape, who, "compute_gradient")
                np.multiply(slope, (w / result[2]).reshape(-1, *[1] * (output.ndim - 1)), out=grad, casting="same_kind")

        return PythonStep(run, who, 12.0 * output.size)


NAMES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "bce_with_logits": BCEWithLogits,
    "mse": MSE,
    "l1": L1,
    "huber": Huber,
    "kl_div": KLDiv,
}


def get(loss_or_name: Loss | str) -> Loss:
    """A loss by its name, such as ``"cross_entropy"`` or ``"mse"``, or the loss given.

    Parameters
    ----------
    loss_or_name : Loss or str

    Returns
    -------
    Loss

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if isinstance(loss_or_name, Loss):
        return loss_or_name
    if not isinstance(loss_or_name, str) or loss_or_name not in NAMES:
        raise ValueError(f"loss: expected one of {', '.join(NAMES)}, or a Loss, got {loss_or_name!r}")
    return NAMES[loss_or_name]()
