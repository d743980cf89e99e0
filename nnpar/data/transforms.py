"""Augmentation: each transformation draws its numbers for each sample from the seed, the epoch and the sample's number
in the data set, so that neither threads nor the order of batches change them. A pipeline becomes one affine map of
places and one of channels for each image, and one pass over the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import Array, IntOrPair, Pair
from nnpar._kernels.warp import Warp

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Normalize",
    "Pipeline",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "Transform",
]

Draws = NDArray[np.float64]
DRAWS_OF_A_BLOCK = 4


class Maps:
    """What a pipeline does with each image of a batch, as it grows: places of the result to places of the image,
    colours to colours, and a box that is covered.

    Attributes
    ----------
    size : (int, int)
        Height and width of the result so far.
    places : ndarray of shape (N, 3, 3)
        Row, column and 1 of the result to those of the image.
    colours : ndarray of shape (N, C + 1, C + 1)
    boxes : ndarray of shape (N, 4), int64
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        count, channels, *size = shape
        self.size: Pair = (size[0], size[1])
        self.places = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
        self.colours = np.broadcast_to(np.eye(channels + 1), (count, channels + 1, channels + 1)).copy()
        self.boxes = np.zeros((count, 4), np.int64)
        self.channels = channels

    def move(self, matrices: NDArray[np.float64], size: Pair) -> None:
        """The result so far is itself looked at through maps (N, 3, 3), and has that size then."""
        if self.boxes.any():
            raise ValueError("transforms: expected RandomErasing after all that moves pixels")
        self.places, self.size = self.places @ matrices, size

    def recolour(self, matrices: NDArray[np.float64]) -> None:
        """Colours (of C channels, and 1) are multiplied by matrices (N or 1, C + 1, C + 1)."""
        self.colours = matrices @ self.colours


class Transform:
    """Base of the transformations, and of users' own."""

    draws = 0  # random numbers for each sample

    def apply(self, maps: Maps, draws: Draws) -> None:
        """Change the maps; `draws` (N, self.draws) are uniform in [0, 1)."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Its arguments."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings().items())})"


def _shifted(down: Any, right: Any, count: int) -> NDArray[np.float64]:
    matrices: NDArray[np.float64] = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    matrices[:, 0, 2], matrices[:, 1, 2] = down, right
    return matrices


class RandomCrop(Transform):
    """A part of the image, anywhere in it and the zeros around it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the part.
    padding : int or (int, int)
        Zeros on both sides.

    Raises
    ------
    ValueError
        If a number is out of range; when it is used: if the image with its padding is smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.data.transforms import Pipeline, RandomCrop
    >>> Pipeline(RandomCrop(32, padding=4))(np.zeros((5, 3, 32, 32))).shape
    (5, 3, 32, 32)
    """

    draws = 2

    def __init__(self, size: IntOrPair, padding: IntOrPair = 0) -> None:
        self.size = _checks.pair(size, "RandomCrop", "size", 1)
        self.padding = _checks.pair(padding, "RandomCrop", "padding", 0)

    def apply(self, maps: Maps, draws: Draws) -> None:
        room = [n + 2 * p - wanted for n, p, wanted in zip(maps.size, self.padding, self.size, strict=True)]
        if min(room) < 0:
            raise ValueError(f"RandomCrop: size: expected at most {maps.size} with padding, got {self.size}")
        down, right = (np.floor(draws[:, k] * (room[k] + 1)) - self.padding[k] for k in (0, 1))
        maps.move(_shifted(down, right, len(draws)), self.size)


class CenterCrop(Transform):
    """The middle of the image.

    Parameters
    ----------
    size : int or (int, int)

    Raises
    ------
    ValueError
        If a size is below 1; when it is used: if the image is smaller.
    """

    def __init__(self, size: IntOrPair) -> None:
        self.size = _checks.pair(size, "CenterCrop", "size", 1)

    def apply(self, maps: Maps, draws: Draws) -> None:
        room = [n - wanted for n, wanted in zip(maps.size, self.size, strict=True)]
        if min(room) < 0:
            raise ValueError(f"CenterCrop: size: expected at most {maps.size}, got {self.size}")
        maps.move(_shifted(room[0] // 2, room[1] // 2, len(draws)), self.size)


class Resize(Transform):
    """The whole image in another size, by the pixels nearby.

    Parameters
    ----------
    size : int or (int, int)

    Raises
    ------
    ValueError
        If a size is below 1.
    """

    def __init__(self, size: IntOrPair) -> None:
        self.size = _checks.pair(size, "Resize", "size", 1)

    def apply(self, maps: Maps, draws: Draws) -> None:
        zero = np.zeros(len(draws))
        height, width = maps.size
        _part_of(maps, zero, zero, zero + height, zero + width, self.size)


def _part_of(maps: Maps, top: Any, left: Any, height: Any, width: Any, size: Pair) -> None:
    """A part of the image, of any size, as one of that size: middles of pixels lie at halves."""
    matrices = np.zeros((len(top), 3, 3))
    matrices[:, 2, 2] = 1.0
    for axis, (begin, length, wanted) in enumerate(((top, height, size[0]), (left, width, size[1]))):
        scale = np.asarray(length, np.float64) / wanted
        matrices[:, axis, axis], matrices[:, axis, 2] = scale, begin + 0.5 * scale - 0.5
    maps.move(matrices, size)


class RandomResizedCrop(Transform):
    """A part of random area and shape, in one size: Szegedy et al., arXiv:1409.4842.

    Parameters
    ----------
    size : int or (int, int)
    scale : (float, float)
        Of the image's area, between 0 and 1.
    ratio : (float, float)
        Of width to height, chosen by its logarithm.

    Raises
    ------
    ValueError
        If numbers are out of range.
    """

    draws = 4

    def __init__(
        self, size: IntOrPair, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        self.size = _checks.pair(size, "RandomResizedCrop", "size", 1)
        self.scale = _interval(scale, "RandomResizedCrop", "scale")
        self.ratio = _interval(ratio, "RandomResizedCrop", "ratio")
        if self.scale[1] > 1.0:
            raise ValueError(f"RandomResizedCrop: scale: expected at most 1, got {scale}")

    def apply(self, maps: Maps, draws: Draws) -> None:
        h, w = maps.size
        area = h * w * (self.scale[0] + draws[:, 0] * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        shape = np.exp(low + draws[:, 1] * (high - low))
        height, width = np.sqrt(area / shape), np.sqrt(area * shape)
        # What does not fit is as large as it can be.
        height, width = np.minimum(height, h), np.minimum(width, w)
        _part_of(maps, draws[:, 2] * (h - height), draws[:, 3] * (w - width), height, width, self.size)


class RandomHorizontalFlip(Transform):
    """Left and right exchanged with a probability.

    Parameters
    ----------
    p : float

    Raises
    ------
    ValueError
        If it is not from 0 to 1.
    """

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability(p, type(self).__name__)

    _axis = 1

    def apply(self, maps: Maps, draws: Draws) -> None:
        matrices = _shifted(0.0, 0.0, len(draws))
        turned = draws[:, 0] < self.p
        matrices[turned, self._axis, self._axis] = -1.0
        matrices[turned, self._axis, 2] = maps.size[self._axis] - 1
        maps.move(matrices, maps.size)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Top and bottom exchanged with a probability.

    Parameters
    ----------
    p : float

    Raises
    ------
    ValueError
        If it is not from 0 to 1.
    """

    _axis = 0


class RandomRotation(Transform):
    """Turned about the middle by up to an angle either way; corners that come in are zeros.

    Parameters
    ----------
    degrees : float

    Raises
    ------
    ValueError
        If it is negative.
    """

    draws = 1

    def __init__(self, degrees: float) -> None:
        self.degrees = _checks.number(degrees, "RandomRotation", "degrees")
        if self.degrees < 0.0:
            raise ValueError(f"RandomRotation: degrees: expected at least 0, got {degrees}")

    def apply(self, maps: Maps, draws: Draws) -> None:
        angle = np.deg2rad((2.0 * draws[:, 0] - 1.0) * self.degrees)
        cos, sin = np.cos(angle), np.sin(angle)
        down, right = (maps.size[0] - 1) / 2, (maps.size[1] - 1) / 2
        matrices = _shifted(down - cos * down + sin * right, right - sin * down - cos * right, len(draws))
        matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
        maps.move(matrices, maps.size)


class ColorJitter(Transform):
    """Brightness, contrast and saturation multiplied by random factors from 1 - x to 1 + x, and colours turned, in that
    order. Contrast is about the middle of the range, 0.5; saturation and hue are for images of three channels.

    Parameters
    ----------
    brightness, contrast, saturation : float
    hue : float
        0 to 0.5: colours are turned about the axis of greys by up to this part of the circle, either way.

    Raises
    ------
    ValueError
        If a number is out of range; when it is used: if saturation or hue change images of other than three channels.
    """

    draws = 4

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, value in amounts.items():
            if _checks.number(value, "ColorJitter", name) < 0.0:
                raise ValueError(f"ColorJitter: {name}: expected at least 0, got {value}")
        if hue > 0.5:
            raise ValueError(f"ColorJitter: hue: expected at most 0.5, got {hue}")
        self.brightness, self.contrast, self.saturation = float(brightness), float(contrast), float(saturation)
        self.hue = float(hue)

    def apply(self, maps: Maps, draws: Draws) -> None:
        channels, count = maps.channels, len(draws)
        if (self.saturation or self.hue) and channels != 3:
            name = "saturation" if self.saturation else "hue"
            raise ValueError(f"ColorJitter: {name}: expected images of 3 channels, got {channels}")
        amounts = (self.brightness, self.contrast, self.saturation)
        bright, contrast, saturation = (
            np.maximum(0.0, 1.0 + (2.0 * draws[:, k] - 1.0) * amount) for k, amount in enumerate(amounts)
        )
        matrices = np.zeros((count, channels + 1, channels + 1))
        matrices[:, -1, -1] = 1.0
        matrices[:, :-1, -1] = 0.5 * (1.0 - contrast)[:, np.newaxis]
        diagonal = np.arange(channels)
        matrices[:, diagonal, diagonal] = (bright * contrast)[:, np.newaxis]
        if self.saturation:
            matrices = _mixed_with_grey(saturation) @ matrices
        if self.hue:
            matrices = _turned_about_grey(2.0 * math.pi * self.hue * (2.0 * draws[:, 3] - 1.0)) @ matrices
        maps.recolour(matrices)


def _mixed_with_grey(saturation: NDArray[np.float64]) -> NDArray[np.float64]:
    """That share of a colour, the rest its luma (ITU-R BT.601)."""
    matrices = np.zeros((len(saturation), 4, 4))
    matrices[:, :3, :3] = (1.0 - saturation)[:, np.newaxis, np.newaxis] * np.array([0.299, 0.587, 0.114])
    matrices[:, range(3), range(3)] += saturation[:, np.newaxis]
    matrices[:, 3, 3] = 1.0
    return matrices


def _turned_about_grey(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about (1, 1, 1), by Rodrigues' formula: ``I + sin a K + (1 - cos a) K^2``."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    sines, cosines = (f(angles)[:, np.newaxis, np.newaxis] for f in (np.sin, np.cos))
    matrices = np.zeros((len(angles), 4, 4))
    matrices[:, :3, :3] = np.eye(3) + sines * cross + (1.0 - cosines) * (cross @ cross)
    matrices[:, 3, 3] = 1.0
    return matrices


class RandomErasing(Transform):
    """A square covered with zeros, which are the mean colour once `Normalize` was applied: cutout, DeVries, Taylor,
    arXiv:1708.04552. It comes after all that moves pixels.

    Parameters
    ----------
    size : int or (int, int)
        Of the part that is covered; its middle may lie anywhere, so that it may reach beyond the image.
    p : float
        How often.

    Raises
    ------
    ValueError
        If numbers are out of range.
    """

    draws = 3

    def __init__(self, size: IntOrPair, p: float = 1.0) -> None:
        self.size = _checks.pair(size, "RandomErasing", "size", 1)
        self.p = _probability(p, "RandomErasing")

    def apply(self, maps: Maps, draws: Draws) -> None:
        for axis in (0, 1):
            middle = np.floor(draws[:, 1 + axis] * maps.size[axis]).astype(np.int64)
            begin = middle - self.size[axis] // 2
            maps.boxes[:, axis] = np.maximum(begin, 0)
            maps.boxes[:, 2 + axis] = begin + self.size[axis] - maps.boxes[:, axis]
        maps.boxes[draws[:, 0] >= self.p] = 0


class Normalize(Transform):
    """``(x - mean) / std`` of each channel.

    Parameters
    ----------
    mean, std : float or sequence of float
        One for each channel, or one for all.

    Raises
    ------
    ValueError
        If a deviation is not above 0; when it is used: if there are not as many as channels.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = (
            tuple(_checks.number(value, "Normalize", name) for value in np.atleast_1d(values))
            for name, values in (("mean", mean), ("std", std))
        )
        if min(self.std) <= 0.0:
            raise ValueError(f"Normalize: std: expected numbers above 0, got {self.std}")

    def apply(self, maps: Maps, draws: Draws) -> None:
        channels = maps.channels
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"Normalize: {name}: expected one for each of {channels} channels, got {values}")
        scale = 1.0 / np.broadcast_to(np.array(self.std), channels)
        matrix = np.diag(np.append(scale, 1.0))
        matrix[:-1, -1] = -scale * np.broadcast_to(np.array(self.mean), channels)
        maps.recolour(matrix[np.newaxis])


class Pipeline:
    """Transformations one after the other, in one pass over the images.

    Parameters
    ----------
    *transforms : Transform

    Raises
    ------
    TypeError
        If there is something else.

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.data.transforms import Normalize, Pipeline, RandomHorizontalFlip
    >>> pipeline = Pipeline(RandomHorizontalFlip(), Normalize(0.5, 0.25))
    >>> images = np.arange(4.0).reshape(1, 1, 1, 4) / 4
    >>> pipeline(images, epoch=0, samples=[2])[0, 0, 0]
    array([ 1.,  0., -1., -2.], dtype=float32)
    """

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(f"Pipeline: expected transformations, got {type(transform).__name__}")
        self.transforms = transforms

    def __call__(
        self,
        images: NDArray[Any],
        seed: int = 0,
        epoch: int = 0,
        samples: Sequence[int] | NDArray[np.int64] | None = None,
        threads: bool = True,
    ) -> Array:
        """The images, transformed.

        Parameters
        ----------
        images : ndarray of shape (N, C, H, W)
            Bytes stand for 0 to 1.
        seed, epoch : int
        samples : sequence of int, optional
            The images' numbers in the data set; 0, 1, ... by default.
        threads : bool
            Whether to use nnpar's threads, rather than the one that calls.

        Returns
        -------
        ndarray of shape (N, C, height, width), float32
            In channels-last memory.

        Raises
        ------
        ValueError
            If a transformation cannot take such images.
        """
        numbers = np.arange(len(images)) if samples is None else np.asarray(samples, np.int64)
        x = images if images.dtype == np.uint8 else _checks.floats(images, "Pipeline", "images", 4)
        if x.ndim != 4 or len(numbers) != len(x):
            raise ValueError(f"Pipeline: images: expected shape ({len(numbers)}, C, H, W), got {x.shape}")
        maps = Maps(x.shape)
        if x.dtype == np.uint8:
            maps.recolour(np.diag(np.append(np.full(x.shape[1], 1 / 255), 1.0))[np.newaxis])
        for place, transform in enumerate(self.transforms):
            transform.apply(maps, uniform(seed, epoch, numbers, place, transform.draws))
        y: Array = np.empty((len(x), *maps.size, x.shape[1]), np.float32).transpose(0, 3, 1, 2)
        if y.size:
            places = np.ascontiguousarray(maps.places[:, :2].reshape(len(x), 6))
            colours = np.ascontiguousarray(maps.colours[:, :-1], np.float32)
            Warp(x, y, places, colours, maps.boxes, threads)()
        return y

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(map(repr, self.transforms))})"


def uniform(seed: int, epoch: int, samples: NDArray[np.int64], place: int, count: int) -> Draws:
    """Numbers in [0, 1), (len(samples), count): those of each sample, whatever others are asked for.

    Philox4x32-10 (Salmon et al., SC 2011) of the sample, the epoch, the place in the pipeline and a counter.
    """
    blocks = -(-count // DRAWS_OF_A_BLOCK)
    counter = np.zeros((4, len(samples), blocks), np.uint64)
    counter[0] = (samples & 0xFFFFFFFF).astype(np.uint64)[:, np.newaxis]
    counter[1] = epoch & 0xFFFFFFFF
    counter[2] = (samples >> 32).astype(np.uint64)[:, np.newaxis]
    # Apart from dropout's counters, whose last word is a layer's number.
    counter[3] = np.uint64(1 << 31) + np.uint64(place << 8) + np.arange(blocks, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = counter
    k0, k1 = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32 & 0xFFFFFFFF)
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ k0, second & low, (first >> np.uint64(32)) ^ c3 ^ k1, first & low,
        )  # fmt: skip
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    words = np.stack([c0, c1, c2, c3], axis=-1).reshape(len(samples), DRAWS_OF_A_BLOCK * blocks)
    return np.multiply(words[:, :count], 2.0**-32, dtype=np.float64)


def _probability(p: float, who: str) -> float:
    number = _checks.number(p, who, "p")
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{who}: p: expected 0 to 1, got {p}")
    return number


def _interval(values: tuple[float, float], who: str, name: str) -> tuple[float, float]:
    if len(values) != 2:
        raise ValueError(f"{who}: {name}: expected two numbers, got {values}")
    low, high = (_checks.number(value, who, name) for value in values)
    if not 0.0 < low <= high:
        raise ValueError(f"{who}: {name}: expected a smaller and a larger number above 0, got {values}")
    return low, high
