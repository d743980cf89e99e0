"""From images to vectors."""

from __future__ import annotations

import math
from typing import Any

from nnpar._checks import Array
from nnpar._kernels.elementwise import Transpose
from nnpar.layers.base import Layer
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Flatten(Layer):
    """(N, C, H, W) to (N, C * H * W), in the order (C, H, W), as PyTorch's ``nn.Flatten()``; vectors pass.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Flatten
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape[0], math.prod(input_shape[1:])

    def forward(self, at: Lowering) -> None:
        shape = self.output_shape(at.x.shape, at.name)
        # Channels-last memory has the order (H, W, C): with one channel, or one pixel, that is the order wanted.
        at.saved["reorder"] = len(at.x.shape) == 4 and at.x.shape[1] > 1 and at.x.shape[2] * at.x.shape[3] > 1
        if not at.saved["reorder"]:
            at.y = at.x.reshape(shape)
            return
        at.y = Buffer(shape)
        at.step(_channels_first, at.x, at.y)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if not at.saved["reorder"]:
            at.pass_back(at.dy.reshape(at.x.shape), owned=at.owns_dy)
            return
        dx = Buffer(at.x.shape)
        at.step(_channels_last, at.dy, dx)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {}


def _channels_first(images: Array, rows: Array) -> Transpose:
    """Rows (N, C * H * W) of images in channels-last memory."""
    n, c, h, w = images.shape
    return Transpose(images.transpose(0, 2, 3, 1).reshape(n, h * w, c), rows.reshape(n, c, h * w))


def _channels_last(rows: Array, images: Array) -> Transpose:
    n, c, h, w = images.shape
    return Transpose(rows.reshape(n, c, h * w), images.transpose(0, 2, 3, 1).reshape(n, h * w, c))
