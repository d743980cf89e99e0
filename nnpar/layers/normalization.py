"""Batch normalisation."""

from __future__ import annotations

from typing import Any

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import batch_norm
from nnpar.layers.base import Layer, Parameter, Statistic, images_only, new_parameter
from nnpar.layers.lowering import Buffer, Call, Lowering
from nnpar.shapes import Shape


class BatchNorm2d(Layer):
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
        ``running = (1 - momentum) * running + momentum * new``, the variance unbiased.

    Attributes
    ----------
    weight, bias : ndarray of shape (num_features,), float32
    running_mean, running_var : ndarray of shape (num_features,), float32

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

    channels_last = True
    weight = Parameter()
    bias = Parameter()
    running_mean = Statistic()
    running_var = Statistic()

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features = _checks.integer(num_features, "BatchNorm2d", "num_features", 1)
        self.eps = _checks.number(eps, "BatchNorm2d", "eps")
        self.momentum = _checks.number(momentum, "BatchNorm2d", "momentum")
        if self.eps < 0.0:
            raise ValueError(f"BatchNorm2d: eps: expected at least 0, got {self.eps}")
        if not 0.0 <= self.momentum <= 1.0:
            raise ValueError(f"BatchNorm2d: momentum: expected 0 to 1, got {self.momentum}")
        ones, zeros = initializers.ones, initializers.zeros
        self._arrays = {name: self._new(f) for name, f in (("weight", ones), ("bias", zeros))}
        self._statistics = {name: self._new(f) for name, f in (("running_mean", zeros), ("running_var", ones))}

    def _new(self, initializer: initializers.Initializer) -> Array:
        return new_parameter(initializer, (self.num_features,), "BatchNorm2d")

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        images_only(input_shape, who)
        if input_shape[1] != self.num_features:
            raise ValueError(f"{who}: input: expected {self.num_features} channels, got {input_shape[1]}")
        return input_shape

    def forward(self, at: Lowering) -> None:
        if at.training:
            self._forward_training(at)
        else:
            self._forward_prediction(at)

    def _forward_training(self, at: Lowering) -> None:
        n, channels, h, w = at.x.shape
        if n * h * w == 1:
            raise ValueError(f"{self.describe(at.name)}: training needs at least 2 values in each channel, got 1")
        mean, invstd = at.saved["mean"], at.saved["invstd"] = Buffer((channels,)), Buffer((channels,))
        running = self.running_mean, self.running_var
        at.step(batch_norm.BatchStatistics, at.x, mean, invstd, self.eps, *running, self.momentum, repeatable=False)
        # The backward pass reads x, so that y has memory of its own.
        at.y = Buffer(at.x.shape)
        at.saved["normalize"] = self._normalize(at, mean, invstd)

    def _forward_prediction(self, at: Lowering) -> None:
        convolution = at.fuse_norm()
        if convolution is None:
            invstd = Buffer((self.num_features,))
            at.step(batch_norm.InverseDeviation, self.running_var, invstd, self.eps, once=True)
            at.y = at.overwritable()
            self._normalize(at, self.running_mean, invstd)
            return
        at.y = at.x
        weight, bias = convolution.options["weight"], convolution.options["bias"]
        folded_weight = Buffer(weight.shape, channels_last=False)
        folded_bias = Buffer((self.num_features,))
        at.step_before(
            convolution, batch_norm.FoldBatchNorm, weight, bias, self.running_mean, self.running_var, self.weight,
            self.bias, self.eps, folded_weight, folded_bias, once=True,
        )  # fmt: skip
        convolution.options |= {"weight": folded_weight, "bias": folded_bias}
        convolution.fuses -= {"norm"}

    def _normalize(self, at: Lowering, mean: Buffer | Array, invstd: Buffer) -> Call:
        return at.step(
            _normalize, at.x, mean, invstd, self.weight, self.bias, at.y,
            writes=at.y, fuses=("relu", "residual"), grad_of_relu=True,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        call = at.saved["normalize"]
        relu, residual = "relu" in call.options and not call.masked, call.residual_needs_gradient
        dresidual = at.overwritable_dy() if relu and residual else None
        dx = Buffer(at.x.shape) if residual else at.overwritable_dy()
        of_x = relu and "residual" not in call.options
        at.step(
            batch_norm.BatchNormGrad, at.dy, at.x, at.y if relu and not of_x else None, at.saved["mean"],
            at.saved["invstd"], self.weight, dx, at.gradients["weight"], at.gradients["bias"], dresidual, self.bias,
            of_x,
        )  # fmt: skip
        if at.needs_dx:
            at.pass_back(dx)
        if dresidual is not None:
            at.contributions.append((call.residual_node, dresidual, True))
        elif residual:
            at.contributions.append((call.residual_node, at.dy, at.owns_dy))

    def settings(self) -> dict[str, Any]:
        return {"num_features": self.num_features, "eps": self.eps, "momentum": self.momentum}


def _normalize(
    x: Array, mean: Array, invstd: Array, gamma: Array, beta: Array, y: Array,
    relu: bool = False, residual: Array | None = None,
) -> batch_norm.BatchNormalize:  # fmt: skip
    return batch_norm.BatchNormalize(x, mean, invstd, gamma, beta, residual, y, relu)
