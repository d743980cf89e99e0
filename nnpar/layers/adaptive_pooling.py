"""Pooling to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnpar import _checks, resampling
from nnpar.layers.along_axes import AlongPixels
from nnpar.layers.base import check_axes
from nnpar.resampling import Taps
from nnpar.shapes import Shape


class AdaptiveAvgPool2d(AlongPixels):
    """Means of so many parts of images, as PyTorch's ``nn.AdaptiveAvgPool2d``.

    Parameters
    ----------
    output_size : int or (int or None, int or None)
        Height and width; None keeps the input's.

    Raises
    ------
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar import AdaptiveAvgPool2d
    >>> AdaptiveAvgPool2d((1, 2))(np.arange(6.0).reshape(1, 1, 2, 3)).ravel()
    array([2., 3.], dtype=float32)
    """

    axes = 2

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        who = type(self).__name__
        each = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * self.axes
        if len(each) != self.axes:
            raise ValueError(f"{who}: output_size: expected an int or {self.axes}, got {output_size!r}")
        self.output_size = tuple(None if n is None else _checks.integer(n, who, "output_size", 1) for n in each)
        self._arrays = {}

    def axes_of(self, input_shape: Shape, who: str) -> int:
        check_axes(input_shape, self.axes, who)
        return self.axes

    def output_pixels(self, input_shape: Shape, who: str) -> Shape:
        return tuple(n if out is None else out for n, out in zip(input_shape[2:], self.output_size, strict=True))

    def taps(self, input_shape: Shape) -> list[Taps | None]:
        sizes = self.output_pixels(input_shape, "")
        each = zip(input_shape[2:], sizes, strict=True)
        return [None if n == out else resampling.averaged(n, out) for n, out in each]

    def settings(self) -> dict[str, Any]:
        return {"output_size": self.output_size}


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """Means of so many parts of sequences (N, C, L), as PyTorch's ``nn.AdaptiveAvgPool1d``.

    Parameters
    ----------
    output_size : int or (int,)

    Raises
    ------
    ValueError
        If the size is below 1.

    Examples
    --------
    >>> from nnpar import AdaptiveAvgPool1d
    >>> AdaptiveAvgPool1d(2)([[[1.0, 2.0, 4.0]]])
    array([[[1.5, 3. ]]], dtype=float32)
    """

    axes = 1
