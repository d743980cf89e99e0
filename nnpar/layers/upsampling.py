"""Upsampling."""

from __future__ import annotations

from typing import Any

from nnpar import _checks, shapes
from nnpar._checks import IntOrPair
from nnpar._kernels import pool
from nnpar.layers.base import Layer, images_only
from nnpar.layers.lowering import Buffer, Lowering
from nnpar.shapes import Shape


class Upsample(Layer):
    """Larger images by the nearest pixel, as PyTorch's ``nn.Upsample`` of images.

    Parameters
    ----------
    size : None
        PyTorch's first argument; a fixed size is not supported.
    scale_factor : int or (int, int)
        Of the height and the width: whole numbers only.
    mode : {"nearest"}
        The only one that is supported.

    Raises
    ------
    ValueError
        If an argument has a value that is not supported.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import Upsample
    >>> Upsample(scale_factor=2)(np.array([[[[1.0, 2.0]]]]))[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """

    channels_last = True

    def __init__(self, size: None = None, scale_factor: IntOrPair | None = None, mode: str = "nearest") -> None:
        if size is not None:
            raise ValueError(f"Upsample: size: a fixed size is not supported, expected scale_factor, got size {size!r}")
        if mode != "nearest":
            raise ValueError(f"Upsample: mode: only 'nearest' is supported, got {mode!r}")
        if scale_factor is None:
            raise ValueError("Upsample: scale_factor: expected an int or a pair (h, w), got None")
        self.scale_factor = _checks.pair(scale_factor, "Upsample", "scale_factor", 1)
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        who = self.describe(name)
        images_only(input_shape, who)
        return shapes.upsample2d(input_shape, self.scale_factor, who)

    def forward(self, at: Lowering) -> None:
        at.y = Buffer(self.output_shape(at.x.shape, at.name))
        at.step(pool.Upsample2d, at.x, at.y, self.scale_factor)

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        dx = Buffer(at.x.shape)
        at.step(pool.Upsample2dGrad, at.dy, dx, self.scale_factor)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"scale_factor": self.scale_factor}
