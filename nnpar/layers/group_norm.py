"""Normalisation of groups of channels of each sample, and by the channels nearby."""

from __future__ import annotations

from typing import Any

from nnpar import _checks, initializers
from nnpar._kernels import norm
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.batch_norm import not_negative
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class GroupNormalization(Layer):
    """Base of the layers that normalise groups of channels of each sample."""

    channels_last = True
    weight = Parameter()
    bias = Parameter()

    def __init__(self, groups: int, channels: int, eps: float, affine: bool) -> None:
        who = type(self).__name__
        self._groups, self._channels = groups, channels
        self.eps, self.affine = not_negative(eps, who, "eps"), bool(affine)
        self._arrays = {}
        if affine:
            self._arrays["weight"] = new_parameter(initializers.ones, (channels,), who)
            self._arrays["bias"] = new_parameter(initializers.zeros, (channels,), who)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        if len(input_shape) < 2:
            raise ValueError(f"{who}: input: expected shape (N, C, ...), got {input_shape}")
        if input_shape[1] != self._channels:
            raise ValueError(f"{who}: input: expected {self._channels} channels, got {input_shape[1]}")
        return input_shape

    def forward(self, at: Lowering) -> None:
        # The backward pass reads x.
        at.y = at.x.like() if at.training else at.overwritable()
        shape = at.x.shape[0], self._groups
        mean, invstd = at.saved["mean"], at.saved["invstd"] = Buffer(shape), Buffer(shape)
        at.saved["normalize"] = at.step(
            norm.GroupNorm, at.x, self._groups, self.weight, self.bias, self.eps, mean, invstd, at.y,
            writes=at.y, fuses=("relu",), grad_of_relu=True,
        )  # fmt: skip

    def backward(self, at: Lowering) -> None:
        call = at.saved["normalize"]
        dx = at.overwritable_dy()
        at.step(
            norm.GroupNormGrad, at.dy, at.x, self._groups, at.saved["mean"], at.saved["invstd"], self.weight, self.bias,
            dx, at.gradients.get("weight"), at.gradients.get("bias"), "relu" in call.options and not call.masked,
        )  # fmt: skip
        if at.needs_dx:
            at.pass_back(dx)


class GroupNorm(GroupNormalization):
    """Normalise groups of channels of each sample, as PyTorch's ``nn.GroupNorm``: Wu, He, arXiv:1803.08494.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over the pixels and channels of a group. A
    ReLU that follows happens in the same pass.

    Parameters
    ----------
    num_groups : int
        A divisor of the number of channels.
    num_channels : int
    eps : float
    affine : bool
        Whether there are weight and bias, a number for each channel.

    Attributes
    ----------
    weight, bias : ndarray of shape (num_channels,), float32, or None

    Raises
    ------
    ValueError
        If an argument is out of range, or the input is not of shape (N, num_channels, ...).

    Examples
    --------
    >>> from nnpar import GroupNorm
    >>> GroupNorm(1, 2, eps=0.0)([[[1.0, 1.0], [3.0, 3.0]]])
    array([[[-1., -1.],
            [ 1.,  1.]]], dtype=float32)
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_groups = _checks.integer(num_groups, "GroupNorm", "num_groups", 1)
        self.num_channels = _checks.integer(num_channels, "GroupNorm", "num_channels", 1)
        if self.num_channels % self.num_groups != 0:
            raise ValueError(
                f"GroupNorm: num_groups: expected a divisor of num_channels {num_channels}, got {num_groups}"
            )
        super().__init__(self.num_groups, self.num_channels, eps, affine)

    def settings(self) -> dict[str, Any]:
        return {
            "num_groups": self.num_groups,
            "num_channels": self.num_channels,
            "eps": self.eps,
            "affine": self.affine,
        }


class InstanceNorm(GroupNormalization):
    """Base of the instance normalisations, which differ in the axes of their inputs."""

    inputs: str  # their shape

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        who = type(self).__name__
        if track_running_stats:
            raise ValueError(f"{who}: track_running_stats: expected False, got True: running statistics not supported")
        self.num_features = _checks.integer(num_features, who, "num_features", 1)
        self.momentum = _checks.number(momentum, who, "momentum")
        super().__init__(self.num_features, self.num_features, eps, affine)

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if len(input_shape) != 1 + self.inputs.count(","):
            raise ValueError(f"{self.describe(name)}: input: expected shape {self.inputs}, got {input_shape}")
        return super().output_shape(input_shape, name)

    def forward(self, at: Lowering) -> None:
        if at.training and at.x.size == at.x.shape[0] * self.num_features:
            raise ValueError(
                f"{self.describe(at.name)}: training needs at least 2 values in each channel of a sample, got 1"
            )
        super().forward(at)

    def settings(self) -> dict[str, Any]:
        return {
            "num_features": self.num_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
        }


class InstanceNorm2d(InstanceNorm):
    """Normalise each channel of each image, as PyTorch's ``nn.InstanceNorm2d``: Ulyanov, Vedaldi, Lempitsky,
    arXiv:1607.08022.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over the pixels, in prediction, too. A ReLU
    that follows happens in the same pass.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
    momentum : float
        Of running statistics, of which there are none.
    affine : bool
        Whether there are weight and bias.
    track_running_stats : bool
        True is not supported.

    Attributes
    ----------
    weight, bias : ndarray of shape (num_features,), float32, or None

    Raises
    ------
    ValueError
        If an argument is out of range, the input is not of shape (N, C, H, W), or has one pixel in training.

    Examples
    --------
    >>> from nnpar import InstanceNorm2d
    >>> InstanceNorm2d(2, eps=0.0)([[[[1.0, 3.0]], [[8.0, 4.0]]]])
    array([[[[-1.,  1.]],
    <BLANKLINE>
            [[ 1., -1.]]]], dtype=float32)
    """

    inputs = "(N, C, H, W)"


class InstanceNorm1d(InstanceNorm):
    """Normalise each channel of each sequence, as PyTorch's ``nn.InstanceNorm1d``.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats
        See :class:`InstanceNorm2d`.

    Raises
    ------
    ValueError
        If an argument is out of range, the input is not of shape (N, C, L), or has one position in training.

    Examples
    --------
    >>> from nnpar import InstanceNorm1d
    >>> InstanceNorm1d(2, eps=0.0)([[[1.0, 3.0], [8.0, 4.0]]])
    array([[[-1.,  1.],
            [ 1., -1.]]], dtype=float32)
    """

    inputs = "(N, C, L)"


class LocalResponseNorm(Layer):
    """Divide by a power of the squares of the channels nearby, as PyTorch's ``nn.LocalResponseNorm``: Krizhevsky,
    Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS 2012.

    ``y = x / (k + alpha / size * s)^beta``, where s is the sum of x^2 over the channels c - size // 2 to
    c + (size - 1) // 2.

    Parameters
    ----------
    size : int
    alpha, beta, k : float
        Where ``k + alpha / size * s`` is not positive, y is NaN or infinite, as in PyTorch.

    Raises
    ------
    ValueError
        If size is not at least 1, or the input is not of shape (N, C, ...) with three axes or more.

    Examples
    --------
    >>> from nnpar import LocalResponseNorm
    >>> LocalResponseNorm(1, alpha=1.0, beta=0.5, k=0.0)([[[3.0], [-4.0]]])
    array([[[ 1.],
            [-1.]]], dtype=float32)
    """

    channels_last = True

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = _checks.integer(size, "LocalResponseNorm", "size", 1)
        self.alpha = _checks.number(alpha, "LocalResponseNorm", "alpha")
        self.beta = _checks.number(beta, "LocalResponseNorm", "beta")
        self.k = _checks.number(k, "LocalResponseNorm", "k")
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if len(input_shape) < 3:
            raise ValueError(f"{self.describe(name)}: input: expected shape (N, C, ...), got {input_shape}")
        return input_shape

    def _response(self) -> tuple[int, int, float, float, float]:
        return self.size // 2, (self.size - 1) // 2, self.alpha / self.size, self.beta, self.k

    def forward(self, at: Lowering) -> None:
        # The backward pass reads x.
        at.y = at.x.like() if at.training else at.overwritable()
        at.step(norm.LocalResponse, at.x, at.y, *self._response(), writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.overwritable_dy()
            at.step(norm.LocalResponse, at.x, dx, *self._response(), at.dy)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
