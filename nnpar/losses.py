"""Losses: what training makes small. Each is a mean over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import _checks, arrays
from nnpar._checks import Array
from nnpar._kernels import loss
from nnpar._kernels.step import Step
from nnpar.shapes import Shape

__all__ = ["MSE", "CrossEntropy", "Loss", "get"]


class Loss:
    """Base of the losses."""

    counts_correct = False

    def new_target(self, output_shape: Shape) -> NDArray[Any]:
        """Uninitialised array for the targets of a batch."""
        raise NotImplementedError

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        """`target` as an array for outputs of `output_shape`.

        Raises
        ------
        TypeError, ValueError
            If it does not fit.
        """
        raise NotImplementedError

    def step(self, output: Array, target: NDArray[Any], grad: Array | None, result: NDArray[np.float64]) -> Step:
        """The step that sets result[0] to the sum of the samples' losses, result[1] to the number of correct samples,
        and `grad` to the gradient of the mean loss. Of a sample with a label for each pixel, its loss is their mean,
        and it is correct in so far as its pixels are.
        """
        raise NotImplementedError


class CrossEntropy(Loss):
    """Softmax cross-entropy, ``-log softmax(output)[label]``, as PyTorch's ``nn.CrossEntropyLoss`` of class numbers.

    The model's output has shape (N, K) or, for a class of each pixel, (N, K, H, W); the targets are integers from 0 to
    K - 1, of shape (N,) or (N, H, W). It counts correct samples as well, of pixels their share.
    """

    counts_correct = True

    def new_target(self, output_shape: Shape) -> NDArray[Any]:
        return np.zeros((output_shape[0], *output_shape[2:]), np.int64)

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        if len(output_shape) not in (2, 4):
            raise ValueError(
                f"{who}: cross_entropy: expected a model output of shape (N, classes) or (N, classes, H, W), "
                f"got {output_shape}"
            )
        return _checks.labels(target, who, (output_shape[0], *output_shape[2:]), output_shape[1])

    def step(self, output: Array, target: NDArray[Any], grad: Array | None, result: NDArray[np.float64]) -> Step:
        pixels = target.size // max(1, len(target))
        return loss.SoftmaxCrossEntropy(
            _rows(output), target.reshape(-1), None if grad is None else _rows(grad), result, pixels
        )


def _rows(logits: Array) -> Array:
    """Logits of images as (N * H * W, K): a view, since memory is channels-last."""
    return logits if logits.ndim == 2 else logits.transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])


class MSE(Loss):
    """Mean squared error over all elements, as PyTorch's ``nn.MSELoss``; targets have the output's shape."""

    def new_target(self, output_shape: Shape) -> NDArray[Any]:
        return arrays.empty(output_shape)

    def check_target(self, target: ArrayLike, output_shape: Shape, who: str) -> NDArray[Any]:
        array = np.asarray(target)
        if array.shape == output_shape[:1] and output_shape[1:] == (1,):
            array = array.reshape(output_shape)
        values = _checks.floats(array, who, "target", len(output_shape))
        _checks.same_shape(values, output_shape, who, "target")
        return values

    def step(self, output: Array, target: NDArray[Any], grad: Array | None, result: NDArray[np.float64]) -> Step:
        return loss.SquaredError(output, target, grad, result)


NAMES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "mse": MSE}


def get(loss_or_name: Loss | str) -> Loss:
    """A loss by its name, ``"cross_entropy"`` or ``"mse"``, or the loss given.

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
