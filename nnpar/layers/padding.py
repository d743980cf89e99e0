"""Padding with the image itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnpar import _checks, resampling
from nnpar.layers.along_axes import AlongPixels
from nnpar.layers.base import check_axes
from nnpar.resampling import Taps
from nnpar.shapes import Shape


class _Pad(AlongPixels):
    """Base of the paddings with the image itself."""

    axes = 2
    mode = ""

    def __init__(self, padding: int | Sequence[int]) -> None:
        who = type(self).__name__
        sides = _checks.integers([padding] * 2 * self.axes if np.ndim(padding) == 0 else padding, who, "padding", 0)
        if len(sides) != 2 * self.axes:
            raise ValueError(f"{who}: padding: expected an int or {2 * self.axes}, got {sides}")
        self.padding = sides
        self._arrays = {}

    def axes_of(self, input_shape: Shape, who: str) -> int:
        check_axes(input_shape, self.axes, who)
        return self.axes

    def sides(self) -> list[tuple[int, int]]:
        """(before, after) each axis: PyTorch names those of the last axis first."""
        pairs = list(zip(self.padding[::2], self.padding[1::2], strict=True))
        return pairs[::-1]

    def output_pixels(self, input_shape: Shape, who: str) -> Shape:
        for n, two in zip(input_shape[2:], self.sides(), strict=True):
            if self.mode == "reflect" and max(two) >= n:
                raise ValueError(f"{who}: input: expected more than the padding's {max(two)} pixels, got {input_shape}")
        return tuple(before + n + after for n, (before, after) in zip(input_shape[2:], self.sides(), strict=True))

    def taps(self, input_shape: Shape) -> list[Taps | None]:
        return [
            resampling.padded(n, before, after, self.mode) if before or after else None
            for n, (before, after) in zip(input_shape[2:], self.sides(), strict=True)
        ]

    def settings(self) -> dict[str, Any]:
        return {"padding": self.padding}


class ReflectionPad2d(_Pad):
    """Images continued by their mirror images, as PyTorch's ``nn.ReflectionPad2d``.

    Parameters
    ----------
    padding : int or tuple of four ints
        Left, right, top, bottom; an int stands for all.

    Raises
    ------
    ValueError
        If they are not four; when it is used: if an image has no more pixels than its padding.

    Examples
    --------
    >>> from nnpar import ReflectionPad2d
    >>> ReflectionPad2d((2, 0, 0, 0))([[[[1.0, 2.0, 3.0]]]]).ravel()
    array([3., 2., 1., 2., 3.], dtype=float32)
    """

    mode = "reflect"


class ReflectionPad1d(_Pad):
    """Sequences (N, C, L) continued by their mirror images, as PyTorch's ``nn.ReflectionPad1d``.

    Parameters
    ----------
    padding : int or tuple of two ints
        Left, right; an int stands for both.

    Raises
    ------
    ValueError
        If they are not two; when it is used: if a sequence has no more places than its padding.

    Examples
    --------
    >>> from nnpar import ReflectionPad1d
    >>> ReflectionPad1d(1)([[[1.0, 2.0, 3.0]]]).ravel()
    array([2., 1., 2., 3., 2.], dtype=float32)
    """

    axes = 1
    mode = "reflect"


class ReplicationPad2d(_Pad):
    """Images continued by their outermost pixels, as PyTorch's ``nn.ReplicationPad2d``.

    Parameters
    ----------
    padding : int or tuple of four ints
        Left, right, top, bottom; an int stands for all.

    Raises
    ------
    ValueError
        If they are not four.

    Examples
    --------
    >>> from nnpar import ReplicationPad2d
    >>> ReplicationPad2d((2, 1, 0, 0))([[[[1.0, 2.0]]]]).ravel()
    array([1., 1., 1., 2., 2.], dtype=float32)
    """

    mode = "replicate"


class ReplicationPad1d(_Pad):
    """Sequences (N, C, L) continued by their outermost places, as PyTorch's ``nn.ReplicationPad1d``.

    Parameters
    ----------
    padding : int or tuple of two ints
        Left, right; an int stands for both.

    Raises
    ------
    ValueError
        If they are not two.

    Examples
    --------
    >>> from nnpar import ReplicationPad1d
    >>> ReplicationPad1d(1)([[[1.0, 2.0]]]).ravel()
    array([1., 1., 2., 2.], dtype=float32)
    """

    axes = 1
    mode = "replicate"
