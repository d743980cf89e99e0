"""Samples mixed with one another: each of a batch with the one that stands as far from its end. What is drawn depends
on the seed, the epoch and the sample's number in the data set, as in :mod:`nnpar.data.transforms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnpar import _checks
from nnpar._checks import Array
from nnpar.data.transforms import Draws, uniform

__all__ = ["CutMix", "Mixing", "Mixup", "mixed"]

PLACE = 255  # of a pipeline's places the last, so that draws are apart from those of transformations
POINTS = 4097  # of the table that inverts a distribution
MOST_ALPHA = 100.0  # with which it does so to six digits


class Mixing:
    """Base of the ways to mix.

    Parameters
    ----------
    alpha : float
        Above 0, at most 100: the share of a sample is drawn from Beta(alpha, alpha).
    classes : int, optional
        Number of classes, if labels are class numbers: they become probabilities. Targets of regression need none.

    Raises
    ------
    ValueError
        If a number is out of range; when it is used: if labels are class numbers and `classes` is not given.
    """

    draws = 1

    def __init__(self, alpha: float = 1.0, classes: int | None = None) -> None:
        who = type(self).__name__
        self.alpha = _checks.above(alpha, who, "alpha")
        if self.alpha > MOST_ALPHA:
            raise ValueError(f"{who}: alpha: expected at most {MOST_ALPHA:g}, got {alpha}")
        self.classes = None if classes is None else _checks.integer(classes, who, "classes", 2)
        self._table = _beta_table(self.alpha)

    def shares(self, draws: Draws) -> Draws:
        """Of each sample in its mixture, (N,), from 0 to 1."""
        half = np.minimum(draws[:, 0], 1.0 - draws[:, 0])
        small = np.interp(half, *self._table) ** (1.0 / min(self.alpha, 1.0))
        return np.where(draws[:, 0] < 0.5, small, 1.0 - small)

    def mix(self, images: Array, others: Array, draws: Draws) -> tuple[Array, Draws]:
        """Images with others mixed in, and the share of each that is its own."""
        raise NotImplementedError

    def targets(self, labels: NDArray[Any]) -> Array:
        """Labels as what can be mixed, float32."""
        who = type(self).__name__
        if labels.dtype.kind == "f":
            return np.asarray(labels, np.float32)
        if self.classes is None:
            raise ValueError(f"{who}: classes: expected their number, to mix class numbers, got None")
        numbers = _checks.labels(labels, who, labels.shape[:1], self.classes)
        return np.eye(self.classes, dtype=np.float32)[numbers]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, classes={self.classes})"


class Mixup(Mixing):
    """The weighted sum of two images, and of their targets: Zhang et al., arXiv:1710.09412.

    Parameters
    ----------
    alpha : float
        Above 0, at most 100: the share of a sample is drawn from Beta(alpha, alpha).
    classes : int, optional
        Number of classes, if labels are class numbers: they become probabilities. Targets of regression need none.

    Raises
    ------
    ValueError
        If a number is out of range; when it is used: if labels are class numbers and `classes` is not given.

    Examples
    --------
    >>> from nnpar import Trainer, data, zoo
    >>> from nnpar.data.mixing import CutMix, Mixup
    >>> train, test = data.digits()
    >>> loader = data.Loader(train, batch_size=32, mix=[Mixup(0.2, classes=10), CutMix(1.0, classes=10)])
    >>> history = Trainer(zoo.digits_cnn()).fit(loader, validation=test, epochs=2, progress=False)
    >>> history["validation_accuracy"][-1] > 0.5
    True
    """

    def __init__(self, alpha: float = 0.2, classes: int | None = None) -> None:
        super().__init__(alpha, classes)

    def mix(self, images: Array, others: Array, draws: Draws) -> tuple[Array, Draws]:
        own = self.shares(draws)
        share = own.astype(np.float32).reshape(-1, *[1] * (images.ndim - 1))
        return images * share + others * (1 - share), own


class CutMix(Mixing):
    """A box of one image in another, and the targets by area: Yun et al., arXiv:1905.04899.

    Parameters
    ----------
    alpha : float
        Above 0, at most 100: the share of a sample's area is drawn from Beta(alpha, alpha), before the box is cut at
        the image's edges.
    classes : int, optional
        Number of classes, if labels are class numbers: they become probabilities. Targets of regression need none.

    Raises
    ------
    ValueError
        If a number is out of range; when it is used: if labels are class numbers and `classes` is not given, or samples
        are not images.
    """

    draws = 3

    def mix(self, images: Array, others: Array, draws: Draws) -> tuple[Array, Draws]:
        if images.ndim != 4:
            raise ValueError(f"CutMix: expected images of shape (N, C, H, W), got {images.shape}")
        sizes = np.array(images.shape[2:])
        half = 0.5 * np.sqrt(1.0 - self.shares(draws))[:, np.newaxis] * sizes
        middles = draws[:, 1:] * sizes
        first, last = (np.clip(np.rint(middles + side), 0, sizes).astype(int) for side in (-half, half))
        result = images.copy(order="K")
        for i, ((top, left), (bottom, right)) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            result[i, :, top:bottom, left:right] = others[i, :, top:bottom, left:right]
        return result, 1.0 - (last - first).prod(axis=1) / sizes.prod()


def mixed(
    ways: Sequence[Mixing],
    images: Array,
    labels: NDArray[Any],
    weights: Array | None,
    seed: int,
    epoch: int,
    samples: NDArray[np.int64],
) -> tuple[Array, Array, Array | None]:
    """A batch whose samples are mixed, each in one of the ways, by equal chances.

    Parameters
    ----------
    ways : sequence of Mixing
        At least one.
    images : ndarray of shape (N, ...), float32
    labels : ndarray of shape (N, ...)
    weights : ndarray of shape (N,), float32, or None
    seed, epoch : int
    samples : ndarray of shape (N,), int64
        The samples' numbers in the data set.

    Returns
    -------
    images, targets, weights : ndarray
        The weight of a mixture is its parts', each times its share; so it counts as much as they do.
    """
    draws = uniform(seed, epoch, samples, PLACE, 1 + max(way.draws for way in ways))
    chosen = np.floor(draws[:, 0] * len(ways))
    targets = ways[0].targets(labels)
    result, own = np.empty_like(images), np.empty(len(images))
    for number, way in enumerate(ways):
        rows = np.flatnonzero(chosen == number)
        result[rows], own[rows] = way.mix(images[rows], images[::-1][rows], draws[rows, 1 : 1 + way.draws])
    share: Array = own.astype(np.float32)
    rest: Array = (1.0 - own).astype(np.float32)
    if weights is not None:
        share, rest = share * weights, rest * weights[::-1]
        weights = share + rest
        counted: Array = np.where(weights > 0, weights, np.float32(1))
        share, rest = share / counted, rest / counted
    columns = (-1, *[1] * (targets.ndim - 1))
    return result, targets * share.reshape(columns) + targets[::-1] * rest.reshape(columns), weights


def _beta_table(alpha: float) -> tuple[Draws, Draws]:
    """Beta(alpha, alpha)'s distribution function F up to x = 1/2, and x^p with p = min(alpha, 1): with s = t^p, F(x) is
    a constant times the integral of t^(alpha - p) (1 - t)^(alpha - 1) ds, which is bounded.
    """
    power = min(alpha, 1.0)
    s = np.linspace(0.0, 0.5**power, POINTS)
    t = s ** (1.0 / power)
    density = t ** (alpha - power) * (1.0 - t) ** (alpha - 1.0)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return below * (0.5 / below[-1]), s
