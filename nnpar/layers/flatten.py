"""From images to vectors."""

from __future__ import annotations

import math
from typing import Any

from nnpar.layers.base import Layer
from nnpar.layers.lowering import Lowering
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

    channels_last = False

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape[0], math.prod(input_shape[1:])

    def forward(self, at: Lowering) -> None:
        at.y = at.x.view(self.output_shape(at.x.shape, at.name))

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            at.pass_back(at.dy.view(at.x.shape, channels_last=False), owned=at.owns_dy)

    def settings(self) -> dict[str, Any]:
        return {}
