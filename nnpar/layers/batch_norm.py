"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import batch_norm
from nnpar.layers.base import Layer, Parameter, Statistic, new_parameter
from nnpar.layers.lowering import Buffer, Call, Lowering
from nnpar.shapes import Shape


class BatchNorm(Layer):
    """Base of the batch normalisations, which differ in the axes of their inputs."""

    channels_last = True
    weight = Parameter()
    bias = Parameter()
    running_mean = Statistic()
    running_var = Statistic()
    inputs: tuple[str, ...]  # their shapes, one for each number of axes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        who = type(self).__name__
        self.num_features = _checks.integer(num_features, who, "num_features", 1)
        self.eps = not_negative(eps, who, "eps")
        if momentum is None:
            raise ValueError(f"{who}: momentum: expected 0 to 1, got None: a cumulative average is not supported")
        self.momentum = _checks.number(momentum, who, "momentum")
        if not 0.0 <= self.momentum <= 1.0:
            raise ValueError(f"{who}: momentum: expected 0 to 1, got {self.momentum}")
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        ones, zeros = initializers.ones, initializers.zeros
        self._arrays = self._new(weight=ones, bias=zeros) if affine else {}
        self._statistics = self._new(running_mean=zeros, running_var=ones) if track_running_stats else {}

    def _new(self, **initializer: initializers.Initializer) -> dict[str, Array]:
        shape, who = (self.num_features,), type(self).__name__
        return {name: new_parameter(make, shape, who) for name, make in initializer.items()}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        if len(input_shape) not in [1 + shape.count(",") for shape in self.inputs]:
            raise ValueError(f"{who}: input: expected shape {' or '.join(self.inputs)}, got {input_shape}")
        if input_shape[1] != self.num_features:
            raise ValueError(f"{who}: input: expected {self.num_features} channels, got {input_shape[1]}")
        return input_shape

    def forward(self, at: Lowering) -> None:
        if at.training or not self.track_running_stats:
            self._forward_training(at)
        else:
            self._forward_prediction(at)

    def _forward_training(self, at: Lowering) -> None:
        if at.x.size == self.num_features and at.together is None:
            raise ValueError(f"{self.describe(at.name)}: training needs at least 2 values in each channel, got 1")
        mean, invstd = at.saved["mean"], at.saved["invstd"] = self._buffer(), self._buffer()
        running = self.running_mean, self.running_var
        repeatable = not self.track_running_stats
        at.step(
            batch_norm.BatchStatistics, at.x, mean, invstd, self.eps, *running, self.momentum,
            exchange=None if at.together is None else at.together.moments, repeatable=repeatable,
        )  # fmt: skip
        # The backward pass reads x, so that y has memory of its own.
        at.y = at.x.like()
        at.saved["normalize"] = self._normalize(at, mean, invstd)

    def _forward_prediction(self, at: Lowering) -> None:
        convolution = at.fuse_norm()
        if convolution is None:
            invstd = self._buffer()
            at.step(batch_norm.InverseDeviation, self.running_var, invstd, self.eps, once=True)
            at.y = at.overwritable()
            self._normalize(at, self.running_mean, invstd)
            return
        at.y = at.x
        weight, bias = convolution.options["weight"], convolution.options["bias"]
        folded_weight = Buffer(weight.shape, channels_last=False)
        folded_bias = self._buffer()
        ones, zeros = np.ones(self.num_features, np.float32), np.zeros(self.num_features, np.float32)
        affine = (self.weight, self.bias) if self.affine else (ones, zeros)
        at.step_before(
            convolution, batch_norm.FoldBatchNorm, weight, bias, self.running_mean, self.running_var, *affine, self.eps,
            folded_weight, folded_bias, once=True,
        )  # fmt: skip
        convolution.options |= {"weight": folded_weight, "bias": folded_bias}
        convolution.fuses -= {"norm"}

    def _normalize(self, at: Lowering, mean: Buffer | Array, invstd: Buffer) -> Call:
        # Without parameters its backward pass may be left out, and with it the gradient of a residual.
        fuses = ("relu", "residual") if self.affine else ("relu",)
        return at.step(
            _normalize, at.x, mean, invstd, self.weight, self.bias, at.y, writes=at.y, fuses=fuses, grad_of_relu=True
        )

    def backward(self, at: Lowering) -> None:
        call = at.saved["normalize"]
        relu, residual = "relu" in call.options and not call.masked, call.residual_needs_gradient
        dresidual = at.overwritable_dy() if relu and residual else None
        dx = at.x.like() if residual else at.overwritable_dy()
        of_x = relu and "residual" not in call.options
        dweight, dbias = (at.gradients[key] if self.affine else self._buffer() for key in ("weight", "bias"))
        at.step(
            batch_norm.BatchNormGrad, at.dy, at.x, at.y if relu and not of_x else None, at.saved["mean"],
            at.saved["invstd"], self.weight, dx, dweight, dbias, dresidual, self.bias, of_x,
            None if at.together is None else at.together.slopes,
        )  # fmt: skip
        if at.needs_dx:
            at.pass_back(dx)
        if dresidual is not None:
            at.contributions.append((call.residual_node, dresidual, True))
        elif residual:
            at.contributions.append((call.residual_node, at.dy, at.owns_dy))

    def _buffer(self) -> Buffer:
        return Buffer((self.num_features,))

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"num_features": self.num_features, "eps": self.eps, "momentum": self.momentum}
        off = {"affine": self.affine, "track_running_stats": self.track_running_stats}
        return settings | {name: value for name, value in off.items() if not value}


class BatchNorm2d(BatchNorm):
    """Normalise each channel, as PyTorch's ``nn.BatchNorm2d``: Ioffe, Szegedy, arXiv:1502.03167.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. In training mean and variance are those of the batch, and move
    the running ones; in prediction they are the running ones. An addition and a ReLU that follow happen in the same
    pass. In prediction a convolution before it takes it over, with weights and bias changed.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
    momentum : float
        ``running = (1 - momentum) * running + momentum * new``, the variance unbiased. None, PyTorch's cumulative
        average, is not supported.
    affine : bool
        Whether there are weight and bias.
    track_running_stats : bool
        If not, mean and variance are those of the batch in prediction, too.

    Attributes
    ----------
    weight, bias : ndarray of shape (num_features,), float32, or None
    running_mean, running_var : ndarray of shape (num_features,), float32, or None

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import BatchNorm2d
    >>> BatchNorm2d(1, eps=0.0)(np.full((1, 1, 1, 2), 3.0))[0, 0]
    array([[3., 3.]], dtype=float32)
    """

    inputs = ("(N, C, H, W)",)


class BatchNorm1d(BatchNorm):
    """Normalise each channel of sequences, or each feature, as PyTorch's ``nn.BatchNorm1d``.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats
        See :class:`BatchNorm2d`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the input is not of shape (N, C) or (N, C, L).

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import BatchNorm1d
    >>> BatchNorm1d(3)(np.zeros((2, 3, 5))).shape
    (2, 3, 5)
    """

    inputs = ("(N, C)", "(N, C, L)")


class BatchNorm3d(BatchNorm):
    """Normalise each channel of volumes, as PyTorch's ``nn.BatchNorm3d``.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats
        See :class:`BatchNorm2d`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the input is not of shape (N, C, D, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import BatchNorm3d
    >>> BatchNorm3d(2)(np.zeros((1, 2, 3, 4, 5))).shape
    (1, 2, 3, 4, 5)
    """

    inputs = ("(N, C, D, H, W)",)


def not_negative(value: float, who: str, name: str) -> float:
    """A number, checked to be at least 0."""
    value = _checks.number(value, who, name)
    if value < 0.0:
        raise ValueError(f"{who}: {name}: expected at least 0, got {value}")
    return value


def _normalize(
    x: Array, mean: Array, invstd: Array, gamma: Array, beta: Array, y: Array,
    relu: bool = False, residual: Array | None = None,
) -> batch_norm.BatchNormalize:  # fmt: skip
    return batch_norm.BatchNormalize(x, mean, invstd, gamma, beta, residual, y, relu)
