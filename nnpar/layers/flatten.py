"""From images to vectors."""

from __future__ import annotations

import math
from typing import Any

from nnpar import arrays
from nnpar._kernels.elementwise import Transpose
from nnpar._kernels.step import Step
from nnpar.layers.base import Layer, Lowering
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

    def forward(self, at: Lowering) -> list[Step]:
        shape = self.output_shape(at.x.shape, at.name)
        # Channels-last memory has the order (H, W, C): with one channel, or one pixel, that is the order wanted.
        at.saved["reorder"] = len(at.x.shape) == 4 and at.x.shape[1] > 1 and at.x.shape[2] * at.x.shape[3] > 1
        if not at.saved["reorder"]:
            at.y = at.x.reshape(shape)
            return []
        at.y = arrays.empty(shape)
        n, c, h, w = at.x.shape
        return [Transpose(at.x.transpose(0, 2, 3, 1).reshape(n, h * w, c), at.y.reshape(n, c, h * w))]

    def backward(self, at: Lowering) -> list[Step]:
        if not at.needs_dx:
            return []
        if not at.saved["reorder"]:
            memory_shape = tuple(at.x.shape[axis] for axis in (0, 2, 3, 1)) if at.x.ndim == 4 else at.x.shape
            at.dx = at.dy.reshape(memory_shape)
            if at.x.ndim == 4:
                at.dx = at.dx.transpose(0, 3, 1, 2)
            return []
        n, c, h, w = at.x.shape
        at.dx = arrays.empty(at.x.shape)
        return [Transpose(at.dy.reshape(n, c, h * w), at.dx.transpose(0, 2, 3, 1).reshape(n, h * w, c))]

    def settings(self) -> dict[str, Any]:
        return {}
