"""Tables of the places whose weighted sum is one of the result: resampling, padding, pooling, selecting.

Resampling follows ONNX's Resize, which has PyTorch's ``interpolate`` as special cases.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnpar._checks import Array

Floats = NDArray[np.float64]
MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, eq=False)
class Taps:
    """y[i] = the sum of weight[k] * x[index[k]] for k from first[i] to before first[i + 1].

    Attributes
    ----------
    size : int
        Of x.
    first, index : ndarray of int64
    weight : ndarray of float32
    """

    size: int
    first: NDArray[np.int64]
    index: NDArray[np.int64]
    weight: Array

    @classmethod
    def of(cls, size: int, place: NDArray[np.int64], index: NDArray[np.int64], weight: Floats) -> Taps:
        """Out of terms: y[place] has weight * x[index]; places in order. Weights of 0 are left out."""
        count = int(place[-1]) + 1 if len(place) else 0
        return cls._of(size, count, place, index, weight.astype(np.float32))

    @classmethod
    def _of(cls, size: int, count: int, place: NDArray[np.int64], index: NDArray[np.int64], weight: Array) -> Taps:
        kept = weight != 0.0
        place, index, weight = place[kept], index[kept], weight[kept]
        first = np.searchsorted(place, np.arange(count + 1))
        return cls(size, first.astype(np.int64), np.ascontiguousarray(index, np.int64), np.ascontiguousarray(weight))

    @property
    def count(self) -> int:
        """The size of y."""
        return len(self.first) - 1

    def matrix(self) -> Array:
        """The same as a matrix (count, size)."""
        matrix = np.zeros((self.count, self.size), np.float32)
        np.add.at(matrix, (np.repeat(np.arange(self.count), np.diff(self.first)), self.index), self.weight)
        return matrix

    @functools.cached_property
    def transposed(self) -> Taps:
        """The table of the gradient: x[index] gets weight * y[place]."""
        place = np.repeat(np.arange(self.count), np.diff(self.first))
        order = np.argsort(self.index, kind="stable")
        return Taps._of(self.count, self.size, self.index[order], place[order], self.weight[order])


def selected(size: int, indices: Sequence[int] | NDArray[np.int64]) -> Taps:
    """The places of those numbers, in that order; negative ones are none, and give 0."""
    index = np.asarray(indices, np.int64)
    inside = index >= 0
    place = np.arange(len(index))
    return Taps._of(size, len(index), place[inside], index[inside], np.ones(int(inside.sum()), np.float32))


def padded(size: int, before: int, after: int, mode: str) -> Taps:
    """More places at both ends: "reflect" turns round at the outermost place, "replicate" repeats it, "circular" begins
    again at the other end. Fewer where a number is negative.
    """
    index = np.arange(-before, size + after)
    if mode == "reflect":
        period = max(1, 2 * (size - 1))
        index = size - 1 - abs(size - 1 - index % period)
    elif mode == "replicate":
        index = index.clip(0, size - 1)
    else:
        index = index % size
    return selected(size, index)


def averaged(size: int, count: int) -> Taps:
    """Means of `count` parts that cover all places, as PyTorch's adaptive pooling cuts them."""
    begin = np.arange(count) * size // count
    end = -(-np.arange(1, count + 1) * size // count)
    length = end - begin
    place = np.repeat(np.arange(count), length)
    index = np.concatenate([np.arange(a, b) for a, b in zip(begin, end, strict=True)]) if count else np.arange(0)
    return Taps.of(size, place, index, 1.0 / length[place])


def resized(
    size: int,
    count: int,
    scale: float,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    roi: tuple[float, float] = (0.0, 1.0),
) -> Taps:
    """Resampling of `size` places to `count`, `scale` times as many.

    Parameters
    ----------
    size, count : int
    scale : float
    mode : {"nearest", "linear", "cubic"}
    coordinates, nearest, cubic_coeff_a, exclude_outside, antialias
        ONNX's coordinate_transformation_mode, nearest_mode, and so on.
    roi : (float, float)
        The part of the axis that "tf_crop_and_resize" takes.
    """
    at = _coordinates(size, count, scale, coordinates, roi)
    if mode == "nearest":
        index = _nearest(at, nearest)
        weight = np.ones((count, 1))
        index = index[:, np.newaxis]
    else:
        index, weight = _neighbours(at, mode, min(scale, 1.0) if antialias else 1.0, cubic_coeff_a)
    if exclude_outside:
        weight = np.where((index >= 0) & (index < size), weight, 0.0)
    if exclude_outside or antialias:
        weight = weight / weight.sum(axis=1, keepdims=True)
    index = index.clip(0, size - 1)
    if coordinates == "tf_crop_and_resize":
        weight = np.where(((at >= 0) & (at <= size - 1))[:, np.newaxis], weight, 0.0)
    place = np.repeat(np.arange(count), index.shape[1])
    return Taps._of(size, count, place, index.ravel(), weight.astype(np.float32).ravel())


def _coordinates(size: int, count: int, scale: float, kind: str, roi: tuple[float, float]) -> Floats:
    """Where each place of the result lies among those of x."""
    i, length = np.arange(count, dtype=np.float64), scale * size
    if kind == "align_corners":
        return i * (size - 1) / (length - 1) if length != 1 else 0 * i
    if kind == "asymmetric":
        return i / scale
    if kind == "pytorch_half_pixel" and length == 1:
        return 0 * i - 0.5
    if kind == "tf_crop_and_resize":
        begin, part = roi[0] * (size - 1), (roi[1] - roi[0]) * (size - 1)
        return begin + (i * part / (length - 1) if length != 1 else 0 * i + part / 2)
    offset = size / 2 * (1 - count / length) if kind == "half_pixel_symmetric" else 0.0
    return offset + (i + 0.5) / scale - 0.5


def _nearest(at: Floats, mode: str) -> NDArray[np.int64]:
    rounded = {
        "round_prefer_floor": lambda: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda: np.floor(at + 0.5),
        "floor": lambda: np.floor(at),
        "ceil": lambda: np.ceil(at),
    }[mode]()
    return rounded.astype(np.int64)


def _neighbours(at: Floats, mode: str, scale: float, a: float) -> tuple[NDArray[np.int64], Floats]:
    """Places around each coordinate, and their weights: (count, terms). A scale below 1 widens the kernel."""
    reach = (1.0 if mode == "linear" else 2.0) / scale
    first = np.floor(at - reach).astype(np.int64) + 1
    index = first[:, np.newaxis] + np.arange(math.ceil(2 * reach) + 1)
    distance = abs(index - at[:, np.newaxis]) * scale
    if mode == "linear":
        return index, np.maximum(1.0 - distance, 0.0)
    # The cubic convolution of Keys, IEEE Transactions on Acoustics, Speech, and Signal Processing 29(6), 1981.
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return index, np.select([distance <= 1, distance < 2], [near, far], 0.0)
