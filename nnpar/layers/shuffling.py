"""Layers that exchange channels, with each other or with pixels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnpar import _checks
from nnpar._checks import Array
from nnpar._kernels.step import Step
from nnpar._kernels.strided import StridedCopy
from nnpar.layers.base import Layer, images_only
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class ChannelShuffle(Layer):
    """Channels of several groups in turn: Zhang, Zhou, Lin, Sun, arXiv:1707.01083, as PyTorch's ``nn.ChannelShuffle``.

    Parameters
    ----------
    groups : int
        Divides the number of channels.

    Raises
    ------
    ValueError
        When it is used: if it does not.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import ChannelShuffle
    >>> ChannelShuffle(2)(np.arange(4.0).reshape(1, 4, 1, 1)).ravel()
    array([0., 2., 1., 3.], dtype=float32)
    """

    def __init__(self, groups: int) -> None:
        self.groups = _checks.integer(groups, "ChannelShuffle", "groups", 1)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        images_only(input_shape, who)
        if input_shape[1] % self.groups:
            raise ValueError(f"{who}: groups: expected a divisor of {input_shape[1]} channels, got {self.groups}")
        return input_shape

    def forward(self, at: Lowering) -> None:
        self.output_shape(at.x.shape, at.name)
        at.y = at.x.like()
        at.step(functools.partial(_shuffle, self.groups), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = at.x.like()
            at.step(functools.partial(_shuffle, at.x.shape[1] // self.groups), at.dy, dx)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"groups": self.groups}


def _shuffle(groups: int, x: Array, y: Array) -> Step:
    """Channel g * (C / groups) + k becomes k * groups + g."""
    n, c, h, w = x.shape
    strides = x.strides
    parts = np.lib.stride_tricks.as_strided(
        x, (n, c // groups, groups, h, w), (strides[0], strides[1], strides[1] * (c // groups), *strides[2:])
    )
    to = y.strides
    whole = np.lib.stride_tricks.as_strided(y, parts.shape, (to[0], to[1] * groups, to[1], *to[2:]))
    return StridedCopy(parts, whole)


class PixelShuffle(Layer):
    """Channels become pixels: (N, C r^2, H, W) to (N, C, H r, W r). Shi et al., arXiv:1609.05158, as PyTorch's
    ``nn.PixelShuffle``.

    Parameters
    ----------
    upscale_factor : int

    Raises
    ------
    ValueError
        When it is used: if its square does not divide the number of channels.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import PixelShuffle
    >>> PixelShuffle(2)(np.arange(4.0).reshape(1, 4, 1, 1))[0, 0]
    array([[0., 1.],
           [2., 3.]], dtype=float32)
    """

    channels_last = True

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = _checks.integer(upscale_factor, "PixelShuffle", "upscale_factor", 1)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who, r = self.describe(name), self.upscale_factor
        images_only(input_shape, who)
        n, c, h, w = input_shape
        if c % (r * r):
            raise ValueError(f"{who}: input: expected a multiple of {r * r} channels, got {c}")
        return n, c // (r * r), h * r, w * r

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(functools.partial(_pixels, self.upscale_factor, False), at.x, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx = Buffer(at.x.shape)
            at.step(functools.partial(_pixels, self.upscale_factor, True), dx, at.dy)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"upscale_factor": self.upscale_factor}


def _pixels(r: int, back: bool, few: Array, many: Array) -> Step:
    """Channel c r^2 + i r + j of pixel (h, w) is channel c of pixel (h r + i, w r + j)."""
    n, c, h, w = few.shape
    shape = (n, c // (r * r), r, r, h, w)
    a, b = few.strides, many.strides
    small = np.lib.stride_tricks.as_strided(few, shape, (a[0], a[1] * r * r, a[1] * r, a[1], a[2], a[3]))
    large = np.lib.stride_tricks.as_strided(many, shape, (b[0], b[1], b[2], b[3], b[2] * r, b[3] * r))
    return StridedCopy(large, small) if back else StridedCopy(small, large)
