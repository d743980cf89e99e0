"""A data set in memory: images and their labels, checked once."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and one label or target for each.

    Arrays that already have the right type are kept, not copied. Values are not looked at: images may hold NaN.

    Parameters
    ----------
    images : ndarray of shape (N, C, H, W) or (N, F), float32
        Other real number types are converted.
    labels : ndarray of shape (N,), int64, or of shape (N, ...), float32
        Integers are class labels, floating-point numbers are regression targets. Other widths are converted.
    name : str
        Used in error messages.
    class_names : tuple of str
        If given, class labels must lie in ``range(len(class_names))``.
    weights : ndarray of shape (N,), float32, optional
        How much each sample counts in losses: finite, none negative, and one above 0.

    Raises
    ------
    TypeError
        If images or labels are not real numbers.
    ValueError
        If the set is empty, a shape is not one of the above, the lengths differ or a label has no class name.

    Examples
    --------
    >>> dataset = Dataset(np.zeros((6, 1, 8, 8)), np.array([0, 1, 0, 1, 0, 1]), name="blank")
    >>> dataset
    Dataset('blank', images (6, 1, 8, 8), labels (6,) int64)
    >>> dataset[1:4].labels
    array([1, 0, 1])
    >>> train, test = dataset.split(2 / 3)
    >>> len(train), sorted(test.labels.tolist())
    (4, [0, 1])
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    name: str = ""
    class_names: tuple[str, ...] = ()
    weights: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        this = f"dataset {self.name!r}"
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        for what, array in (("images", images), ("labels", labels)):
            if array.dtype.kind not in "biuf":
                raise TypeError(f"{this}: expected {what} of a real number type, got {array.dtype}")
        if images.ndim < 2 or images.size == 0:
            raise ValueError(
                f"{this}: expected images of shape (N, C, H, W) or (N, F) with no size 0, got {images.shape}"
            )
        if labels.shape[:1] != images.shape[:1]:
            raise ValueError(f"{this}: expected labels for {len(images)} images, got labels of shape {labels.shape}")

        is_classes = labels.dtype.kind != "f"
        if is_classes and labels.ndim != 1 and labels.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"{this}: expected integer labels of shape (N,), or (N, H, W) for each pixel, got {labels.shape}"
            )
        if is_classes and self.class_names and (labels.min() < 0 or labels.max() >= len(self.class_names)):
            raise ValueError(
                f"{this}: expected labels 0 to {len(self.class_names) - 1}, one per class name, "
                f"got {labels.min()} to {labels.max()}"
            )

        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, len(images), this))
        # A frozen dataclass can set its own fields in this way only.
        object.__setattr__(self, "images", images.astype(np.float32, copy=False))
        object.__setattr__(self, "labels", labels.astype(np.int64 if is_classes else np.float32, copy=False))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __repr__(self) -> str:
        labels = f"labels {self.labels.shape} {self.labels.dtype}"
        return f"Dataset({self.name!r}, images {self.images.shape}, {labels})"

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> tuple[npt.NDArray[np.float32], Any]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Dataset: ...
    def __getitem__(
        self, index: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], Any] | Dataset:
        """One sample for an int; a part of the set for a slice, a 1-D index array or a boolean mask.

        Raises
        ------
        IndexError
            If the index is out of range or not one of these.
        ValueError
            If no sample is left.
        """
        if isinstance(index, (int, np.integer)):
            row = operator.index(index)
            return self.images[row], self.labels[row]
        rows = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(rows, np.ndarray) and rows.ndim != 1:
            raise IndexError(f"dataset {self.name!r}: expected an index array of 1 dimension, got {rows.ndim}")
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, images=self.images[rows], labels=self.labels[rows], weights=weights)

    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Shuffle, and cut in two; every sample lands in exactly one part.

        With one integer label for each image, each class is cut in proportion, within one sample.

        Parameters
        ----------
        fraction : float
            Share of the first part, between 0 and 1.
        seed : int
            Key of the shuffle, not negative. The same seed gives the same parts everywhere.

        Returns
        -------
        tuple of Dataset
            ``fraction * N`` samples, to the nearest, and the others.

        Raises
        ------
        ValueError
            If a part would be empty, or the seed is negative.
        """
        first = fraction * len(self)
        if not 0.5 <= first < len(self) - 0.5:
            raise ValueError(
                f"dataset {self.name!r}: expected a fraction that leaves both parts of {len(self)} samples "
                f"at least one, got {fraction}"
            )
        # Raw Philox output is fixed for good; the streams of numpy.random.Generator may change with NumPy's version.
        order = np.argsort(np.random.Philox(key=seed).random_raw(len(self)), kind="stable")
        if self.labels.dtype == np.int64 and self.labels.ndim == 1:
            by_class = np.argsort(self.labels[order], kind="stable")
        else:
            by_class = np.arange(len(self))
        # Spread evenly over the samples ordered by class, the choice takes its fraction of every class.
        steps = np.floor(fraction * np.arange(len(self) + 1) + 0.5)
        chosen = np.empty(len(self), dtype=bool)
        chosen[by_class] = np.diff(steps) > 0
        return self[order[chosen]], self[order[~chosen]]

    def take(self, n: int) -> Dataset:
        """The first `n` samples, as views.

        Raises
        ------
        ValueError
            If `n` is not between 1 and the length.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"dataset {self.name!r}: expected to take 1 to {len(self)} samples, got {n}")
        return self[:n]


def _checked_weights(weights: npt.ArrayLike, count: int, this: str) -> npt.NDArray[np.float32]:
    array = np.asarray(weights)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{this}: expected weights of a real number type, got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(f"{this}: expected a weight for each of {count} samples, got weights of shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(f"{this}: expected weights of at least 0, and one above, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.float32)
